"""Ranges and resumed downloads: the file is complete for any range, however often a connection breaks."""

from __future__ import annotations

import hashlib
import http.client
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from huggingface_hub import constants, file_download, hf_hub_download

from tests.clients.environments import client, client_environment
from tests.cutting import breaking_line
from tests.model_ops.hub.conftest import LARGE, MODEL, Portal

CUTS = 20


@pytest.fixture(params=["own", "nginx"])
def way(request: pytest.FixtureRequest) -> Portal:
    """A portal that sends the bytes itself, and one behind nginx."""
    portal: Portal = request.getfixturevalue("portal")
    return portal if request.param == "own" else request.getfixturevalue("behind").portal


@pytest.fixture
def token(way: Portal, large: tuple[str, bytes], request: pytest.FixtureRequest) -> str:
    """A token of a person who is used only by this test, so that no other bodies count."""
    name = f"p-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
    return str(way.order("person", name=name, repo_id="maker/large", state="granted")["token"])


def random_range(chance: random.Random, size: int) -> tuple[str, int, int]:
    """Return a header and the first and last byte that it stands for."""
    first = chance.randrange(size)
    last = min(first + chance.choice([0, 1, 1000, 100_000, size]), size + 10)
    if chance.random() < 0.2:
        return f"bytes={first}-", first, size - 1
    if chance.random() < 0.2:
        return f"bytes=-{last - first + 1}", max(0, size - (last - first + 1)), size - 1
    return f"bytes={first}-{last}", first, min(last, size - 1)


@pytest.mark.parametrize("number", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_random_ranges_equal_the_file(way: Portal, number: int) -> None:
    """The requests use one open connection, as clients do."""
    content, chance = way.files["model.safetensors"], random.Random(number)
    path = f"/{MODEL}/resolve/{way.commit}/model.safetensors"
    headers = {"Authorization": f"Bearer {way.tokens['granted']}"}
    connection = http.client.HTTPConnection(urlsplit(way.url).netloc, timeout=60)
    for _ in range(number):
        asked, first, last = random_range(chance, len(content))
        connection.request("GET", path, headers=headers | {"Range": asked})
        answer = connection.getresponse()
        assert answer.read() == content[first : last + 1], asked
        assert (answer.status, answer.headers["Content-Range"]) == (
            206,
            f"bytes {first}-{last}/{len(content)}",
        )
    connection.close()


def breaks(seed: int) -> list[int]:
    """Return after how many bytes each connection breaks; all of them break before the file is complete."""
    chance = random.Random(seed)
    return [chance.randrange(200_000, LARGE // CUTS) for _ in range(CUTS)]


def test_huggingface_hub_goes_on_after_twenty_breaks(
    way: Portal, large: tuple[str, bytes], token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client resumes by itself.

    Its chunks are small and it does not pause, so that this takes less than a minute.
    """
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 65_536)
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None, time=time.time))
    with breaking_line(way.url, breaks(1)) as line:
        path = hf_hub_download("maker/large", "large.bin", endpoint=line.url, token=token, cache_dir=tmp_path)
        assert line.breaks == CUTS
    assert hashlib.sha256(Path(path).read_bytes()).digest() == hashlib.sha256(large[1]).digest()


def test_curl_goes_on_after_twenty_breaks(
    way: Portal, large: tuple[str, bytes], token: str, tmp_path: Path
) -> None:
    target, cut = tmp_path / "large.bin", 0
    with breaking_line(way.url, breaks(2)) as line:
        command = [
            "curl", "-sS", "-L", "-C", "-", "-f", "-H", f"Authorization: Bearer {token}",
            "-o", str(target), f"{line.url}/maker/large/resolve/main/large.bin",
        ]  # fmt: skip
        while (run := subprocess.run(command, capture_output=True, check=False, timeout=200)).returncode != 0:
            assert (run.returncode, cut < CUTS) == (18, True), run.stderr  # 18: the transfer ended too early
            cut += 1
        assert (cut, line.breaks) == (CUTS, CUTS)
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(large[1]).digest()


@pytest.mark.slow
def test_client_that_is_killed_twenty_times_goes_on(
    way: Portal, large: tuple[str, bytes], token: str, tmp_path: Path
) -> None:
    """Each new process of 0.36 continues from the data of the last one, and is killed once it has downloaded more."""
    python = client("0.36.2")
    script = (
        "from huggingface_hub import constants, hf_hub_download\n"
        "constants.DOWNLOAD_CHUNK_SIZE = 65_536\n"  # its data reaches the disk sooner than with 10 MiB
        "print(hf_hub_download('maker/large', 'large.bin'))"
    )
    chance, kept = random.Random(3), tmp_path / "hub"

    def incomplete() -> int:
        return max((path.stat().st_size for path in kept.rglob("*.incomplete")), default=0)

    with breaking_line(way.url, pause=0.003) as line:
        environment = client_environment(
            endpoint=line.url, home=tmp_path, token=token, HF_HUB_CACHE=str(kept)
        )
        for _ in range(CUTS):
            further = incomplete() + chance.randrange(1, 1_500_000)
            process = subprocess.Popen([python, "-c", script], env=environment, stdout=subprocess.DEVNULL)
            wait_for(lambda further=further: incomplete() >= further, process)
            process.kill()
            process.wait(60)
    environment = client_environment(endpoint=way.url, home=tmp_path, token=token, HF_HUB_CACHE=str(kept))
    run = subprocess.run(
        [python, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    content = Path(run.stdout.strip()).read_bytes()
    assert hashlib.sha256(content).digest() == hashlib.sha256(large[1]).digest()


def wait_for(what: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert process.poll() is None, "the client was through before it was killed"
        assert time.monotonic() < deadline, "the client did not get further"
        time.sleep(0.005)
