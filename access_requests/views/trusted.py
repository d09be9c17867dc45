"""Repositories whose CI jobs may read on a person's behalf."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from access_requests.errors import RuleError
from access_requests.models import GatedModel, TrustedRepository
from access_requests.services.oauth.issuers import issuers
from access_requests.services.oauth.trusted import remove_trusted, trust_repository, trusted_by
from access_requests.views.common import Ending, ask_before, signed_in
from access_requests.views.recent import need_recent_sign_in


class TrustForm(forms.Form):
    """A repository, and the conditions that its jobs must meet."""

    issuer = forms.ChoiceField(label=gettext_lazy("CI service"))
    repository = forms.CharField(
        max_length=255,
        help_text=gettext_lazy("OWNER/NAME, as the CI service names it."),
        label=gettext_lazy("Repository"),
    )
    model = forms.ModelChoiceField(
        GatedModel.objects.none(),
        required=False,
        empty_label=gettext_lazy("every model that I may read"),
        help_text=gettext_lazy("What a job can read. Choose as little as possible."),
        label=gettext_lazy("Model"),
    )
    ref = forms.CharField(
        max_length=255,
        required=False,
        label=gettext_lazy("Branch or tag"),
        help_text=gettext_lazy(
            "The full name, such as refs/heads/main. Empty: any, including pull requests of the repository."
        ),
    )
    environment = forms.CharField(
        max_length=255,
        required=False,
        help_text=gettext_lazy("The job's environment, such as production. Empty: any, or none."),
        label=gettext_lazy("Environment"),
    )
    workflow = forms.CharField(
        max_length=255,
        required=False,
        label=gettext_lazy("Workflow file"),
        help_text=gettext_lazy("Such as .github/workflows/evaluate.yml. Empty: any."),
    )

    def __init__(self, user: Any, data: Any = None) -> None:
        super().__init__(data)
        now = timezone.now()
        cast("forms.ChoiceField", self.fields["issuer"]).choices = issuers().items()
        cast("forms.ModelChoiceField[GatedModel]", self.fields["model"]).queryset = (
            GatedModel.objects.filter(
                grants__user=user,
                grants__revoked_at=None,
                grants__starts_at__lte=now,
                grants__ends_at__gt=now,
            )
            .order_by("repo_id")
            .distinct()
        )


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def trusted(request: HttpRequest) -> HttpResponse:
    """Show the trusted repositories and a form for another one, which requires a recent sign-in."""
    form = TrustForm(request.user, request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            need_recent_sign_in(request)
            try:
                made = trust_repository(user=signed_in(request), **form.cleaned_data)
            except RuleError as error:
                form.add_error(error.field if error.field in form.fields else None, error.sentence)
                status = error.status
            else:
                messages.success(
                    request,
                    _("%(repository)s is now trusted. Its jobs can read on your behalf.")
                    % {"repository": made.repository},
                )
                return redirect("trusted")
    names = issuers()
    rows = list(trusted_by(signed_in(request)))
    for row in rows:
        no_longer = _("%(issuer)s (no longer allowed by this portal)") % {"issuer": row.issuer}
        row.service = names.get(row.issuer, no_longer)  # type: ignore[attr-defined]
    context = {"form": form, "rows": rows, "address": settings.GATEHOUSE_URL, "services": names}
    return render(request, "access_requests/trusted.html", context, status=status)


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def trusted_remove(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask, and on a POST end one trust and the tokens made for it."""
    row = TrustedRepository.objects.filter(pk=pk, user=signed_in(request)).first()
    if row is None:
        raise Http404(f"You trust no repository {pk}.")
    if request.method != "POST":
        if row.removed_at:
            return redirect("trusted")
        ending = Ending(
            question=_("Stop trusting %(repository)s?") % {"repository": row.repository},
            facts=[
                (_("Reads"), row.model.repo_id if row.model else _("every model that you may read")),
                (_("Branch or tag"), row.ref),
                (_("Environment"), row.environment),
                (_("Workflow file"), row.workflow),
            ],
            follows=[
                _("Its jobs get no more tokens, and running jobs are refused at once."),
                _(
                    "Your own access does not change. You can trust it again, with the same or other conditions."
                ),
            ],
            button=_("Remove it"),
            back=reverse("trusted"),
        )
        return ask_before(request, ending)
    ended = remove_trusted(trusted=row, user=signed_in(request))
    done = _("%(repository)s is not trusted any more.")
    if ended:
        done = ngettext(
            "%(repository)s is not trusted any more, and %(count)d of its tokens ended.",
            "%(repository)s is not trusted any more, and %(count)d of its tokens ended.",
            ended,
        )
    messages.success(request, done % {"repository": row.repository, "count": ended})
    return redirect("trusted")
