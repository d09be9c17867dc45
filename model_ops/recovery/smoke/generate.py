"""Load a result in transformers from its folder alone, and run one prompt.

Only this module imports transformers.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from model_ops.recovery.checkpoints.checkpoint import Checkpoint
from model_ops.recovery.errors import Failure, RecoveryError
from model_ops.recovery.execution.device_pool import OUT_OF_MEMORY, choose_devices
from model_ops.recovery.smoke.preflight import stored_dtype

TULU = "<|user|>\n{prompt}\n<|assistant|>\n"

# Read when huggingface_hub, transformers and tokenizers are imported.
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep, so that other work can run
}


@dataclass(frozen=True)
class Generated:
    """The new tokens; if the logits were not `finite`, those before that."""

    ids: tuple[int, ...]
    finite: bool


@contextmanager
def quietly() -> Iterator[None]:
    """Run offline and silently; turn errors of transformers, tokenizers or torch into a Failure."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RecoveryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is not an Exception
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0][:400].rstrip(".") if lines else type(error).__name__
        raise Failure(f"transformers could not load the result, or make it answer: {reason}.") from error
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def import_all() -> None:
    """Import everything in advance, so that this time does not count as time for the answer."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    _ = torch.inference_mode, transformers.AutoModelForCausalLM, transformers.AutoTokenizer


def choose_place(device: str) -> str:
    """Return the first device that the engine would use, but keep torch's threads: the engine sets one."""
    import torch

    threads = torch.get_num_threads()
    place = choose_devices(device)[0].name
    torch.set_num_threads(threads)
    return place


def load(checkpoint: Checkpoint) -> tuple[Any, Any, list[str]]:
    """Return tokenizer, model and hints.

    Fail if the files lack a tensor, since it would be filled with random values.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    alone = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, **alone)
    model, loaded = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder,
        use_safetensors=True,
        dtype=getattr(torch, stored_dtype(checkpoint)),
        attn_implementation="eager",
        output_loading_info=True,
        **alone,
    )
    if missing := sorted(loaded["missing_keys"]):
        raise Failure(
            f"The model needs {missing[0]} and {len(missing) - 1} more tensors that the files lack."
        )
    unused = sorted(loaded["unexpected_keys"])
    hints = (
        [f"The model does not use {unused[0]} and {len(unused) - 1} more tensors of the files."]
        if unused
        else []
    )
    return tokenizer, model.eval(), hints


def in_chat_format(tokenizer: Any, prompt: str) -> tuple[str, str]:
    """Return the text in the format that the model was trained on, and where that format comes from."""
    if not tokenizer.chat_template:
        return TULU.format(prompt=prompt), "Tulu's format"
    chat = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return str(text), "the tokenizer's chat template"


def encode(tokenizer: Any, model: Any, text: str, *, special: bool) -> list[int]:
    """Return the token ids; a chat template already contains the special tokens."""
    ids = [int(number) for number in tokenizer(text, add_special_tokens=special)["input_ids"]]
    rows = int(model.get_input_embeddings().weight.shape[0])
    if not ids:
        raise Failure("The tokenizer makes no tokens of the prompt.")
    if max(ids) >= rows:
        raise Failure(f"The tokenizer gives the token {max(ids)}, but the embedding has only {rows} rows.")
    return ids


def generate(model: Any, tokenizer: Any, ids: list[int], most: int, place: str) -> tuple[Generated, str]:
    """Return the new tokens and where they were made. A GPU without enough memory hands over to the CPU."""
    import torch

    if place != "cpu":
        try:
            return _generate_on(model.to(place), tokenizer, ids, most), place
        except RuntimeError as error:
            if not isinstance(error, torch.cuda.OutOfMemoryError) and "out of memory" not in str(error):
                raise
            place = f"{place} then cpu ({OUT_OF_MEMORY})"
    return _generate_on(model.to("cpu"), tokenizer, ids, most), place


def _generate_on(model: Any, tokenizer: Any, ids: list[int], most: int) -> Generated:
    """Generate greedily, whatever generation_config.json says.

    Of that file, only the tokens that end an answer are used.
    """
    import torch
    from transformers import GenerationConfig

    known = model.generation_config
    ends = known.eos_token_id if known.eos_token_id is not None else tokenizer.eos_token_id
    first_end = ends[0] if isinstance(ends, list) else ends
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=most,
        eos_token_id=ends,
        pad_token_id=first_end,
        bos_token_id=known.bos_token_id,
    )
    watch = _Watch(len(ids))
    given = torch.tensor([ids], device=model.device)
    try:
        with torch.inference_mode():
            made = model.generate(given, attention_mask=torch.ones_like(given), logits_processor=[watch])
    except _NotFiniteError:
        return Generated(watch.made, finite=False)
    return Generated(tuple(made[0, len(ids) :].tolist()), finite=True)


class _NotFiniteError(Exception):
    """Raised to stop the generation when logits are not finite."""


class _Watch:
    """A callback that checks each new token's logits, and keeps the tokens so far if they are not finite."""

    def __init__(self, given: int) -> None:
        self._given, self.made = given, ()

    def __call__(self, ids: Any, logits: Any) -> Any:
        if not logits.isfinite().all():
            self.made = tuple(ids[0, self._given :].tolist())
            raise _NotFiniteError
        return logits


def decode(tokenizer: Any, ids: tuple[int, ...]) -> str:
    """Return the answer as text."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
