"""One entry of the lists as the Hub's JSON. Reasons are in none of it, as there."""

from __future__ import annotations

from typing import Any

from access_requests.access.review_lists import ListedEntry, Named
from access_requests.models import AccessRequest
from access_requests.request_form.answers import by_label
from model_ops.hub.route import moment

Item = dict[str, Any]


def list_item(listed: ListedEntry) -> Item:
    """As `list_pending_access_requests` reads it; `state` and `appeal` are ours."""
    entry = listed.entry
    item: Item = {"user": _user(listed), **_times(listed, "timestamp"), "requestId": entry.id}
    if listed.request is not None:
        if fields := _fields(listed.request):
            item["fields"] = fields
        item["state"] = listed.request.state
        if listed.request.appeal:
            item["appeal"] = listed.request.appeal
    return item


def report_item(listed: ListedEntry) -> Item:
    """As the report has it."""
    return {**_names(listed.person), **_email(listed), **_times(listed, "time")}


def _times(listed: ListedEntry, asked: str) -> Item:
    """What the list and the report call alike: when, where it stands, who gave access."""
    entry = listed.entry
    item: Item = {}
    if entry.asked_at:
        item[asked] = moment(entry.asked_at)
    if entry.settled_at:
        item["reviewedAt"] = moment(entry.settled_at)
    item["status"] = str(entry.place)
    if listed.granted_by is not None:
        item["grantedBy"] = _names(listed.granted_by)
    return item


def _user(listed: ListedEntry) -> Item:
    person = listed.person
    about = {"_id": str(person.pk), "avatarUrl": "", "isPro": False, "type": "user", "verifiedOrgNames": []}
    return about | _names(person) | _email(listed)


def _names(person: Named) -> Item:
    return {"fullname": person.full_name, "user": person.username}


def _email(listed: ListedEntry) -> Item:
    """Of someone who asked; those who were given access without asking never handed their address over."""
    return {"email": listed.person.email} if listed.asked and listed.person.email else {}


def _fields(request: AccessRequest) -> Item:
    return by_label(request.form.gate, request.answers, request.address or "")
