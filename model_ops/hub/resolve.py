"""Files: `resolve` and `raw`. The gate comes before existence, except for the card and licence files."""

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
from model_ops.services.repository import pointer

# Shown as text: a portal must never serve a stranger's file as HTML or script from its own origin.
TEXT_SUFFIXES = frozenset(
    [
        "cfg",
        "css",
        "csv",
        "gitattributes",
        "html",
        "htm",
        "jinja",
        "js",
        "json",
        "jsonl",
        "md",
        "py",
        "rst",
        "sh",
        "svg",
        "text",
        "toml",
        "tsv",
        "txt",
        "xml",
        "yaml",
        "yml",
    ]
)


@hub_route("GET")
def resolve(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`HEAD, GET /{id}/resolve/{rev}/{path}`; a branch or tag is pinned by a redirect to its commit."""
    name, path = revision_and_path(request, skip=3)
    repo = open_repo(request, repo_id)
    if not repo.access.allowed and not repo.is_public_name(path):
        raise repo.refusal()
    revision = repo.revision(name, path=path)
    file = repo.file(revision, path)
    if not repo.is_public(file):
        repo.require_access()
    if name != revision.commit:
        return _pinned(request, repo, revision, file)
    return _serve(request, repo, revision, file)


@hub_route("GET")
def raw(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`GET /{id}/raw/{rev}/{path}`: what git holds, so an LFS file's pointer; nothing is public here, as on the Hub."""
    name, path = revision_and_path(request, skip=3)
    repo = open_repo(request, repo_id)
    repo.require_access()
    revision = repo.revision(name)
    file = repo.file(revision, path)
    if not file.is_lfs:
        return _serve(request, repo, revision, file)
    response = HttpResponse(pointer(stored(file)), content_type="text/plain; charset=utf-8")
    response["ETag"] = f'"{git_oid(file)}"'
    response["X-Repo-Commit"] = revision.commit
    return repo.add_warning(response)


def _pinned(request: HttpRequest, repo: Repo, revision: Revision, file: RepoFile) -> HttpResponseBase:
    """307 to the commit, so that a download does not change under way; relative, which every client follows."""
    response = HttpResponse(status=307)
    query = request.META.get("QUERY_STRING", "")
    response["Location"] = f"/{repo.model.repo_id}/resolve/{revision.commit}/{quote(file.path)}" + (
        f"?{query}" if query else ""
    )
    _describe(response, revision, file)
    return repo.add_warning(response)


def _serve(request: HttpRequest, repo: Repo, revision: Revision, file: RepoFile) -> HttpResponseBase:
    caller = repo.caller
    ticket = delivery.Ticket(
        model=repo.model,
        commit=revision.commit,
        user=caller.user,
        token=caller.token,
        grant=repo.access.grant if repo.access.allowed else None,
        address=caller.address,
        client=caller.client,
    )
    try:
        response = delivery.serve(request, file, ticket=ticket)
    except delivery.Damaged as error:
        raise refusals.damaged(repo.model, file.path) from error
    except delivery.Busy as error:
        raise refusals.busy(error.seconds) from error
    if response.status_code in {200, 206}:
        response["Content-Type"] = _content_type(file.path)
        response["Content-Disposition"] = _disposition(file.path)
    _describe(response, revision, file)
    return repo.add_warning(response)


def _describe(response: HttpResponseBase, revision: Revision, file: RepoFile) -> None:
    """The contract of the HEAD answer: commit, content id and size."""
    response["X-Repo-Commit"] = revision.commit
    response["ETag"] = response["X-Linked-Etag"] = f'"{file.etag}"'
    response["X-Linked-Size"] = str(file.blob.size)
    response["Accept-Ranges"] = "bytes"


def _content_type(path: str) -> str:
    name = path.rpartition("/")[2]
    is_text = name.rpartition(".")[2].lower() in TEXT_SUFFIXES or "." not in name
    return "text/plain; charset=utf-8" if is_text else "application/octet-stream"


def _disposition(path: str) -> str:
    """Always `inline`, as on the Hub, with the name quoted so that it can't break out of the header."""
    name = path.rpartition("/")[2]
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%;' else "_" for c in name)
    return f"inline; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\";"
