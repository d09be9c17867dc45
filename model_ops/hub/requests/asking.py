"""Serve applicants: request access with label -> answer, and withdraw a waiting request.

This needs a token that stands for its person: one that only reads a single model cannot request access or
accept a licence on that person's behalf.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase

from access_requests.access.access import access_of, open_request
from access_requests.access.review_lists import review_entry
from access_requests.cards import GateField, GateForm
from access_requests.enums import Place, RequestState, TokenKind, TokenOrigin
from access_requests.errors import Conflict, RuleError
from access_requests.models import GatedModel
from access_requests.request_form.answers import as_posted, by_label
from access_requests.request_form.builder import RequestForm, build_request_form
from access_requests.services.catalogue.rendered_texts import gate_texts_of
from access_requests.services.requests.submit import (
    save_draft,
    start_request,
    submit_request,
    withdraw_request,
)
from model_ops.hub.body import json_object, reading
from model_ops.hub.refusals import Refused, bad_request, one_line
from model_ops.hub.repo import Repo, open_repo
from model_ops.hub.requests.words import NOTHING_PENDING, no_right, not_found, person_of, require_gate
from model_ops.hub.route import hub_route, json_answer, warn

if TYPE_CHECKING:
    from portal.accounts.models import User

ASKERS = {TokenKind.USER, TokenKind.REVIEWER}
ONLY_READ = {TokenOrigin.DEVICE, TokenOrigin.OIDC}  # no one agreed that these sign anything on their behalf
LONGEST_LABEL = 80  # characters of a label in a sentence
MOST_NAMED = 5
KEPT = (
    "Nothing was submitted. Your answers are kept as a draft: continue at {page}/request, or send it again."
)


@hub_route("GET", "POST")
def ask_access(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`POST /{id}/ask-access`: redirects (303) to the model's page, also if there is nothing to request."""
    if request.method != "POST":
        raise not_found("Page not found", "Ask by POST here, or on the model's page.")
    repo = open_repo(request, repo_id)
    person, given = _asking_person(repo), _read_answers(request)
    require_gate(repo.model)
    # As on the Hub, nothing changes for people who wait, were rejected, or have access. A request that the
    # reviewer wants changed is submitted again if answers are sent.
    entry = review_entry(person, repo.model)
    if entry.place == Place.PENDING and entry.request is not None:
        may_ask = entry.request.state == RequestState.CHANGES_REQUESTED and bool(given)
    else:
        may_ask = entry.place not in {Place.ACCEPTED, Place.REJECTED}
    if may_ask:
        try:
            _submit_answers(repo, person, given)
        except Conflict:  # another call was faster
            if review_entry(person, repo.model).place not in {Place.PENDING, Place.ACCEPTED}:
                raise
        return _to_page(request, repo.model)
    response = _to_page(request, repo.model)
    warn(response, "access", one_line(f"Nothing was changed. {access_of(person, repo.model).sentence}"))
    return response


@hub_route("POST")
def cancel(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`POST /api/models/{id}/user-access-request/cancel`: withdraws a request that waits for a decision."""
    repo = open_repo(request, repo_id)
    person = _asking_person(repo)
    current = open_request(person, repo.model)
    if current is None or current.state == RequestState.DRAFT:
        raise not_found(NOTHING_PENDING, access_of(person, repo.model).sentence)
    try:
        withdraw_request(request=current, applicant=person)
    except Conflict as error:  # just decided
        raise not_found(NOTHING_PENDING, error.sentence) from error
    return json_answer({"ok": True})


def _asking_person(repo: Repo) -> User:
    person, token = person_of(repo), repo.caller.token
    if token is None or token.kind not in ASKERS:
        page = f"{settings.GATEHOUSE_URL}/me/tokens"
        raise no_right(f"This token reads one model: make one that stands for you at {page}")
    if token.origin in ONLY_READ:
        page = f"{settings.GATEHOUSE_URL}/me/tokens"
        raise no_right(
            f"A signed-in machine or a CI job only reads: ask on the model's page, or with a token made at {page}"
        )
    return person


def _to_page(request: HttpRequest, model: GatedModel) -> HttpResponse:
    response = HttpResponse(status=HTTPStatus.SEE_OTHER)
    response["Location"] = request.build_absolute_uri(model.get_absolute_url())
    return response


def _read_answers(request: HttpRequest) -> dict[str, Any]:
    """Return label -> answer, from JSON or a form."""
    if request.content_type not in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        return json_object(request, empty=True)
    try:
        with reading(request):
            return dict(request.POST.items())
    except (SuspiciousOperation, MultiPartParserError) as error:
        raise bad_request("The form cannot be read: send label=answer, once for each field.") from error


def _submit_answers(repo: Repo, person: User, given: dict[str, Any]) -> None:
    """Save the given answers as a draft, then submit it if it is complete."""
    model = repo.model
    current = start_request(model=model, applicant=person)
    gate = GateForm.from_json(current.form.schema)
    # Keep earlier answers and those from the profile; a licence must be accepted in this call.
    licence = {field.key for field in gate.fields_for("licence")}
    kept = by_label(gate, {key: answer for key, answer in current.answers.items() if key not in licence})
    posted, unknown, wrong = as_posted(gate, kept | given)
    texts = gate_texts_of(current.form)
    draft = build_request_form(gate, texts=texts, data=posted, draft=True)
    save_draft(request=current, applicant=person, answers=draft.cleaned_answers())
    form = build_request_form(gate, texts=texts, data=posted)
    _check_answers(model, form, unknown, wrong)
    # A licence must be shown before it is accepted, so with one only the page can submit the request.
    if model.licence_versions.filter(retired_at__isnull=True).exists():
        sentence = (
            f"{model.repo_id} has a licence that must be read before it is agreed to: your answers are kept as a draft, "
            f"read it and submit at {model.address()}/request"
        )
        raise Refused(HTTPStatus.BAD_REQUEST, "", sentence)
    try:
        submit_request(
            request=current, applicant=person, answers=form.cleaned_answers(), address=repo.caller.address
        )
    except Conflict:
        raise
    except RuleError as error:
        raise Refused(error.status, "", f"{error.sentence} See {model.address()}/request") from error


def _check_answers(
    model: GatedModel, form: RequestForm, unknown: list[str], wrong: list[tuple[GateField, str]]
) -> None:
    gate, words = form.gate, form.texts.words
    if unknown:
        known = ", ".join(_quote_label(words[field.key]) for field in gate.fields[:MOST_NAMED]) or "none"
        raise _incomplete_answers(
            model, f"The form has no field {_quote_label(unknown[0])}; its fields begin with {known}."
        )
    told = {field.key: sentence for field, sentence in wrong}
    problems = {key: messages[0] for key, messages in form.errors.items()} | told
    if problems:
        lines = [f"{_quote_label(words[key])}: {sentence}" for key, sentence in problems.items()]
        raise _incomplete_answers(model, " ".join(lines[:MOST_NAMED]))


def _incomplete_answers(model: GatedModel, problem: str) -> Refused:
    """Return the refusal.

    The page's address comes first, since the end of a long header is cut off; the body has the labels in
    their own script.
    """
    message = f"{KEPT.format(page=model.address())} {problem}"
    return Refused(HTTPStatus.BAD_REQUEST, "", message, text=message.encode(errors="replace").decode())


def _quote_label(label: str) -> str:
    plain = " ".join(label[: 10 * LONGEST_LABEL].split())
    return f"“{plain if len(plain) <= LONGEST_LABEL else plain[: LONGEST_LABEL - 1] + '…'}”"
