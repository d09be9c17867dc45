"""Licences in several languages: texts of one name are one licence, and one of them binds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation.trans_real import parse_accept_lang_header

from access_requests.errors import Conflict
from access_requests.models import GatedModel, LicenceVersion
from access_requests.services.catalogue.gated_models import LicenceText, replace_licences
from access_requests.services.event_log.append import recorded
from access_requests.services.locks import lock_model

if TYPE_CHECKING:
    from portal.accounts.models import User

LONGEST_HEADER = 500  # characters of Accept-Language that are read


@dataclass(frozen=True)
class Licence:
    """A current licence: the text that binds, and all its texts, the binding one first."""

    name: str
    binding: LicenceVersion
    texts: list[LicenceVersion]

    def shown_in(self, languages: Sequence[str]) -> ShownLicence:
        """Return the text in the first of these languages that there is, or else the binding text."""
        for wanted in languages:
            for text in self.texts:
                if _matches(text.language.lower(), wanted.lower()):
                    return ShownLicence(self, text)
        return ShownLicence(self, self.binding)


@dataclass(frozen=True)
class ShownLicence:
    """A licence as a page shows it to a reader: in one language, with links to the others."""

    licence: Licence
    text: LicenceVersion

    @property
    def binding(self) -> LicenceVersion:
        return self.licence.binding

    @property
    def others(self) -> list[LicenceVersion]:
        return [text for text in self.licence.texts if text != self.text]


def current_licences(model: GatedModel) -> list[Licence]:
    """Return the model's current licences in the order in which they were added."""
    by_name: dict[str, list[LicenceVersion]] = {}
    for text in model.licence_versions.filter(retired_at__isnull=True).order_by("pk"):
        by_name.setdefault(text.name, []).append(text)
    found = []
    for name, texts in by_name.items():
        texts.sort(key=lambda text: not text.binding)
        found.append(Licence(name, texts[0], texts))
    return found


def licences_for_reader(
    model: GatedModel, accept_language: str, *, owed: Collection[LicenceVersion] | None = None
) -> list[ShownLicence]:
    """Return each current licence once, in the language that the `Accept-Language` header prefers (RFC 9110, 12.5.4).

    With `owed`, only the licences of these binding texts.
    """
    languages = [tag for tag, _weight in parse_accept_lang_header(accept_language[:LONGEST_HEADER])]
    return [
        licence.shown_in(languages)
        for licence in current_licences(model)
        if owed is None or licence.binding in owed
    ]


def accepted_licences(licences: Sequence[Licence], shown: Collection[int]) -> list[ShownLicence]:
    """Return which text of each licence a person has read, from the ids of the texts that the page showed.

    Raises `Conflict` if one of these licences is not among them: it changed, and must be read again.
    """
    found = []
    for licence in licences:
        text = next((text for text in licence.texts if text.pk in shown), None)
        if text is None:
            raise Conflict(
                _("The licence changed while you were reading it: read the new text and agree to it.")
            )
        found.append(ShownLicence(licence, text))
    return found


def bind_language(*, model: GatedModel, licence: LicenceVersion, actor: User | None = None) -> bool:
    """Make this text the binding one of its licence; return False if it was already.

    Licence versions never change, so both texts get a new version. Holders of grants owe nothing until the new version is
    demanded. Raises `Conflict` if the text is no longer current.
    """
    with recorded():
        lock_model(model.pk)
        current = list(model.licence_versions.filter(retired_at__isnull=True))
        if licence not in current:
            raise Conflict(_("%(licence)s has already been retired.") % {"licence": licence})
        texts = [
            LicenceText(
                v.name, v.language, v.text, binding=v == licence if v.name == licence.name else v.binding
            )
            for v in current
        ]
        return bool(replace_licences(model=model, licences=texts, actor=actor))


def _matches(language: str, wanted: str) -> bool:
    """Return whether a text in one language suits a reader of another: `zh` and `zh-hant` do."""
    return wanted == language or wanted.startswith(f"{language}-") or language.startswith(f"{wanted}-")
