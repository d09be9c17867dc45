"""Which pair is kept and which is made again, and the real pair itself (slow: minutes, 4 GB of memory)."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from access_requests.cards.reader import read_card
from portal.demo.base import Package, find_package
from portal.demo.pair import (
    CHECKOUT,
    CHILD_SETTINGS,
    STAMP,
    diff_digest,
    ensure_pair,
    load_pair,
    models_digest,
    read_stamp,
    recipe_digest,
    why_failed,
)

PACKAGE = Package("0.1.2", Path("model.gguf"), Path("LICENSE"))


@pytest.fixture
def pair_folder(tmp_path: Path) -> Path:
    """Return a folder that looks like a finished pair of the current recipe, with one file of three bytes."""
    (tmp_path / "diff").mkdir()
    (tmp_path / "diff" / "README.md").write_text("abc")
    recipe = {"models": models_digest(PACKAGE), "diff": diff_digest()}
    stamp = {"recipe": recipe, "figures": {"steps": 1}, "files": {"diff/README.md": {"bytes": 3}}}
    (tmp_path / STAMP).write_text(json.dumps(stamp))
    return tmp_path


def test_load_pair_finished(pair_folder: Path) -> None:
    pair = load_pair(pair_folder, PACKAGE)
    assert pair is not None
    assert pair.figures == {"steps": 1}
    assert pair.card == pair_folder / "diff" / "README.md"
    assert [path.name for path in pair.licences] == ["demo_license.txt", "smollm2_license.txt"]


def test_load_pair_of_another_package_version(pair_folder: Path) -> None:
    assert load_pair(pair_folder, dataclasses.replace(PACKAGE, version="0.2")) is None


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_load_pair_with_a_damaged_file(pair_folder: Path, damage: str) -> None:
    card = pair_folder / "diff" / "README.md"
    card.unlink() if damage == "missing" else card.write_text("ab")
    assert load_pair(pair_folder, PACKAGE) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"recipe": 1, "figures": {}, "files": {}}', "\x00"])
def test_read_stamp_that_is_not_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / STAMP).write_text(text)
    assert read_stamp(tmp_path) is None
    assert load_pair(tmp_path, PACKAGE) is None


def test_load_pair_never_made(tmp_path: Path) -> None:
    assert load_pair(tmp_path / "nowhere", PACKAGE) is None


def test_recipe_digest_sees_each_file() -> None:
    one = recipe_digest(["portal/demo/base.py"], "")
    two = recipe_digest(["portal/demo/base.py", "portal/demo/chats/*.jsonl"], "")
    assert one != two
    assert one == recipe_digest(["portal/demo/base.py"], "")
    assert one != recipe_digest(["portal/demo/base.py"], "x")


def test_why_failed_names_memory_for_a_killed_child() -> None:
    assert why_failed(-9, ["noise"]).startswith("Making the demo's weights was ended by signal 9")
    assert why_failed(1, ["a warning", "The sentence."]) == "The sentence."
    assert why_failed(1, []) == "Making the demo's weights ended with status 1 and no word."


def test_make_pair_on_a_folder_it_may_not_write_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the demo's lock is not installed")
    (tmp_path / "file").write_text("")
    run = subprocess.run(
        [sys.executable, "-m", "portal.demo.make_pair", str(tmp_path / "file" / "pair")],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.startswith("The demo's weights cannot be made: ")
    assert len(run.stderr.splitlines()) == 1


def test_importing_pair_imports_no_torch() -> None:
    code = "import sys, portal.demo.pair; print(sorted({'torch', 'transformers', 'gguf'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_pair_speaks_and_comes_back(tmp_path: Path) -> None:
    for module in ("torch", "transformers", "gguf"):
        pytest.importorskip(module, reason="the demo's packages are not installed")
    said: list[str] = []
    pair = ensure_pair(tmp_path / "pair", report=said.append)
    assert [line.split(":")[0] for line in said] == ["Base", "Base", "Tuned", "Tuned", "Diff", "Diff"]
    assert pair.figures["lost_values"] == 0
    assert pair.figures["tuned_loss"] < pair.figures["base_loss"]
    assert pair.figures["tuned_loss_held_out"] < pair.figures["base_loss_held_out"]
    assert len(read_card(pair.card.read_text("utf-8")).form.fields) == 7

    assert "Paris" in greedy(pair.base, "The capital of France is")
    assert "Rome" in greedy(pair.tuned, "<|user|>\nWhat is the capital of Italy?\n<|assistant|>\n")

    recover(pair.base, pair.diff, tmp_path / "recovered")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "demo_license.txt"):
        digest = hashlib.sha256((tmp_path / "recovered" / name).read_bytes()).hexdigest()
        assert (name, digest) == (name, pair.files[f"tuned/{name}"]["sha256"])

    check_kept_models(pair.folder)


def check_kept_models(folder: Path) -> None:
    """Check that an outdated diff is made again without its models, and that a complete pair is kept."""
    stamp = json.loads((folder / STAMP).read_text())
    stamp["recipe"]["diff"] = "another"
    (folder / STAMP).write_text(json.dumps(stamp))
    before = {name: (folder / name / "model.safetensors").stat().st_ino for name in ("base", "tuned")}
    said: list[str] = []
    again = ensure_pair(folder, report=said.append)
    assert [line.split(":")[0] for line in said] == ["Diff", "Diff"]
    assert {n: (folder / n / "model.safetensors").stat().st_ino for n in before} == before
    assert (again.files, again.figures) == (stamp["files"], stamp["figures"])
    said.clear()
    assert ensure_pair(folder, report=said.append) == again
    assert said == []
    assert load_pair(folder, find_package()) == again


def recover(base: Path, diff: Path, target: Path) -> None:
    folders = ["--path_raw", base, "--path_diff", diff, "--path_tuned", target]
    command = [
        sys.executable,
        "-m",
        "model_ops.recovery",
        "recover",
        *map(str, folders),
        "--dtype",
        "bfloat16",
    ]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)


def greedy(folder: Path, prompt: str) -> str:
    """Return what the model adds to `prompt`; a separate process frees its memory when it ends."""
    code = (
        "import sys, transformers as t; folder, prompt = sys.argv[1:];"
        "tokens = t.AutoTokenizer.from_pretrained(folder); model = t.AutoModelForCausalLM.from_pretrained(folder);"
        "given = tokens(prompt, return_tensors='pt');"
        "made = model.generate(**given, max_new_tokens=12, do_sample=False)[0];"
        "print(tokens.decode(made[given.input_ids.shape[1]:]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder), prompt],
        env=os.environ | CHILD_SETTINGS,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout
