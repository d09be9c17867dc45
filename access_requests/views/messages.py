"""Messages between an applicant and the reviewers, on the model's page and on a page of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from access_requests.access.access import latest_request
from access_requests.access.permissions import is_person
from access_requests.enums import RequestState
from access_requests.errors import RuleError
from access_requests.models import AccessRequest, GatedModel, Message
from access_requests.services.requests.messages import may_write_to_reviewers, thread_of, write_to_reviewers
from access_requests.views.common import known_model, signed_in


@dataclass(frozen=True)
class Thread:
    """What a page shows the applicant of one request: never a note. It is shown if there is something to read or write."""

    request: AccessRequest
    messages: list[Message]
    may_write: bool


def thread_for(user: Any, model: GatedModel) -> Thread | None:
    """Return the thread of the person's newest submitted request for the model; None without one."""
    request = latest_request(user, model) if is_person(user) else None
    if request is not None and request.state == RequestState.DRAFT:
        sent = model.requests.filter(applicant=user, submitted_at__isnull=False)
        request = sent.order_by("-first_submitted_at").first()
    if request is None or request.submitted_at is None:
        return None
    return Thread(request, thread_of(request, notes=False), may_write_to_reviewers(request))


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def request_messages(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Show the messages about the person's request, and store one to the reviewers."""
    model = known_model(request, namespace, name)
    thread = thread_for(request.user, model)
    if thread is None:
        messages.info(request, _("You have submitted no request here yet."))
        return redirect(model)
    context: dict[str, Any] = {"model": model, "thread": thread}
    if request.method == "POST":
        words = request.POST.get("words", "")
        try:
            write_to_reviewers(request=thread.request, applicant=signed_in(request), words=words)
        except RuleError as error:
            context |= {"words": words, "problem": error.sentence}
            return render(request, "access_requests/messages.html", context, status=error.status)
        messages.success(request, _("Your message is sent. You will get an email when a reviewer answers."))
        return redirect("request_messages", model.namespace, model.name)
    return render(request, "access_requests/messages.html", context)
