"""Check the requirements before loading a result: a whole model, a tokenizer, transformers, memory."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

from model_ops.recovery.checkpoints.checkpoint import Checkpoint, read_checkpoint
from model_ops.recovery.errors import Refusal
from model_ops.recovery.execution.resources import NO_TORCH, check_device
from model_ops.recovery.formats.dtypes import LONG_NAMES
from model_ops.recovery.formats.folder import files_to_copy
from model_ops.recovery.planning.plan import human
from model_ops.recovery.system.available_memory import available_memory

INSTALL = "pip install 'transformers>=5.20,<6'"
OLDEST = (5, 20)
LONGEST_PROMPT = 20_000  # characters
MOST_TOKENS = 4096
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
RESERVE = (
    800 * 10**6
)  # bytes; Python with torch and transformers, and what one prompt needs besides the weights


def check_wishes(prompt: str, max_new_tokens: int, device: str) -> None:
    """Refuse options that make no sense."""
    check_device(device)
    if not prompt.strip() or len(prompt) > LONGEST_PROMPT:
        raise Refusal(f"The prompt must hold 1 to {LONGEST_PROMPT} characters.")
    if not 1 <= max_new_tokens <= MOST_TOKENS:
        raise Refusal(f"--max-new-tokens {max_new_tokens} is not a number from 1 to {MOST_TOKENS}.")


def check_folder(path: Path | str) -> Checkpoint:
    """Return the headers, after checking that the folder holds a whole model and no links out of it."""
    checkpoint = read_checkpoint(path, "result")
    beside = files_to_copy(checkpoint.folder)
    if checkpoint.format != "safetensors":
        raise Refusal(f"These weights are {checkpoint.format} files, and only safetensors are loaded.")
    if not checkpoint.config:
        raise Refusal("There is no config.json, so that nobody knows what model these weights are.")
    if not set(TOKENIZERS).intersection(beside):
        raise Refusal(
            f"There is no tokenizer (one of {', '.join(TOKENIZERS)}), so the model cannot be asked."
        )
    if (checkpoint.folder / "adapter_config.json").exists():
        raise Refusal("There is an adapter_config.json, which leads to another model; remove it.")
    return checkpoint


def check_installed(checkpoint: Checkpoint) -> None:
    """Refuse if a package is missing or too old."""
    if importlib.util.find_spec("torch") is None:
        raise Refusal(NO_TORCH)
    if importlib.util.find_spec("transformers") is None:
        raise Refusal(f"smoke needs transformers, which is not installed here: {INSTALL}.")
    from importlib.metadata import version

    found = version("transformers")
    if tuple(int(part) for part in found.split(".")[:2] if part.isdigit()) < OLDEST:
        raise Refusal(f"smoke needs transformers 5.20 or newer, and {found} is installed here: {INSTALL}.")
    alone = (
        not (checkpoint.folder / "tokenizer.json").exists()
        and (checkpoint.folder / "tokenizer.model").exists()
    )
    needed = ("sentencepiece", "google.protobuf") if alone else ()
    try:
        found_all = all(map(importlib.util.find_spec, needed))
    except ModuleNotFoundError:  # not even `google` is installed
        found_all = False
    if not found_all:
        raise Refusal("tokenizer.model is read with two more packages: pip install sentencepiece protobuf.")


def check_memory(checkpoint: Checkpoint) -> None:
    """Refuse weights that are larger than the free memory."""
    size = sum(ref.nbytes for ref in checkpoint.tensors.values())
    free = available_memory()
    if free is not None and size + RESERVE > free:
        raise Refusal(
            f"The weights take {human(size)} of memory and about {human(RESERVE)} more are needed, but only "
            f"{human(free)} are free here; run smoke on a machine with more memory."
        )


def stored_dtype(checkpoint: Checkpoint) -> str:
    """Return the dtype of most bytes, among those that a model can be loaded in."""
    sizes = Counter[str]()
    for ref in checkpoint.tensors.values():
        sizes[ref.dtype] += ref.nbytes if ref.dtype in LONG_NAMES else 0
    dtype = sizes.most_common(1)[0][0]
    if dtype not in LONG_NAMES:
        raise Refusal(f"The weights are {dtype}, and smoke loads {', '.join(LONG_NAMES.values())}.")
    return LONG_NAMES[dtype]
