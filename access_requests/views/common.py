"""Find the model of a page, and ask before something is ended for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from access_requests.access.catalogue import find_model, find_renamed, may_know_of
from access_requests.models import GatedModel

if TYPE_CHECKING:
    from portal.accounts.models import User

KEEP_IT = gettext_lazy("Keep it")


class Renamed(Http404):
    """The model has another id now. Visitors who only view a page are redirected to it."""

    def __init__(self, model: GatedModel, asked: str) -> None:
        super().__init__(f"{asked} is called {model.repo_id} now.")
        self.model = model
        self.asked = asked

    def address_now(self, request: HttpRequest) -> str:
        """Return the address of the same page under the new id."""
        rest = request.path_info.removeprefix(f"/{self.asked}")
        query = request.META.get("QUERY_STRING", "")
        return quote(f"/{self.model.repo_id}{rest}") + (f"?{query}" if query else "")


def known_model(request: HttpRequest, namespace: str, name: str) -> GatedModel:
    """Return the model if this visitor may know of it; else raise 404, as for one that does not exist."""
    repo_id = f"{namespace}/{name}"
    model = find_model(repo_id)
    renamed = None if model else find_renamed(repo_id)
    if renamed and may_know_of(request.user, renamed):
        raise Renamed(renamed, repo_id)
    if model is None or not may_know_of(request.user, model):
        raise Http404(f"There is no model {repo_id} here.")
    return model


def signed_in(request: HttpRequest) -> User:
    """Return the user of a page that requires signing in."""
    return cast("User", request.user)


@dataclass(frozen=True)
class Ending:
    """The question before something is ended for good: what it is, what follows, and the link back."""

    question: str
    facts: list[tuple[str, str]]  # facts without a value are left out
    follows: list[str]
    button: str
    back: str
    keep: str | Promise = KEEP_IT
    instead: tuple[str, str] | None = None  # address and text of a milder alternative


def ask_before(request: HttpRequest, ending: Ending) -> HttpResponse:
    """Show the question; its button posts to the same address."""
    return render(request, "access_requests/end.html", {"ending": ending})
