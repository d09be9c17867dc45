"""One entry of the lists as the Hub's JSON. Reasons are in none of it, as there."""

from __future__ import annotations

from typing import Any

from access_requests.answers import by_label
from access_requests.cases import Entry, Named
from access_requests.models import AccessRequest
from model_ops.hub.route import moment

Item = dict[str, Any]


def list_item(entry: Entry) -> Item:
    """As `list_pending_access_requests` reads it; `state` and `appeal` are ours."""
    case = entry.case
    item: Item = {"user": _user(entry), **_times(entry, "timestamp"), "requestId": case.id}
    if entry.request is not None:
        if fields := _fields(entry.request):
            item["fields"] = fields
        item["state"] = entry.request.state
        if entry.request.appeal:
            item["appeal"] = entry.request.appeal
    return item


def report_item(entry: Entry) -> Item:
    """As the report has it."""
    return {**_names(entry.person), **_email(entry), **_times(entry, "time")}


def _times(entry: Entry, asked: str) -> Item:
    """What the list and the report call alike: when, where it stands, who gave access."""
    case = entry.case
    item: Item = {}
    if case.asked_at:
        item[asked] = moment(case.asked_at)
    if case.settled_at:
        item["reviewedAt"] = moment(case.settled_at)
    item["status"] = str(case.place)
    if entry.granted_by is not None:
        item["grantedBy"] = _names(entry.granted_by)
    return item


def _user(entry: Entry) -> Item:
    person = entry.person
    about = {"_id": str(person.pk), "avatarUrl": "", "isPro": False, "type": "user", "verifiedOrgNames": []}
    return about | _names(person) | _email(entry)


def _names(person: Named) -> Item:
    return {"fullname": person.full_name, "user": person.username}


def _email(entry: Entry) -> Item:
    """Of somebody who asked; those who were given access without asking never handed their address over."""
    return {"email": entry.person.email} if entry.asked and entry.person.email else {}


def _fields(request: AccessRequest) -> Item:
    return by_label(request.form.gate, request.answers, request.address or "")
