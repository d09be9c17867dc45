"""The tiny checkpoints load, and their diff recovers them exactly."""

import subprocess
import sys
from pathlib import Path

import pytest

from access_requests.cards.reader import read_card
from tests.tiny_models import CHECKOUT, make_tiny_base, make_tiny_pair, make_tiny_tuned, write_tiny_card

pytest.importorskip("torch", reason="tiny checkpoints are made with torch")


@pytest.mark.parametrize(("dtype", "added_rows"), [("bfloat16", 1), ("float16", 0), ("float32", 2)])
def test_tiny_pair_comes_back_whole(tmp_path: Path, dtype: str, added_rows: int) -> None:
    folder = make_tiny_pair(tmp_path, added_rows=added_rows, dtype=dtype)
    options = {"--path_raw": "base", "--path_diff": "diff", "--path_tuned": "recovered"}
    words = [word for option, name in options.items() for word in (option, str(folder / name))]
    command = [sys.executable, "-m", "model_ops.recovery", "recover", *words, "--dtype", dtype]
    subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (folder / "recovered" / name).read_bytes() == (folder / "tuned" / name).read_bytes()


def test_tiny_models_are_alike_for_one_seed(tmp_path: Path) -> None:
    one, two, other = (
        make_tiny_base(tmp_path / name, seed=seed) / "model.safetensors"
        for name, seed in (("a", 0), ("b", 0), ("c", 7))
    )
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != other.read_bytes()


@pytest.mark.parametrize("tied", [False, True])
def test_tiny_models_load_and_generate(tmp_path: Path, tied: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="loads the model")
    base = make_tiny_base(tmp_path / "base", tied=tied)
    tuned = make_tiny_tuned(tmp_path / "tuned", base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tuned)
    model, loaded = transformers.AutoModelForCausalLM.from_pretrained(tuned, output_loading_info=True)
    assert not any(loaded.values())
    assert (model.config.vocab_size, tokenizer.pad_token_id) == (32_001, 32_000)
    made = model.generate(**tokenizer("Hello", return_tensors="pt"), max_new_tokens=2, do_sample=False)
    assert made.shape == (1, 7)


def test_tiny_card_gated_has_seven_fields(tmp_path: Path) -> None:
    card = read_card(write_tiny_card(tmp_path, title="Tiny").read_text("utf-8"))
    assert (len(card.form.fields), card.warnings) == (7, [])
    assert (tmp_path / "tiny_license.txt").exists()


def test_tiny_card_open_has_no_form_and_no_licence(tmp_path: Path) -> None:
    card = read_card(write_tiny_card(tmp_path, gated=False, licence=None).read_text("utf-8"))
    assert card.form.fields == ()
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
