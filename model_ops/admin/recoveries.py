"""Recoveries in the admin: view, cancel and retry them."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from access_requests.access.permissions import is_owner, models_with_role
from access_requests.admin.base import ReadOnlyAdmin, say, signed_in
from access_requests.errors import RuleError
from model_ops.models import ModelWeights, Recovery
from model_ops.panels import is_moving
from model_ops.queries import smoke_run, waiting_words
from model_ops.services.recoveries.test_prompt import ask_again, can_be_asked
from model_ops.services.recoveries.weights import ENDED_BADLY, cancel_recovery, retry


@admin.register(Recovery)
class RecoveryAdmin(ReadOnlyAdmin):
    to_model = "weights__model"
    list_display = [
        "id",
        "models",
        "state",
        "waiting_for",
        "percent_done",
        "stage",
        "attempts",
        "wanted_at",
        "finished_at",
    ]
    list_filter = ["state", "waiting_for", "method"]
    readonly_fields = [
        "models", "waiting", "percent_done", "spread_over", "test_prompt", "written_as", "plan_text", "files_made",
        "hashes_compared",
    ]  # fmt: skip
    exclude = [
        "options",
        "plan",
        "manifest",
        "lease_owner",
        "run_id",
        "bytes_done",
        "bytes_total",
        "bytes_kept",
    ]
    actions = ["try_again"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Recovery]:
        """Return recoveries with only the models that this visitor decides for; others may share them."""
        theirs = ModelWeights.objects.filter(replaced_at=None, model__in=models_with_role(request.user))
        shown = Prefetch(
            "weights", theirs.select_related("model").order_by("model__repo_id"), to_attr="shown"
        )
        return super().get_queryset(request).distinct().prefetch_related(shown)

    def get_fields(self, request: HttpRequest, obj: Recovery | None = None) -> list[Any]:
        """Put the fields that people look for most at the top."""
        spread = ["spread_over"] if obj and obj.shards.exists() else []
        waits = ["waiting"] if obj and obj.waiting_for else []
        first = ["models", "state", *waits, "percent_done", *spread, "error", "test_prompt"]
        return [
            *first,
            *(
                name
                for name in super().get_fields(request, obj)
                if name not in {*first, "spread_over", "waiting"}
            ),
        ]

    @admin.display(description=gettext_lazy("models"))
    def models(self, recovery: Recovery) -> str:
        return ", ".join(weights.model.repo_id for weights in recovery.shown)  # type: ignore[attr-defined]

    @admin.display(description=gettext_lazy("done"))
    def percent_done(self, recovery: Recovery) -> str:
        return render_to_string("model_ops/progress_line.html", {"recovery": recovery})

    @admin.display(description=gettext_lazy("waits because"))
    def waiting(self, recovery: Recovery) -> str:
        return waiting_words(recovery)

    @admin.display(description=gettext_lazy("shards"))
    def spread_over(self, recovery: Recovery) -> str:
        return render_to_string("model_ops/shards.html", {"shards": recovery.shards.all()})

    @admin.display(description=gettext_lazy("after fetching"))
    def hashes_compared(self, recovery: Recovery) -> str:
        sources = [source for source in (recovery.base, recovery.diff, recovery.files) if source]
        found = [f"{source}: {source.checked}" for source in sources if source.checked]
        return "; ".join(found) or _("nothing was fetched")

    @admin.display(description=gettext_lazy("plan"))
    def plan_text(self, recovery: Recovery) -> SafeString:
        return format_html("<pre>{}</pre>", recovery.plan.get("text", ""))

    @admin.display(description=gettext_lazy("files made"))
    def files_made(self, recovery: Recovery) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(recovery.manifest.get("files", []), indent=1))

    @admin.display(description=gettext_lazy("test prompt"))
    def test_prompt(self, recovery: Recovery) -> str:
        run = smoke_run(recovery)
        return render_to_string("model_ops/smoke.html", {"smoke": run}) if run else _("not run")

    def get_urls(self) -> list[URLPattern]:
        again = self.admin_site.admin_view(require_POST(self.retry_view))
        cancel = self.admin_site.admin_view(require_POST(self.cancel_view))
        ask = self.admin_site.admin_view(require_POST(self.ask_view))
        return [
            path("<int:pk>/retry/", again, name="model_ops_recovery_retry"),
            path("<int:pk>/cancel/", cancel, name="model_ops_recovery_cancel"),
            path("<int:pk>/ask/", ask, name="model_ops_recovery_ask"),
            *super().get_urls(),
        ]

    def retry_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Retry one recovery, from its page."""
        recovery = self.get_queryset(request).filter(pk=pk).first()
        if recovery is None or not owns_all(request, recovery):
            raise Http404(_("There is no recovery %(number)s that you may try again.") % {"number": pk})
        self._queue_again(request, recovery)
        return redirect("admin:model_ops_recovery_change", pk)

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Cancel one recovery, from its page."""
        recovery = self.get_queryset(request).filter(pk=pk).first()
        if recovery is None or not owns_all(request, recovery):
            raise Http404(_("There is no recovery %(number)s that you may cancel.") % {"number": pk})
        try:
            cancel_recovery(recovery=recovery, actor=signed_in(request))
        except RuleError as error:
            say(request, error)
        else:
            said = _("Recovery %(number)s is cancelled. You can try it again.") % {"number": pk}
            self.message_user(request, said, messages.SUCCESS)
        return redirect("admin:model_ops_recovery_change", pk)

    def ask_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Run the test prompt on one recovery's weights again, from its page."""
        recovery = self.get_queryset(request).filter(pk=pk).first()
        if recovery is None or not owns_all(request, recovery):
            raise Http404(_("There is no recovery %(number)s whose weights you may test.") % {"number": pk})
        try:
            ask_again(recovery=recovery, actor=signed_in(request))
        except RuleError as error:
            say(request, error)
        else:
            said = _(
                "The weights of recovery %(number)s will get the test prompt. Reload this page in a moment."
            )
            self.message_user(request, said % {"number": pk}, messages.SUCCESS)
        return redirect("admin:model_ops_recovery_change", pk)

    @admin.action(description=gettext_lazy("Try the selected recoveries again"))
    def try_again(self, request: HttpRequest, rows: QuerySet[Recovery]) -> None:
        for recovery in rows:
            if owns_all(request, recovery):
                self._queue_again(request, recovery)
            else:
                said = _("Recovery %(number)s can only be tried again by an owner of its models.")
                self.message_user(request, said % {"number": recovery.pk}, messages.WARNING)

    def _queue_again(self, request: HttpRequest, recovery: Recovery) -> None:
        try:
            retry(recovery=recovery, actor=signed_in(request))
        except RuleError as error:
            say(request, error)
        else:
            said = _("Recovery %(number)s is queued again.") % {"number": recovery.pk}
            self.message_user(request, said, messages.SUCCESS)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        recovery = self.get_object(request, object_id)
        again = recovery is not None and (recovery.state in ENDED_BADLY or recovery.waiting_for)
        offered = bool(recovery and again and owns_all(request, recovery))
        stoppable = recovery is not None and is_moving(recovery) and owns_all(request, recovery)
        askable = recovery is not None and can_be_asked(recovery) and owns_all(request, recovery)
        context = {"may_retry": offered, "may_cancel": stoppable, "may_ask": askable, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)


def owns_all(request: HttpRequest, recovery: Recovery) -> bool:
    """Return whether the person may stop or retry: as owner of every model of the recovery, or superuser."""
    if getattr(request.user, "is_superuser", False):
        return True
    current = recovery.weights.filter(replaced_at=None).select_related("model")
    owned = [is_owner(request.user, weights.model) for weights in current]
    return bool(owned) and all(owned)
