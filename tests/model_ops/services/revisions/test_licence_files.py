"""Which licence texts an applicant agrees to."""

from __future__ import annotations

from pathlib import Path

import pytest

from access_requests.errors import Invalid
from access_requests.services.catalogue.gated_models import LicenceText
from model_ops.services.revisions.licence_files import find_licences, split_language


@pytest.fixture
def card(tmp_path: Path) -> Path:
    for name in [
        "LICENSE",
        "LICENCE.zh.md",
        "tiny_license.txt",
        "COPYING.rst",
        "license.png",
        "sublicenses.txt",
    ]:
        (tmp_path / name).write_text(f"text of {name}\r\n", newline="")
    (tmp_path / "README.md").write_text("# x")
    return tmp_path / "README.md"


def test_files_named_like_a_licence_lie_beside_the_card(card: Path) -> None:
    found = find_licences(given=[], card_file=card, prompt="Agree.")

    assert found == [
        LicenceText(name, language, f"text of {name}\r\n")
        for name, language in [("COPYING.rst", "en"), ("LICENCE.zh.md", "zh"), ("LICENSE", "en"), ("tiny_license.txt", "en")]
    ]  # fmt: skip


def test_given_files_come_before_all_others(card: Path, tmp_path: Path) -> None:
    (tmp_path / "a:b").write_text("colon")

    found = find_licences(
        given=[f"{tmp_path}/LICENSE:zh-Hant", f"{tmp_path}/a:b"], card_file=card, prompt="Agree."
    )

    assert [(text.name, text.language) for text in found] == [("LICENSE", "zh-Hant"), ("a:b", "en")]
    assert split_language("C:\\x") == (Path("C:\\x"), "en")


def test_prompt_is_the_last_resort(tmp_path: Path) -> None:
    alone = tmp_path / "README.md"

    assert find_licences(given=[], card_file=alone, prompt="Agree.") == [
        LicenceText("LICENSE.md", "en", "Agree.")
    ]
    assert find_licences(given=[], card_file=alone, prompt=" ") == []


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "L").write_bytes(b"caf\xe9")

    with pytest.raises(Invalid, match=r"is not UTF-8 text \(byte 3\): save it as UTF-8\.$"):
        find_licences(given=[str(tmp_path / "L")], card_file=tmp_path / "README.md", prompt="")
