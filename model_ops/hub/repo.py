"""One model as one caller may see it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from http import HTTPStatus

from django.db.models import Q
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone

from access_requests.models import GatedModel
from access_requests.queries import Access, access_of, find_model, may_know_of
from model_ops.hub import refusals
from model_ops.hub.caller import Caller, caller_of
from model_ops.hub.refusals import Refused
from model_ops.hub.route import warn
from model_ops.models import Ref, RepoFile, Revision
from model_ops.queries import MAIN, weights_state
from model_ops.services.publishing import in_language

REPO_ID = re.compile(r"[A-Za-z0-9_.-]{1,96}/[A-Za-z0-9_.-]{1,96}")
COMMIT = re.compile(r"[0-9a-f]{40}")
# Readable by anybody on `resolve`, in the repository's root, in this spelling: the Hub's list.
PUBLIC_NAMES = frozenset({"README.md", "LICENSE", "LICENSE.md", "LICENSE.txt"})
WARN_BEFORE_END = timedelta(days=7)


def open_repo(request: HttpRequest, repo_id: str) -> Repo:
    """The model behind the id, for this caller; unknown and hidden look the same."""
    caller = caller_of(request)
    model = find_model(repo_id) if REPO_ID.fullmatch(repo_id) else None
    if model is None or not may_know_of(caller.user, model):
        raise refusals.no_repo(repo_id, problem=caller.problem)
    return Repo(model, caller)


@dataclass
class Repo:
    model: GatedModel
    caller: Caller

    @cached_property
    def access(self) -> Access:
        return access_of(self.caller.user, self.model, token=self.caller.token)

    def require_access(self) -> None:
        if not self.access.allowed:
            raise self.refusal()

    def refusal(self) -> Refused:
        return refusals.gated(self.model, self.access, problem=self.caller.problem)

    def revision(self, name: str, *, path: str = "") -> Revision:
        """A branch, tag or commit; one query.

        Those who may read are refused while there are no weights, since a client would take the card for the
        model; `path` is the file that is asked for, and the card and licences are served all the same.
        """
        found = self._find(name)
        if (found is None or not found.has_weights) and self.access.allowed and not self.is_public_name(path):
            state = weights_state(self.model)
            if state.state and not state.ready:
                raise refusals.not_ready(state.sentence)
        if found is None:
            raise refusals.no_revision(self.model.repo_id, name)
        return found

    def _find(self, name: str) -> Revision | None:
        short = re.sub(r"^refs/(heads|tags)/", "", name)
        wanted = Q(refs__name=short)
        if COMMIT.fullmatch(name):
            wanted |= Q(commit=name)
        return Revision.objects.filter(wanted, model=self.model).order_by("pk").first()

    def main(self) -> Revision | None:
        ref = Ref.objects.filter(model=self.model, name=MAIN).select_related("revision").first()
        return ref.revision if ref else None

    def files(self, revision: Revision) -> list[RepoFile]:
        """Every file with its blob, by path in code-point order; one query."""
        return sorted(revision.files.select_related("blob").order_by(), key=lambda file: file.path)

    def file(self, revision: Revision, path: str) -> RepoFile:
        found = revision.files.select_related("blob").filter(path=path).first()
        if found is None:
            raise refusals.no_entry(self.model.repo_id, path, revision.commit)
        return found

    def is_public_name(self, path: str) -> bool:
        """Card and licence files; the model's own licences under the names they are published by."""
        return path in PUBLIC_NAMES or path in self._licence_names

    @cached_property
    def _licence_names(self) -> frozenset[str]:
        texts = self.model.licence_versions.filter(retired_at=None)
        return frozenset(name for text in texts for name in (text.name, in_language(text)))

    def is_public(self, file: RepoFile) -> bool:
        """Whether anybody may read this file of a gated model; weights never, whatever their name."""
        return not file.is_lfs and self.is_public_name(file.path)

    def add_warning(self, response: HttpResponseBase) -> HttpResponseBase:
        """What the person should know though nothing is refused: no access yet, or not for long; a useless token."""
        if self.caller.problem:
            warn(
                response,
                "token",
                refusals.one_line(refusals.with_page(self.caller.problem, self.model.address())),
            )
        elif not self.access.allowed and self.caller.user:
            warn(response, "access", self.refusal().message)
        elif self.access.until and self.access.until < timezone.now() + WARN_BEFORE_END:
            warn(
                response,
                "access",
                refusals.one_line(f"{self.access.sentence} Ask again at {self.model.address()}"),
            )
        return response


def no_such_route(request: HttpRequest, repo_id: str) -> Refused:
    """A route that is not served, on a model that is known; else no such model."""
    repo = open_repo(request, repo_id)
    sentence = (
        f"Gatehouse does not serve {request.path[:200]} of {repo.model.repo_id}; see {repo.model.address()}"
    )
    return Refused(HTTPStatus.NOT_FOUND, "NotServed", sentence)
