"""Serve files: `resolve` and `raw`. Except for the card and licences, access is checked before existence."""

from __future__ import annotations

from urllib.parse import quote

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from model_ops import delivery
from model_ops.hub import refusals
from model_ops.hub.address import revision_and_path
from model_ops.hub.listing import git_oid, stored
from model_ops.hub.repo import Repo, open_repo
from model_ops.hub.route import hub_route
from model_ops.models import RepoFile, Revision
from model_ops.services.store.git_objects import pointer


@hub_route("GET", limited=True, file=True)
def resolve(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`HEAD, GET /{id}/resolve/{rev}/{path}`; a branch or tag redirects to its commit."""
    name, path = revision_and_path(request, skip=3)
    repo = open_repo(request, repo_id)
    if not repo.access.allowed and not repo.is_public_name(path):
        raise repo.refusal()
    revision, file = repo.file_at(name, path)
    if not repo.access.allowed and not repo.is_public(file):
        raise repo.refusal()
    if name != revision.commit:
        # To the commit, so that files don't change during a download; relative, which every client follows.
        response = HttpResponse(status=307)
        query = request.META.get("QUERY_STRING", "")
        address = f"/{repo.model.repo_id}/resolve/{revision.commit}/{quote(file.path)}"
        response["Location"] = f"{address}?{query}" if query else address
        _describe_file(response, revision, file)
        return repo.add_warning(response)
    return _serve_file(request, repo, revision, file)


@hub_route("GET", limited=True, file=True)
def raw(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`GET /{id}/raw/{rev}/{path}`: Git's object, so an LFS file's pointer; all gated here, as on the Hub."""
    name, path = revision_and_path(request, skip=3)
    repo = open_repo(request, repo_id)
    repo.require_access()
    revision, file = repo.file_at(name, path)
    if not file.is_lfs:
        return _serve_file(request, repo, revision, file)
    response = HttpResponse(pointer(stored(file)), content_type="text/plain; charset=utf-8")
    response["ETag"] = f'"{git_oid(file)}"'
    response["X-Repo-Commit"] = revision.commit
    return repo.add_warning(response)


def _serve_file(request: HttpRequest, repo: Repo, revision: Revision, file: RepoFile) -> HttpResponseBase:
    caller = repo.caller
    ticket = delivery.Ticket(
        model=repo.model,
        commit=revision.commit,
        user=caller.user,
        token=caller.token,
        grant=repo.access.grant if repo.access.allowed else None,
        address=caller.address,
        client=caller.client,
        open=not repo.access.allowed,
    )
    try:
        response = delivery.serve(request, file, ticket=ticket)
    except delivery.Damaged as error:
        raise refusals.damaged(repo.model, file.path) from error
    except delivery.Busy as error:
        raise refusals.busy(error.sentence, error.seconds) from error
    _describe_file(response, revision, file)
    return repo.add_warning(response)


def _describe_file(response: HttpResponseBase, revision: Revision, file: RepoFile) -> None:
    """Set the headers that clients expect from HEAD: commit, content id and size."""
    response["X-Repo-Commit"] = revision.commit
    response["ETag"] = response["X-Linked-Etag"] = f'"{file.etag}"'
    response["X-Linked-Size"] = str(file.blob.size)
    response["Accept-Ranges"] = "bytes"
