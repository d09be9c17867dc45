"""Say how to send each file, by name and size as on the Hub, and which files need not be sent."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from model_ops.hub.address import revision_and_path
from model_ops.hub.body import json_object
from model_ops.hub.refusals import bad_request
from model_ops.hub.rights import owned_repo
from model_ops.hub.route import hub_route, json_answer, warn
from model_ops.hub.uploads.pull_requests import refuse_pull_request
from model_ops.hub.uploads.xet import SENTENCE as XET
from model_ops.recovery.formats.git_ids import in_lfs
from model_ops.services.revisions.publish import GITATTRIBUTES
from model_ops.services.store.blobs import blob_path
from model_ops.services.uploads.committing import upload_head
from model_ops.services.uploads.paths import Ignored, check_path

MOST_FILES = 1000  # clients ask for 256 at once
GITIGNORE = ".gitignore"
LARGEST_GITIGNORE = 2**18
# Warn here: a client with Xet enabled asks for its token next, through a library that hides errors.
BEFORE_XET = f"If the upload stops at xet-write-token: {XET}"


@hub_route("POST")
def preupload(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`POST /api/models/{id}/preupload/{rev}`."""
    name, more = revision_and_path(request, skip=5)
    repo, _, _ = owned_repo(request, repo_id)
    refuse_pull_request(request)
    data = json_object(request)
    asked = _asked_files(data)
    head = upload_head(repo.model, f"{name}/{more}" if more else name)
    paths = [path for path, _ in asked]
    had = {file.path: file for file in head.files.select_related("blob").filter(path__in=paths)}
    rules = data.get("gitIgnore")  # the one sent with the upload, else the one in the repository
    if not isinstance(rules, str):
        file = head.files.filter(path=GITIGNORE, blob__size__lte=LARGEST_GITIGNORE).first()
        rules = blob_path(file.blob_id).read_bytes().decode("utf-8", "replace") if file else ""
    ignored = Ignored(rules[:LARGEST_GITIGNORE])
    files: list[dict[str, Any]] = []
    for path, size in asked:
        answer: dict[str, Any] = {
            "path": path,
            "uploadMode": "lfs" if in_lfs(path, size) else "regular",
            "shouldIgnore": path == GITATTRIBUTES or path in ignored,
        }
        if (one := had.get(path)) is not None:
            answer["oid"] = one.blob.sha256 if one.is_lfs else one.blob.git_oid
        files.append(answer)
    response = json_answer({"files": files})
    if any(file["uploadMode"] == "lfs" for file in files):
        warn(response, "xet", BEFORE_XET)
    return response


def _asked_files(data: dict[str, Any]) -> list[tuple[str, int]]:
    """Return the path and size of each file that the client wants to send."""
    files = data.get("files")
    if not isinstance(files, list) or len(files) > MOST_FILES:
        raise bad_request(f"files must be a list of at most {MOST_FILES} files.")
    asked = []
    for one in files:
        size = one.get("size", 0) if isinstance(one, dict) else None
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise bad_request("Each of files needs a path and a size.")
        asked.append((check_path(one.get("path")), size))
    return asked
