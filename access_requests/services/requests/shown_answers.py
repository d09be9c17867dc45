"""Answers as pages show them: in the form's order, in the words that the applicant saw, version by version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _
from django_countries import countries

from access_requests.cards import GateField, GateForm
from access_requests.models import AccessRequest, FormVersion, Submission
from access_requests.services.catalogue.rendered_texts import gate_texts_of
from access_requests.services.requests.submissions import differences, submissions_of

MOST_VERSIONS = 50  # on a page; a request has at most MOST_SUBMISSIONS


@dataclass(frozen=True)
class Link:
    """A text with a link; `address` is empty if the text is not a link."""

    text: str
    address: str = ""


@dataclass(frozen=True)
class Answer:
    """One field of the stored form, with its answer."""

    label: str
    text: str = ""
    links: list[Link] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """A field that two submissions answer differently, as both showed it."""

    before: Answer
    now: Answer

    @property
    def label(self) -> str:
        return self.now.label or self.before.label


@dataclass(frozen=True)
class Version:
    """A submission with its answers, and what is different from the one before."""

    submission: Submission
    answers: list[Answer]
    changes: list[Change]


def answers_of(form: FormVersion, answers: Mapping[str, Any], address: str) -> list[Answer]:
    """Return the answers in the form's order; `address` is what the portal recorded for an `ip_location`."""
    words = gate_texts_of(form).words
    return [
        _shown(asked, words.get(asked.key, ""), answers.get(asked.key), address)
        for asked in GateForm.from_json(form.schema).fields
    ]


def shown_versions(request: AccessRequest) -> list[Version]:
    """Return the newest submissions of a request, the newest first."""
    rows = submissions_of(request, most=MOST_VERSIONS + 1)
    versions = [
        Version(
            row,
            answers_of(row.form, row.answers, row.address),
            changes_between(rows[at - 1], row) if at else [],
        )
        for at, row in enumerate(rows)
    ]
    return versions[::-1][:MOST_VERSIONS]


def changes_between(old: Submission, new: Submission) -> list[Change]:
    """Return the fields that the two answer differently, with both answers."""
    before, after = gate_texts_of(old.form).words, gate_texts_of(new.form).words
    return [
        Change(
            _shown(one.field, before.get(one.field.key, ""), one.old, old.address),
            _shown(one.field, after.get(one.field.key, ""), one.new, new.address),
        )
        for one in differences(old, new)
    ]


def publication(text: str) -> Link:
    """Return a DOI, arXiv id or link as a link; anything else as plain text."""
    if re.fullmatch(r"10\.\d{4,9}(\.\d+)*/\S+", text):
        return Link(text, f"https://doi.org/{text}")
    if text.lower().startswith("arxiv:"):
        return Link(text, f"https://arxiv.org/abs/{text[6:].strip()}")
    return Link(text, text if re.match(r"https?://", text, re.I) else "")


def _shown(asked: GateField, label: str, given: Any, address: str) -> Answer:
    shown, links = given or "", list[Link]()
    if asked.type == "ip_location":
        shown = address or _("not known")
    elif isinstance(given, list):
        shown, links = "" if given else _("none"), [publication(str(item)) for item in given]
    elif asked.type == "checkbox":
        shown = _("yes") if given is True else _("no")
    elif asked.type == "country":
        shown = countries.name(given) or shown
    elif asked.type == "select":
        shown = next((option.label for option in asked.options if option.value == given), shown)
    return Answer(label, str(shown), links)
