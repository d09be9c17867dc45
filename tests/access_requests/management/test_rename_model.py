"""The command with which an operator renames a model."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from access_requests.access.catalogue import find_model, find_renamed

pytestmark = pytest.mark.django_db


def run(command: str, *arguments: str) -> dict[str, Any]:
    out = StringIO()
    call_command(command, *arguments, "--json", stdout=out, stderr=StringIO())
    return dict(json.loads(out.getvalue()))


def test_rename_and_let_go(make_model: Any) -> None:
    model = make_model("ai/tulu")
    assert run("rename_model", "AI/tulu", "ai/two") == {
        "model": "ai/two",
        "before": "ai/tulu",
        "redirects": True,
    }
    assert find_renamed("ai/tulu") == find_model("ai/two") == model
    assert run("rename_model", "--let-go", "ai/tulu") == {"model": "ai/two", "let_go": "ai/tulu"}
    assert find_renamed("ai/tulu") is None
    assert run("rename_model", "ai/two", "ai/three", "--no-redirect")["redirects"] is False
    assert find_renamed("ai/two") is None


@pytest.mark.parametrize(
    "arguments", [[], ["ai/tulu"], ["ai/tulu", "ai/x", "--let-go", "ai/y"], ["ai/no", "ai/x"]]
)
def test_rename_without_what_it_needs_is_one_sentence(
    make_model: Any, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    make_model("ai/tulu")
    with pytest.raises(SystemExit):
        call_command("rename_model", *arguments)
    assert capsys.readouterr().err.count("\n") == 1
    assert find_model("ai/tulu") is not None


def test_namespace_is_named() -> None:
    told = run("name_namespace", "ai", "Allen Institute")
    assert told == {"namespace": "ai", "full_name": "Allen Institute"}
