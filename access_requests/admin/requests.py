"""The queue of requests, and the page on which one request is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST
from django_countries import countries

from access_requests.access.review_lists import review_entry
from access_requests.admin.base import ReadOnlyAdmin, posted_key, seen_models, signed_in
from access_requests.admin.filters import ModelFilter, countries_of, distinct_values
from access_requests.admin.review_page import review_page_context
from access_requests.enums import WAITING_STATES, MessageKind, Outcome, Place, ReasonCode, RequestState
from access_requests.errors import RuleError
from access_requests.models import AccessRequest, Vote
from access_requests.models.requests import WAITING_FIRST
from access_requests.panels import REQUEST_PANELS, show_panels
from access_requests.search import OF_REQUEST, holds, of_people, people_like
from access_requests.services.catalogue.message_texts import fill_template
from access_requests.services.following.drift import remote_of
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.families import decide_together, requests_with
from access_requests.services.requests.messages import add_note, send_message
from access_requests.services.requests.move_between_lists import change_place
from access_requests.services.requests.shown_answers import Change, changes_between
from access_requests.services.requests.submissions import NewerSubmission

MOST_TOGETHER = 20  # requests that one form decides
VOTED = gettext_lazy(
    "Your approval of request #%(number)d is recorded. Another reviewer must approve it as well."
)


class StateFilter(admin.SimpleListFilter):
    """Filter by every state that a reviewer can see, or all waiting requests."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("waiting", _("waiting for us")),
            *((s.value, str(s.label)) for s in RequestState if s != RequestState.DRAFT),
        ]

    def queryset(self, request: HttpRequest, rows: QuerySet[AccessRequest]) -> QuerySet[AccessRequest]:
        if self.value() == "waiting":
            return rows.alias(waits=WAITING_FIRST).filter(waits=0)
        if not self.value():
            return rows
        waits = 0 if self.value() in WAITING_STATES else 1  # for indexes that begin with it
        return rows.alias(waits=WAITING_FIRST).filter(waits=waits, state=self.value())


class CountryFilter(admin.SimpleListFilter):
    """Filter by the countries that occur."""

    title = gettext_lazy("country")
    parameter_name = "country"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        if request.user.is_superuser:
            codes = distinct_values(AccessRequest, "country")
        else:
            codes = countries_of(seen_models(request))
        return sorted(((code, countries.name(code) or code) for code in codes), key=lambda pair: pair[1])

    def queryset(self, request: HttpRequest, rows: QuerySet[AccessRequest]) -> QuerySet[AccessRequest]:
        return rows.filter(country=self.value()) if self.value() else rows


class DecisionForm(forms.Form):
    """A reviewer's decision as typed; the services check it."""

    submission = forms.IntegerField(
        min_value=0,
        widget=forms.HiddenInput,
        error_messages={
            "required": gettext_lazy("This page is incomplete: open the request again, then decide.")
        },
    )
    reason_code = forms.ChoiceField(label=gettext_lazy("Reason"), choices=ReasonCode.choices, required=False)
    words = forms.CharField(
        label=gettext_lazy("Message to the applicant"),
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 6, "dir": "auto"}),
    )


class WayBackForm(forms.Form):
    """A reviewer's choice for a decided request, and the newest decision that they saw on the page."""

    to = forms.ChoiceField(
        choices=[
            (Place.PENDING, gettext_lazy("reopen")),
            (Place.RESET, gettext_lazy("close without decision")),
        ]
    )
    seen = forms.IntegerField(min_value=0)
    read = forms.IntegerField(min_value=0)
    back_words = forms.CharField(
        label=gettext_lazy("Message to the applicant"),
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 4, "dir": "auto"}),
    )


class MessageForm(forms.Form):
    """A note or a message to the applicant; the button says which."""

    kind = forms.ChoiceField(choices=[(MessageKind.NOTE, "note"), (MessageKind.SENT, "message")])
    message_words = forms.CharField(
        required=False,
        max_length=10_000,
        widget=forms.Textarea(attrs={"rows": 4, "dir": "auto"}),
    )


@admin.register(AccessRequest)
class AccessRequestAdmin(ReadOnlyAdmin):
    """The queue: waiting requests first, oldest first. Drafts are visible only to their authors."""

    list_display = ["person", "model", "institution", "country_name", "days", "shown_state"]
    list_filter = [StateFilter, ModelFilter, CountryFilter]
    list_select_related = ["applicant", "model"]
    search_fields = ["intended_use"]  # shows the search field; `condition` says where a term is looked for
    search_help_text = gettext_lazy("Names, email address, institution, intended use")

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessRequest]:
        return super().get_queryset(request).filter(first_submitted_at__isnull=False).defer("model__card")

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        """Sort requests of a single state by date alone, like their index."""
        dates = [F("first_submitted_at").asc(), "pk"]
        return dates if request.GET.get("state") else [WAITING_FIRST.asc(), *dates]

    def condition(self, term: str) -> Q:
        """Search the request's own columns and the applicant's account."""
        return holds(OF_REQUEST, term) | of_people("applicant_id", people_like(term))

    def get_urls(self) -> list[URLPattern]:
        decide = path(
            "<path:object_id>/decide/",
            self.admin_site.admin_view(require_POST(self.decide_view)),
            name="access_requests_accessrequest_decide",
        )
        back = path(
            "<path:object_id>/back/",
            self.admin_site.admin_view(require_POST(self.back_view)),
            name="access_requests_accessrequest_back",
        )
        message = path(
            "<path:object_id>/message/",
            self.admin_site.admin_view(require_POST(self.message_view)),
            name="access_requests_accessrequest_message",
        )
        return [decide, back, message, *super().get_urls()]

    @admin.display(description=gettext_lazy("person"), ordering="last_name")
    def person(self, request: AccessRequest) -> str:
        return f"{request.full_name} ({request.applicant.username})"

    @admin.display(description=gettext_lazy("country"), ordering="country")
    def country_name(self, request: AccessRequest) -> str:
        return request.country.name if request.country else ""

    @admin.display(description=gettext_lazy("days waiting"), ordering="first_submitted_at")
    def days(self, request: AccessRequest) -> int | None:
        since = request.first_submitted_at
        return (timezone.now() - since).days if since and request.state in WAITING_STATES else None

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def shown_state(self, request: AccessRequest) -> SafeString:
        return format_html('<span class="state {}">{}</span>', request.state, request.get_state_display())

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show everything needed to decide; viewing changes nothing."""
        asked = self._visible_request(request, object_id)
        if asked is None:
            return self.not_there(request, object_id)
        return self._show_review(request, asked, DecisionForm())

    def decide_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Approve, reject, ask for changes or close without decision, depending on the button's value."""
        asked = self._visible_request(request, object_id)
        if asked is None:
            return self.not_there(request, object_id)
        if "fill" in request.POST:
            filled = {
                "reason_code": request.POST.get("reason_code", ""),
                "words": self._with_template(request, asked, "words"),
            }
            return self._show_review(request, asked, DecisionForm(initial=filled))
        form = DecisionForm(request.POST)
        if not form.is_valid():
            return self._show_review(request, asked, form, status=422)
        typed = form.cleaned_data
        try:
            decision = record_decision(
                request=asked,
                reviewer=signed_in(request),
                outcome=request.POST.get("outcome", ""),
                reason_code=typed["reason_code"],
                words=typed["words"],
                seen=typed["submission"],
            )
        except RuleError as error:
            asked.refresh_from_db()
            form.add_error(error.field if error.field in form.fields else None, error.sentence)
            changes: list[Change] = []
            if isinstance(error, NewerSubmission) and error.read is not None:
                changes = changes_between(error.read, error.newest)
            return self._show_review(request, asked, form, changes=changes, status=error.status)
        self._decide_others(request, asked, typed)
        if isinstance(decision, Vote):
            messages.success(request, VOTED % {"number": asked.pk})
            return redirect("admin:access_requests_accessrequest_change", asked.pk)
        done = {
            Outcome.APPROVED: _(
                "Request #%(number)d is approved. The person has access, and the weights follow."
            ),
            Outcome.REJECTED: _("Request #%(number)d is rejected."),
            Outcome.CHANGES_REQUESTED: _("Request #%(number)d goes back to the applicant for changes."),
            Outcome.RESET: _("Request #%(number)d is closed without decision, and the person can ask again."),
        }
        self._say_done(request, asked, done[Outcome(decision.outcome)])
        return redirect("admin:access_requests_accessrequest_change", asked.pk)

    def _decide_others(self, request: HttpRequest, asked: AccessRequest, typed: dict[str, Any]) -> None:
        """Decide the ticked requests of the same form in the same way, and say what became of each."""
        pairs = [
            (posted_key(pk), posted_key(number))
            for pk, _colon, number in (
                one.partition(":") for one in request.POST.getlist("also")[:MOST_TOGETHER]
            )
        ]
        known = {one.pk: one for one in requests_with(asked) if self.has_view_permission(request, one)}
        decided = decide_together(
            requests=[(known[pk], number) for pk, number in pairs if pk in known],
            reviewer=signed_in(request),
            outcome=request.POST.get("outcome", ""),
            reason_code=typed["reason_code"],
            words=typed["words"],
        )
        for one in decided:
            if one.refusal:
                messages.warning(request, f"#{one.request.pk} {one.request.model}: {one.refusal}")
            elif isinstance(one.made, Vote):
                messages.success(request, VOTED % {"number": one.request.pk})
            else:
                messages.success(
                    request,
                    _("Request #%(number)d for %(model)s is decided in the same way.")
                    % {"number": one.request.pk, "model": one.request.model},
                )

    def back_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Reopen or close a decided request, depending on the button's value."""
        asked = self._visible_request(request, object_id)
        if asked is None:
            return self.not_there(request, object_id)
        back = WayBackForm(request.POST)
        if not back.is_valid():
            return self._show_review(request, asked, DecisionForm(), back=back, status=422)
        typed = back.cleaned_data
        to = Place(typed["to"])
        try:
            now = review_entry(asked.applicant, asked.model)
            change_place(
                model=asked.model,
                person=asked.applicant,
                to=to,
                reviewer=signed_in(request),
                words=typed["back_words"],
                seen=replace(
                    now, request=asked, decision=typed["seen"] or None, submission=typed["read"] or None
                ),
            )
        except RuleError as error:
            asked.refresh_from_db()
            back.add_error("back_words" if error.field == "words" else None, error.sentence)
            return self._show_review(request, asked, DecisionForm(), back=back, status=error.status)
        if to == Place.PENDING:
            done = _("Request #%(number)d is open again.")
        else:
            done = _("Request #%(number)d is closed without decision, and the person can ask again.")
        self._say_done(request, asked, done)
        return redirect("admin:access_requests_accessrequest_change", asked.pk)

    def message_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Store a note or send a message, depending on the button's value."""
        asked = self._visible_request(request, object_id)
        if asked is None:
            return self.not_there(request, object_id)
        if "fill" in request.POST:
            filled = {"message_words": self._with_template(request, asked, "message_words")}
            return self._show_review(request, asked, DecisionForm(), message=MessageForm(initial=filled))
        form = MessageForm(request.POST)
        if not form.is_valid():
            return self._show_review(request, asked, DecisionForm(), message=form, status=422)
        is_note = form.cleaned_data["kind"] == MessageKind.NOTE
        write = add_note if is_note else send_message
        try:
            write(request=asked, reviewer=signed_in(request), words=form.cleaned_data["message_words"])
        except RuleError as error:
            form.add_error("message_words" if error.field == "words" else None, error.sentence)
            return self._show_review(request, asked, DecisionForm(), message=form, status=error.status)
        if is_note:
            messages.success(request, _("The note is saved. The applicant does not see it."))
        else:
            messages.success(request, _("The message is sent to %(person)s.") % {"person": asked.full_name})
        return redirect("admin:access_requests_accessrequest_change", asked.pk)

    def _with_template(self, request: HttpRequest, asked: AccessRequest, name: str) -> str:
        """Return what was typed in this field, followed by the chosen template, filled in."""
        typed, chosen = request.POST.get(name, "").strip(), request.POST.get("template", "")
        known = asked.model.message_templates.filter(pk=posted_key(chosen))
        filled = [fill_template(one, request=asked, reviewer=signed_in(request)) for one in known]
        return "\n\n".join(filter(None, [typed, *filled]))

    def _visible_request(self, request: HttpRequest, object_id: str) -> AccessRequest | None:
        asked = self.get_object(request, unquote(object_id))
        return asked if asked is not None and self.has_view_permission(request, asked) else None

    def _say_done(self, request: HttpRequest, asked: AccessRequest, done: str) -> None:
        """Show the outcome, and how the person is informed: by email or at the remote."""
        remote = remote_of(asked)
        if remote:
            informed = _("The decision is reported to %(host)s.") % {"host": remote.followed.host}
        else:
            informed = _("%(person)s is informed by email.") % {"person": asked.full_name}
        messages.success(request, f"{done % {'number': asked.pk}} {informed}")

    def _show_review(
        self,
        request: HttpRequest,
        asked: AccessRequest,
        form: DecisionForm,
        *,
        back: WayBackForm | None = None,
        message: MessageForm | None = None,
        changes: Sequence[Change] = (),
        status: int = 200,
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            **review_page_context(asked, request.user),
            "form": form,
            "back": back or WayBackForm(),
            "message_form": message or MessageForm(),
            "changes": changes,
            "opts": self.opts,
            "title": _("%(person)s asks for %(model)s") % {"person": asked.full_name, "model": asked.model},
            "panels": show_panels(REQUEST_PANELS, asked, request),
        }
        return TemplateResponse(
            request, "admin/access_requests/accessrequest/review.html", context, status=status
        )
