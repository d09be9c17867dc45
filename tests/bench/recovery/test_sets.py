"""The sets: what they contain, that they are reproducible, and when they are refused."""

import json
import shutil

import pytest

pytest.importorskip("torch", reason="recovering weights needs torch")

from safetensors import safe_open

from tests.bench.errors import BenchError
from tests.bench.recovery.engine import sha256_of
from tests.bench.recovery.sets import MARKER, SETS, ensure_set


def shapes(paths):
    found = {}
    for path in paths:
        with safe_open(path, "pt") as file:
            found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return found


def test_set_holds_a_base_in_shards_and_a_diff_with_one_more_row(tmp_path):
    made = ensure_set(tmp_path, "tiny")
    shape = SETS["tiny"]
    assert shapes(made.base_files) == dict(shape.tensors(rows=320))
    assert shapes(made.diff_files) == dict(shape.tensors(rows=321))
    index = json.loads((made.base / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == [path.name for path in made.base_files]
    assert len(made.base_files) == 3
    headers = 16 * 1024
    assert 0 < sum(path.stat().st_size for path in made.base_files) - shape.base_bytes < headers
    assert 0 < made.diff_files[0].stat().st_size - shape.diff_bytes < headers


def test_set_made_again_has_the_same_bytes(tmp_path):
    first, second = (ensure_set(tmp_path / name, "tiny") for name in "ab")
    assert [*map(sha256_of, first.inputs)] == [*map(sha256_of, second.inputs)]


def test_set_that_is_there_is_used_as_it_is(tmp_path):
    made = ensure_set(tmp_path, "tiny")
    before = [path.stat().st_mtime_ns for path in made.inputs]
    assert [path.stat().st_mtime_ns for path in ensure_set(tmp_path, "tiny").inputs] == before


def test_set_cut_short_is_made_anew(tmp_path):
    made = ensure_set(tmp_path, "tiny")
    wanted = [*map(sha256_of, made.inputs)]
    made.diff_files[0].unlink()
    made.folder.rename(tmp_path / "tiny.making")
    assert [*map(sha256_of, ensure_set(tmp_path, "tiny").inputs)] == wanted
    assert not (tmp_path / "tiny.making").exists()


def test_folder_of_somebody_else_is_refused(tmp_path):
    made = ensure_set(tmp_path, "tiny")
    (made.folder / MARKER).unlink()
    with pytest.raises(BenchError, match="is not a set that this benchmark made"):
        ensure_set(tmp_path, "tiny")
    assert made.inputs


def test_set_that_does_not_fit_is_refused_before_it_is_made(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(BenchError, match=r"has 0\.0 GB free, and the benchmark needs 0\.0 GB there"):
        ensure_set(tmp_path, "tiny")
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(("larger", "values", "rows"), [("2b", 2, 1), ("1b-vocab", 1, 4)])
def test_memory_sets_are_as_much_larger_as_is_said(larger, values, rows):
    small, large = SETS["1b"], SETS[larger]
    assert large.values() >= values * small.values()
    assert large.vocab == rows * small.vocab
    assert round(small.values() / 1e9, 3) == 1.143
