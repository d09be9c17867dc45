"""The event log and outgoing emails in the admin, read-only."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

from django.contrib import admin, messages
from django.db.models import F, Q, QuerySet, Subquery
from django.db.models.functions import Greatest
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop, ngettext

from access_requests.admin.base import ReadOnlyAdmin, say, signed_in
from access_requests.admin.filters import DayFilter, ModelFilter, distinct_values
from access_requests.enums import MailState, MessageKind
from access_requests.errors import RuleError
from access_requests.models import AccessRequest, Event, MailServer, OutgoingMail
from access_requests.search import OF_EMAIL, AnyOf, holds, models_like, of_people, people_like
from access_requests.services.emails import mail_server
from access_requests.services.emails.write import try_again
from access_requests.services.event_log.protection import ADVICE, unprotected
from access_requests.services.event_log.verify import WRITING

MOST_COUNTED = 1_000
NOT_SHOWN = gettext_noop(
    "Not shown, since it holds a code or a link that opens an account. It is deleted once it is sent."
)


class KindFilter(admin.SimpleListFilter):
    """Filter by the kinds of event that occur."""

    title = gettext_lazy("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, kind) for kind in distinct_values(Event, "kind")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Event]) -> QuerySet[Event]:
        return rows.filter(kind=self.value()) if self.value() else rows


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """The event log; `manage.py verify_audit` checks its chain."""

    list_display = ["number", "second", "kind", "actor_name", "model", "request"]
    list_filter = [KindFilter, ModelFilter, DayFilter]
    list_select_related = ["model", "request__applicant", "request__model", "link"]
    search_fields = ["kind"]  # shows the search field; `condition` says where a term is looked for
    search_help_text = gettext_lazy("Who did it, what kind of event, a model")
    finds_signs = True
    ordering = ["-at", "-pk"]
    fields = [
        "number",
        "moment",
        "kind",
        "actor_name",
        "model",
        "request",
        "grant",
        "pretty_data",
        "digest",
        "previous_hash",
        "hash",
    ]
    readonly_fields = ["number", "moment", "actor_name", "pretty_data", "previous_hash", "hash"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        """Return the events of the visitor's models, without notes that others wrote about the visitor's own requests."""
        rows: QuerySet[Event] = super().get_queryset(request)
        if not request.user.is_superuser:
            own = AccessRequest.objects.filter(applicant=signed_in(request)).values("pk")
            rows = rows.exclude(kind=WRITING[MessageKind.NOTE], request__in=own)
        return rows.defer("model__card").prefetch_related("texts")

    def condition_for(self, request: HttpRequest, term: str) -> Q:
        """Search the kinds, writers, models and people of events; an event stores only their keys.

        Reviewers can find people only by the names that the log shows them, not by email address.
        """
        folded = term.casefold()
        kinds = [kind for kind in distinct_values(Event, "kind") if folded in kind.casefold()]
        writers = [writer for writer in distinct_values(Event, "writer") if folded in writer.casefold()]
        people = people_like(term, by_name=not request.user.is_superuser)
        who = of_people("actor_id", people) | Q(writer__in=writers)
        return who | Q(kind__in=kinds) | Q(AnyOf(F("model_id"), models_like(term)))

    @admin.display(description=gettext_lazy("number"))
    def number(self, event: Event) -> int | None:
        return event.number

    @admin.display(description=gettext_lazy("at"), ordering="at")
    def second(self, event: Event) -> str:
        return f"{event.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

    @admin.display(description=gettext_lazy("at"))
    def moment(self, event: Event) -> str:
        return f"{event.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"

    @admin.display(description=gettext_lazy("who"), ordering="actor__username")
    def actor_name(self, event: Event) -> str:
        return event.actor_name

    @admin.display(description=gettext_lazy("hash before it"))
    def previous_hash(self, event: Event) -> str:
        return event.old_previous_hash or event.link.previous_hash

    @admin.display(description=gettext_lazy("hash in the chain"))
    def hash(self, event: Event) -> str:
        return event.old_hash or event.link.hash

    def changelist_view(self, request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        _say_what_is_unprotected(request)
        return super().changelist_view(request, *arguments, **options)

    def change_view(self, request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        _say_what_is_unprotected(request)
        return super().change_view(request, *arguments, **options)

    @admin.display(description=gettext_lazy("data"))
    def pretty_data(self, event: Event) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(event.data, indent=2, ensure_ascii=False))


def _say_what_is_unprotected(request: HttpRequest) -> None:
    """Warn above the log if it is not fully protected, since then it proves less."""
    for sentence in unprotected():
        messages.warning(request, f"{sentence} {_(ADVICE)}")


def say_what_waits(request: HttpRequest) -> None:
    """Warn the visitor while the mail server takes no emails: since when, and how many wait.

    Only superusers see why: the server's answer can name the recipient.
    """
    outage = mail_server.outage()
    if outage is None:
        return
    rows = OutgoingMail.objects.filter(state=MailState.WAITING).order_by()
    count = rows[: MOST_COUNTED + 1].count()
    waiting = f"{count:,}"
    if count > MOST_COUNTED:
        waiting = _("more than %(count)s") % {"count": f"{MOST_COUNTED:,}"}
    messages.warning(
        request,
        _(
            "The mail server has not accepted email since %(since)s UTC%(error)s. Waiting emails: %(waiting)s. "
            "They are sent when it answers; the next try is at %(next_try)s UTC."
        )
        % {
            "since": f"{outage.failing_since:%Y-%m-%d %H:%M}",
            "error": f" ({outage.last_error})" if request.user.is_superuser else "",
            "waiting": waiting,
            "next_try": f"{outage.paused_until:%H:%M:%S}",
        },
    )


@admin.register(OutgoingMail)
class OutgoingMailAdmin(ReadOnlyAdmin):
    """Outgoing emails, for superusers: they hold messages and links.

    Text that opens an account is never shown.
    """

    to_model = ""
    list_display = ["subject", "to", "state", "next_try", "error", "attempts", "created_at", "sent_at"]
    list_filter = ["state"]
    search_fields = ["to", "subject", "key"]
    search_help_text = gettext_lazy("Address, subject, or what it is about")
    fields = [
        "to",
        "subject",
        "shown_text",
        "state",
        "attempts",
        "last_error",
        "created_at",
        "next_try",
        "useless_after",
        "sent_at",
        "key",
    ]
    readonly_fields = ["shown_text", "next_try"]
    actions = ["try_again"]

    def condition(self, term: str) -> Q:
        return holds(OF_EMAIL, term)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def has_view_permission(self, request: HttpRequest, obj: OutgoingMail | None = None) -> bool:
        return self.has_module_permission(request)

    @admin.display(description=gettext_lazy("last error"), ordering="last_error")
    def error(self, mail: OutgoingMail) -> str:
        return Truncator(mail.last_error).chars(80)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutgoingMail]:
        """Annotate `not_before`, when the email is tried next; the pause of a failing server delays it."""
        server = MailServer.objects.filter(pk=MailServer.ROW, failures__gt=0).values("paused_until")
        rows: QuerySet[OutgoingMail] = super().get_queryset(request)
        return rows.annotate(not_before=Greatest("next_try_at", Subquery(server)))

    @admin.display(description=gettext_lazy("next try"), ordering="next_try_at")
    def next_try(self, mail: OutgoingMail) -> str:
        waits = mail.state == MailState.WAITING
        return f"{mail.not_before:%Y-%m-%d %H:%M:%S} UTC" if waits else ""  # type: ignore[attr-defined]

    @admin.display(description=gettext_lazy("text"))
    def shown_text(self, mail: OutgoingMail) -> str:
        return _(NOT_SHOWN) if mail.pressing else mail.text

    def changelist_view(self, request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        say_what_waits(request)
        return super().changelist_view(request, *arguments, **options)

    @admin.action(
        description=gettext_lazy("Try again to send emails that were given up"), permissions=["view"]
    )
    def try_again(self, request: HttpRequest, mails: QuerySet[OutgoingMail]) -> None:
        done = 0
        for mail in mails:
            try:
                try_again(mail=mail)
                done += 1
            except RuleError as error:
                say(request, error)
        if done:
            messages.success(
                request,
                ngettext(
                    "%(count)d email will be sent again in a moment.",
                    "%(count)d emails will be sent again in a moment.",
                    done,
                )
                % {"count": done},
            )
