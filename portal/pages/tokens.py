"""A person's tokens: created, listed, rotated and revoked.

A secret is in exactly one answer: that to the POST which created it. The browser does not store the answer,
and a repeated request makes the service say that it was already shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from access_requests.access.permissions import decidable_models, decides_somewhere
from access_requests.enums import TokenKind
from access_requests.errors import RuleError
from access_requests.models import AccessToken, Grant
from access_requests.services.tokens import (
    OVERLAPS,
    Issued,
    issue_person_token,
    revoke_token,
    rotate_token,
)
from access_requests.services.tokens.issuing import BY_HAND
from access_requests.services.tokens.networks import read_networks
from access_requests.views.common import Ending, ask_before, signed_in
from access_requests.views.recent import need_recent_sign_in
from portal.accounts.factors import lacks_second_factor, to_second_factor
from portal.pages.commands import PLACEHOLDER_ID, commands_for, deciding_commands

MOST_ENDED = 20  # ended tokens that are still listed
KINDS = {
    TokenKind.USER: gettext_lazy("User token: reads all models that you may read"),
    TokenKind.REVIEWER: gettext_lazy(
        "Reviewer token: decides requests of the models you review, changes settings and uploads where you are owner, and reads"
    ),
}
NEEDS_FACTOR = gettext_lazy(
    "A reviewer token needs a second factor, like the reviewers' pages: add an authenticator app or a passkey here "
    "first, then make the token."
)


class TokenForm(forms.Form):
    """A token: its name, and limits on place and time if they should be narrower than its person's access."""

    name = forms.CharField(
        max_length=100, help_text=gettext_lazy("Where it will be used, such as “cluster” or “laptop”.")
    )
    expires = forms.DateField(
        required=False,
        label=gettext_lazy("Last day"),
        help_text=gettext_lazy("Empty: it ends with your access."),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    networks = forms.CharField(
        required=False,
        max_length=2000,
        label=gettext_lazy("Only from these networks"),
        help_text=gettext_lazy(
            "Such as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.10-192.0.2.20, separated by commas. Empty: from anywhere."
        ),
    )

    def clean_networks(self) -> list[str]:
        try:
            return read_networks(self.cleaned_data["networks"])
        except RuleError as error:
            raise forms.ValidationError(error.sentence) from error

    def expires_at(self) -> datetime | None:
        """Return the end of the last day, UTC."""
        day = self.cleaned_data["expires"]
        return datetime.combine(day, time.max, tzinfo=UTC) if day else None

    def wishes(self) -> dict[str, Any]:
        """Return the values as the services take them."""
        return {
            "name": self.cleaned_data["name"],
            "expires_at": self.expires_at(),
            "networks": self.cleaned_data["networks"],
        }

    def take(self, error: RuleError) -> None:
        """Add a service's error to the form, at its field if it has one."""
        field = {"expires_at": "expires"}.get(error.field, error.field)
        self.add_error(field if field in self.fields else None, error.sentence)


class PersonTokenForm(TokenForm):
    """A token form with a choice of kinds, for people who decide about a model."""

    kind = forms.ChoiceField(
        label=gettext_lazy("What it may do"),
        choices=list(KINDS.items()),
        initial=TokenKind.USER,
        widget=forms.RadioSelect,
    )
    field_order = ["kind", "name", "expires", "networks"]

    def __init__(self, *args: Any, decides: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["expires"].help_text = _("Empty: it works until you revoke it.")
        if not decides:
            self.fields.pop("kind")

    def kind_chosen(self) -> TokenKind:
        """Return the chosen kind; people without a choice get a read-only token."""
        return TokenKind(self.cleaned_data.get("kind", TokenKind.USER))


class RotateForm(forms.Form):
    """The form for a rotation: how long the old token keeps working next to its replacement."""

    overlap = forms.ChoiceField(
        label=gettext_lazy("How long should the old token keep working beside the new one?"),
        choices=lambda: [(key, _(overlap.words)) for key, overlap in OVERLAPS.items()],
        initial="1d",
        widget=forms.RadioSelect,
    )


@dataclass(frozen=True)
class Ended:
    """When and why a token ended without being revoked."""

    badge: str
    word: str
    since: datetime | None  # None if it has not ended
    why: str


@dataclass(frozen=True)
class Row:
    """One token as a row of the tables."""

    token: AccessToken
    usable: bool

    @property
    def rotatable(self) -> bool:
        """Return whether it was made by hand, still works and has not been replaced."""
        return self.usable and not self.token.replaced_by_id and self.token.origin in BY_HAND

    @property
    def ends_with_access(self) -> bool:
        """Return whether it ends with the grant: it has no end of its own, or a later one."""
        token = self.token
        return token.grant is not None and not (token.expires_at and token.expires_at < token.grant.ends_at)

    @property
    def ended(self) -> Ended:
        """Return its own end or its grant's, whichever came first."""
        grant, own = self.token.grant, self.token.expires_at
        over = (grant.revoked_at or grant.ends_at) if grant else None
        if grant and over and not (own and own < over):
            if not grant.revoked_at:
                return Ended("expired", _("ended"), over, _("your access ended"))
            why = _("your access was revoked")
            if grant.revoke_reason:
                why = _("your access was revoked: %(reason)s") % {"reason": grant.revoke_reason}
            return Ended("revoked", _("access revoked"), over, why)
        why = _("replaced by rotation") if self.token.replaced_by_id else _("its last day has passed")
        return Ended("expired", _("ended"), own, why)


def rows(tokens: Iterable[AccessToken]) -> list[Row]:
    """Return rows with the working tokens first, followed by the latest ended ones."""
    now = timezone.now()
    shown = [Row(token, _is_usable(token, now)) for token in tokens]
    live, ended = [row for row in shown if row.usable], [row for row in shown if not row.usable]
    return live + ended[:MOST_ENDED]


def _is_usable(token: AccessToken, now: datetime) -> bool:
    grant_lives = token.grant is None or token.grant.is_live(now)
    return grant_lives and token.revoked_at is None and (token.expires_at is None or token.expires_at > now)


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def my_tokens(request: HttpRequest) -> HttpResponse:
    """List the tokens that a person made by hand. A POST creates another one and needs a recent sign-in."""
    decides = decides_somewhere(request.user)
    if request.method != "POST":
        return _render_tokens(request, PersonTokenForm(decides=decides))
    form = PersonTokenForm(request.POST, decides=decides)
    if not form.is_valid():
        return _render_tokens(request, form, status=422)
    if _needs_factor(request, form.kind_chosen()):
        return to_second_factor(request, str(NEEDS_FACTOR))
    need_recent_sign_in(request)
    try:
        issued = issue_person_token(
            user=signed_in(request), kind=form.kind_chosen(), announce=True, **form.wishes()
        )
    except RuleError as error:
        form.take(error)
        return _render_tokens(request, form, status=error.status)
    return show_secret(request, issued)


def _needs_factor(request: HttpRequest, kind: str) -> bool:
    return kind == TokenKind.REVIEWER and lacks_second_factor(request.user)


def _render_tokens(request: HttpRequest, form: PersonTokenForm, status: int = 200) -> HttpResponse:
    tokens = (
        AccessToken.objects.filter(user=signed_in(request), origin__in=BY_HAND)
        .select_related("grant__model")
        .defer("grant__model__card", "grant__model__card_data")
    )
    context = {"rows": rows(tokens), "form": form, "decides": "kind" in form.fields}
    return render(request, "portal/tokens/mine.html", context, status=status)


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def rotate(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask how long the old token should keep working, then show its replacement once.

    Rotating a token for more than one grant needs a recent sign-in, as creating it does.
    """
    token = _own_token(request, pk)
    if _needs_factor(request, token.kind):
        return to_second_factor(request, str(NEEDS_FACTOR))
    form = RotateForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            if token.grant is None:
                need_recent_sign_in(request)
            try:
                issued = rotate_token(
                    token=token, user=signed_in(request), overlap=form.cleaned_data["overlap"]
                )
            except RuleError as error:
                form.add_error(None, error.sentence)
                status = error.status
            else:
                token.refresh_from_db()
                return show_secret(request, issued, replaces=token)
    context = {"token": token, "form": form, "back": back_to(token)}
    return render(request, "portal/tokens/rotate.html", context, status=status)


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask for confirmation and, on a POST, revoke one token; the person's access stays."""
    return revoke_asked(request, _own_token(request, pk), back=reverse("my_tokens"))


def revoke_asked(request: HttpRequest, token: AccessToken, *, back: str) -> HttpResponse:
    """Show the confirmation or, on a POST, revoke the token and go `back`; all pages with tokens use this."""
    if request.method != "POST":
        row = Row(token, _is_usable(token, timezone.now()))
        return ask_before(request, _describe_revocation(row, back)) if row.usable else redirect(back)
    revoke_token(token=token, user=signed_in(request))
    messages.success(
        request, _("The token “%(name)s” is revoked and no longer works.") % {"name": token.name}
    )
    return redirect(back)


def _describe_revocation(row: Row, back: str) -> Ending:
    token = row.token
    if token.grant is not None:
        purpose = _("downloading %(model)s") % {"model": token.grant.model.repo_id}
    elif token.kind == TokenKind.REVIEWER:
        purpose = _("deciding about requests, settings, uploads, and reading")
    else:
        purpose = _("downloading all your models")
    used = f"{token.last_used_at:%Y-%m-%d %H:%M} UTC" if token.last_used_at else _("never")
    if token.last_used_address:
        used = _("%(time)s from %(address)s") % {"time": used, "address": token.last_used_address}
    gentler = (
        reverse("my_token_rotate", args=[token.pk]),
        _("To replace it without interruption, rotate it instead"),
    )
    return Ending(
        question=_("Revoke “%(name)s”?") % {"name": token.name},
        facts=[
            (_("Token"), token.hint),
            (_("For"), purpose),
            (_("Last use"), used),
        ],
        follows=[
            _(
                "You cannot undo this. Programs that use it are refused at once, and running downloads may be interrupted."
            ),
            _("Your own access does not change, and you can make another token."),
        ],
        button=_("Revoke the token"),
        back=back,
        instead=gentler if row.rotatable else None,
    )


def _own_token(request: HttpRequest, pk: int) -> AccessToken:
    token = AccessToken.objects.select_related("grant__model").filter(pk=pk, user=signed_in(request)).first()
    if token is None:
        raise Http404(f"You have no token {pk}.")
    return token


def back_to(token: AccessToken) -> str:
    """Return the address of the page that lists this token."""
    if token.grant is None:
        return reverse("my_tokens")
    return reverse("access_page", args=[token.grant.model.namespace, token.grant.model.name])


def show_secret(request: HttpRequest, issued: Issued, *, replaces: AccessToken | None = None) -> HttpResponse:
    """Return the one answer that contains the secret, with commands that work as they are."""
    token = issued.token
    if token.grant is not None:
        commands = commands_for(token.grant.model.repo_id, token=issued.secret)
    elif token.kind == TokenKind.REVIEWER:
        model = decidable_models(token.user).filter(gate__in=["manual", "auto"]).first()
        commands = deciding_commands(model.repo_id if model else PLACEHOLDER_ID, token=issued.secret)
    else:
        live = Grant.objects.filter(user=token.user, revoked_at=None, ends_at__gt=timezone.now())
        grant = live.select_related("model").first()
        commands = commands_for(grant.model.repo_id if grant else PLACEHOLDER_ID, token=issued.secret)
    context = {
        "issued": issued,
        "replaces": replaces,
        "row": Row(token, True),
        "model": token.grant.model if token.grant else None,
        "back": back_to(token),
        "commands": commands,
    }
    return render(request, "portal/token.html", context)
