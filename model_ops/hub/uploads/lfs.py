"""Receive large objects: where to send them, their bytes, parts and completion, and whether they arrived."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from access_requests.models import GatedModel
from model_ops.hub.body import json_object
from model_ops.hub.receiving import bodies, drain, length_of, pieces_of, streams
from model_ops.hub.refusals import bad_request, one_line
from model_ops.hub.rights import owned_repo
from model_ops.hub.route import hub_route, json_answer
from model_ops.services.uploads import addresses, staging
from model_ops.services.uploads.addresses import Address
from model_ops.services.uploads.errors import NotSent
from model_ops.services.uploads.objects import Wanted, check_object, has_content, plan_uploads

CONTENT_TYPE = "application/vnd.git-lfs+json"


@hub_route("POST")
def batch(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`POST /{id}.git/info/lfs/objects/batch`: basic, or in parts if the client can and it is large."""
    repo, _, token = owned_repo(request, repo_id)
    data = json_object(request)
    if data.get("operation") != "upload":
        raise bad_request(
            "Large files are downloaded by their address, /resolve/: only operation upload is served here."
        )
    if data.get("hash_algo", "sha256") != "sha256":
        raise bad_request("Objects are named by their SHA-256 here: send hash_algo sha256.")
    asked = data.get("objects")
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise bad_request("objects must be a list of objects with oid and size.")
    objects = [check_object(one.get("oid"), one.get("size")) for one in asked]
    offered = data.get("transfers") or ["basic"]
    in_parts = isinstance(offered, list) and "multipart" in offered
    wanted = plan_uploads(model=repo.model, token=token, objects=objects, in_parts=in_parts)
    transfer = "multipart" if any(one.parts for one in wanted) else "basic"
    response = json_answer(
        {
            "transfer": transfer,
            "objects": [_object_answer(request, one, repo.model.pk) for one in wanted],
            "hash_algo": "sha256",
        }
    )
    response["Content-Type"] = CONTENT_TYPE
    return response


def _object_answer(request: HttpRequest, wanted: Wanted, model_id: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"oid": wanted.sha256, "size": wanted.size}
    if wanted.refused:
        message = one_line(wanted.refused.sentence)
        return answer | {"error": {"code": wanted.refused.status, "message": message}}
    if not wanted.address:
        return answer
    header = {f"{number:05d}": _signed_url(request, part) for number, part in enumerate(wanted.parts, 1)}
    if wanted.parts:
        header["chunk_size"] = str(wanted.chunk)
    upload = {"href": _signed_url(request, wanted.address), "header": header}
    verify = {"href": f"{_signed_url(request, wanted.address)}/verify"}
    return answer | {"authenticated": True, "actions": {"upload": upload, "verify": verify}}


def _signed_url(request: HttpRequest, signed: str) -> str:
    """Return the URL on the origin that the client used: its token only goes where its owner sent it."""
    return request.build_absolute_uri(reverse("upload", args=[signed]))


@streams
@hub_route("PUT", "POST")
def content(request: HttpRequest, signed: str) -> HttpResponseBase:
    """`PUT`: the bytes of an object or of one part. `POST`: all parts have arrived, join them."""
    try:
        address = addresses.read(signed)
        addresses.check_right(address, client_address=getattr(request, "client_address", None))
        if request.method == "POST":
            return _join_parts(request, address)
        return _receive_bytes(request, address)
    except Exception:
        drain(request)
        raise


def _receive_bytes(request: HttpRequest, address: Address) -> HttpResponseBase:
    if address.chunk and not address.part:
        raise bad_request("This object comes in parts: send each to its own address.")
    length = length_of(request)
    if length != address.expected:
        sentence = (
            f"{length:,} bytes are announced, but {address.expected:,} were agreed on: upload the file again."
        )
        raise bad_request(sentence)
    with bodies.room(request) as body:
        pieces = pieces_of(request, body)
        if not address.part:
            staging.receive_object(
                model_id=address.model_id, sha256=address.sha256, size=address.size, pieces=pieces
            )
            return HttpResponse()
        digest = staging.receive_part(
            model_id=address.model_id,
            sha256=address.sha256,
            object_size=address.size,
            number=address.part,
            size=length,
            pieces=pieces,
        )
    response = HttpResponse()
    response["ETag"] = f'"{digest}"'
    return response


def _join_parts(request: HttpRequest, address: Address) -> HttpResponseBase:
    if not address.chunk or address.part:
        raise bad_request("There are no parts to join at this address.")
    data = json_object(request)
    parts = data.get("parts")
    if data.get("oid") != address.sha256 or not isinstance(parts, list) or len(parts) != address.parts:
        raise bad_request(f"oid and {address.parts} parts are expected: send each part once.")
    found = {}
    for one in parts:
        number, etag = (one.get("partNumber"), one.get("etag")) if isinstance(one, dict) else (None, None)
        if not isinstance(number, int) or not isinstance(etag, str):
            raise bad_request("Each of parts needs partNumber and etag.")
        found[number] = check_object(etag.strip('"'), 0)[0]
    if sorted(found) != list(range(1, address.parts + 1)):
        raise bad_request(f"Parts are numbered from 1 to {address.parts}: send each once.")
    digests = [found[number] for number in sorted(found)]
    with bodies.room(request):
        staging.complete_object(
            model_id=address.model_id, sha256=address.sha256, size=address.size, digests=digests
        )
    return json_answer({"oid": address.sha256, "size": address.size})


@hub_route("POST")
def verify(request: HttpRequest, signed: str) -> HttpResponseBase:
    """`POST .../verify`: whether the complete object has arrived."""
    address = addresses.read(signed)
    addresses.check_right(address, client_address=getattr(request, "client_address", None))
    sha256, size = check_object(*(json_object(request).get(name) for name in ("oid", "size")))
    if (sha256, size) != (address.sha256, address.size):
        raise bad_request("This address belongs to another object: verify each object at its own address.")
    if not has_content(GatedModel.objects.get(pk=address.model_id), sha256, size):
        raise NotSent("The object has not arrived: upload the file again.")
    return json_answer({"oid": sha256, "size": size})
