"""huggingface_hub's own tests of downloads, gating, requests, trees and file systems pass on a live portal."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.clients.environments import client, client_environment
from tests.conformance.upstream import FILES, upstream_tests
from tests.model_ops.hub.conftest import Portal

pytestmark = pytest.mark.conformance
PASSED = {"2.4.0": 170, "1.33.0": 166}
SKIPPED = {  # both need Xet
    "2.4.0": {
        "TestSnapshotDownload::test_xet_file_skips_per_file_head_call",
        "TestHfFileSystemRepositoryRO::test_get_file_with_xet",
    },
    "1.33.0": {"TestSnapshotDownload::test_xet_file_skips_per_file_head_call"},
}


@dataclass(frozen=True)
class Outcome:
    """The outcome of upstream's tests, by test name."""

    passed: int
    failed: list[str]
    skipped: set[str]


def run_upstream(version: str, portal: Portal, work: Path, *, uploads: bool = False) -> Outcome:
    """Run the selected tests in that client's own environment."""
    assert portal.seeder.stdin
    assert portal.seeder.stdout
    pipes = (portal.seeder.stdin.fileno(), portal.seeder.stdout.fileno())
    environment = client_environment(
        endpoint=portal.url,
        home=work / "home",
        SEEDING=",".join(map(str, pipes)),
        UPLOADS="1" if uploads else "",
        HF_HUB_DISABLE_XET="1",
    )
    report = work / "report.xml"
    result = subprocess.run(
        [str(client(version)), "-m", "pytest", f"--junitxml={report}", *(f"t/{name}" for name in FILES)],
        cwd=upstream_tests(version, work / "upstream"),
        env=environment,
        pass_fds=pipes,
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), result.stdout[-4000:] + result.stderr[-4000:]
    return _outcome(report, result.stdout)


def _outcome(report: Path, said: str) -> Outcome:
    cases = list(ElementTree.parse(report).iter("testcase"))  # noqa: S314 - pytest wrote it
    names = {case: f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}" for case in cases}
    failed = [names[c] for c in cases if c.find("failure") is not None or c.find("error") is not None]
    if failed:
        print(said)  # noqa: T201 - shown if this test fails
    skipped = {names[case] for case in cases if case.find("skipped") is not None}
    return Outcome(len(cases) - len(failed) - len(skipped), failed, skipped)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", PASSED)
def test_upstreams_tests_pass_against_a_live_portal(
    seeded_portal: Portal, tmp_path: Path, version: str
) -> None:
    outcome = run_upstream(version, seeded_portal, tmp_path)
    assert outcome == Outcome(PASSED[version], [], SKIPPED[version])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", PASSED)
def test_upstreams_tests_pass_with_uploads_in_place_of_seeded_commits(
    seeded_portal: Portal, tmp_path: Path, version: str
) -> None:
    outcome = run_upstream(version, seeded_portal, tmp_path, uploads=True)
    assert outcome == Outcome(PASSED[version], [], SKIPPED[version])
