"""`python -m tests.bench.recovery.peer BASE DIFF OUT`: recovery as open-instruct's weight_diff.py does it.

A plain re-implementation of that tool's steps with transformers, for comparison: both models are loaded whole
in float32, the base's embeddings grow by the mean of their rows, every tensor of the base is added to the
diff's in place, and the result is saved. Its tokenizer and its test inference are left out; growth depends on
the shapes.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM


def recover(base_folder: str, diff_folder: str, out: str) -> None:
    """Write base plus diff, in float32, to `out`."""
    base, diff = _load(base_folder), _load(diff_folder)
    if diff.config.vocab_size > base.config.vocab_size:
        _grow(base, diff.config.vocab_size)
    raw, state = base.state_dict(), diff.state_dict()
    for name in state:
        state[name].add_(raw[name])
    diff.save_pretrained(out)


def _load(folder: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _grow(model: Any, rows: int) -> None:
    """Add new rows to both embeddings, the mean of the old ones."""
    old = model.config.vocab_size
    model.resize_token_embeddings(rows)
    for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
        embedding.weight.data[old:] = embedding.weight.data[:old].mean(dim=0, keepdim=True)


if __name__ == "__main__":
    recover(*sys.argv[1:])
