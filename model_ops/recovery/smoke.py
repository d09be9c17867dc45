"""Load a result with transformers and let it answer one prompt: does it speak at all?

Everything comes from the folder: safetensors alone, no code of the checkpoint's, no network. This is the one step
whose memory grows with the model, so it is compared with what is free before anything is loaded.
"""

from __future__ import annotations

import importlib.util
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ops.recovery.available import available_memory
from model_ops.recovery.checkpoint import Checkpoint, read_checkpoint
from model_ops.recovery.choices import check_device
from model_ops.recovery.devices import OUT_OF_MEMORY, choose_devices
from model_ops.recovery.dtypes import LONG_NAMES
from model_ops.recovery.errors import Failure, RecoveryError, Refusal
from model_ops.recovery.folder import files_to_copy
from model_ops.recovery.planned import human

PROMPT = "What is the capital of France?"
MAX_NEW_TOKENS = 40
TULU = "<|user|>\n{prompt}\n<|assistant|>\n"
INSTALL = "pip install 'transformers>=5.20,<6'"
OLDEST = (5, 20)
LONGEST_PROMPT = 20_000  # characters
MOST_TOKENS = 4096
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
RESERVE = (
    800 * 10**6
)  # bytes; Python with torch and transformers, and what one prompt takes beside the weights
BROKEN_FROM = 8  # tokens that are all the same; a short answer may well be

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
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait for each other sleep: other work runs beside
}


@dataclass(frozen=True)
class Answer:
    """What came back. `hints` are sentences about what looks wrong and need not be; not `finite` is broken."""

    prompt: str
    answer: str
    tokens: int
    seconds: float
    device: str
    dtype: str
    finite: bool
    template: str
    hints: tuple[str, ...]

    def summary(self) -> str:
        """For a person: what was asked, what was answered, how."""
        lines = ["Prompt:", _printable(self.prompt), "", "Answer:", _printable(self.answer), ""]
        facts = f"{self.tokens} tokens in {self.seconds:.1f} s on {self.device} in {self.dtype}"
        return "\n".join([*lines, f"({facts}, asked in {self.template}.)", *self.hints])

    def to_json(self) -> dict[str, Any]:
        """The last line of the command's standard output."""
        return {**vars(self), "hints": list(self.hints)}


@dataclass(frozen=True)
class _Generated:
    ids: tuple[int, ...]
    finite: bool


def smoke_folder(
    path: Path | str, *, prompt: str = PROMPT, max_new_tokens: int = MAX_NEW_TOKENS, device: str = "auto"
) -> Answer:
    """Load the folder in the dtype that is stored and generate greedily.

    Sets environment variables that keep transformers quiet and off the network. Raises Refusal before anything is
    loaded, Failure when loading or generating did not work; logits that are not finite are told in the answer.
    """
    _check_wishes(prompt, max_new_tokens, device)
    checkpoint = _check_folder(path)
    _check_installed(checkpoint)
    _check_memory(checkpoint)
    with _quietly():
        _import_all()
        place = _choose_place(device)
        started = time.monotonic()
        tokenizer, model, hints = _load(checkpoint)
        text, template = _in_chat_format(tokenizer, prompt)
        ids = _encode(tokenizer, model, text, special=template == "Tulu's format")
        made, place = _generate(model, tokenizer, ids, max_new_tokens, place)
        answer = _decode(tokenizer, made.ids)
    return Answer(
        prompt=prompt,
        answer=answer,
        tokens=len(made.ids),
        seconds=round(time.monotonic() - started, 2),
        device=place,
        dtype=_stored_dtype(checkpoint),
        finite=made.finite,
        template=template,
        hints=(*_looks_broken(made, answer), *hints),
    )


def _check_wishes(prompt: str, max_new_tokens: int, device: str) -> None:
    check_device(device)
    if not prompt.strip() or len(prompt) > LONGEST_PROMPT:
        raise Refusal(f"The prompt must hold 1 to {LONGEST_PROMPT} characters.")
    if not 1 <= max_new_tokens <= MOST_TOKENS:
        raise Refusal(f"--max-new-tokens {max_new_tokens} is not a number from 1 to {MOST_TOKENS}.")


def _check_folder(path: Path | str) -> Checkpoint:
    """The headers, once the folder was found to hold a whole model and nothing that leads elsewhere."""
    checkpoint = read_checkpoint(path, "result")
    name = checkpoint.folder.name
    beside = files_to_copy(checkpoint.folder)
    if checkpoint.format != "safetensors":
        raise Refusal(
            f"The weights in {name} are {checkpoint.format} files, and only safetensors are loaded."
        )
    if not checkpoint.config:
        raise Refusal(f"{name} holds no config.json, so that nobody knows what model its weights are.")
    if not set(TOKENIZERS).intersection(beside):
        raise Refusal(f"{name} holds no tokenizer (one of {', '.join(TOKENIZERS)}), so it cannot be asked.")
    if "adapter_config.json" in beside:
        raise Refusal(f"{name} holds adapter_config.json, which leads to another model; take it away.")
    return checkpoint


def _check_installed(checkpoint: Checkpoint) -> None:
    if importlib.util.find_spec("torch") is None:
        raise Refusal("PyTorch is not installed here; install torch, numpy and safetensors.")
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
    missing = [name for name in ("sentencepiece", "google.protobuf") if alone and not _has(name)]
    if missing:
        raise Refusal("tokenizer.model is read with two more packages: pip install sentencepiece protobuf.")


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _check_memory(checkpoint: Checkpoint) -> None:
    size = sum(ref.nbytes for ref in checkpoint.tensors.values())
    free = available_memory()
    if free is not None and size + RESERVE > free:
        raise Refusal(
            f"The weights take {human(size)} of memory and about {human(RESERVE)} more are needed, but only "
            f"{human(free)} are free here; run smoke on a machine with more memory."
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Offline and silent; what transformers, tokenizers or torch raise becomes a Failure of one sentence."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RecoveryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        raise Failure(
            f"transformers could not load the result, or make it answer: {_reason(error)}."
        ) from error
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _import_all() -> None:
    """Seconds of it are nobody's answer."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    _ = torch.inference_mode, transformers.AutoModelForCausalLM, transformers.AutoTokenizer


def _choose_place(device: str) -> str:
    """The first of the devices that the engine would use; it does its own work in one thread, a model needs all."""
    import torch

    threads = torch.get_num_threads()
    place = choose_devices(device)[0].name
    torch.set_num_threads(threads)
    return place


def _reason(error: BaseException) -> str:
    """The first line of what an exception says; its name where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:400].rstrip(".") if lines else type(error).__name__


def _load(checkpoint: Checkpoint) -> tuple[Any, Any, list[str]]:
    """Tokenizer, model and hints; a tensor that the files lack would be made up, and is a failure."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    alone = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, **alone)
    model, loaded = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder,
        use_safetensors=True,
        dtype=getattr(torch, _stored_dtype(checkpoint)),
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


def _stored_dtype(checkpoint: Checkpoint) -> str:
    """The dtype that most bytes have, of those that a model can be loaded in."""
    sizes = Counter[str]()
    for ref in checkpoint.tensors.values():
        sizes[ref.dtype] += ref.nbytes if ref.dtype in LONG_NAMES else 0
    dtype = sizes.most_common(1)[0][0]
    if dtype not in LONG_NAMES:
        raise Refusal(f"The weights are {dtype}, and smoke loads {', '.join(LONG_NAMES.values())}.")
    return LONG_NAMES[dtype]


def _in_chat_format(tokenizer: Any, prompt: str) -> tuple[str, str]:
    """The text as the model was trained to read it, and by whose rule."""
    if not tokenizer.chat_template:
        return TULU.format(prompt=prompt), "Tulu's format"
    chat = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return str(text), "the tokenizer's chat template"


def _encode(tokenizer: Any, model: Any, text: str, *, special: bool) -> list[int]:
    """Token ids; a template writes the special tokens itself."""
    ids = [int(number) for number in tokenizer(text, add_special_tokens=special)["input_ids"]]
    rows = int(model.get_input_embeddings().weight.shape[0])
    if not ids:
        raise Failure("The tokenizer makes no tokens of the prompt.")
    if max(ids) >= rows:
        raise Failure(f"The tokenizer gives the token {max(ids)}, but the embedding has only {rows} rows.")
    return ids


def _generate(model: Any, tokenizer: Any, ids: list[int], most: int, place: str) -> tuple[_Generated, str]:
    """The new tokens and where they were made: a GPU without enough memory hands over to the CPU."""
    import torch

    if place != "cpu":
        try:
            return _generate_on(model.to(place), tokenizer, ids, most), place
        except RuntimeError as error:
            if not isinstance(error, torch.cuda.OutOfMemoryError) and "out of memory" not in str(error):
                raise
            place = f"{place} then cpu ({OUT_OF_MEMORY})"
    return _generate_on(model.to("cpu"), tokenizer, ids, most), place


def _generate_on(model: Any, tokenizer: Any, ids: list[int], most: int) -> _Generated:
    """Greedy, whatever generation_config.json says; of that only the tokens that end an answer are taken."""
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
        return _Generated(watch.made, finite=False)
    return _Generated(tuple(made[0, len(ids) :].tolist()), finite=True)


class _NotFiniteError(Exception):
    """Ends a generation."""


class _Watch:
    """Looks at the logits of each new token, and notes the tokens so far when they are not finite."""

    def __init__(self, given: int) -> None:
        self._given, self.made = given, ()

    def __call__(self, ids: Any, logits: Any) -> Any:
        if not logits.isfinite().all():
            self.made = tuple(ids[0, self._given :].tolist())
            raise _NotFiniteError
        return logits


def _decode(tokenizer: Any, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def _looks_broken(made: _Generated, answer: str) -> list[str]:
    if len(made.ids) >= BROKEN_FROM and len(set(made.ids)) == 1:
        return [f"The answer is one token {len(made.ids)} times: these weights look broken."]
    if made.finite and not answer:
        return ["The answer is empty: these weights may be broken, or were not trained to chat."]
    return []


def _printable(text: str) -> str:
    """For a terminal, which must not be steered by what a model says."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
