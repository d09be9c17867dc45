"""The table of which part gets which variable is complete, and compose.yaml follows it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_ops.child_environment import chosen
from portal.parts import CONFIGURATION, NO_DATABASE, OWNER_DATABASE, PARTS, SECRETS, SETTINGS, environment_of

CHECKOUT = Path(__file__).resolve().parents[2]
READ_ELSEWHERE = {"GATEHOUSE_STATE", "GATEHOUSE_RUN", "GATEHOUSE_FOLLOW_ENDPOINTS"}
NOT_COMPOSED = {
    "GATEHOUSE_DEMO": "the demo runs from a checkout",
    "GATEHOUSE_MOST_BODIES": "nginx gets it; the portal's own bound depends on its 80 threads, which portal/webserver.py sets",
}


class Strict(yaml.SafeLoader):
    """A loader that refuses duplicate keys, as Docker does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping; raise ConstructorError if this mapping itself has a duplicate key."""
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := {name for name in names if names.count(name) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"{twice} stand twice", node.start_mark)
        return super().construct_mapping(node, deep)


GIVEN = {name.replace("*", "ACCESS_KEY_ID"): f"the {name}" for name in SECRETS} | {"STRANGER": "x"}


def test_every_setting_that_is_read_reaches_a_part() -> None:
    texts = "".join((CHECKOUT / "portal" / name).read_text() for name in ("settings.py", "environment.py"))
    read = set(re.findall(r'"(GATEHOUSE_[A-Z0-9_]+)"', texts))
    assert len(read) > 20
    assert {name for name in read if not any(chosen(names, {name: "x"}) for names in PARTS.values())} == set()
    assert read - READ_ELSEWHERE - set(CONFIGURATION) == set()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("web", {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "EMAIL_URL", "GATEHOUSE_HUB_TOKEN"}),
        ("worker-default", {"DATABASE_URL", "REDIS_URL", "SECRET_KEY"}),
        ("worker-remote", {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "GATEHOUSE_HUB_TOKEN", "GATEHOUSE_FOLLOW_TOKENS"}),
        ("worker-mail", {"DATABASE_URL", "REDIS_URL", "EMAIL_URL"}),
        ("beat", {"REDIS_URL"}),
        ("worker-recovery", {"DATABASE_URL", "REDIS_URL", "GATEHOUSE_HUB_TOKEN"}),
        ("migrate", {"DATABASE_URL", "GATEHOUSE_OWNER_DATABASE_URL"}),
        ("report", {"DATABASE_URL", "REDIS_URL", "SECRET_KEY"}),
    ],
)  # fmt: skip
def test_part_gets_the_secrets_of_the_table(part: str, expected: set[str]) -> None:
    given = environment_of(part, GIVEN)
    assert {name for name, value in given.items() if GIVEN.get(name) == value} == expected
    bucket = {"AWS_ACCESS_KEY_ID"} if part in ("web", "worker-remote") else set()
    given = environment_of(part, GIVEN | {"GATEHOUSE_DELIVERY": "s3"})
    assert {name for name, value in given.items() if GIVEN.get(name) == value} == expected | bucket


def test_web_process_knows_which_endpoints_have_a_token_and_no_token() -> None:
    pairs = "https://a.example.org=hf_one https://b.example.org=hf_two=="
    given = environment_of("web", {"GATEHOUSE_FOLLOW_TOKENS": pairs})
    assert given["GATEHOUSE_FOLLOW_ENDPOINTS"] == "https://a.example.org https://b.example.org"
    assert "hf_" not in str(given)


def test_owners_address_goes_to_migrate_alone() -> None:
    assert [part for part, names in PARTS.items() if OWNER_DATABASE in names] == ["migrate"]
    assert OWNER_DATABASE not in CONFIGURATION


def composition() -> dict[str, Any]:
    with (CHECKOUT / "docker" / "compose.yaml").open() as file:
        found: dict[str, Any] = yaml.load(file, Strict)  # noqa: S506 - a safe loader
    return found


def test_no_setting_stands_twice() -> None:
    assert composition()["services"]
    assert len(SETTINGS) == len(set(SETTINGS))
    for names in PARTS.values():
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "part", ["web", "worker-default", "worker-mail", "worker-remote", "beat", "worker-recovery", "migrate"]
)
def test_compose_gives_a_part_what_the_table_says(part: str) -> None:
    composed = composition()["services"][part]["environment"]
    allowed = set(environment_of(part, dict.fromkeys(composed, "x") | {"GATEHOUSE_DELIVERY": "s3"}))
    assert set(composed) - allowed == set()
    settings = set(SETTINGS) & set(PARTS[part])
    assert (settings - set(composed), settings) == (set(NOT_COMPOSED), set(SETTINGS))
    secrets = {name for name in composed if chosen(SECRETS, {name: "x"})}
    wanted = {name for name in PARTS[part] if name in SECRETS and not name.endswith("*")}
    assert wanted <= secrets
    assert (composed["SECRET_KEY"] == "none") == ("SECRET_KEY" not in PARTS[part])
    address = (
        "postgres://gatehouse_portal:${PORTAL_PASSWORD" if "DATABASE_URL" in PARTS[part] else NO_DATABASE
    )
    assert composed["DATABASE_URL"].startswith(address)


def test_example_names_every_value_that_compose_takes() -> None:
    taken = set(re.findall(r"\$\{(\w+)", (CHECKOUT / "docker" / "compose.yaml").read_text()))
    example = re.findall(r"^(\w+)=", (CHECKOUT / "docker" / "example.env").read_text(), re.MULTILINE)
    assert (set(example), len(example)) == (taken, len(taken))


ROW = re.compile(r"^\| (`[A-Z0-9_]+`(?:, `[A-Z0-9_]+`)*) \| .* \| ([^|]*) \|$", re.MULTILINE)
NUMBER = re.compile(r"(\d+)(?:<sup>(\d+)</sup>)?")
DEFAULTS = """
import json
from portal import settings
print(json.dumps({name: value for name, value in vars(settings).items() if type(value) in (int, str)}))
"""
OF_DEV = {
    "GATEHOUSE_TORCH",
    "GATEHOUSE_USER_NAMESPACE",
    "CHROMIUM",
}  # read by dev.py and the embedded servers


def documented() -> dict[str, str]:
    """Return each variable of the table in docs/operations.md with the default that the table names."""
    found: dict[str, str] = {}
    section = (
        (CHECKOUT / "docs" / "operations.md").read_text().partition("## Environment")[2].partition("\n## ")[0]
    )
    for names, default in ROW.findall(section):
        parts = default.split(", ") if ", " in names else [default]
        for name, value in zip(re.findall(r"`([A-Z0-9_]+)`", names), parts, strict=True):
            assert name not in found, f"{name} stands twice"
            found[name] = value
    return found


def test_every_setting_is_in_the_docs_and_in_the_example() -> None:
    known = {name for name in (*SETTINGS, *SECRETS) if "*" not in name}
    assert known - documented().keys() == {"GATEHOUSE_DEMO"}  # used only by `./dev.py demo`
    assert documented().keys() - known - READ_ELSEWHERE - OF_DEV == set()
    example = (CHECKOUT / "docker" / "example.env").read_text()
    shown = set(re.findall(r"^#? ?([A-Z0-9_]+)=", example, re.MULTILINE))
    asked = set(re.findall(r"\$\{([A-Z0-9_]+)", (CHECKOUT / "docker" / "compose.yaml").read_text()))
    assert asked & known - shown == set()


def test_numbers_in_the_docs_are_the_defaults_of_the_settings(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CHECKOUT),
        "DATABASE_URL": NO_DATABASE,
        "REDIS_URL": "unix:///nonexistent/valkey.sock",
        "SECRET_KEY": "a-key-of-this-test-and-of-nothing-else",
        "GATEHOUSE_STATE": str(tmp_path),
    }
    said = subprocess.run(
        [sys.executable, "-c", DEFAULTS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    settings = json.loads(said.stdout)
    compared = {}
    for name, default in documented().items():
        number = NUMBER.match(default)
        if name in settings and number and " " not in default.partition(" (")[0]:
            compared[name] = (int(number[1]) ** int(number[2] or 1), settings[name])
    assert {name: pair for name, pair in compared.items() if pair[0] != pair[1]} == {}
    assert len(compared) > 8
