"""List the files of a revision: tree and paths-info. Names and sizes are public."""

from __future__ import annotations

from urllib.parse import parse_qs

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from access_requests.strict_json import read_json
from model_ops.hub import refusals
from model_ops.hub.address import checked, revision_and_path
from model_ops.hub.body import small_body
from model_ops.hub.listing import add_last_commits, mask_for, path_items, tree_items
from model_ops.hub.paging import link, page_of
from model_ops.hub.repo import open_repo
from model_ops.hub.route import hub_route, json_answer, wants

EXPANDED_PAGE = 100  # with last commits, as on the Hub
MOST_PATHS = 1_000  # in one paths-info call, as on the Hub; its client sends 500 at once
LARGEST_PATHS = 2**20  # bytes of a request


@hub_route("GET", limited=True)
def tree(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`GET /api/models/{id}/tree/{rev}[/{path}]?recursive&expand`."""
    name, folder = revision_and_path(request, skip=5)
    repo = open_repo(request, repo_id)
    revision = repo.revision(name)
    files = repo.files(revision)
    items = tree_items(files, folder=folder, recursive=wants(request, "recursive"), is_masked=mask_for(repo))
    if folder and not items:
        raise refusals.no_entry(repo.model.repo_id, folder, revision.commit)
    expand = wants(request, "expand")
    page, following = page_of(request, items, **({"size": EXPANDED_PAGE} if expand else {}))
    if expand:
        add_last_commits(page, files, repo.history(revision))
    response = json_answer(page)
    link(response, following)
    response["X-Repo-Commit"] = revision.commit
    return repo.add_warning(response)


@hub_route("POST")
def paths_info(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`POST /api/models/{id}/paths-info/{rev}` with a form or JSON body of `paths` and `expand`."""
    name, _ = revision_and_path(request, skip=5)
    repo = open_repo(request, repo_id)
    revision = repo.revision(name)
    paths, expand = _read_paths(request)
    files = repo.files(revision)
    items = path_items(files, paths, is_masked=mask_for(repo))
    if expand:
        add_last_commits(items, files, repo.history(revision))
    return repo.add_warning(json_answer(items))


def _read_paths(request: HttpRequest) -> tuple[list[str], bool]:
    """Return the requested paths, and whether their last commits are requested too."""
    content = small_body(request, most=LARGEST_PATHS)
    unreadable = f"The request can't be read: send `paths` (at most {MOST_PATHS}) and `expand`."
    try:
        body = content.decode("utf-8")
        if request.content_type == "application/json":
            data = read_json(body, largest=LARGEST_PATHS)
        else:
            form = parse_qs(body, max_num_fields=MOST_PATHS + 1)
            expand = form.get("expand", [""])[0].lower() in {"true", "1"}
            data = {"paths": form.get("paths", []), "expand": expand}
    except ValueError as error:
        raise refusals.bad_request(unreadable) from error
    paths = data.get("paths", []) if isinstance(data, dict) else None
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise refusals.bad_request(unreadable)
    if len(paths) > MOST_PATHS:
        raise refusals.bad_request(
            f"The request names {len(paths)} paths: name at most {MOST_PATHS} at once."
        )
    return [checked(path) for path in paths], data.get("expand") is True
