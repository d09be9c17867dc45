"""The request form; withdrawing and appealing a request."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from access_requests.access.access import latest_request, live_grant, open_request
from access_requests.cards import GateForm
from access_requests.enums import EDITABLE_STATES, WAITING_STATES, RequestState
from access_requests.errors import RuleError
from access_requests.models import AccessRequest, FormVersion, GatedModel
from access_requests.request_form.builder import RequestForm, build_request_form
from access_requests.services.catalogue.languages import licences_for_reader
from access_requests.services.catalogue.rendered_texts import gate_texts_of
from access_requests.services.requests.families import models_to_add, submit_together
from access_requests.services.requests.shown_answers import shown_versions
from access_requests.services.requests.submissions import newest_number
from access_requests.services.requests.submit import (
    appeal_request,
    carried_answers,
    prefilled_answers,
    save_draft,
    start_request,
    withdraw_request,
)
from access_requests.views.common import known_model, signed_in

GET_AND_POST = ["GET", "HEAD", "POST"]
FORM_CHANGED = gettext_lazy(
    "The owner changed the form while you were filling it in. Your answers are kept: check them again."
)
AGREE_HERE = gettext_lazy("Tick this to agree to the licence. You cannot submit the request without it.")


@dataclass
class Page:
    """What the request page shows."""

    model: GatedModel
    request: AccessRequest | None
    version: FormVersion
    form: RequestForm
    agreed: bool = False
    problem: RuleError | None = None
    submission: int = 0  # the number of the newest one that the page was made from; 0 for none
    others: list[GatedModel] = field(default_factory=list)  # of the family, that can be asked for as well
    chosen: set[int] = field(default_factory=set)  # those of them that are ticked, by primary key

    def context(self, accept_language: str) -> dict[str, Any]:
        licences = licences_for_reader(self.model, accept_language)
        asks_itself = bool(self.form.gate.fields_for("licence"))
        decision = self.request.decisions.order_by("-pk").first() if self.request else None
        return {
            "model": self.model,
            "access_request": self.request,
            "version": self.version,
            "form": self.form,
            "gate": self.form.gate,
            "texts": self.form.texts,
            "licences": licences,
            "ask_to_agree": bool(licences) and not asks_itself,
            "agreed": self.agreed,
            "agree_error": AGREE_HERE if self.problem and self.problem.field == "agree" else "",
            "problem": self.problem.sentence if self.problem and not self.problem.field else "",
            "submission": self.submission,
            "others": [(one, one.pk in self.chosen) for one in self.others],
            "waits": bool(self.request and self.request.state in WAITING_STATES),
            "unsubmitted": bool(self.request and self.request.draft is not None),
            "changes": decision
            if self.request and self.request.state == RequestState.CHANGES_REQUESTED
            else None,
        }


@login_required
@never_cache
@require_http_methods(GET_AND_POST)
def request_form(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Show the form, with what the portal knows filled in; viewing it starts nothing.

    A request that waits shows what was submitted, and can be changed.
    """
    model = known_model(request, namespace, name)
    if request.method == "POST":
        return _take_posted(request, model)
    current = open_request(request.user, model)
    if current is None and live_grant(request.user, model):
        return redirect(f"{model.get_absolute_url()}/access")
    if model.form is None or not model.is_gated:
        return redirect(model)
    return _show_page(request, _current_page(model, model.form, current, request.user))


def _current_page(model: GatedModel, newest: FormVersion, current: AccessRequest | None, user: Any) -> Page:
    number = newest_number(current) if current else 0
    if number and current:
        current.refresh_from_db(fields=["answers", "draft"])  # not older than the number
    if current is None:
        version, answers = newest, prefilled_answers(model=model, applicant=user)
    elif current.state == RequestState.DRAFT and current.form_id != model.form_id:
        version = newest
        answers = carried_answers(old=current.form, new=version, answers=current.answers)
    else:
        version = current.form
        answers = current.answers if current.draft is None else current.draft
    form = _form_of_version(version, initial=answers)
    return Page(model, current, version, form, submission=number, others=_others(model, current, user))


def _others(model: GatedModel, current: AccessRequest | None, user: Any) -> list[GatedModel]:
    """Return the models that the form offers as well; none once the request is submitted."""
    if current is not None and current.first_submitted_at is not None:
        return []
    return models_to_add(model, user)


def _form_of_version(version: FormVersion, **options: Any) -> RequestForm:
    gate = GateForm.from_json(version.schema)
    return build_request_form(gate, texts=gate_texts_of(version), **options)


def _show_page(request: HttpRequest, page: Page, status: int = 200) -> HttpResponse:
    return render(
        request,
        "access_requests/request_form.html",
        page.context(request.headers.get("Accept-Language", "")),
        status=status,
    )


def _take_posted(request: HttpRequest, model: GatedModel) -> HttpResponse:
    """Save the posted answers as a draft, and submit them if the applicant pressed Submit."""
    try:
        current = start_request(model=model, applicant=signed_in(request))
    except RuleError as error:  # has access already, or not gated
        messages.warning(request, error.sentence)
        return redirect(model)
    if request.POST.get("form") != str(current.form_id):
        return _show_changed_form(request, model, current)
    if request.POST.get("action") == "submit":
        return _submit_answers(request, model, current)
    form = _form_of_version(current.form, data=request.POST, draft=True)
    page = _posted_page(request, model, current, form)
    try:
        save_draft(request=current, applicant=signed_in(request), answers=form.cleaned_answers())
    except RuleError as error:
        return _show_refusal(request, current, page, error)
    if form.errors:
        return _show_page(request, page, status=422)
    if current.state in WAITING_STATES:
        saved = _("Your changes are saved. Until you submit them, reviewers read what you submitted before.")
    else:
        saved = _("Your draft is saved. No one can read it until you submit it.")
    messages.success(request, saved)
    return redirect("request_form", model.namespace, model.name)


def _submit_answers(request: HttpRequest, model: GatedModel, current: AccessRequest) -> HttpResponse:
    form = _form_of_version(current.form, data=request.POST)
    gate = form.gate
    page = _posted_page(request, model, current, form)
    waited = current.state in WAITING_STATES
    if not form.is_valid():
        _keep_as_draft(request, current)
        return _show_page(request, page, status=422)
    try:
        made = submit_together(
            request=current,
            applicant=signed_in(request),
            others=[one for one in page.others if one.pk in page.chosen],
            answers=form.cleaned_answers(),
            licences_shown=_read_numbers(request.POST.getlist("licence")),
            agreed=page.agreed or bool(gate.fields_for("licence")),
            address=request.client_address,  # type: ignore[attr-defined]
            seen=page.submission,
        )
    except RuleError as error:
        return _show_refusal(request, current, page, error)
    if len(made) > 1:
        done = ngettext(
            "Your request is submitted, with one for %(count)d more model. You get emails about each.",
            "Your request is submitted, with one for each of %(count)d more models. You get emails about each.",
            len(made) - 1,
        ) % {"count": len(made) - 1}
    elif not waited:
        done = _("Your request is submitted. This page shows how far it is, and you get emails about it.")
    elif newest_number(current) > page.submission:
        done = _("Your changes are submitted. The request keeps its place in the queue.")
    else:
        done = _("Nothing is different from what you submitted before, so nothing was changed.")
    messages.success(request, done)
    return redirect(model)


def _posted_page(request: HttpRequest, model: GatedModel, current: AccessRequest, form: RequestForm) -> Page:
    """Return the page for posted answers, with the number of the submission that it was made from."""
    number = request.POST.get("submission", "")
    is_number = number.isascii() and number.isdigit() and len(number) < 10
    known = int(number) if is_number else newest_number(current)
    agreed = "agree" in request.POST
    return Page(
        model,
        current,
        current.form,
        form,
        agreed=agreed,
        submission=known,
        others=_others(model, current, request.user),
        chosen=set(_read_numbers(request.POST.getlist("also"))),
    )


def _show_refusal(request: HttpRequest, current: AccessRequest, page: Page, error: RuleError) -> HttpResponse:
    """Show a refusal next to its field or above the form; on the model's page if someone was faster."""
    current.refresh_from_db()
    if current.state not in EDITABLE_STATES:
        messages.warning(request, error.sentence)
        return redirect(page.model)
    _keep_as_draft(request, current)
    page.submission = newest_number(current)  # the sentence says that there is another one
    if error.field in page.form.fields:
        page.form.add_error(error.field, error.sentence)
    page.problem = error
    return _show_page(request, page, status=error.status)


def _keep_as_draft(request: HttpRequest, current: AccessRequest) -> None:
    """Save the posted answers as the draft, unless another tab has submitted the request meanwhile."""
    typed = _form_of_version(current.form, data=request.POST, draft=True)
    with suppress(RuleError):
        save_draft(request=current, applicant=signed_in(request), answers=typed.cleaned_answers())


def _show_changed_form(request: HttpRequest, model: GatedModel, current: AccessRequest) -> HttpResponse:
    """Carry over answers to an older version of the form, and ask the person to check the current one."""
    shown = FormVersion.objects.filter(
        model=model, pk__in=_read_numbers([request.POST.get("form", "")])
    ).first()
    if shown is not None:
        posted = _form_of_version(shown, data=request.POST, draft=True)
        answers = carried_answers(old=shown, new=current.form, answers=posted.cleaned_answers())
        before = current.answers if current.draft is None else current.draft
        current = save_draft(request=current, applicant=signed_in(request), answers={**before, **answers})
    page = _current_page(model, model.form or current.form, current, request.user)
    page.problem = RuleError(str(FORM_CHANGED))
    return _show_page(request, page, status=409)


def _read_numbers(texts: list[str]) -> list[int]:
    return [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 19]


@login_required
@never_cache
@require_http_methods(["GET", "HEAD"])
def submissions(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Show every version of one of the person's requests, the newest first, with what changed.

    `?request=NUMBER` names the request; without it, it is the newest one for the model.
    """
    model = known_model(request, namespace, name)
    current = latest_request(request.user, model)
    if asked := _read_numbers([request.GET.get("request", "")]):
        current = model.requests.filter(applicant=signed_in(request), pk=asked[0]).first()
    if current is None or current.submitted_at is None:
        messages.info(request, _("You have submitted no request here yet."))
        return redirect(model)
    context = {"model": model, "access_request": current, "versions": shown_versions(current)}
    return render(request, "access_requests/submissions.html", context)


@login_required
@never_cache
@require_http_methods(GET_AND_POST)
def withdraw(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Ask for confirmation, then withdraw the open request."""
    model = known_model(request, namespace, name)
    current = open_request(request.user, model)
    if current is None:
        messages.info(request, _("You have no open request here, so there is nothing to withdraw."))
        return redirect(model)
    if request.method != "POST":
        return render(request, "access_requests/withdraw.html", {"model": model, "access_request": current})
    try:
        withdraw_request(request=current, applicant=signed_in(request))
    except RuleError as error:
        messages.warning(request, error.sentence)
    else:
        messages.success(
            request,
            _("Request #%(number)d is withdrawn. Your answers are kept for the next one.")
            % {"number": current.pk},
        )
    return redirect(model)


@login_required
@never_cache
@require_http_methods(GET_AND_POST)
def appeal(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Appeal a rejection with a message; another reviewer reads it, if there is one."""
    model = known_model(request, namespace, name)
    current = latest_request(request.user, model)
    if current is None or current.state != RequestState.REJECTED:
        return redirect(model)
    context: dict[str, Any] = {
        "model": model,
        "access_request": current,
        "decision": current.decisions.order_by("-pk").first(),
    }
    if request.method != "POST":
        return render(request, "access_requests/appeal.html", context)
    words = request.POST.get("words", "")
    try:
        appeal_request(request=current, applicant=signed_in(request), words=words)
    except RuleError as error:
        context |= {"words": words, "problem": error.sentence}
        return render(request, "access_requests/appeal.html", context, status=error.status)
    messages.success(
        request,
        _("Your appeal is submitted. Your request is read again, by another reviewer if there is one."),
    )
    return redirect(model)
