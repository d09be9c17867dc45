"""The request form; withdrawing and appealing a request."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from access_requests.access.access import latest_request, live_grant, open_request
from access_requests.cards import GateForm
from access_requests.enums import WAITING_STATES, RequestState
from access_requests.errors import RuleError
from access_requests.models import AccessRequest, FormVersion, GatedModel
from access_requests.request_form.builder import RequestForm, build_request_form
from access_requests.services.catalogue.rendered_texts import gate_texts_of
from access_requests.services.requests.submit import (
    appeal_request,
    carried_answers,
    prefilled_answers,
    save_draft,
    start_request,
    submit_request,
    withdraw_request,
)
from access_requests.views.common import known_model, signed_in

GET_AND_POST = ["GET", "HEAD", "POST"]
FORM_CHANGED = gettext_lazy(
    "The owner changed the form while you filled it in. Your answers are kept: check them again."
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

    def context(self) -> dict[str, Any]:
        licences = list(self.model.licence_versions.filter(retired_at__isnull=True))
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
            "changes": decision
            if self.request and self.request.state == RequestState.CHANGES_REQUESTED
            else None,
        }


@login_required
@never_cache
@require_http_methods(GET_AND_POST)
def request_form(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Show the form, with what the portal knows filled in; viewing it starts nothing."""
    model = known_model(request, namespace, name)
    if request.method == "POST":
        return _take_posted(request, model)
    current = open_request(request.user, model)
    if current is None and live_grant(request.user, model):
        return redirect(f"{model.get_absolute_url()}/access")
    if model.form is None or not model.is_gated or (current and current.state in WAITING_STATES):
        return redirect(model)
    return _show_page(request, _current_page(model, model.form, current, request.user))


def _current_page(model: GatedModel, newest: FormVersion, current: AccessRequest | None, user: Any) -> Page:
    if current is None:
        version, answers = newest, prefilled_answers(model=model, applicant=user)
    elif current.state == RequestState.DRAFT and current.form_id != model.form_id:
        version = newest
        answers = carried_answers(old=current.form, new=version, answers=current.answers)
    else:
        version, answers = current.form, current.answers
    form = _form_of_version(version, initial=answers)
    return Page(model, current, version, form)


def _form_of_version(version: FormVersion, **options: Any) -> RequestForm:
    gate = GateForm.from_json(version.schema)
    return build_request_form(gate, texts=gate_texts_of(version), **options)


def _show_page(request: HttpRequest, page: Page, status: int = 200) -> HttpResponse:
    return render(request, "access_requests/request_form.html", page.context(), status=status)


def _take_posted(request: HttpRequest, model: GatedModel) -> HttpResponse:
    """Save the posted answers as a draft, and submit them if that button was pressed."""
    try:
        current = start_request(model=model, applicant=signed_in(request))
    except RuleError as error:  # has access already, or not gated
        messages.warning(request, error.sentence)
        return redirect(model)
    if current.state in WAITING_STATES:  # sent twice
        return redirect(model)
    if request.POST.get("form") != str(current.form_id):
        return _show_changed_form(request, model, current)
    if request.POST.get("action") == "submit":
        return _submit_answers(request, model, current)
    form = _form_of_version(current.form, data=request.POST, draft=True)
    page = Page(model, current, current.form, form, agreed="agree" in request.POST)
    try:
        save_draft(request=current, applicant=signed_in(request), answers=form.cleaned_answers())
    except RuleError as error:
        return _show_refusal(request, current, page, error)
    if form.errors:
        return _show_page(request, page, status=422)
    messages.success(request, _("Your draft is saved. No one can read it until you submit it."))
    return redirect("request_form", model.namespace, model.name)


def _submit_answers(request: HttpRequest, model: GatedModel, current: AccessRequest) -> HttpResponse:
    form = _form_of_version(current.form, data=request.POST)
    gate = form.gate
    page = Page(model, current, current.form, form, agreed="agree" in request.POST)
    if not form.is_valid():
        _keep_as_draft(request, current)
        return _show_page(request, page, status=422)
    try:
        submit_request(
            request=current,
            applicant=signed_in(request),
            answers=form.cleaned_answers(),
            licences_shown=_read_numbers(request.POST.getlist("licence")),
            agreed=page.agreed or bool(gate.fields_for("licence")),
            address=request.client_address,  # type: ignore[attr-defined]
        )
    except RuleError as error:
        return _show_refusal(request, current, page, error)
    messages.success(
        request, _("Your request is submitted. This page shows how far it is, and you get emails about it.")
    )
    return redirect(model)


def _show_refusal(request: HttpRequest, current: AccessRequest, page: Page, error: RuleError) -> HttpResponse:
    """Show a refusal next to its field or above the form; on the model's page if someone was faster."""
    current.refresh_from_db()
    if current.state not in {RequestState.DRAFT, RequestState.CHANGES_REQUESTED}:
        if current.state not in WAITING_STATES:
            messages.warning(request, error.sentence)
        return redirect(page.model)
    _keep_as_draft(request, current)
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
        current = save_draft(
            request=current, applicant=signed_in(request), answers={**current.answers, **answers}
        )
    page = _current_page(model, model.form or current.form, current, request.user)
    page.problem = RuleError(str(FORM_CHANGED))
    return _show_page(request, page, status=409)


def _read_numbers(texts: list[str]) -> list[int]:
    return [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 19]


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
