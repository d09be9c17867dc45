"""Followed repositories, and what both sides say about their people; services make the changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from access_requests.access.permissions import is_owner, models_with_role
from access_requests.admin.base import COUNTED, ReadOnlyAdmin, number_of, say, shown_number, signed_in
from access_requests.enums import FarStatus, FollowState, Gate, PushState, Role
from access_requests.errors import RuleError
from access_requests.models import FollowedRepo, GatedModel, RemotePush, RemoteRequest
from access_requests.services.following.credentials import known_endpoints
from access_requests.services.following.drift import (
    OPEN_PUSHES,
    asked_again,
    drifts,
    status_here,
    with_standing,
)
from access_requests.services.following.managing import (
    LONGEST_PAUSE,
    SHORTEST_PAUSE,
    change_following,
    follow,
    pause,
    sync_now,
    unfollow,
)
from access_requests.services.following.taking import push_ours, take_theirs


def owned_models(user: Any) -> QuerySet[GatedModel]:
    """Return the models that this person may connect to a followed repository."""
    rows = GatedModel.objects.exclude(gate=Gate.NONE)
    return rows if user.is_superuser else rows.filter(roles__user=user, roles__role=Role.OWNER)


class FollowForm(forms.Form):
    """The form for following a repository. It offers only endpoints for which an operator set a token."""

    model = forms.ModelChoiceField(queryset=GatedModel.objects.none(), label=gettext_lazy("Model here"))
    endpoint = forms.ChoiceField(
        help_text=gettext_lazy("Endpoints for which an operator set a token."), label=gettext_lazy("Endpoint")
    )
    far_id = forms.CharField(
        label=gettext_lazy("Repository there"),
        required=False,
        max_length=193,
        help_text=gettext_lazy("NAMESPACE/NAME. If you leave it empty, the same id as here."),
    )

    def __init__(self, user: Any, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        followed = FollowedRepo.objects.exclude(state=FollowState.ENDED)
        models = owned_models(user).exclude(followed_repos__in=followed)
        cast("forms.ModelChoiceField[GatedModel]", self.fields["model"]).queryset = models
        endpoints = [(address, address) for address in known_endpoints()]
        cast("forms.ChoiceField", self.fields["endpoint"]).choices = endpoints


class FollowingForm(forms.Form):
    poll_every = forms.IntegerField(
        label=gettext_lazy("Seconds between two polls"), min_value=SHORTEST_PAUSE, max_value=LONGEST_PAUSE
    )
    mail_applicants = forms.BooleanField(
        label=gettext_lazy("Email decisions from here too"),
        required=False,
        help_text=gettext_lazy(
            "Sent to the address that the remote gave, which is not confirmed here. The remote also sends its own emails."
        ),
    )


@admin.register(FollowedRepo)
class FollowedRepoAdmin(ReadOnlyAdmin):
    """Followed repositories: how the last poll went, and what differs."""

    list_display = ["model", "there", "shown_state", "differ", "untold", "polled_at", "problem"]
    list_filter = ["state"]
    list_select_related = ["model"]
    search_fields = ["model__repo_id", "far_id", "endpoint"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[FollowedRepo]:
        differing = RemoteRequest.objects.filter(followed=OuterRef("pk"), drifted_at__isnull=False)
        untold = RemotePush.objects.filter(remote__followed=OuterRef("pk"), state__in=OPEN_PUSHES)
        counts = {"drifted": number_of(differing, "followed"), "telling": number_of(untold, "state")}
        rows: QuerySet[FollowedRepo] = super().get_queryset(request).annotate(**counts)
        return rows.defer("model__card", "model__card_data")

    def get_urls(self) -> list[URLPattern]:
        info = "access_requests_followedrepo"
        routes = {
            "ask": self.ask_view,
            "pause": self.pause_view,
            "end": self.end_view,
            "settings": self.settings_view,
        }
        own = [
            path(
                f"<path:object_id>/{name}/",
                self.admin_site.admin_view(require_POST(view)),
                name=f"{info}_{name}",
            )
            for name, view in routes.items()
        ]
        return [*own, *super().get_urls()]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and owned_models(request.user).exists())

    @admin.display(description=gettext_lazy("followed"), ordering="far_id")
    def there(self, followed: FollowedRepo) -> SafeString:
        return format_html('<a href="{}" rel="noopener noreferrer">{}</a>', followed.far_address, followed)

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def shown_state(self, followed: FollowedRepo) -> SafeString:
        return format_html('<span class="state {}">{}</span>', followed.state, followed.get_state_display())

    @admin.display(description=gettext_lazy("differ"), ordering="drifted")
    def differ(self, followed: FollowedRepo) -> str:
        return shown_number(followed.drifted)  # type: ignore[attr-defined]

    @admin.display(description=gettext_lazy("to be told"), ordering="telling")
    def untold(self, followed: FollowedRepo) -> str:
        return shown_number(followed.telling)  # type: ignore[attr-defined]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            return self.not_there(request, "add")
        form = FollowForm(request.user, request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                followed = follow(actor=signed_in(request), **form.cleaned_data)
            except RuleError as error:
                form.add_error(None, error.sentence)
            else:
                messages.success(
                    request,
                    _("%(model)s follows %(followed)s. The first poll starts in a moment.")
                    % {"model": followed.model, "followed": followed},
                )
                return redirect("admin:access_requests_followedrepo_change", followed.pk)
        context = {
            **self.admin_site.each_context(request),
            "form": form,
            "opts": self.opts,
            "title": _("Follow a repository elsewhere"),
        }
        status = 422 if form.errors else 200
        return TemplateResponse(
            request, "admin/access_requests/followedrepo/follow.html", context, status=status
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        followed = self.get_object(request, unquote(object_id))
        if followed is None:
            return self.not_there(request, object_id)
        return self._show_followed(request, followed, self._settings_form(followed))

    def _settings_form(self, followed: FollowedRepo, data: Any = None) -> FollowingForm:
        known = {"poll_every": followed.poll_every, "mail_applicants": followed.mail_applicants}
        return FollowingForm(data, initial=known)

    def _show_followed(
        self, request: HttpRequest, followed: FollowedRepo, form: FollowingForm, status: int = 200
    ) -> HttpResponse:
        differing = with_standing(followed.remote_requests.exclude(drifted_at=None)).order_by("drifted_at")
        tried = followed.remote_requests.filter(pushes__state__in=OPEN_PUSHES, pushes__attempts__gt=0)
        context = {
            **self.admin_site.each_context(request),
            "followed": followed,
            "known": shown_number(followed.remote_requests.order_by()[: COUNTED + 1].count()),
            "differing": [{"row": row, "here": status_here(row)} for row in differing[:200]],
            "struggling": tried.select_related("person").distinct()[:50],
            "troubles": followed.troubles.all(),
            "mine": is_owner(request.user, followed.model),
            "form": form,
            "opts": self.opts,
            "title": _("%(model)s follows %(followed)s") % {"model": followed.model, "followed": followed},
        }
        return TemplateResponse(
            request, "admin/access_requests/followedrepo/page.html", context, status=status
        )

    def _do_with_followed(
        self, request: HttpRequest, object_id: str, act: Callable[..., None], done: str
    ) -> HttpResponse:
        followed = self.get_object(request, unquote(object_id))
        if followed is None:
            return self.not_there(request, object_id)
        try:
            act(followed=followed, actor=signed_in(request))
        except RuleError as error:
            say(request, error)
        else:
            messages.success(request, done)
        return redirect("admin:access_requests_followedrepo_change", followed.pk)

    def ask_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do_with_followed(
            request, object_id, sync_now, _("It is polled in a moment. Reload this page to see the result.")
        )

    def pause_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do_with_followed(
            request, object_id, pause, _("Paused: nothing is fetched or reported until you press “Ask now”.")
        )

    def end_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do_with_followed(
            request, object_id, unfollow, _("The repository is no longer followed. Requests and grants stay.")
        )

    def settings_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        followed = self.get_object(request, unquote(object_id))
        if followed is None:
            return self.not_there(request, object_id)
        form = self._settings_form(followed, request.POST)
        if form.is_valid():
            try:
                change_following(followed=followed, actor=signed_in(request), **form.cleaned_data)
            except RuleError as error:
                form.add_error(error.field if error.field in form.fields else None, error.sentence)
            else:
                messages.success(request, _("Saved."))
                return redirect("admin:access_requests_followedrepo_change", followed.pk)
        return self._show_followed(request, followed, form, status=422)


class DriftFilter(admin.SimpleListFilter):
    title = gettext_lazy("both sides")
    parameter_name = "sides"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("differ", _("differ")), ("agree", _("agree"))]

    def queryset(self, request: HttpRequest, rows: QuerySet[RemoteRequest]) -> QuerySet[RemoteRequest]:
        if self.value() == "differ":
            return rows.exclude(drifted_at=None)
        return rows.filter(drifted_at=None) if self.value() == "agree" else rows


class FollowedFilter(admin.RelatedFieldListFilter):
    """Filter by the repositories of the visitor's models, without checking which of them have rows."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:  # type: ignore[override]
        theirs = FollowedRepo.objects.filter(model__in=models_with_role(request.user)).values("pk")
        choices: list[tuple[Any, str]] = field.get_choices(
            include_blank=False, limit_choices_to={"pk__in": theirs}, ordering=("far_id",)
        )
        return choices


@admin.register(RemoteRequest)
class RemoteRequestAdmin(ReadOnlyAdmin):
    """People of followed repositories, one line each: their state there and their state here."""

    to_model = "followed__model"
    list_display = ["person_there", "here", "there", "drifted_at", "seen_at", "followed"]
    list_filter = [DriftFilter, "far_status", ("followed", FollowedFilter)]
    list_select_related = ["person", "followed", "request"]
    search_fields = ["person__name", "person__full_name", "person__email", "far_request_id"]
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[RemoteRequest]:
        return with_standing(super().get_queryset(request)).defer("followed__model__card")

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        return ["drifted_at", "-pk"]

    def get_urls(self) -> list[URLPattern]:
        routes = {"take": self.take_view, "push": self.push_view}
        own = [
            path(
                f"<path:object_id>/{name}/",
                self.admin_site.admin_view(require_POST(view)),
                name=f"access_requests_remoterequest_{name}",
            )
            for name, view in routes.items()
        ]
        return [*own, *super().get_urls()]

    @admin.display(description=gettext_lazy("person"), ordering="person__name")
    def person_there(self, remote: RemoteRequest) -> str:
        return f"{remote.person.full_name or remote.person} ({remote.person.name or _('name hidden')})"

    @admin.display(description=gettext_lazy("here"))
    def here(self, remote: RemoteRequest) -> SafeString:
        return state(status_here(remote))

    @admin.display(description=gettext_lazy("there"), ordering="far_status")
    def there(self, remote: RemoteRequest) -> SafeString:
        return state(FarStatus(remote.far_status))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        remote = self.get_object(request, unquote(object_id))
        if remote is None:
            return self.not_there(request, object_id)
        context = {
            **self.admin_site.each_context(request),
            **sides_of(remote),
            "pushes": remote.pushes.order_by("-pk")[:20],
            "opts": self.opts,
            "title": _("%(person)s at %(host)s") % {"person": remote.person, "host": remote.followed.host},
        }
        return TemplateResponse(request, "admin/access_requests/remoterequest/page.html", context)

    def take_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        done = _("The state of %(person)s at %(host)s was taken over here.")
        return self._settle_difference(request, object_id, take_theirs, done)

    def push_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        done = _(
            "Our state of %(person)s will be reported to %(host)s in a moment and replaces the state there."
        )
        return self._settle_difference(request, object_id, push_ours, done)

    def _settle_difference(
        self, request: HttpRequest, object_id: str, act: Callable[..., None], done: str
    ) -> HttpResponse:
        remote = self.get_object(request, unquote(object_id))
        if remote is None:
            return self.not_there(request, object_id)
        try:
            act(remote=remote, actor=signed_in(request), seen=request.POST.get("seen", ""))
        except RuleError as error:
            say(request, error)
        else:
            messages.success(request, done % {"host": remote.followed.host, "person": remote.person})
        return redirect("admin:access_requests_remoterequest_change", remote.pk)


def state(status: FarStatus) -> SafeString:
    return format_html('<span class="state {}">{}</span>', status.value, status.label)


def sides_of(remote: RemoteRequest) -> dict[str, Any]:
    """Return both sides for a template; the row must come from `with_standing`."""
    failed = remote.pushes.filter(state=PushState.FAILED).order_by("-pk").first()
    there, here = FarStatus(remote.far_status), status_here(remote)
    return {
        "remote": remote,
        "followed": remote.followed,
        "here": here,
        "there": there,
        "differ": drifts(remote),
        "again": asked_again(remote),
        "open_push": remote.pushes.filter(state__in=OPEN_PUSHES).order_by("-pk").first(),
        "failed_push": failed,
        "may_push": here == FarStatus.ACCEPTED or FarStatus.MISSING not in {there, here},
    }
