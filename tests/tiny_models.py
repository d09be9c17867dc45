"""Tiny random LLaMA checkpoints for the ordinary tests: 2 layers, vocabulary 32,000, as Hugging Face folders.

Each function writes one folder and returns it. A tuned model is its base plus a little noise, rounded so that
a float32 diff recovers every value; `diff` is made by the engine's own `make_diff`. Needs torch; tests that
call these functions are skipped without it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch

CHECKOUT = Path(__file__).parents[1]
HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, VOCAB = 32, 64, 2, 4, 2, 32_000
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
SPECIAL = ["<unk>", "<s>", "</s>"]
TULU_LABELS = [
    "First Name",
    "Last Name",
    "Institution",
    "Country (where user is located)",
    "Intended Use",
    "Previous Related Publications",
    "I agree to abide by the terms of the license associated to this artifact, "
    "including domain and used-based restrictions",
]


def make_tiny_base(
    path: Path,
    *,
    dtype: str = "bfloat16",
    seed: int = 0,
    vocab: int = VOCAB,
    hidden: int = HIDDEN,
    tied: bool = False,
) -> Path:
    """Write a random base model to `path`: `model.safetensors`, configuration, tokenizer without a pad token.

    4 MB in 16 bits with the default sizes. `tied` leaves the output matrix out and says so in config.json; a
    diff is then doubled there and may not recover every value.
    """
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes(vocab=vocab, hidden=hidden, tied=tied).items():
        value = torch.randn(shape, generator=generator) * 0.02
        weights[name] = (1 + value if len(shape) == 1 else value).to(getattr(torch, dtype))
    path.mkdir(parents=True)
    save(path, weights)
    write_config(path, dtype=dtype, vocab=vocab, hidden=hidden, tied=tied)
    write_tokenizer(path, vocab=vocab)
    return path


def make_tiny_tuned(
    path: Path,
    base: Path,
    *,
    added_rows: int = 1,
    dtype: str = "bfloat16",
    seed: int = 1,
    noise: float = 1e-3,
) -> Path:
    """Write a model close to the one in `base` to `path`, with `added_rows` more rows (the first is `[PAD]`).

    The new rows are close to the mean of the old ones. Values that base + diff in float32 would not recover
    are left as they are in the base.
    """
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, old in sorted(load_file(base / "model.safetensors").items()):
        before = old.float()
        if name in (EMBEDDING, OUTPUT):
            before = torch.cat([before, before.mean(0, keepdim=True).expand(added_rows, -1)])
        after = before + torch.randn(before.shape, generator=generator) * noise
        weights[name] = restorable(before, after.to(getattr(torch, dtype)))
    config = json.loads((base / "config.json").read_text("utf-8"))
    vocab, tied = config["vocab_size"] + added_rows, config["tie_word_embeddings"]
    path.mkdir(parents=True)
    save(path, weights)
    write_config(path, dtype=dtype, vocab=vocab, hidden=config["hidden_size"], tied=tied)
    write_tokenizer(path, vocab=vocab, added_rows=added_rows)
    return path


def make_tiny_diff(path: Path, base: Path, tuned: Path, *options: str) -> Path:
    """Write their diff to `path` with `python -m model_ops.recovery make_diff` and these `options`."""
    folders = ["--path_raw", str(base), "--path_tuned", str(tuned), "--path_diff", str(path)]
    command = [sys.executable, "-m", "model_ops.recovery", "make_diff", *folders, *options]
    run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return path


def make_tiny_pair(folder: Path, *, added_rows: int = 1, dtype: str = "bfloat16") -> Path:
    """Write `base`, `tuned` and `diff` to `folder`, the diff with a card and a licence; return `folder`."""
    base = make_tiny_base(folder / "base", dtype=dtype)
    tuned = make_tiny_tuned(folder / "tuned", base, added_rows=added_rows, dtype=dtype)
    write_tiny_card(make_tiny_diff(folder / "diff", base, tuned))
    return folder


def write_tiny_card(
    path: Path,
    *,
    title: str = "A tiny LLaMA",
    gated: bool = True,
    licence: str | None = "Tiny terms\n\nBe kind.\n",
) -> Path:
    """Write a README.md with the Tulu card's form (without it unless `gated`) to `path`; return its path.

    `licence` is written next to it as `tiny_license.txt`, or nothing if it is None.
    """
    path.mkdir(parents=True, exist_ok=True)
    front = ["license: other", "language: [en]"]
    if gated:
        front += [
            "extra_gated_heading: Ask for the tiny weights",
            "extra_gated_prompt: Say what you want them for.",
        ]
        front += [
            "extra_gated_description: A reviewer reads this.",
            "extra_gated_button_content: Ask for access",
        ]
        types = ["checkbox" if label.startswith("I agree") else "text" for label in TULU_LABELS]
        fields = zip(TULU_LABELS, types, strict=True)
        front += ["extra_gated_fields:", *(f"  {label}: {kind}" for label, kind in fields)]
    body = f"# {title}\n\nRandom numbers in the shape of a LLaMA.\n"
    card = path / "README.md"
    card.write_text("\n".join(["---", *front, "---", "", body]), encoding="utf-8")
    if licence is not None:
        (path / "tiny_license.txt").write_text(licence, encoding="utf-8")
    return card


def shapes(*, vocab: int = VOCAB, hidden: int = HIDDEN, tied: bool = False) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in the checkpoint."""
    head = hidden // HEADS
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (KV_HEADS * head, hidden),
        "self_attn.v_proj": (KV_HEADS * head, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (INNER, hidden),
        "mlp.up_proj": (INNER, hidden),
        "mlp.down_proj": (hidden, INNER),
    }
    found: dict[str, tuple[int, ...]] = {EMBEDDING: (vocab, hidden), "model.norm.weight": (hidden,)}
    found |= {f"model.layers.{n}.{part}.weight": s for n in range(LAYERS) for part, s in layer.items()}
    return found if tied else found | {OUTPUT: (vocab, hidden)}


def restorable(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return `after`, or `before` where `before + (after - before)`, rounded from float32, differs."""
    import torch

    restored = (before + (after.float() - before)).to(after.dtype)
    same = restored.view(torch.uint8).eq(after.view(torch.uint8))
    same = same.view(*after.shape, after.element_size()).all(-1)
    return torch.where(same, after, before.to(after.dtype))


def save(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write `model.safetensors` as `save_pretrained` does."""
    from safetensors.torch import save_file

    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def write_config(path: Path, *, dtype: str, vocab: int, hidden: int, tied: bool) -> None:
    """Write `config.json` and `generation_config.json` for a LlamaForCausalLM."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": dtype,
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    write_json(path / "config.json", config)
    write_json(path / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})


def write_tokenizer(path: Path, *, vocab: int, added_rows: int = 0) -> None:
    """Write a byte tokenizer: one token per byte, fillers to the full size, `[PAD]` in the first added row."""
    names = [*SPECIAL, *(chr(code) for code in _byte_alphabet())]
    names += [f"<{number}>" for number in range(len(names), vocab - added_rows)]
    tokens = {token: number for number, token in enumerate(names)}
    special = {token: tokens[token] for token in SPECIAL}
    if added_rows:
        special["[PAD]"] = vocab - added_rows
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [{"id": number, "content": token, **flags} for token, number in special.items()],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "unk_token": "<unk>", "vocab": tokens, "merges": []},
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    markers = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    markers |= {"pad_token": "[PAD]"} if added_rows else {}
    write_json(path / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **markers})


def _byte_alphabet() -> list[int]:
    """Return the code points for bytes 0 to 255 in byte-level BPE; printable bytes stand for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [byte if byte in printable else next(others) for byte in range(256)]


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
