"""The child process of the fuzz run, under a memory limit: `python -m tests.attacks.fuzzing FOLDER COUNT SEED`.

Each input is a random pair of folders, most of them damaged. Within one second of processor time, planning
must return a plan or refuse in one line. Some of the plans are carried out, and nothing but the target may be
written. The last line of output is a JSON summary. A finding is raised as an error, and its input is kept in
FOLDER/finding.
"""

from __future__ import annotations

import gc
import json
import re
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from model_ops.recovery.checkpoints.checkpoint import Checkpoint
from model_ops.recovery.errors import Failure, RecoveryError, Refusal
from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import COMPATS, RESIZE_POLICIES, Options
from model_ops.recovery.planning.plan import Plan
from model_ops.recovery.planning.planner import make_diff_plan, make_plan
from model_ops.recovery.verify import verify_folder
from tests.attacks.kit import Hang, inside, time_limit
from tests.attacks.pairs import draw_shapes, draw_side, files_of, spoil
from tests.attacks.watch import Watch

PROCESSOR_SECONDS = 1.0
WALL_SECONDS = 60.0  # catches an endless wait, but allows for a busy machine
MORE_MEMORY = 1 << 30  # bytes of address space, in addition to what torch and this program use
CARRIED_OUT = 0.1  # the share of the plans that is carried out


class World:
    """Two folders that are rewritten for each input, and a path for the result."""

    def __init__(self, root: Path) -> None:
        self.root, self.base, self.diff, self.out = root, root / "base", root / "diff", root / "out"
        self.counts: Counter[str] = Counter()
        self.sentences: Counter[str] = Counter()

    def write(self, folder: Path, files: dict[str, bytes]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)

    def listing(self) -> set[str]:
        return {path.name for path in self.root.iterdir()}


def draw_options(chance: Random) -> Options:
    if chance.random() < 0.1:
        return Options(method="xor")
    return Options(
        compat=chance.choice(("weight_diff", "weight_diff", "weight_diff", *COMPATS)),
        dtype=chance.choice((None, None, "float32", "float16", "bfloat16")),
        resize_policy=chance.choice((None, None, *RESIZE_POLICIES)),
        max_shard_size=chance.choice(("5GB", "100", "300")),
        keep_rotary=chance.random() < 0.3,
    )


def check(world: World, chance: Random) -> None:
    """Draw one input and check it; keep it as a finding if a check fails."""
    shapes = draw_shapes(chance)
    base = draw_side(chance, shapes, 0)
    diff = draw_side(chance, shapes, 1 if chance.random() < 0.3 else 0)
    base_files, diff_files = files_of(base), files_of(diff)
    steps = []
    for _ in range(chance.choice((0, 1, 1, 1, 1, 2))):
        role = "diff" if chance.random() < 0.7 else "base"
        files, side = (diff_files, diff) if role == "diff" else (base_files, base)
        steps.append(f"{role}: {spoil(chance, files, side)}")
    world.write(world.base, base_files)
    world.write(world.diff, diff_files)
    options = draw_options(chance)
    making, carry_out = chance.random() < 0.2, chance.random() < CARRIED_OUT
    try:
        check_one(world, options, making=making, carry_out=carry_out)
    except BaseException:
        keep(world, [*steps, repr(options), f"making: {making}"])
        raise


def keep(world: World, steps: list[str]) -> None:
    finding = world.root / "finding"
    shutil.rmtree(finding, ignore_errors=True)
    for folder in (world.base, world.diff):
        shutil.copytree(folder, finding / folder.name)
    (finding / "steps.txt").write_text("\n".join(steps) + "\n")


def check_one(world: World, options: Options, *, making: bool, carry_out: bool) -> None:
    world.counts["inputs"] += 1
    with Watch() as watch, limits():
        plan = planned(world, options, making=making)
    assert watch.writes == [], watch.writes
    assert watch.runs == [], watch.runs
    if plan is None or not carry_out:
        return
    try:
        with Watch() as watch, limits():
            carried_out(world, plan)
        ours = (str(world.out), f"{world.out}.partial")
        assert [path for path in watch.writes if not inside(path, ours)] == []
        assert watch.runs == []
        assert world.listing() <= {"base", "diff", "out", "out.partial", "finding"}
    finally:
        shutil.rmtree(world.out, ignore_errors=True)
        shutil.rmtree(f"{world.out}.partial", ignore_errors=True)


def planned(world: World, options: Options, *, making: bool) -> Plan | None:
    try:
        plan = (make_diff_plan if making else make_plan)(world.base, world.diff, options)
        assert plan.summary()
        json.dumps(plan.to_json(), allow_nan=False)
    except Refusal as refusal:
        world.counts["refused"] += 1
        noted(world, refusal)
        return None
    world.counts["planned"] += 1
    for checkpoint in (plan.base, plan.first):
        check_places(checkpoint)
    return plan


def check_places(checkpoint: Checkpoint) -> None:
    """Check that every tensor lies inside its file, and that no two share a byte in safetensors."""
    refs = sorted(checkpoint.tensors.values(), key=lambda ref: (ref.path, ref.offset, ref.nbytes))
    for ref in refs:
        assert 0 <= ref.offset <= ref.offset + ref.nbytes <= Path(ref.path).stat().st_size
        assert ref.nbytes == ref.elements * ref.item_size
    if checkpoint.format == "safetensors":
        for ref, following in pairwise(refs):
            assert ref.path != following.path or ref.offset + ref.nbytes <= following.offset


def carried_out(world: World, plan: Plan) -> None:
    try:
        execute(plan, world.out, device="cpu", jobs=1, non_finite="report")
    except (Refusal, Failure) as error:
        world.counts["failed"] += 1
        noted(world, error)
        assert not world.out.exists()
        return
    world.counts["made"] += 1
    found = verify_folder(world.out)
    assert found.ok, found.problems
    assert {path.name for path in world.out.iterdir()} == {name for name, _ in plan.files} | {
        "weights.manifest.json"
    }


def noted(world: World, error: RecoveryError) -> None:
    sentence = str(error)
    assert sentence.isprintable(), sentence
    assert 20 < len(sentence) <= 1000, sentence
    assert sentence.endswith("."), sentence
    world.sentences[re.sub(r"'[^']*'|\"[^\"]*\"|[0-9]+|\[[^]]*]", "_", sentence)[:60]] += 1


def limits() -> Any:
    return time_limit(PROCESSOR_SECONDS, signal.ITIMER_PROF)


def fuzz(world: World, count: int, first: int) -> None:
    """Check `count` inputs. Hypothesis draws the seeds and never repeats one."""

    @seed(first)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(st.randoms(use_true_random=True))
    def run(chance: Random) -> None:
        try:
            with time_limit(WALL_SECONDS):
                check(world, chance)
        except Hang as hang:
            raise AssertionError(str(hang)) from hang

    run()


def main(folder: str, count: str, first: str) -> None:
    root = Path(folder)
    set_hypothesis_home_dir(root / "hypothesis")
    world = World(root / "world")
    world.root.mkdir(parents=True)
    warm_up(root / "warm")
    gc.freeze()  # so that collections skip the objects of torch and of this program
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MORE_MEMORY, size + MORE_MEMORY))
    began = time.monotonic()
    fuzz(world, int(count), int(first))
    facts = {
        **world.counts,
        "kinds_of_refusal": len(world.sentences),
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(facts))  # noqa: T201 - the parent reads it


def warm_up(root: Path) -> None:
    """Import torch and start its threads before memory and time are counted."""
    from tests.attacks.kit import write_checkpoint

    root.mkdir()
    pair = write_checkpoint(root / "base"), write_checkpoint(root / "diff")
    execute(make_plan(*pair), root / "out", device="cpu")


if __name__ == "__main__":
    main(*sys.argv[1:])
