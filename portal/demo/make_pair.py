"""`python -m portal.demo.make_pair FOLDER`: make base, tuned and diff, then rename them into place."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

from portal.demo.base import DemoPairError, Package, find_package, write_base, write_json
from portal.demo.pair import (
    CHECKOUT,
    DEMO_LICENCE,
    HERE,
    STAMP,
    diff_digest,
    files_whole,
    load_pair,
    models_digest,
    read_stamp,
)

CARD = HERE / "card"
DISK_BYTES = 1_500_000_000  # base and tuned 326 MB each, diff 651 MB, and room to spare
Stamp = dict[str, Any]


def make_pair(folder: Path) -> None:
    """Make the pair next to `folder` and rename it into place; keep models made by the same recipe."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    package = find_package()
    with locked(folder.with_suffix(".lock")):
        if load_pair(folder, package) is not None:
            return
        check_disk(folder.parent)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        figures = keep_models(folder, partial, package) or make_models(partial, package)
        figures |= make_diff(partial, package, figures)
        recipe = {"models": models_digest(package), "diff": diff_digest()}
        write_json(partial / STAMP, {"recipe": recipe, "figures": figures, "files": list_files(partial)})
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on `path`, so that two demos in one state folder make the pair only once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_disk(folder: Path) -> None:
    """Refuse, before anything is written, if the disk has no room for the pair."""
    free = shutil.disk_usage(folder).free
    if free < DISK_BYTES:
        raise DemoPairError(
            f"The demo's weights take {DISK_BYTES / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB left: "
            "make room, or name another folder with --state."
        )


def keep_models(folder: Path, partial: Path, package: Package) -> Stamp | None:
    """Link base and tuned of an older pair into `partial` if the recipe is the same; return their figures."""
    stamp = read_stamp(folder)
    if stamp is None or stamp["recipe"].get("models") != models_digest(package):
        return None
    models = {name: facts for name, facts in stamp["files"].items() if not name.startswith("diff/")}
    if not models or not files_whole(folder, models):
        return None
    for name in ("base", "tuned"):
        shutil.copytree(folder / name, partial / name, copy_function=os.link)
    figures: Stamp = stamp["figures"]
    return figures


def make_models(partial: Path, package: Package) -> Stamp:
    """Dequantise the base, fine-tune it, and return the measured figures."""
    from portal.demo.finetune import STEPS, compare, write_tuned

    with step("Base: SmolLM2-135M-Instruct, dequantised from GGUF"):
        write_base(partial / "base", package)
    with step(f"Tuned: {STEPS} steps of fine-tuning on the CPU"):
        measured = asdict(write_tuned(partial / "tuned", partial / "base"))
        shutil.copyfile(CARD / DEMO_LICENCE, partial / "tuned" / DEMO_LICENCE)
    return measured | compare(partial / "base", partial / "tuned")


def make_diff(partial: Path, package: Package, figures: Stamp) -> Stamp:
    """Subtract base from tuned with our own command, and write the completed card next to the diff."""
    with step("Diff: tuned - base in float32, checked value by value"):
        run_make_diff(partial)
    manifest = json.loads((partial / "diff" / "weights.manifest.json").read_text("utf-8"))
    lost = {"lost_values": manifest["round_trip"]["not_restored"]}
    if lost["lost_values"]:
        raise DemoPairError(
            f"{lost['lost_values']} values of the tuned model do not come back from its diff, which is a fault "
            "of this demo: please report it with the output of ./dev.py demo."
        )
    card = Template((CARD / "README.md").read_text("utf-8"))
    texts = {name: as_text(value) for name, value in (figures | lost).items()}
    filled = card.substitute(texts, package_version=package.version)
    (partial / "diff" / "README.md").write_text(filled, encoding="utf-8")
    return lost


def run_make_diff(partial: Path) -> None:
    """Run the recovery engine's command; if it refuses, raise with its sentence."""
    folders = {"--path_raw": "base", "--path_tuned": "tuned", "--path_diff": "diff"}
    options = [word for option, name in folders.items() for word in (option, str(partial / name))]
    run = subprocess.run(
        [sys.executable, "-m", "model_ops.recovery", "make_diff", *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise DemoPairError(run.stderr.strip() or f"make_diff ended with status {run.returncode}.")


def as_text(value: float) -> str:
    """Format a figure for the card: losses with three decimals, counts in groups of three digits."""
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def list_files(folder: Path) -> dict[str, Any]:
    """Return size and SHA-256 of every file below `folder`, by its relative name."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        path.chmod(0o644)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    return files


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print `title` at once, and again with the seconds it took."""
    print(f"{title} ...", flush=True)
    start = time.monotonic()
    yield
    print(f"{title}: {time.monotonic() - start:.1f} s", flush=True)


def main() -> int:
    """Make the pair in the folder named on the command line. A failure is one sentence and exit status 1."""
    try:
        make_pair(Path(sys.argv[1]))
    except (DemoPairError, OSError) as error:
        print(f"The demo's weights cannot be made: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
