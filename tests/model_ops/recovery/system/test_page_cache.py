"""After a run, neither the diff nor the output is in the page cache."""

import shutil
import subprocess

import pytest

from model_ops.recovery.system.page_cache import FOLIO
from tests.model_ops.recovery import plain


def output_of(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    if not shutil.which("fincore"):
        pytest.skip("fincore (util-linux) is not installed")
    if output_of("stat", "-f", "-c", "%T", folder).strip() in {"tmpfs", "ramfs"}:
        pytest.skip("the tests' folder lies in memory itself")
    return folder


@pytest.fixture(scope="module")
def inputs(folder):
    """Return a base, and a diff of 50 MB in both formats; the `.bin` has its tensors in a different order."""
    base, diff = plain.write_pair(folder, vocab=8000, hidden=512, layers=8)
    state = dict(reversed(plain.state_of(diff).items()))
    made = base, {"safetensors": diff, "bin": plain.write_state(folder / "bin", state, kind="bin")}
    output_of("sync", "-f", folder)
    return made


def cached(folder):
    """Return how many bytes of the folder's weights are in the page cache."""
    paths = [path for path in folder.iterdir() if path.suffix in {".safetensors", ".bin"}]
    sizes = output_of("fincore", "--raw", "--noheadings", "--bytes", "--output", "RES", *paths).split()
    assert len(sizes) == len(paths) > 0
    return sum(map(int, sizes))


@pytest.mark.parametrize("shards", ["5GB", "7MB"])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_run_leaves_nothing_of_diff_and_output_in_the_page_cache(inputs, tmp_path, kind, shards):
    base, diffs = inputs
    plain.recover(base, diffs[kind], tmp_path / "out", max_shard_size=shards)
    assert cached(diffs[kind]) + cached(tmp_path / "out") <= FOLIO
