"""Receive a commit as lines of JSON: a header, then one operation per line, with small files in Base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from access_requests.strict_json import read_json
from model_ops.hub.address import revision_and_path
from model_ops.hub.body import text, too_large
from model_ops.hub.receiving import PIECE, Pieces, bodies, drain, length_of, pieces_of, streams
from model_ops.hub.refusals import bad_request, one_line
from model_ops.hub.rights import owned_repo
from model_ops.hub.route import hub_route, json_answer, warn
from model_ops.hub.uploads.pull_requests import refuse_pull_request
from model_ops.recovery.formats.git_ids import LARGE
from model_ops.services.uploads import staging
from model_ops.services.uploads.committing import (
    LONGEST_MESSAGE,
    LONGEST_TITLE,
    commit_files,
    upload_head,
)
from model_ops.services.uploads.objects import check_object
from model_ops.services.uploads.operations import (
    Added,
    AddedLarge,
    Copied,
    Deleted,
    Header,
    Operation,
)
from model_ops.services.uploads.paths import LONGEST, check_path

LONGEST_LINE = LARGE * 4 // 3 + 2**16  # one small file in Base64
LARGEST_BODY = 2**30
MOST_OPERATIONS = 25_000


@streams
@hub_route("POST")
def commit(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`POST /api/models/{id}/commit/{rev}`."""
    try:
        return _receive_commit(request, repo_id)
    except Exception:
        drain(request)
        raise


def _receive_commit(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    name, more = revision_and_path(request, skip=5)
    branch = f"{name}/{more}" if more else name
    repo, person, _ = owned_repo(request, repo_id)
    refuse_pull_request(request)
    upload_head(repo.model, branch)  # refuse an unknown branch before reading the files
    length = length_of(request)
    if length > LARGEST_BODY:
        raise too_large(f"The commit has {length:,} bytes and {LARGEST_BODY:,} fit: commit in several steps.")
    with bodies.room(request) as body:
        header, operations, received = _read_operations(pieces_of(request, body), repo.model.pk)
    if received != length:
        raise bad_request("The commit did not arrive completely, and nothing was kept: upload it again.")
    done = commit_files(model=repo.model, branch=branch, header=header, operations=operations, user=person)
    known_id, commit_id = repo.model.repo_id, done.revision.commit
    response = json_answer(
        {
            "success": True,
            "commitUrl": request.build_absolute_uri(f"/{known_id}/commit/{commit_id}"),
            "commitOid": commit_id,
            "pullRequestUrl": None,
            "hookOutput": "",
        }
    )
    notes = list(done.notes)
    if done.revision.held_at:
        page = f"{done.revision.model.address().removesuffix(f'/{known_id}')}/admin/model_ops/revision/"
        notes.append(f"{commit_id[:8]} is held until an owner publishes it: {page}{done.revision.pk}/change/")
    if notes:
        warn(response, "upload", one_line(" ".join(notes)))
    return response


def _read_operations(pieces: Pieces, model_id: int) -> tuple[Header, list[Operation], int]:
    """Return the header, the operations and the bytes read; stage each small file as its line arrives."""
    header: Header | None = None
    operations: list[Operation] = []
    counted = _Counted(pieces)
    for number, line in enumerate(_split_lines(counted), 1):
        key, value = _parse_entry(line, number)
        if key == "header":
            header = _parse_header(value)
            continue
        if key not in OPERATIONS:
            raise bad_request(
                f"Line {number}: {key[:40]!r} is not an operation; use one of {', '.join(OPERATIONS)}."
            )
        if len(operations) >= MOST_OPERATIONS:
            raise bad_request(
                f"A commit has at most {MOST_OPERATIONS:,} operations: commit in several steps."
            )
        operations.append(OPERATIONS[key](value, model_id))
    if header is None:
        raise bad_request("The commit has no header: the first line must be one with a summary.")
    return header, operations, counted.bytes


class _Counted:
    def __init__(self, pieces: Pieces) -> None:
        self._pieces, self.bytes = pieces, 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.bytes += len(piece)
            yield piece


def _split_lines(pieces: _Counted) -> Iterator[bytes]:
    rest = bytearray()
    for piece in pieces:
        rest += piece
        if b"\n" in piece:
            *lines, last = bytes(rest).split(b"\n")
            yield from filter(None, (line.strip() for line in lines))
            rest = bytearray(last)
        if len(rest) > LONGEST_LINE:
            raise too_large(
                f"A file within a commit may have {LARGE:,} bytes: send larger ones as large files (uploadMode lfs)."
            )
    if line := bytes(rest).strip():
        yield line


def _parse_entry(line: bytes, number: int) -> tuple[str, dict[str, Any]]:
    try:
        data = read_json(line, largest=LONGEST_LINE + PIECE)
        key, value = data["key"], data["value"]
    except (ValueError, TypeError, KeyError) as error:
        raise bad_request(
            f"Line {number} can't be read: each is a JSON object with key and value."
        ) from error
    if not isinstance(key, str) or not isinstance(value, dict):
        raise bad_request(f"Line {number} can't be read: key is a text and value an object.")
    return key, value


def _parse_header(value: dict[str, Any]) -> Header:
    summary = text(value, "summary", longest=LONGEST_MESSAGE).strip()
    if not summary:
        raise bad_request("The commit's summary is empty: describe the change in one line.")
    title, _, rest = summary.partition("\n")
    description = text(value, "description", longest=LONGEST_MESSAGE)
    more = (title[LONGEST_TITLE:], rest.strip(), description)
    return Header(
        title[:LONGEST_TITLE], "\n\n".join(filter(None, more)), text(value, "parentCommit", longest=40)
    )


def _small_file(value: dict[str, Any], model_id: int) -> Operation:
    path = check_path(value.get("path"))
    given = value.get("content")
    if not isinstance(given, str):
        raise bad_request(f"{path}: content is missing.")
    encoding = value.get("encoding", "utf-8")
    if encoding == "base64":
        try:
            content = base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError) as error:
            raise bad_request(f"{path}: the content is not Base64.") from error
    elif encoding == "utf-8":
        content = given.encode("utf-8", "replace")
    else:
        raise bad_request(f"{path}: the encoding must be base64 or utf-8.")
    return Added(path, staging.stage_bytes(model_id=model_id, content=content))


def _large_file(value: dict[str, Any], model_id: int) -> Operation:
    path = check_path(value.get("path"))
    if value.get("algo", "sha256") != "sha256":
        raise bad_request(f"{path}: objects are named by their SHA-256 here.")
    size = value.get("size")
    sha256, _ = check_object(value.get("oid"), 0 if size is None else size)
    return AddedLarge(path, sha256, size)


def _deleted_file(value: dict[str, Any], model_id: int) -> Operation:
    return Deleted(text(value, "path", longest=LONGEST))


def _deleted_folder(value: dict[str, Any], model_id: int) -> Operation:
    return Deleted(text(value, "path", longest=LONGEST), is_folder=True)


def _copied_file(value: dict[str, Any], model_id: int) -> Operation:
    source = text(value, "srcPath", longest=LONGEST)
    return Copied(check_path(value.get("path")), source, text(value, "srcRevision", longest=40))


OPERATIONS: dict[str, Callable[[dict[str, Any], int], Operation]] = {
    "file": _small_file,
    "lfsFile": _large_file,
    "deletedFile": _deleted_file,
    "deletedFolder": _deleted_folder,
    "copyFile": _copied_file,
}
