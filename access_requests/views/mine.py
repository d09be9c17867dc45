"""Show a person's own requests, grants and tokens."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from access_requests.models import AccessRequest, AccessToken, Decision, Grant
from access_requests.services.tokens.issuing import BY_HAND, live_tokens
from access_requests.views.common import signed_in


@login_required
@never_cache
@require_safe
def mine(request: HttpRequest) -> HttpResponse:
    """Show everything that belongs to this person, newest first."""
    decisions = Prefetch("decisions", Decision.objects.order_by("-pk"), to_attr="newest_decisions")
    tokens = Prefetch(
        "tokens", live_tokens(AccessToken.objects.filter(origin__in=BY_HAND)), to_attr="usable_tokens"
    )
    context = {
        "requests": AccessRequest.objects.filter(applicant=signed_in(request))
        .select_related("model")
        .defer("model__card")
        .prefetch_related(decisions),
        "grants": Grant.objects.filter(user=signed_in(request))
        .select_related("model")
        .defer("model__card")
        .prefetch_related(tokens),
    }
    return render(request, "access_requests/mine.html", context)
