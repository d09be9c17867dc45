"""Return the headers of all shards of a model in one response: `get_sharded_safetensors_metadata`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from posixpath import dirname, join, normpath
from typing import Any, TypeVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from model_ops.hub import refusals
from model_ops.hub.address import path_after
from model_ops.hub.repo import Repo, open_repo
from model_ops.hub.route import hub_route, json_answer
from model_ops.models import Blob, RepoFile, Revision
from model_ops.queries import MAIN
from model_ops.services.store.content import (
    Unreadable,
    header_size,
    parameter_count,
    safetensors_header,
    shard_index,
)

MOST_SHARDS = 1000
LARGEST_ANSWER = 32 * 2**20  # bytes of headers
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
METADATA = "__metadata__"
Found = TypeVar("Found")


@hub_route("GET")
def metadata(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`GET /api/models/{id}/safetensors-metadata/{file}` of `main`: content, so it is gated like the file."""
    path = path_after(request, skip=5)
    repo = open_repo(request, repo_id)
    repo.require_access()
    revision, file = repo.file_at(MAIN, path)
    if path.endswith(".safetensors"):
        header = _read_content(repo, file, safetensors_header)
        index: dict[str, Any] = {
            "metadata": header.get(METADATA, {}),
            "weight_map": dict.fromkeys((name for name in header if name != METADATA), path),
        }
        headers = {path: header}
    elif path.endswith(".json"):
        index = _read_content(repo, file, shard_index)
        headers = _shard_headers(repo, revision, path, index["weight_map"])
    else:
        raise refusals.bad_request(f"{path[:300]} is neither a safetensors file nor an index of them.")
    response = json_answer({"index": index, "headers": headers})
    response["X-Repo-Commit"] = revision.commit
    return repo.add_warning(response)


def parameters_of(files: Iterable[RepoFile]) -> dict[str, Any]:
    """Return `{parameters: {dtype: count}, total}` for the weights in the root: one file, or all of an index.

    Empty if there are none, a file is invalid, or the headers are larger than one response allows.
    """
    found = {file.path: file for file in files}
    try:
        if WHOLE in found:
            shards = [found[WHOLE]]
        else:
            names = set(shard_index(found[INDEX].blob)["weight_map"].values()) if INDEX in found else set()
            shards = [found[normpath(name)] for name in names] if len(names) <= MOST_SHARDS else []
        if not shards or sum(header_size(file.blob) for file in shards) > LARGEST_ANSWER:
            return {}
        counted = [parameter_count(file.blob) for file in shards]
    except (Unreadable, OSError, KeyError):
        return {}
    dtypes = sorted({dtype for counts in counted for dtype in counts})
    parameters = {dtype: sum(counts.get(dtype, 0) for counts in counted) for dtype in dtypes}
    return {"parameters": parameters, "total": sum(parameters.values())}


def _shard_headers(
    repo: Repo, revision: Revision, path: str, weight_map: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return each shard's header by its name in the index; one query, and each content is read once."""
    names = sorted(set(weight_map.values()))
    if len(names) > MOST_SHARDS:
        raise refusals.bad_request(f"{path[:300]} names {len(names)} files: read their headers one by one.")
    places = {name: normpath(join(dirname(path), name)) for name in names}
    found = {file.path: file for file in repo.files(revision)}  # names may be unstorable
    if missing := [place for place in places.values() if place not in found]:
        raise refusals.no_entry(repo.model.repo_id, missing[0], revision.commit)
    files = {name: found[place] for name, place in places.items()}
    size = sum(_read_content(repo, file, header_size) for file in files.values())
    if size > LARGEST_ANSWER:
        raise refusals.bad_request(
            f"{path[:300]} names files with {size:,} bytes of headers, more than {LARGEST_ANSWER:,}: "
            "read them one by one."
        )
    blobs = {file.blob_id: file for file in files.values()}
    headers = {blob: _read_content(repo, file, safetensors_header) for blob, file in blobs.items()}
    return {name: headers[file.blob_id] for name, file in files.items()}


def _read_content(repo: Repo, file: RepoFile, read: Callable[[Blob], Found]) -> Found:
    try:
        return read(file.blob)
    except Unreadable as error:
        raise refusals.bad_request(f"{file.path[:300]} cannot be read: {error}.") from error
    except OSError as error:
        raise refusals.damaged(repo.model, file.path) from error
