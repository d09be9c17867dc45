"""One model as a caller may see it."""

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

from access_requests.access.access import AccessDecision, model_and_access
from access_requests.access.catalogue import find_renamed, may_know_of
from access_requests.enums import Role
from access_requests.ids import GIT_ID, REPO_ID
from access_requests.models import GatedModel
from model_ops.hub import refusals
from model_ops.hub.address import raw_path
from model_ops.hub.caller import Caller, caller_of
from model_ops.hub.files import find_file
from model_ops.hub.refusals import Refused
from model_ops.hub.route import warn
from model_ops.models import RepoFile, Revision
from model_ops.queries import MAIN, shown_refs, weights_state
from model_ops.services.revisions.publish import in_language

HEADS_AND_TAGS = re.compile(r"^refs/(heads|tags)/")
# The Hub's list of files that anyone may read with `resolve`, in the root and in this spelling.
PUBLIC_NAMES = frozenset({"README.md", "LICENSE", "LICENSE.md", "LICENSE.txt"})
WARN_BEFORE_END = timedelta(days=7)


def open_repo(request: HttpRequest, repo_id: str) -> Repo:
    """Return the model with this id for this caller; one query if the caller may read it.

    Unknown and hidden models are refused alike. A former id is a redirect.
    """
    caller = caller_of(request)
    is_id = REPO_ID.fullmatch(repo_id) is not None
    found = model_and_access(repo_id, user=caller.user, token=caller.token) if is_id else None
    if found:
        return Repo(found[0], caller, found[1])
    renamed = find_renamed(repo_id) if is_id else None
    if renamed and may_know_of(caller.user, renamed):
        # The requested address with the current id, as a relative one, which every client follows.
        prefix = "/api/models/" if request.path_info.startswith("/api/models/") else "/"
        rest = raw_path(request).removeprefix(prefix).split("/", 2)[2:]
        query = request.META.get("QUERY_STRING", "")
        address = prefix + "/".join([renamed.repo_id, *rest]) + (f"?{query}" if query else "")
        raise refusals.renamed(repo_id, renamed.repo_id, address)
    raise refusals.no_repo(repo_id, problem=caller.problem)


@dataclass
class Repo:
    model: GatedModel
    caller: Caller
    access: AccessDecision

    def require_access(self) -> None:
        if not self.access.allowed:
            raise self.refusal()

    def refusal(self) -> Refused:
        return refusals.gated(self.model, self.access, problem=self.caller.problem)

    def revision(self, name: str, *, path: str = "") -> Revision:
        """Return the revision of a branch, tag or commit; one query.

        Callers who may read are refused while there are no weights, since a client would take the card for
        the model. The card and licences are served anyway: `path` is the requested file.
        """
        named = Q(refs__name=re.sub(HEADS_AND_TAGS, "", name))
        if not self.sees_held:
            named &= shown_refs("refs__", revision="")
        if GIT_ID.fullmatch(name):
            named |= Q(commit=name)
        found = Revision.objects.filter(self._visible_revisions(), named).order_by("pk").first()
        if (found is None or not found.has_weights) and self.access.allowed and not self.is_public_name(path):
            state = weights_state(self.model)
            if state.state and not state.ready:
                raise refusals.not_ready(state.sentence)
        if found is None:
            raise refusals.no_revision(self.model.repo_id, name)
        return found

    def file_at(self, name: str, path: str) -> tuple[Revision, RepoFile]:
        """Return a file by revision and path, or refuse and say why; one query if it exists."""
        is_commit = GIT_ID.fullmatch(name) is not None
        short = name if is_commit else re.sub(HEADS_AND_TAGS, "", name)
        found = find_file(model_id=self.model.pk, name=short, path=path, is_commit=is_commit)
        file, tagged = found or (None, False)
        if file and not self.sees_held:
            # May the caller know of the revision, and of this name for it? `queries.shown_refs` has the same rule.
            known_name = tagged or short in {MAIN, file.revision.commit, file.revision.branch}
            if file.revision.held_at or not known_name:
                file = None
        if file and file.revision.has_weights:
            return file.revision, file
        revision = self.revision(name, path=path)
        if file is None:
            raise refusals.no_entry(self.model.repo_id, path, revision.commit)
        return revision, file

    def _visible_revisions(self) -> Q:
        """Return a filter for the model's revisions; held ones only for callers who may publish them."""
        of_model = Q(model=self.model)
        return of_model if self.sees_held else of_model & Q(held_at=None)

    @property
    def sees_held(self) -> bool:
        """Return whether the caller may publish held revisions."""
        return self.access.allowed and self.access.role == Role.OWNER

    def history(self, revision: Revision) -> list[int]:
        """Return the keys of the revision and its ancestors, newest first; one query."""
        parents = dict(
            Revision.objects.filter(self._visible_revisions()).order_by().values_list("pk", "parent")
        )
        line: list[int] = []
        at: int | None = revision.pk
        while at is not None and at in parents:
            line.append(at)
            at = parents[at]
        return line

    def files(self, revision: Revision) -> list[RepoFile]:
        """Return every file with its blob, by path in code-point order; one query."""
        return sorted(revision.files.select_related("blob").order_by(), key=lambda file: file.path)

    def is_public_name(self, path: str) -> bool:
        """Return whether the path is a card or licence, including licences under their published names."""
        return path in PUBLIC_NAMES or path in self._licence_names

    @cached_property
    def _licence_names(self) -> frozenset[str]:
        texts = self.model.licence_versions.filter(retired_at=None)
        return frozenset(name for text in texts for name in (text.name, in_language(text)))

    def is_public(self, file: RepoFile) -> bool:
        """Return whether anyone may read this file of a gated model; never weights, whatever their name."""
        return not file.is_lfs and self.is_public_name(file.path)

    def add_warning(self, response: HttpResponseBase) -> HttpResponseBase:
        """Warn about what is not refused: no access yet, access that ends soon, or a useless token."""
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
                refusals.one_line(
                    f"{self.access.sentence} After that you can ask again at {self.model.address()}"
                ),
            )
        return response


def no_such_route(request: HttpRequest, repo_id: str) -> Refused:
    """Return the refusal for a route that is not served, if the caller sees the model; else for the model."""
    repo = open_repo(request, repo_id)
    sentence = f"Gatehouse does not serve {request.path_info[:200]} of {repo.model.repo_id}; see {repo.model.address()}"
    return Refused(HTTPStatus.NOT_FOUND, "NotServed", sentence)
