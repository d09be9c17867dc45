"""`./dev.py bench scale` fills a database that the portal accepts, and leaves other folders alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from portal.embedded import wipe_servers
from portal.embedded.prepare import CHECKOUT
from portal.embedded.servers import embedded_servers
from tests.bench.errors import BenchError
from tests.bench.scale.cli import NOTE, empty_folder
from tests.bench.scale.load import percentile
from tests.bench.scale.plan import DRAFT, SHARE_OF_THE_LARGEST, make_plan
from tests.bench.scale.table import Row, as_text

REQUESTS = 500
ADDRESSES = ("DATABASE_URL", "REDIS_URL", "GATEHOUSE_URL")


@dataclass(frozen=True)
class Filled:
    """A filled state folder: the run's notes on it, and the output of a second run."""

    state: Path
    noted: dict[str, Any]
    again: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Generator[Filled]:
    state = tmp_path_factory.mktemp("scale") / "state"
    try:
        first = bench("--requests", str(REQUESTS), "--state", str(state), "--seed-only")
        assert first.returncode == 0, first.stderr
        yield Filled(
            state,
            json.loads((state / NOTE).read_text()),
            bench("--requests", "500", "--state", str(state), "--seed-only"),
        )
    finally:
        wipe_servers(state)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark as `./dev.py bench scale` does, without the test run's servers."""
    environment = {name: value for name, value in os.environ.items() if name not in ADDRESSES}
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", "scale", *arguments],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_filled_database_has_every_row(filled: Filled) -> None:
    counts = filled.noted["counts"]
    tables = {
        "requests": "access_requests_accessrequest", "decisions": "access_requests_decision", "grants": "access_requests_grant",
        "acceptances": "access_requests_licenceacceptance", "tokens": "access_requests_accesstoken",
        "emails": "access_requests_outgoingmail", "downloads": "model_ops_download", "deliveries": "model_ops_delivery",
        "people": "accounts_user", "sessions": "django_session",
    }  # fmt: skip
    with embedded_servers(filled.state) as pair:
        assert pair.postgres is not None
        with psycopg.connect(pair.postgres.owner_dsn()) as owner:
            found = {name: count(owner, table) for name, table in tables.items()}
            links = count(owner, "access_requests_eventlink")
            broken = foreign_keys_broken(owner)
            missing = indexes_missing(owner)
    assert found == {name: counts[name] for name in tables}
    assert (found["requests"], found["downloads"], found["people"]) == (REQUESTS, 2 * REQUESTS, 150)
    assert links == counts["events"] + counts["before"]
    assert broken == []
    assert missing == []


def count(owner: psycopg.Connection[Any], table: str) -> int:
    row = owner.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def foreign_keys_broken(owner: psycopg.Connection[Any]) -> list[str]:
    """Return every foreign key with a row that points at nothing; COPY ran without the triggers."""
    keys = owner.execute(
        "SELECT c.conrelid::regclass::text, a.attname, c.confrelid::regclass::text, f.attname FROM pg_constraint c"
        " JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]"
        " JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = c.confkey[1] WHERE c.contype = 'f'"
    ).fetchall()
    assert keys
    broken = []
    for table, column, target, key in keys:
        found = owner.execute(
            f'SELECT 1 FROM {table} t WHERE t."{column}" IS NOT NULL AND NOT EXISTS'
            f' (SELECT FROM {target} r WHERE r."{key}" = t."{column}") LIMIT 1'
        ).fetchone()
        broken += [f"{table}.{column}"] if found else []
    return broken


def indexes_missing(owner: psycopg.Connection[Any]) -> list[str]:
    """Return the indexes that were dropped for the load and not rebuilt."""
    wanted = [
        "request_queue_order",
        "mail_next",
        "download_by_model",
        "download_open",
        "one_live_grant_per_person_and_model",
    ]
    rows = owner.execute("SELECT indexname FROM pg_indexes WHERE indexname = ANY(%s)", [wanted]).fetchall()
    return sorted(set(wanted) - {name for (name,) in rows})


def test_chain_of_a_filled_database_verifies(filled: Filled) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ADDRESSES}
    done = subprocess.run(
        [sys.executable, "-m", "portal.embedded", "manage", "verify_audit"],
        cwd=CHECKOUT, env=environment | {"GATEHOUSE_STATE": str(filled.state)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    events = filled.noted["counts"]["events"] + filled.noted["counts"]["before"]
    assert (done.returncode, done.stderr) == (0, "")
    assert f"The chain of {events} events is whole" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_line_of_the_table_is_answered(filled: Filled) -> None:
    done = bench("--seeded", str(filled.state), "--json", str(filled.state / "figures.json"))
    assert "lines missed" in done.stdout or "every limit" in done.stdout, done.stderr
    rows = json.loads((filled.state / "figures.json").read_text())
    assert len(done.stdout.splitlines()) == len(rows) + 2
    assert [row["what"] for row in rows if row["note"].startswith("status")] == []
    assert [row["what"] for row in rows if row["median"] is None and not row["figure"]] == []
    assert {row["what"]: row["queries"] for row in rows if row["most_queries"] == 3} == {
        "HEAD resolve": 3,
        "GET resolve": 3,
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_few_people_at_once_meet_no_error(filled: Filled) -> None:
    done = bench("--seeded", str(filled.state), "--people", "20", "--minutes", "0.3")
    assert "all pages: " in done.stdout, done.stderr
    assert "error" not in done.stdout.replace("no error", "")


def test_folder_that_holds_a_portal_is_refused(filled: Filled) -> None:
    assert filled.again.returncode == 1
    assert (
        filled.again.stderr
        == f"{filled.state} holds a portal: bench scale fills an empty folder only, so name another.\n"
    )


def test_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(BenchError, match="is not empty"):
        empty_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_empty_or_missing_folder_is_taken(tmp_path: Path) -> None:
    assert empty_folder(tmp_path) == tmp_path
    assert empty_folder(tmp_path / "new") == tmp_path / "new"


def test_folder_that_was_not_filled_is_not_measured(tmp_path: Path) -> None:
    done = bench("--seeded", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{tmp_path} was not filled by bench scale: run it with --state first.\n"


def test_plan_is_the_same_for_the_same_number_and_asks_for_each_model_once() -> None:
    plan, again = (make_plan(3000, now=1_800_000_000) for _ in range(2))
    assert plan == again
    pairs = list(zip(plan.model, plan.person, strict=True))
    assert len(set(pairs)) == 3000
    assert plan.model.count(0) == pytest.approx(3000 * SHARE_OF_THE_LARGEST, rel=0.2)
    assert all(at <= decided for at, decided in zip(plan.submitted, plan.decided, strict=True) if decided)
    assert set(plan.state) > {DRAFT}
    assert max(plan.model.count(model) for model in range(1, plan.sizes.models)) < plan.model.count(0)


def test_row_over_its_limit_or_its_queries_is_missed() -> None:
    good = Row("page", limit=50, most_queries=3, median=49.0, longest=900.0, queries=3)
    slow = Row("page", limit=50, median=51.0, longest=52.0)
    many = Row("page", limit=0, most_queries=3, median=1.0, longest=1.0, queries=4)
    unknown = Row("page", limit=0, most_queries=3, median=1.0, longest=1.0)
    assert [row.judged().missed for row in (good, slow, many, unknown)] == [False, True, True, True]
    assert [line.endswith("missed") for line in as_text([good, slow.judged()]).splitlines()] == [
        False,
        False,
        True,
    ]


def test_percentile_of_few_is_one_of_them() -> None:
    assert [percentile([3.0, 1.0, 2.0], 95), percentile([float(n) for n in range(100)], 95)] == [3.0, 95.0]
