"""The demo's base, tuned and diff: made once (minutes), then kept in the demo's state folder.

`ensure_pair` is all that a caller needs. The work itself is in `make_pair`, run as a child process, since
it needs torch, transformers and about 4 GB of memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portal.demo.base import BASE_LICENCE, PACKAGE, DemoPairError, Package, find_package

MODEL_ID = "gatehouse/smollm2-135m-tulu-demo"
DEMO_LICENCE = "demo_license.txt"
STAMP = "pair.json"
HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
# The inputs of the two models, and the further inputs of the diff.
MODEL_RECIPE = [
    "portal/demo/base.py",
    "portal/demo/finetune.py",
    "portal/demo/chats/*.jsonl",
    "portal/demo/card/*.txt",
]
DIFF_RECIPE = ["portal/demo/make_pair.py", "portal/demo/card/*", "model_ops/recovery/*.py"]
# No downloads, only error messages. Threads that wait for each other sleep, since spinning next to other work made
# the fine-tune ten times slower.
CHILD_SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True)
class Pair:
    """Three finished checkpoints in one folder, with the figures measured when they were made."""

    folder: Path
    figures: dict[str, Any]
    files: dict[str, dict[str, Any]]  # "tuned/model.safetensors" -> {"bytes", "sha256"}

    @property
    def base(self) -> Path:
        """Return the folder of the base model, in bfloat16."""
        return self.folder / "base"

    @property
    def tuned(self) -> Path:
        """Return the folder of the fine-tuned model, in bfloat16: a recovery must give exactly this."""
        return self.folder / "tuned"

    @property
    def diff(self) -> Path:
        """Return the released folder: the float32 diff with card, licences, configuration and tokenizer."""
        return self.folder / "diff"

    @property
    def card(self) -> Path:
        """Return the path of the model card, figures filled in."""
        return self.diff / "README.md"

    @property
    def licences(self) -> tuple[Path, Path]:
        """Return the paths of the licences to accept, in the order the page shows them."""
        return self.diff / DEMO_LICENCE, self.diff / BASE_LICENCE


def ensure_pair(folder: Path, *, report: Callable[[str], None] = print) -> Pair:
    """Return the pair in `folder`; make it in a child process if it is missing, damaged or of another recipe.

    `report` gets a line at the start and the end of each step. Raises DemoPairError with a sentence if the
    pair cannot be made; the old content of `folder` is then still there.
    """
    package = find_package()
    pair = load_pair(folder, package)
    if pair is not None:
        return pair
    status, said = run_child(folder, report)
    pair = load_pair(folder, package)
    if pair is None:
        raise DemoPairError(why_failed(status, said))
    return pair


def run_child(folder: Path, report: Callable[[str], None]) -> tuple[int, list[str]]:
    """Run `make_pair`, pass on its lines, and return its exit status and the lines of its standard error."""
    command = [sys.executable, "-m", "portal.demo.make_pair", str(folder.absolute())]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        with subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=os.environ | CHILD_SETTINGS,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as child:
            try:
                for line in child.stdout or ():
                    report(line.rstrip())
            except BaseException:
                child.terminate()
                raise
        errors.seek(0)
        return child.returncode, errors.read().strip().splitlines()


def why_failed(status: int, said: list[str]) -> str:
    """Return one sentence about a child that ended without a pair."""
    if status < 0:
        return (
            f"Making the demo's weights was ended by signal {-status}, most likely for lack of memory: "
            "about 4 GB must be free. Start the demo again."
        )
    return said[-1] if said else f"Making the demo's weights ended with status {status} and no word."


def load_pair(folder: Path, package: Package) -> Pair | None:
    """Return the finished pair in `folder`, or None if it is missing, incomplete, or of another recipe."""
    stamp = read_stamp(folder)
    wanted = {"models": models_digest(package), "diff": diff_digest()}
    if stamp is None or stamp["recipe"] != wanted or not files_whole(folder, stamp["files"]):
        return None
    return Pair(folder, stamp["figures"], stamp["files"])


def read_stamp(folder: Path) -> dict[str, Any] | None:
    """Return the stamp that `make_pair` wrote last into `folder`, or None if it is missing or not ours."""
    try:
        stamp = json.loads((folder / STAMP).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    parts = ("recipe", "figures", "files")
    return stamp if isinstance(stamp, dict) and all(isinstance(stamp.get(p), dict) for p in parts) else None


def files_whole(folder: Path, files: dict[str, dict[str, Any]]) -> bool:
    """Return whether each file exists with its size; contents are compared by the digests."""
    try:
        return all((folder / name).stat().st_size == facts["bytes"] for name, facts in files.items())
    except (OSError, KeyError, TypeError):
        return False


def models_digest(package: Package) -> str:
    """Return one digest over all inputs of base and tuned."""
    return recipe_digest(MODEL_RECIPE, f"{PACKAGE} {package.version}")


def diff_digest() -> str:
    """Return one digest over all inputs of the diff apart from the two models."""
    return recipe_digest(DIFF_RECIPE, "")


def recipe_digest(patterns: list[str], first: str) -> str:
    """Return SHA-256 over `first` and the names and contents of the checkout's files that match."""
    digest = hashlib.sha256(first.encode())
    for file in sorted(file for pattern in patterns for file in CHECKOUT.glob(pattern)):
        digest.update(f"\n{file.relative_to(CHECKOUT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()
