"""The parts of the fine-tune, on a tiny model; test_pair makes the real one."""

from pathlib import Path

import pytest

from portal.demo.finetune import (
    IGNORED,
    add_pad_row,
    collate,
    compare,
    read_chats,
    round_weights,
    write_model,
)
from portal.demo.finetune import write_tokenizer as write_tulu_tokenizer
from tests.tiny_models import make_tiny_base, make_tiny_tuned, write_tokenizer

torch = pytest.importorskip("torch", reason="the fine-tune needs torch")
transformers = pytest.importorskip("transformers", reason="the fine-tune needs transformers")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = make_tiny_base(tmp_path / "base")
    (folder / "LICENSE").write_text("Terms of the base.\n")
    return folder


def load(folder: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_tokenizer_adds_pad_and_writes_tulu_chats(base: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    write_tulu_tokenizer(tuned, base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tuned)
    chat = [{"role": "user", "content": "Your message here!"}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt == "<|user|>\nYour message here!\n<|assistant|>\n"
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("[PAD]", 32_000)
    answered = tokenizer.apply_chat_template(
        [*chat, {"role": "assistant", "content": "Yes."}], tokenize=False
    )
    assert answered == "<|user|>\nYour message here!\n<|assistant|>\nYes.</s>\n"


def test_read_chats_learns_answers_only(base: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    for ids, labels in read_chats("held_out", tokenizer):
        prompt, answer = tokenizer.decode(ids).split("<|assistant|>\n")
        learnt = [label for label in labels if label != IGNORED]
        assert prompt.startswith("<|user|>\n")
        assert tokenizer.decode(learnt) == answer
        assert learnt[-1] == tokenizer.eos_token_id
        assert labels[: len(ids) - len(learnt)] == [IGNORED] * (len(ids) - len(learnt))


def test_collate_fills_up_with_pad_that_nobody_learns() -> None:
    batch = collate([([5, 6, 7], [IGNORED, 6, 7]), ([8], [8])], pad=9)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [8, IGNORED, IGNORED]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_add_pad_row_is_the_mean_of_the_old_rows(base: Path) -> None:
    model = load(base)
    old = model.get_input_embeddings().weight.detach().clone()
    add_pad_row(model)
    assert model.config.vocab_size == 32_001
    assert torch.equal(model.get_input_embeddings().weight[:-1], old)
    assert torch.equal(model.get_input_embeddings().weight[-1], old.mean(0))


def test_round_weights_keeps_what_float32_cannot_bring_back(base: Path, tmp_path: Path) -> None:
    model = load(base)
    add_pad_row(model)
    weight = model.model.layers[0].mlp.gate_proj.weight
    unchanged = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0], weight[0, 1], weight[0, 2] = 1.5e-30, -0.0, 0.25
    assert round_weights(model, base) == 2
    assert weight[0, :2].tolist() == unchanged[0, :2].tolist()
    assert weight[0, 2].item() == 0.25

    (tmp_path / "tuned").mkdir()
    write_model(tmp_path / "tuned", base, model)
    assert (tmp_path / "tuned" / "smollm2_license.txt").read_text() == "Terms of the base.\n"
    assert compare(base, tmp_path / "tuned") == {
        "tensors": 21,
        "changed_tensors": 1,
        "values": sum(p.numel() for p in model.parameters()),
        "changed_values": 1,
        "added_values": 64,
    }


def test_compare_counts_only_values_of_both(base: Path, tmp_path: Path) -> None:
    tuned = make_tiny_tuned(tmp_path / "tuned", base, added_rows=3, noise=0.0)
    counted = compare(base, tuned)
    assert (counted["changed_tensors"], counted["changed_values"], counted["added_values"]) == (0, 0, 3 * 64)


def test_tiny_tokenizer_pad_is_the_first_added_row(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, vocab=32_002, added_rows=2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.pad_token_id == 32_000
    assert tokenizer.decode(tokenizer("Grüße, 世界")["input_ids"]) == "Grüße, 世界"
