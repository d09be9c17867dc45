"""The whole benchmark runs as a command on a tiny set. No test depends on times."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="recovering weights needs torch")

from tests.bench.recovery.processes import CHECKOUT

RUN = """
import sys, tests.bench.__main__
status = tests.bench.__main__.main(sys.argv[1:])
if status == 0:
    print(sorted({"django", "celery", "portal", "transformers"} & set(sys.modules)))
sys.exit(status)
"""


def bench(*arguments, **environment):
    """Run the command; its last line of output names the portal packages that it imported."""
    return subprocess.run(
        [sys.executable, "-P", "-c", RUN, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **environment},
        cwd="/", capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return one run: its folder, its output, its figures."""
    folder = tmp_path_factory.mktemp("bench")
    done = bench(
        "recovery", "--size", "tiny", "--rounds", 1, "--folder", folder, "--json", folder / "figures"
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, json.loads((folder / "figures").read_text())


def test_figures_hold_a_cold_and_a_warm_round_with_all_copies(measured):
    _, _, figures = measured
    assert [each["cache"] for each in figures["rounds"]] == ["cold", "warm"]
    for each in figures["rounds"]:
        copies = {way: seconds for way, seconds in each["copies"].items() if seconds is not None}
        assert {"cp"} <= set(copies) <= {"cp", "dd oflag=direct", "dd iflag=direct oflag=direct"}
        assert each["fastest_copy"] == min(copies.values())
        assert each["ratio"]["cpu"] == each["engine"]["cpu"]["seconds"] / each["fastest_copy"]
    assert figures["medians"]["cold"]["cpu"]["ratio"] == figures["rounds"][0]["ratio"]["cpu"]


def test_figures_hold_bytes_and_hashes(measured):
    _, _, figures = measured
    run = figures["rounds"][0]["engine"]["cpu"]
    assert figures["sha256"] == {"model.safetensors": run["shards"][0]["sha256"]}
    assert run["bytes_read"] >= figures["planned"]["bytes_to_read"]
    assert run["process"]["chars_read"] >= run["bytes_read"]
    assert run["peak_rss_bytes"] >= run["process"]["peak_rss"]


def test_added_row_reads_the_embedding_at_most_twice(tmp_path):
    figures = tmp_path / "figures"
    done = bench(
        "recovery", "--size", "tiny", "--rounds", 1, "--added-row", "--folder", tmp_path, "--json", figures
    )
    assert done.returncode == 0, done.stderr
    assert "| new row | cache " in done.stdout
    found = json.loads(figures.read_text())["added_row"]
    assert found["embedding_bytes"] == 320 * 64 * 2
    assert {(run["policy"], run["cache"]) for run in found["runs"]} == {
        (policy, cache) for policy in ("mean", "zero") for cache in ("cold", "warm")
    }
    for run in found["runs"]:
        again = found["embedding_bytes"] if run["policy"] == "mean" else 0
        assert run["bytes_read"] == found["bytes_to_read"] + again
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_tables_and_verdicts_are_printed(measured):
    _, output, _ = measured
    assert "| cache | round " in output
    assert "2 runs gave the same 1 files; the manifest names their hashes." in output


def test_nothing_but_the_set_is_left(measured):
    folder, _, _ = measured
    assert sorted(path.name for path in folder.iterdir()) == ["figures", "tiny"]
    assert sorted(path.name for path in (folder / "tiny").iterdir()) == ["base", "diff", "set.json"]


def test_bare_machine_is_enough(measured):
    """Neither Django nor Celery nor anything else of the portal is imported."""
    _, output, _ = measured
    assert output.splitlines()[-1] == "[]"


def test_small_tensors_are_measured_against_a_plain_loop_that_writes_the_same_file(tmp_path):
    done = bench(
        "recovery", "--size", "few-small-tensors", "--rounds", 2, "--folder", tmp_path,
        "--json", tmp_path / "figures",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "times the processor time of a plain loop" in done.stdout
    rounds = json.loads((tmp_path / "figures").read_text())["rounds"]
    assert len(rounds) == 2
    assert all(each["ratio"] == each["engine"] / each["loop"] for each in rounds)
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


@pytest.mark.slow
def test_peer_makes_the_same_file_and_larger_sets_go_again(tmp_path):
    pytest.importorskip("transformers", reason="the peer loads models with transformers")
    done = bench(
        "recovery", "--size", "tiny", "--rounds", 1, "--peer", "--memory-sets", "--json", tmp_path / "figures",
        GATEHOUSE_STATE=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures").read_text())
    assert figures["peer"]["same_files"] == ["model.safetensors"]
    assert set(figures["bytes_per_second"]) == {"1", "2"}
    assert [peak["name"] for peak in figures["memory"]] == ["tiny", "tiny-2x", "tiny-vocab"]
    assert all(0 < peak["seen"] < peak["planned"] for peak in figures["memory"])
    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("everything",),
            "bench does not know 'everything'; say bench, bench recovery, bench delivery, bench attacks, bench decisions,"
            " bench slow-input, bench scale.\n",
        ),
        (("recovery", "--rounds", 0), "--rounds needs a number of 1 or more.\n"),
        (("recovery", "--size", "2b", "--memory-sets"), "--memory-sets goes with --size tiny or 1b.\n"),
        (("recovery", "--size", "small", "--added-row"), "--added-row goes with --size tiny or 1b.\n"),
        (
            ("recovery", "--size", "small-tensors", "--peer"),
            "--size small-tensors compares the engine on the CPU with a plain loop alone.\n",
        ),
        (("recovery", "--json", "/nowhere/at/all"), "The folder of --json /nowhere/at/all is not there.\n"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, sentence):
    done = bench(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
