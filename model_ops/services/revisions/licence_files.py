"""Find an operator's licence texts: named files, else those next to the card, else the card's prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from access_requests.errors import Invalid
from access_requests.services.catalogue.gated_models import LANGUAGE, LicenceText

DEFAULT_LANGUAGE = "en"
PROMPT_FILE = "LICENSE.md"  # the prompt is Markdown
LIKE_A_LICENCE = re.compile(r"(?i)(?:\A|.*[._ -])(?:licen[cs]e|copying)(?:[._ -].*)?\Z")
TEXT_SUFFIXES = {"", ".md", ".txt", ".rst"}
LANGUAGE_IN_NAME = re.compile(r"\.([a-z]{2}(?:-[A-Za-z0-9]{2,8})?)\.[a-z]+\Z")
LARGEST = 8 * 2**20  # bytes


def find_licences(*, given: Sequence[str], card_file: Path, prompt: str) -> list[LicenceText]:
    """Return the texts to agree to, from the first of the three places that has any; an empty list if none has."""
    if given:
        return [read_licence(*split_language(text)) for text in given]
    if beside := licences_beside(card_file):
        return beside
    return prompt_as_licence(prompt)


def prompt_as_licence(prompt: str) -> list[LicenceText]:
    """Return the card's prompt above the form as a text, if there is no licence file."""
    return [LicenceText(PROMPT_FILE, DEFAULT_LANGUAGE, prompt)] if prompt.strip() else []


def split_language(text: str) -> tuple[Path, str]:
    """Split `FILE[:LANG]`; a file whose name has a colon is used as it is."""
    name, colon, language = text.rpartition(":")
    if colon and not Path(text).exists() and LANGUAGE.fullmatch(language):
        return Path(name), language
    return Path(text), _language_in(text)


def licences_beside(card_file: Path) -> list[LicenceText]:
    """Return files in the card's folder that are named like a licence."""
    folder = card_file.resolve().parent
    found = [path for path in sorted(folder.iterdir()) if is_licence(path) and path.is_file()]
    return [read_licence(path, _language_in(path.name)) for path in found]


def is_licence(path: Path) -> bool:
    """Return whether a text file is named like a licence."""
    has_no_suffix = re.match(r"\.\d+\Z", path.suffix)  # `LICENSE-2.0`
    is_text = path.suffix.lower() in TEXT_SUFFIXES or has_no_suffix
    return bool(LIKE_A_LICENCE.match(path.name) and is_text)


def _language_in(name: str) -> str:
    found = LANGUAGE_IN_NAME.search(name)
    return found[1] if found else DEFAULT_LANGUAGE


def read_licence(path: Path, language: str) -> LicenceText:
    """Return one licence in one language, under its file's name."""
    return LicenceText(path.name, language, read_text(path, "licence"))


def read_text(path: Path, what: str) -> str:
    """Return the file's exact text, including line ends, without a byte order mark."""
    try:
        if path.stat().st_size > LARGEST:
            raise Invalid(f"The {what} {path} is larger than {LARGEST:,} bytes: give a text file.")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(
            f"The {what} {path} is not UTF-8 text (byte {error.start}): save it as UTF-8."
        ) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Invalid(f"The {what} {path} cannot be read: {why}.") from error
