"""Cards imported from another Hub: a second, live Gatehouse over HTTP."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from access_requests.errors import Invalid
from access_requests.models import GatedModel
from model_ops.services.catalogue.import_card import import_card
from tests.model_ops.hub.conftest import Portal

CARD = """---
license: other
extra_gated_heading: Ask for it
extra_gated_prompt: Be kind.
extra_gated_fields:
  Institution: text
  I agree: checkbox
---
# Theirs
"""
THEIRS, MINE = "maker/carded", "ai/mine"


@pytest.fixture(scope="session")
def far(portal: Portal) -> str:
    """The commit of a gated repository with a card, two licence files and weights that a stranger may not read."""
    portal.order("model", repo_id=THEIRS, card=CARD, licences=[("LICENSE", "en", "Be good.\n")])
    add = {"model.safetensors": b"secret weights", "NOTICE": b"no licence", "sub/LICENSE.txt": b"of a part"}
    return str(
        portal.order("commit", repo_id=THEIRS, add={k: base64.b64encode(v).decode() for k, v in add.items()})[
            "commit"
        ]
    )


@pytest.fixture
def hub(portal: Portal, settings: Any) -> None:
    settings.GATEHOUSE_HUB_ENDPOINT, settings.GATEHOUSE_HUB_TOKEN = portal.url, ""


def ran(name: str, *arguments: str) -> Any:
    out = io.StringIO()
    call_command(name, *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def refused(*arguments: str) -> str:
    err = io.StringIO()
    with pytest.raises(SystemExit):
        call_command(*arguments, stdout=io.StringIO(), stderr=err)
    return err.getvalue().strip()


def test_model_is_added_with_the_card_licences_and_gate_of_a_gated_repository(
    hub: None, far: str, weights_root: Path, files_folder: Path, transactional_db: None
) -> None:
    said = ran("add_model", MINE, "--from", f"hf:{THEIRS}", "--files", str(files_folder))
    model = GatedModel.objects.get(repo_id=MINE)
    assert (model.card, model.gate) == (CARD, "manual")
    assert said["plan"]["origin"] == f"hf:{THEIRS}@{far}"
    assert said["plan"]["licences"] == [{"name": "LICENSE", "language": "en"}]
    assert model.licence_versions.get().text == "Be good.\n"
    assert ["Institution" in line for line in said["plan"]["form"]].count(True) == 1


@pytest.mark.parametrize(
    ("there", "given", "gate"),
    [("none", [], "manual"), ("auto", ["--gate", "manual"], "manual"), ("auto", [], "auto")],
)
def test_gate_is_that_of_the_repository_unless_another_is_given(
    hub: None,
    portal: Portal,
    weights_root: Path,
    files_folder: Path,
    transactional_db: None,
    there: str,
    given: list[str],
    gate: str,
) -> None:
    theirs = f"maker/gate-{there}-{len(given)}"
    portal.order("model", repo_id=theirs, card=CARD, gate=there)
    said = ran("add_model", MINE, "--from", f"hf:{theirs}@main", "--files", str(files_folder), *given)
    assert (said["plan"]["gate"], GatedModel.objects.get(repo_id=MINE).gate) == (gate, gate)


def test_import_shows_what_differs_and_changes_nothing_unless_it_is_told_to(
    hub: None, far: str, add_files_model: Callable[..., Any]
) -> None:
    model = add_files_model(MINE, card="---\nlicense: other\n---\n# Mine\n", gate="auto")
    shown = ran("import_card", MINE, f"hf:{THEIRS}")
    assert "-# Mine" in shown["differences"]
    assert "+# Theirs" in shown["differences"]
    assert shown["differences"][-2:] == ["licence LICENSE (en) is new", "gate: auto here, manual there"]
    model.refresh_from_db()
    assert (model.card, model.gate, "revision" in shown) == (
        "---\nlicense: other\n---\n# Mine\n",
        "auto",
        False,
    )

    done = ran("import_card", MINE, f"hf:{THEIRS}", "--apply")
    model.refresh_from_db()
    assert (model.card, model.gate) == (CARD, "auto")
    assert model.revisions.order_by("-pk").first().commit == done["revision"]
    assert ran("import_card", MINE, f"hf:{THEIRS}")["differences"] == ["gate: auto here, manual there"]
    ran("import_card", MINE, f"hf:{THEIRS}", "--apply", "--with-gate")
    assert ran("import_card", MINE, f"hf:{THEIRS}")["differences"] == []


@pytest.mark.parametrize(
    ("origin", "sentence"),
    [
        ("maker/carded", "A card cannot be imported from 'maker/carded': write hf:REPO_ID or hf:REPO_ID@REVISION."),
        ("hf:", "The weight source 'hf:@main' holds no repository id: write it as namespace/name@REVISION."),
        ("hf:maker/carded@v9", "maker/carded at {url} has no revision v9: check its name."),
        ("hf:maker/bare", "maker/bare at {url} has no README.md: there is no card to import."),
    ],
)  # fmt: skip
def test_card_that_cannot_be_had_is_one_sentence(
    hub: None, portal: Portal, far: str, db: None, origin: str, sentence: str
) -> None:
    if origin == "hf:maker/bare":
        portal.order("model", repo_id="maker/bare")
        portal.order("commit", repo_id="maker/bare", add={"x.bin": "eA=="}, delete=["README.md"])
    assert refused("add_model", MINE, "--from", origin, "--files", "/nowhere") == sentence.format(
        url=portal.url
    )


def test_card_that_would_lose_its_gate_is_refused(hub: None, portal: Portal, db: None) -> None:
    portal.order("model", repo_id="maker/odd")
    broken = base64.b64encode(b"---\nextra_gated_fields: {Why: [}\n---\n").decode()
    portal.order("commit", repo_id="maker/odd", add={"README.md": broken})
    assert "Line 2 of the card" in refused("add_model", MINE, "--from", "hf:maker/odd", "--files", "/nowhere")
    assert not GatedModel.objects.exists()


def test_huge_or_binary_card_is_refused(hub: None, portal: Portal, db: None) -> None:
    portal.order("model", repo_id="maker/huge")
    for content, why in (
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"x" * (8 * 2**20 + 1), "is larger than 8,388,608 bytes"),
    ):
        portal.order("commit", repo_id="maker/huge", add={"README.md": base64.b64encode(content).decode()})
        with pytest.raises(Invalid, match=why):
            import_card(text="hf:maker/huge")


def test_in_the_admin_only_the_own_hub_is_asked(portal: Portal, settings: Any) -> None:
    with pytest.raises(Invalid, match="only be named on the command line"):
        import_card(text=f"hf+{portal.url}/{THEIRS}", in_admin=True)
