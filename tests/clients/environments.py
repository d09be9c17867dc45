"""Virtual environments with one Hugging Face client each, built once and kept in the checkout's state folder.

    client("2.4.0")         the python of an environment with huggingface_hub 2.4.0 (and pytest)
    client("transformers")  the newest transformers, without torch

The requirement files in this folder pin every package by hash. To make them again:

    printf 'huggingface_hub==2.4.0\\npytest\\npytest-mock\\npytest-timeout\\n' | uv pip compile - --universal \\
      --generate-hashes --python-version 3.11 --no-header --no-annotate -o tests/clients/hub-2.4.0.txt

and likewise 1.33.0; 0.36.2 without pytest; transformers with tokenizers, safetensors, numpy and
sentencepiece.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".gatehouse" / "clients"
REQUIREMENTS = {
    "2.4.0": HERE / "hub-2.4.0.txt",
    "1.33.0": HERE / "hub-1.33.0.txt",
    "0.36.2": HERE / "hub-0.36.2.txt",
    "transformers": HERE / "transformers.txt",
}
NO_NETWORK = re.compile(
    r"Retrying|ConnectionError|NewConnection|Temporary failure|timed out|No matching distribution"
)


def client(name: str) -> Path:
    """Return the python of that client's environment; skip the test if there is no network."""
    folder = CACHE / _digest(name)
    python = folder / "bin" / "python"
    with built_once(folder) as is_built:
        if not is_built:
            venv.create(folder, with_pip=False, symlinks=True)
            pip("--python", str(python), "install", "--no-deps", "-r", str(REQUIREMENTS[name]))
    return python


def client_environment(*, endpoint: str, home: Path, token: str = "", **more: str) -> dict[str, str]:
    """Return the environment of a client's process: this portal and this token, nothing of the user's own."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("HF_", "HUGGING", "PYTHON", "DJANGO")) and "PROXY" not in name.upper()
    }
    ours = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    ours |= {"HF_HUB_ETAG_TIMEOUT": "60", "HF_HUB_DOWNLOAD_TIMEOUT": "60"}  # a busy machine is slow
    return inherited | ours | ({"HF_TOKEN": token} if token else {}) | more


@contextmanager
def built_once(folder: Path) -> Iterator[bool]:
    """Yield whether the folder has been built; if not, the block builds it while other processes wait.

    An interrupted build is started again.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    done = folder.with_name(f"{folder.name}.done")
    if done.exists() and folder.exists():
        yield True
        return
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_built = done.exists() and folder.exists()
        if not is_built:
            done.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        yield is_built
        done.touch()


def pip(*arguments: str) -> None:
    """Run this environment's pip; every file must have one of the hashes in the requirement file."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "--require-virtualenv",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [*command, *arguments, "--require-hashes", "-q"],
        capture_output=True, text=True, check=False, env=environment | {"PIP_ROOT_USER_ACTION": "ignore"},
    )  # fmt: skip
    said = (result.stdout + result.stderr).strip()
    if result.returncode == 0:
        return
    if NO_NETWORK.search(said) and not _is_required():
        pytest.skip(f"pip cannot fetch the client, so there is nothing to test with: {said.splitlines()[-1]}")
    pytest.fail(f"pip could not make the client's environment: {said[-2000:]}")


def _is_required() -> bool:
    """Return whether something missing is a failure, as it is in continuous integration."""
    switches = (os.environ.get("GATEHOUSE_REQUIRE_BROWSER", ""), os.environ.get("CI", ""))
    return any(switch.lower() not in ("", "0", "false") for switch in switches)


def _digest(name: str) -> str:
    """Return a digest of requirements, interpreter and folder; scripts contain the paths of these."""
    content = REQUIREMENTS[name].read_bytes() + f"{sys.version_info[:2]} {sys.prefix} {CACHE}".encode()
    return f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
