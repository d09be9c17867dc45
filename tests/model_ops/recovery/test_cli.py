"""The command line: options, exit statuses, one sentence on standard error, and the last line of output."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from model_ops.recovery.execution.run import execute
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_plan
from model_ops.recovery.verify import verify_folder
from tests.model_ops.recovery import models, plain


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return plain.write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Return a pair with fifty shards of about 1 MB."""
    return plain.write_pair(tmp_path_factory.mktemp("large"), vocab=2000, hidden=512, layers=16)


def command(name, pair, out, *options):
    return [sys.executable, "-m", "model_ops.recovery", name, "--path_raw", str(pair[0]), "--path_diff",
            str(pair[1]), "--path_tuned", str(out), *options]  # fmt: skip


def sentence(done):
    """Return standard error, after checking that it is one sentence without a traceback."""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def run(name, pair, out, *options):
    return models.run_cli(*command(name, pair, out, *options)[3:])


def recover(pair, out, **options):
    return execute(make_plan(*pair, Options(**options)), out)


def test_tulu_cards_own_command_works(pair, tmp_path):
    done = run("recover", pair, tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out/model.safetensors").exists()


def test_json_is_the_last_line_and_describes_the_run(pair, tmp_path):
    done = run("recover", pair, tmp_path / "out", "--json", "--progress-json", "--max-shard-size", "500KB")
    *progress, last = [json.loads(line) for line in done.stdout.splitlines()]
    files = sorted((tmp_path / "out").glob("model-*.safetensors"))
    total = sum(path.stat().st_size for path in files)
    assert {key: last[key] for key in ("bytes_written", "device")} == {
        "bytes_written": total,
        "device": "cpu",
    }
    assert [(shard["file"], shard["bytes"]) for shard in last["shards"]] == [
        (path.name, path.stat().st_size) for path in files
    ]
    assert {len(shard["sha256"]) for shard in last["shards"]} == {64}
    assert min(last["seconds"], last["bytes_read"], last["peak_rss_bytes"]) > 0
    assert progress[-1] == {"bytes_done": total, "bytes_total": total, "shard": progress[-1]["shard"]}
    assert {frozenset(line) for line in progress} == {frozenset(("bytes_done", "bytes_total", "shard"))}


def test_same_command_again_does_nothing(pair, tmp_path):
    recover(pair, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    done = run("recover", pair, tmp_path / "out", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["already_there"]
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_one_folder_as_base_and_as_diff_is_refused(pair, tmp_path):
    folder = pair[0]
    done = run("recover", (folder, folder), tmp_path / "out")
    assert (done.returncode, done.stdout, (tmp_path / "out").exists()) == (2, "", False)
    assert (
        done.stderr
        == f"{folder} was named as the base and as the diff; name the folder that holds the diff.\n"
    )


def test_folder_with_something_else_is_refused(pair, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    done = run("recover", pair, tmp_path / "out")
    assert done.returncode == 2
    assert (
        sentence(done)
        == "out already exists and contains something else; choose another folder or move it away."
    )
    assert plain.files_of(tmp_path / "out") == {"mine.txt": b"mine"}


def test_result_of_other_options_is_refused(pair, tmp_path):
    recover(pair, tmp_path / "out")
    assert run("recover", pair, tmp_path / "out", "--dtype", "bfloat16").returncode == 2


@pytest.mark.parametrize(
    "options",
    [
        ("--dtype", "float8"), ("--compat", "other"), ("--resize-policy", "median"), ("--max-shard-size", "5 apples"),
        ("--max-shard-size", "60GB"), ("--run-id", "XYZ"), ("--unknown",), ("--device", "tpu"), ("--jobs", "0"), ("--jobs", "4097"),
        ("--jobs", "two"), ("--memory", "much"), ("--memory", "1"), ("--sum-tolerance", "1"), ("--expected-sum", "nan"),
        ("--path_raw", "/nowhere"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_sentence_and_exit_status_2(pair, tmp_path, options):
    done = run("recover", pair, tmp_path / "out", *options)
    assert done.returncode == 2
    assert sentence(done).endswith(".")
    assert list(tmp_path.iterdir()) == []


def test_memory_for_less_than_one_shard_is_refused_with_what_it_needs(pair, tmp_path):
    done = run("recover", pair, tmp_path / "out", "--memory", "100MB")
    assert done.returncode == 2
    needs, least = re.fullmatch(
        r"--memory 100\.0 MB is too little: one shard in work needs about (\S+) MB; give at least (\d+)MB\.",
        sentence(done),
    ).groups()
    assert float(needs) <= int(least)
    assert run("recover", pair, tmp_path / "out", "--memory", f"{least}MB").returncode == 0


def test_plan_imports_neither_torch_nor_numpy(pair, tmp_path):
    code = (
        "import sys\nfrom model_ops.recovery.cli import main\n"
        f"status = main({command('plan', pair, tmp_path / 'out')[3:]!r})\n"
        "print(status, sorted({'torch', 'numpy', 'safetensors', 'django', 'celery'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=models.ROOT, check=False
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "grown: lm_head.weight: 1000 -> 1001 rows (mean)" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_plan_as_json_names_what_is_read_and_written(pair, tmp_path):
    plan = json.loads(run("plan", pair, tmp_path / "out", "--json").stdout)
    recover(pair, tmp_path / "out")
    assert {entry["file"]: entry["bytes"] for entry in plan["files"]} == {
        path.name: path.stat().st_size for path in (tmp_path / "out").iterdir() if "manifest" not in path.name
    }
    assert plan["bytes_to_write"] == sum(entry["bytes"] for entry in plan["files"])
    assert len(plan["resized"]) == 2


def test_kill_9_again_and_again_ends_with_the_same_files(large, tmp_path):
    options = ("--max-shard-size", "1MB", "--jobs", "2")
    recover(large, tmp_path / "whole", max_shard_size="1MB")
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    for finished in (1, 5, 12):
        child = subprocess.Popen(command("recover", large, out, *options), cwd=models.ROOT)
        while len(list(partial.glob("*.done.json"))) < finished and child.poll() is None:
            time.sleep(0.001)
        child.kill()
        child.wait()
        assert not out.exists()
    kept = [json.loads(path.read_bytes())["size"] for path in partial.glob("*.done.json")]
    assert len(kept) >= 12
    last = json.loads(run("recover", large, out, *options, "--json").stdout)
    assert last["bytes_written"] == sum(shard["bytes"] for shard in last["shards"]) - sum(kept)
    assert plain.files_of(out) == plain.files_of(tmp_path / "whole")
    assert not partial.exists()


def test_damaged_finished_shard_is_made_again(large, tmp_path):
    options = ("--max-shard-size", "1MB")
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    child = subprocess.Popen(command("recover", large, out, *options), cwd=models.ROOT)
    while not (done := list(partial.glob("*.done.json"))) and child.poll() is None:
        time.sleep(0.001)
    child.kill()
    child.wait()
    shard = partial / "result" / done[0].name.removesuffix(".done.json")
    shard.write_bytes(b"\xff" + shard.read_bytes()[1:])
    recover(large, out, max_shard_size="1MB")
    assert verify_folder(out).ok
    recover(large, tmp_path / "whole", max_shard_size="1MB")
    assert plain.files_of(out) == plain.files_of(tmp_path / "whole")


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_signal_cancels_without_visible_result(large, tmp_path, signal_number):
    arguments = command("recover", large, tmp_path / "out", "--max-shard-size", "1MB", "--jobs", "1")
    child = subprocess.Popen(arguments, cwd=models.ROOT, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out.partial").glob("*.done.json")):
        time.sleep(0.001)
    for _ in range(5):
        child.send_signal(signal_number)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 1
    assert errors == "The run was cancelled; finished shards are kept, and the same command resumes it.\n"
    assert not (tmp_path / "out").exists()


def test_second_process_on_the_same_target_is_refused(pair, tmp_path):
    partial = tmp_path / "out.partial"
    partial.mkdir()
    descriptor = os.open(partial / "whole.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    done = run("recover", pair, tmp_path / "out")
    os.close(descriptor)
    assert done.returncode == 2
    assert sentence(done) == "Another process is writing out.partial; wait for it or end it."


NO_TORCH = {
    "missing": "sys.modules['torch'] = None",
    "broken": "sys.path.insert(0, {folder!r})",
}


@pytest.mark.parametrize("how", NO_TORCH)
def test_without_torch_it_is_refused_and_nothing_is_left(pair, tmp_path, how):
    (tmp_path / "broken/torch").mkdir(parents=True)
    (tmp_path / "broken/torch/__init__.py").write_text("raise ImportError('libtorch.so')")
    code = (
        f"import sys\n{NO_TORCH[how].format(folder=str(tmp_path / 'broken'))}\n"
        "from model_ops.recovery.cli import main\n"
        f"sys.exit(main({command('recover', pair, tmp_path / 'out')[3:]!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=models.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    said = 'PyTorch is not installed here; run pip install "gatehouse-portal[torch]", then try again.'
    assert sentence(done) == said
    assert list(tmp_path.iterdir()) == [tmp_path / "broken"]


def test_partial_folder_of_somebody_else_is_left_alone(pair, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/mine.txt").write_text("mine")
    assert run("recover", pair, tmp_path / "out").returncode == 2
    assert plain.files_of(tmp_path / "out.partial") == {"mine.txt": b"mine"}


def test_run_ends_when_its_parent_is_killed(large, tmp_path):
    arguments = command(
        "recover", large, tmp_path / "out", "--max-shard-size", "1MB", "--exit-with-parent", "--jobs", "1"
    )
    code = f"import subprocess, time; subprocess.Popen({arguments!r}); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=models.ROOT, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out.partial").glob("*.done.json")):
        time.sleep(0.001)
    parent.kill()
    parent.wait()
    with (tmp_path / "out.partial/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits until the orphan has released it
    assert not (tmp_path / "out").exists()


def test_make_diff_says_in_its_last_line_what_would_not_come_back(tmp_path):
    base = plain.write(tmp_path / "base", seed=1)
    tuned = plain.write(tmp_path / "tuned", seed=2, vocab=1001)
    done = models.run_cli(
        "make_diff", "--path_raw", base, "--path_tuned", tuned, "--path_diff", tmp_path / "diff"
    )
    assert done.returncode == 0
    assert "values would not come back from this diff." in done.stdout.splitlines()[-1]
    assert "--method xor" in sentence(done)


def test_verify_finds_changed_missing_and_additional_files(pair, tmp_path):
    recover(pair, tmp_path / "out")
    out = tmp_path / "out"
    (out / "README.md").write_text("# The card that is released beside it")
    assert models.run_cli("verify", out).returncode == 0
    raw = (out / "config.json").read_bytes()
    (out / "config.json").write_bytes(raw.replace(b"llama", b"LLAMA"))
    done = models.run_cli("verify", out, "--json")
    assert (done.returncode, sentence(done)) == (
        1,
        "config.json is not the file that was written: its hash differs.",
    )
    (out / "config.json").unlink()
    (out / "more.txt").write_text("x")
    assert json.loads(models.run_cli("verify", out, "--json").stdout)["problems"] == [
        "'config.json' is missing in out or cannot be read.",
        "more.txt is not in weights.manifest.json.",
    ]
    assert models.run_cli("verify", tmp_path / "nowhere").returncode == 1


def test_installed_command_is_named_in_its_help_and_refusals():
    code = "import sys; sys.argv[0] = '/usr/bin/gatehouse-recover'; from model_ops.recovery.__main__ import start; start()"
    for arguments, status in ((["--help"], 0), (["recover"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=models.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status
        assert "gatehouse-recover" in done.stdout + done.stderr
        assert "python -m" not in done.stdout + done.stderr
