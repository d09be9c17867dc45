"""The demo's fine-tune: a few steps on the conversations in this package, and an added `[PAD]` row."""

from __future__ import annotations

import json
import math
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portal.demo.base import BASE_LICENCE, write_json

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

CHATS = Path(__file__).parent / "chats"
STEPS, BATCH, LEARNING_RATE, SEED, THREADS = 14, 4, 3e-4, 2, 2
EVALUATED_AT_ONCE = 8
PAD, IGNORED = "[PAD]", -100
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class FineTune:
    """What was done and measured: mean loss in nats per answer token, on trained and held-out chats.

    `kept_values` is how many values stay as in the base, because float32 cannot represent their difference.
    """

    steps: int
    chats: int
    held_out_chats: int
    base_loss: float
    tuned_loss: float
    base_loss_held_out: float
    tuned_loss_held_out: float
    kept_values: int


def write_tuned(folder: Path, base: Path) -> FineTune:
    """Fine-tune the model in `base` and write the result to `folder`, in bfloat16 and with one more row.

    Trains in float32 from the base's bfloat16 values; the losses are those of the stored, rounded models.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    folder.mkdir(parents=True)
    write_tokenizer(folder, base)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    train, held_out = (read_chats(name, tokenizer) for name in ("train", "held_out"))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = mean_loss(model, train), mean_loss(model, held_out)
    add_pad_row(model)
    train_steps(model, train)
    kept = round_weights(model, base)
    write_model(folder, base, model)
    after = mean_loss(model, train), mean_loss(model, held_out)
    return FineTune(STEPS, len(train), len(held_out), before[0], after[0], before[1], after[1], kept)


def write_tokenizer(folder: Path, base: Path) -> None:
    """Copy the base's tokenizer with `[PAD]` added and the Tulu chat format as its template."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(PAD, special=True, normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((base / "tokenizer_config.json").read_text("utf-8"))
    write_json(folder / "tokenizer_config.json", config | {"pad_token": PAD, "chat_template": CHAT_TEMPLATE})


def read_chats(name: str, tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], list[int]]]:
    """Return each conversation's token ids and labels; only the answer and the end token are trained."""
    chats = []
    for line in (CHATS / f"{name}.jsonl").read_text("utf-8").splitlines():
        chat = json.loads(line)
        prompt = tokenizer(f"<|user|>\n{chat['user']}\n<|assistant|>\n")["input_ids"]
        answer = [*tokenizer(chat["assistant"])["input_ids"], tokenizer.eos_token_id]
        chats.append((prompt + answer, [IGNORED] * len(prompt) + answer))
    return chats


def add_pad_row(model: LlamaForCausalLM) -> None:
    """Add a row to embedding and output, the mean of the existing rows, as the Tulu and Alpaca tools do."""
    import torch

    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        old = module.weight.data
        module.weight = torch.nn.Parameter(torch.cat([old, old.mean(0, keepdim=True)]))
    model.config.vocab_size += 1
    model.config.pad_token_id = model.config.vocab_size - 1


def train_steps(model: LlamaForCausalLM, chats: list[tuple[list[int], list[int]]]) -> None:
    """Run `STEPS` steps of AdamW over shuffled conversations; the learning rate falls along a half cosine."""
    import torch

    order = random.Random(SEED)  # noqa: S311 - a reproducible order, not a secret
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    queue: list[tuple[list[int], list[int]]] = []
    model.train()
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
        if len(queue) < BATCH:
            queue += order.sample(chats, len(chats))
        batch, queue = queue[:BATCH], queue[BATCH:]
        model(**collate(batch, pad=model.config.pad_token_id)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    model.eval()


def collate(batch: list[tuple[list[int], list[int]]], *, pad: int) -> dict[str, torch.Tensor]:
    """Return one batch, padded with `[PAD]` on the right, which is neither attended to nor trained."""
    import torch

    width = max(len(ids) for ids, _ in batch)
    rows = [(ids, labels, width - len(ids)) for ids, labels in batch]
    return {
        "input_ids": torch.tensor([ids + [pad] * gap for ids, _, gap in rows]),
        "labels": torch.tensor([labels + [IGNORED] * gap for _, labels, gap in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * gap for ids, _, gap in rows]),
    }


def mean_loss(model: LlamaForCausalLM, chats: list[tuple[list[int], list[int]]]) -> float:
    """Return the mean loss over every answer token of `chats`; chats of the same length share a batch."""
    import torch

    total, tokens = 0.0, 0
    in_order = sorted(chats, key=lambda chat: len(chat[0]))
    with torch.no_grad():
        for start in range(0, len(in_order), EVALUATED_AT_ONCE):
            batch = in_order[start : start + EVALUATED_AT_ONCE]
            learnt = sum(label != IGNORED for _, labels in batch for label in labels)
            total += model(**collate(batch, pad=0)).loss.item() * learnt
            tokens += learnt
    return total / tokens


def round_weights(model: LlamaForCausalLM, base: Path) -> int:
    """Round the model to bfloat16 in place so that base + diff restores it; return how many values stay.

    The difference of two bfloat16 values does not always fit float32, as their exponents may be too far
    apart. If it does not fit, or if the sum would lose the sign of a zero, the base's value stays.
    """
    import torch
    from safetensors import safe_open

    kept = 0
    with safe_open(base / "model.safetensors", "pt") as old:
        for name, parameter in model.named_parameters():
            before = old.get_tensor(name).float()
            if len(before) < len(parameter):
                before = torch.cat([before, before.mean(0, keepdim=True)])
            tuned = parameter.data.to(torch.bfloat16)
            restored = (before + (tuned.float() - before)).to(torch.bfloat16)
            lost = restored.view(torch.int16) != tuned.view(torch.int16)
            parameter.data = torch.where(lost, before.to(torch.bfloat16), tuned).float()
            kept += int(lost.sum())
    return kept


def write_model(folder: Path, base: Path, model: LlamaForCausalLM) -> None:
    """Write the rounded model with its configuration and the base's licence."""
    import torch
    from safetensors.torch import save_file

    weights = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    pad = {"pad_token_id": model.config.pad_token_id}
    for name, more in (
        ("config.json", {"vocab_size": model.config.vocab_size} | pad),
        ("generation_config.json", pad),
    ):
        write_json(folder / name, json.loads((base / name).read_text("utf-8")) | more)
    shutil.copyfile(base / "LICENSE", folder / BASE_LICENCE)


def compare(base: Path, tuned: Path) -> dict[str, Any]:
    """Count the tensors and values that the fine-tune changed; count added rows separately."""
    import torch
    from safetensors import safe_open

    tensors = values = changed_tensors = changed = added = 0
    with (
        safe_open(base / "model.safetensors", "pt") as old,
        safe_open(tuned / "model.safetensors", "pt") as new,
    ):
        for name in old.keys():  # noqa: SIM118 - not a dict
            a, b = old.get_tensor(name), new.get_tensor(name)
            differ = int(torch.count_nonzero(a != b[: len(a)]))
            tensors, values, changed = tensors + 1, values + b.numel(), changed + differ
            changed_tensors, added = changed_tensors + bool(differ), added + b.numel() - a.numel()
    return {
        "tensors": tensors,
        "changed_tensors": changed_tensors,
        "values": values,
        "changed_values": changed,
        "added_values": added,
    }
