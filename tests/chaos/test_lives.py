"""A hundred requests complete while processes of every part are killed, and nothing is lost or done twice."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from portal.embedded import wipe_servers
from portal.embedded.prepare import CHECKOUT
from portal.embedded.supervisor import Supervisor, run_portal
from tests.chaos.killing import Killer, processes
from tests.chaos.lives import Life, Stuck, browser
from tests.chaos.mailserver import MailServer, mail_server
from tests.tiny_models import make_tiny_pair

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

LIVES, MODELS, AT_ONCE = 100, 10, 8
A_LIFE = 900.0  # seconds
SETTLES = 600.0  # seconds
SEED = 10


def order(portal: Supervisor, what: str, **arguments: Any) -> dict[str, Any]:
    """Run a step in a process with the portal's environment; return its answer."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.lives_seed", what],
        env=portal.environment, cwd=CHECKOUT, input=json.dumps(arguments), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def eventually(question: Callable[[], Any], seconds: float) -> Any:
    """Return the first true answer, or the last one."""
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(1)
    return answer


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state"
    yield folder
    wipe_servers(folder)


@pytest.fixture
def pairs(tmp_path: Path) -> list[Path]:
    """Return copies of a pair in separate folders, so that each is a separate recovery."""
    first = make_tiny_pair(tmp_path / "pair-0")
    return [first, *(shutil.copytree(first, tmp_path / f"pair-{n}") for n in range(1, MODELS))]


def test_lives_under_random_kills(
    state: Path, pairs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    with mail_server() as mails:
        extra = {"GATEHOUSE_DEMO": "1", "EMAIL_URL": mails.url, "DATABASE_URL": "", "REDIS_URL": ""}
        with run_portal(state, extra_env=extra | {"GATEHOUSE_URL": "", "SECRET_KEY": ""}) as portal:
            seeded = order(portal, "seed", pairs=[str(pair) for pair in pairs], people=LIVES)
            killer = Killer(state, seed=SEED)
            killer.start()
            try:
                lives, stuck = live_all(portal, seeded, pairs, tmp_path)
            finally:
                killer.stop()
            lived = time.monotonic() - began
            report = eventually(lambda: settled(portal), SETTLES) or order(portal, "report")
            order(portal, "clean")
            alone = Counter(part for line in processes(state).values() if (part := master_of(line)))
        left = eventually(lambda: not processes(state), 30) or processes(state)
        with capsys.disabled():
            retried = Counter[str]()
            for life in lives:
                retried.update(life.retries)
            sys.stdout.write(
                f"\n{len(lives)} lives in {lived:.0f} s, kills {dict(killer.killed)}, done again {dict(retried)},"
                f" emails {len(mails.accepted)}, settled {time.monotonic() - began - lived:.0f} s later\n"
            )
        assert stuck == []
        assert left is True
        check_once(report, mails)
        assert set(alone.values()) == {1}, alone
        check_files(state, report)


def settled(portal: Supervisor) -> dict[str, Any] | None:
    report = order(portal, "report")
    return report if report["settled"] else None


def live_all(
    portal: Supervisor, seeded: dict[str, Any], pairs: list[Path], folder: Path
) -> tuple[list[Life], list[str]]:
    """Live all lives, this many at once; return them and the errors of those that got stuck."""
    wanted = hashlib.sha256((pairs[0] / "tuned" / "model.safetensors").read_bytes()).hexdigest()
    todo: Queue[Life] = Queue()
    lives = []
    for number, session in enumerate(seeded["people"]):
        own = folder / f"life-{number}"
        own.mkdir()
        person, reviewer = browser(portal.address, session), browser(portal.address, seeded["reviewer"])
        model = seeded["models"][number % len(seeded["models"])]
        lives.append(Life(portal.address, model, person, reviewer, wanted, own, A_LIFE, number % 5 == 0))
        todo.put(lives[-1])
    stuck: list[str] = []

    def work() -> None:
        while True:
            try:
                life = todo.get_nowait()
            except Empty:
                return
            try:
                life.live()
            except Stuck as error:
                stuck.append(str(error))

    threads = [threading.Thread(target=work, name=f"lives-{n}") for n in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return lives, stuck


def master_of(line: str) -> str:
    """Return the part of the portal whose single main process has this command line."""
    return "beat" if " beat " in line else ""


def check_once(report: dict[str, Any], mails: MailServer) -> None:
    """Check that nothing is lost and nothing exists twice."""
    people = {f"p{n}": 1 for n in range(LIVES)}
    assert report["chain"] is True
    for what in ("requests each", "decisions each", "grants each"):
        assert report[what] == people, what
    assert report["requests"] == {"approved": LIVES}
    for kind in ("request.submitted", "grant.created"):
        assert report["events"][kind] == LIVES, kind
    assert (report["deliveries"], report["recoveries"]) == ({"ready": LIVES}, {"ready": MODELS})
    assert report["weight revisions"] == MODELS
    assert set(report["emails"]) == {"sent"}
    ids = {mail["Message-ID"] for mail in mails.accepted}
    assert len(ids) == report["emails sent"]


def check_files(state: Path, report: dict[str, Any]) -> None:
    """Check that every blob has its content, and that no partial files are left."""
    for name in report["blobs"]:
        assert hashlib.sha256(Path(name).read_bytes()).hexdigest() == Path(name).name
    stored = {str(path) for path in (state / "weights" / "blobs").rglob("*") if path.is_file()}
    assert stored == set(report["blobs"])
    weights = state / "weights"
    others = [path for path in weights.rglob("*") if path.is_file() and str(path) not in stored]
    assert {path.parent.name for path in others if path.suffix == ".lock" and not path.stat().st_size} <= {
        "recoveries"
    }
    assert [path for path in others if path.suffix != ".lock"] == []
