"""Files planted where the result is made: in `out.partial`, at `out`, or as the manifest of a diff."""

import json
import os
import socket

import pytest

from model_ops.recovery.planning.planner import make_plan
from tests.attacks.kit import floats, naive, tree

VICTIM = b"not ours"
SHARD = "model.safetensors"


@pytest.fixture
def planted(world):
    """Unfinished work that the next run takes for its own, and a file elsewhere that must not change."""
    world.partial = world.root / "out.partial"
    (world.partial / "result").mkdir(parents=True)
    identity = make_plan(world.base, world.diff).strict_identity
    (world.partial / "recovery.json").write_text(json.dumps({"identity": identity}))
    world.victim = world.root / "victim"
    world.victim.write_bytes(VICTIM)
    world.sound = {"config.json", "tokenizer_config.json", SHARD, "weights.manifest.json"}
    return world


def test_plain_writer_writes_through_a_link(planted):
    (planted.partial / "result" / SHARD).symlink_to(planted.victim)
    naive(f"open('out.partial/result/{SHARD}', 'wb').write(b'weights')", planted.root)
    assert planted.victim.read_bytes() == b"weights"


PLACES = [
    f"result/{SHARD}", "result/config.json", "result/tokenizer_config.json", "result/weights.manifest.json",
    f"{SHARD}.done.json", f".{SHARD}.done.json.new", "checked.json", ".checked.json.new", ".recovery.json.new",
]  # fmt: skip


@pytest.mark.parametrize("how", ["symbolic", "hard", "dangling"])
@pytest.mark.parametrize("place", PLACES)
def test_link_in_unfinished_work_is_not_written_through(planted, place, how):
    path = planted.partial / place
    if how == "hard":
        os.link(planted.victim, path)
    else:
        path.symlink_to(planted.victim if how == "symbolic" else planted.root / "PWNED")
    assert set(planted.made()) == planted.sound
    assert planted.victim.read_bytes() == VICTIM


@pytest.mark.parametrize("place", ["lock", "whole.lock", f"{SHARD}.lock"])
def test_lock_that_is_a_link_is_not_followed(planted, place):
    (planted.partial / place).symlink_to(planted.root / "PWNED")
    before = tree(planted.root)
    outcome = planted.run()
    assert outcome.status in {1, 2}
    assert outcome.sentence
    assert {name for name in tree(planted.root) if not name.startswith("out.partial")} == {
        name for name in before if not name.startswith("out.partial")
    }


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
@pytest.mark.parametrize("place", [*PLACES, "result", "lock", "whole.lock", f"{SHARD}.lock"])
def test_no_file_in_unfinished_work_keeps_nobody_waiting(planted, monkeypatch, place, kind):
    path = planted.partial / place
    if place == "result":
        path.rmdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    else:
        path.mkdir()
    outcome = planted.run()
    if outcome.status == 0:
        assert {name.name for name in planted.out.iterdir()} == planted.sound
    else:
        assert outcome.sentence
        assert not planted.out.exists()


def test_folder_of_the_result_that_is_a_link_is_replaced(planted):
    elsewhere = planted.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / SHARD).write_bytes(VICTIM)
    (planted.partial / "result").rmdir()
    (planted.partial / "result").symlink_to(elsewhere)
    assert set(planted.made()) == planted.sound
    assert (elsewhere / SHARD).read_bytes() == VICTIM


def test_unfinished_work_that_is_a_link_is_refused(planted):
    planted.partial.rename(planted.root / "elsewhere")
    planted.partial.symlink_to("elsewhere")
    assert "out.partial is a link" in planted.refused()


def test_links_in_anothers_unfinished_work_are_removed_and_not_what_they_lead_to(planted):
    (planted.partial / "recovery.json").write_text('{"identity": "another"}')
    (planted.root / "elsewhere").mkdir()
    (planted.root / "elsewhere/kept").write_bytes(VICTIM)
    (planted.partial / "folder").symlink_to(planted.root / "elsewhere")
    (planted.partial / "file").symlink_to(planted.victim)
    (planted.partial / "result").rmdir()
    (planted.partial / "result").symlink_to(planted.root / "elsewhere")
    assert set(planted.made()) == planted.sound
    assert (planted.root / "elsewhere/kept").read_bytes() == VICTIM
    assert planted.victim.read_bytes() == VICTIM


def test_file_planted_among_the_results_is_not_published(planted):
    """Otherwise a stranger's code would be delivered together with our manifest."""
    (planted.partial / "result/modeling_evil.py").write_text("evil")
    (planted.partial / "result/model.safetensors.index.json").write_text('{"weight_map": {}}')
    (planted.partial / "result/folder").mkdir()
    assert set(planted.made()) == planted.sound


RECORDS = {
    "no JSON": b"\xff{",
    "a list": b"[]",
    "a number": b"7",
    "deep": b"[" * 100_000,
    "NaN": b"NaN",
    "empty": b"{}",
    "a size that is a list": b'{"size": [1], "sha256": "0"}',
    "no tensors": None,
    "tensors that are a list": {"tensors": ["lm_head.weight"]},
    "tensors of texts": {"tensors": {"lm_head.weight": "fine"}},
    "counts of texts": {"tensors": {"lm_head.weight": {"non_finite": "0", "not_restored": 0}}},
    "counts below nothing": {"tensors": {"lm_head.weight": {"non_finite": -1, "not_restored": 0}}},
    "tensors of others": {"tensors": {"evil\x1b[2J": {"non_finite": 0, "not_restored": 0}}},
    "another path": {"path": "../victim", "tensors": {}},
    "no git id": {"git_sha1": None, "tensors": {}},
    "base tensors of texts": {"tensors": {}, "base_tensors": {"a": "b"}},
    "base tensors in a list": {"tensors": {}, "base_tensors": [1]},
}


@pytest.mark.parametrize("case", RECORDS)
def test_record_of_a_finished_shard_that_is_none_is_not_believed(planted, case):
    """The file matches the record, but the record makes no sense."""
    import hashlib

    fact = RECORDS[case]
    weights = planted.partial / "result" / SHARD
    size = make_plan(planted.base, planted.diff).shards[0].size
    weights.write_bytes(bytes(size))
    digest = hashlib.sha256(bytes(size)).hexdigest()
    sound = {"path": SHARD, "size": size, "sha256": digest, "git_sha1": "0" * 40, "base_tensors": {}}
    raw = fact if isinstance(fact, bytes) else json.dumps({**sound, **(fact or {})}).encode()
    (planted.partial / f"{SHARD}.done.json").write_bytes(raw)
    made = planted.made()
    assert made[SHARD][-4:] == floats(1, 1.5)


def test_record_of_other_bytes_is_not_believed(planted):
    (planted.partial / "result" / SHARD).write_bytes(VICTIM)
    (planted.partial / f"{SHARD}.done.json").write_text(json.dumps({"size": len(VICTIM), "sha256": "0" * 64}))
    assert planted.made()[SHARD][-4:] == floats(1, 1.5)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"\xff", b'{"identity": ["a"]}', b"[" * 100_000, b'{"identity": NaN}']
)
def test_state_that_is_none_means_another_plan(planted, raw):
    (planted.partial / "recovery.json").write_bytes(raw)
    assert set(planted.made()) == planted.sound


TARGETS = {
    "a file": lambda world: world.out.write_bytes(VICTIM),
    "a pipe": lambda world: os.mkfifo(world.out),
    "a link to a folder": lambda world: (
        (world.root / "elsewhere").mkdir() or world.out.symlink_to("elsewhere")
    ),
    "a link to nothing": lambda world: world.out.symlink_to("gone"),
    "a link to itself": lambda world: world.out.symlink_to("out"),
    "a link to the base": lambda world: world.out.symlink_to("base"),
}


@pytest.mark.parametrize("case", TARGETS)
def test_target_that_is_something_else_is_refused(world, case):
    TARGETS[case](world)
    world.refused()


@pytest.mark.parametrize("place", ["base", "diff"])
def test_target_that_is_an_input_is_refused(world, place):
    world.out = world.root / place
    assert "already exists and contains something else" in world.refused()


ENTRIES = {
    "no tables": ["config.json"],
    "no name": [{"size": 1}],
    "a name that climbs out": [{"path": "../secret.safetensors", "size": 1, "sha256": "0" * 64}],
    "a name of a list": [{"path": ["a"], "size": 1, "sha256": "0" * 64}],
    "no hash": [{"path": "config.json", "size": 1}],
    "a number too large": [{"path": "config.json", "size": 1e999, "sha256": "0" * 64}],
}


@pytest.mark.parametrize("facts", [{}, {"non_finite": "many"}, {"non_finite": 1e999}, {"round_trip": [1]}])
@pytest.mark.parametrize("case", ENTRIES)
def test_target_with_a_manifest_that_lies_is_refused(world, case, facts):
    world.out.mkdir()
    manifest = {
        "engine": "gatehouse-recovery",
        "identity": make_plan(world.base, world.diff).identity,
        "files": ENTRIES[case],
        "non_finite": 0,
        **facts,
    }
    (world.out / "weights.manifest.json").write_text(json.dumps(manifest))
    assert "already exists and contains something else" in world.refused()
    assert "already exists and contains something else" in world.refused("--non-finite", "report")


@pytest.mark.parametrize("facts", [{"non_finite": "many"}, {"round_trip": [1]}])
def test_complete_result_with_a_manifest_that_lies_about_its_numbers_is_refused(world, facts):
    world.made()
    path = world.out / "weights.manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **facts}))
    assert "already exists and contains something else" in world.refused("--non-finite", "report")
