"""Convert entries of the lists to the Hub's JSON, which never includes reasons."""

from __future__ import annotations

from typing import Any

from access_requests.access.review_lists import ListedEntry, Named
from access_requests.request_form.answers import by_label
from model_ops.hub.route import moment

Item = dict[str, Any]


def list_item(listed: ListedEntry) -> Item:
    """Return the entry as `list_pending_access_requests` reads it; `state` and `appeal` are our additions."""
    entry = listed.entry
    about = {
        "_id": str(listed.person.pk),
        "avatarUrl": "",
        "isPro": False,
        "type": "user",
        "verifiedOrgNames": [],
    }
    user = about | _person_names(listed.person) | _given_email(listed)
    item: Item = {"user": user, **_common_facts(listed, "timestamp"), "requestId": entry.id}
    request = listed.request
    if request is not None:
        if fields := by_label(request.form.gate, request.answers, request.address or ""):
            item["fields"] = fields
        item["state"] = request.state
        if request.appeal:
            item["appeal"] = request.appeal
    return item


def report_item(listed: ListedEntry) -> Item:
    """Return the entry as it is in the report."""
    return {**_person_names(listed.person), **_given_email(listed), **_common_facts(listed, "time")}


def _common_facts(listed: ListedEntry, asked: str) -> Item:
    """Return what the list and the report share: the times, the status, who gave access."""
    entry = listed.entry
    item: Item = {}
    if entry.asked_at:
        item[asked] = moment(entry.asked_at)
    if entry.settled_at:
        item["reviewedAt"] = moment(entry.settled_at)
    item["status"] = str(entry.place)
    if listed.granted_by is not None:
        item["grantedBy"] = _person_names(listed.granted_by)
    return item


def _person_names(person: Named) -> Item:
    return {"fullname": person.full_name, "user": person.username}


def _given_email(listed: ListedEntry) -> Item:
    """Return the email of a person who asked; people who got access without asking never shared theirs."""
    return {"email": listed.person.email} if listed.asked and listed.person.email else {}
