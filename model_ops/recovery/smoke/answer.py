"""Load a result with transformers and generate an answer to one test prompt.

Everything comes from the folder: only safetensors, none of the checkpoint's code, no network. This is the
only step whose memory grows with the model, so the need is compared with the free memory before anything is
loaded.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_ops.recovery.errors import printable
from model_ops.recovery.smoke import generate
from model_ops.recovery.smoke.preflight import (
    check_folder,
    check_installed,
    check_memory,
    check_wishes,
    stored_dtype,
)

PROMPT = "What is the capital of France?"
MAX_NEW_TOKENS = 40
BROKEN_FROM = 8  # identical tokens in a row; a short answer may well consist of them


@dataclass(frozen=True)
class Answer:
    """The answer. `hints` are sentences about what looks wrong but may be fine.

    If not `finite`, the model is broken.
    """

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
        """Return the prompt, the answer and how it was made, for a person."""
        prompt, answer = (printable(text, keep="\n") for text in (self.prompt, self.answer))
        lines = ["Prompt:", prompt, "", "Answer:", answer, ""]
        facts = f"{self.tokens} tokens in {self.seconds:.1f} s on {self.device} in {self.dtype}"
        return "\n".join([*lines, f"({facts}, asked in {self.template}.)", *self.hints])

    def to_json(self) -> dict[str, Any]:
        """Return the last line of the command's standard output."""
        return {**vars(self), "hints": list(self.hints)}


def smoke_folder(
    path: Path | str, *, prompt: str = PROMPT, max_new_tokens: int = MAX_NEW_TOKENS, device: str = "auto"
) -> Answer:
    """Load the folder in its stored dtype and generate greedily.

    Sets environment variables that keep transformers quiet and offline. Raises Refusal before anything is
    loaded, and Failure if loading or generating fails; logits that are not finite are reported in the answer.
    """
    check_wishes(prompt, max_new_tokens, device)
    checkpoint = check_folder(path)
    check_installed(checkpoint)
    check_memory(checkpoint)
    with generate.quietly():
        generate.import_all()
        place = generate.choose_place(device)
        started = time.monotonic()
        tokenizer, model, hints = generate.load(checkpoint)
        text, template = generate.in_chat_format(tokenizer, prompt)
        ids = generate.encode(tokenizer, model, text, special=template == "Tulu's format")
        made, place = generate.generate(model, tokenizer, ids, max_new_tokens, place)
        answer = generate.decode(tokenizer, made.ids)
    if len(made.ids) >= BROKEN_FROM and len(set(made.ids)) == 1:
        hints.insert(0, f"The answer is one token {len(made.ids)} times: these weights look broken.")
    elif made.finite and not answer:
        hints.insert(0, "The answer is empty: these weights may be broken, or were not trained to chat.")
    return Answer(
        prompt=prompt,
        answer=answer,
        tokens=len(made.ids),
        seconds=round(time.monotonic() - started, 2),
        device=place,
        dtype=stored_dtype(checkpoint),
        finite=made.finite,
        template=template,
        hints=tuple(hints),
    )
