"""Checkpoints of a given size without transformers: random tensors under LLaMA's names."""

import json

import pytest

torch = pytest.importorskip("torch", reason="recovering weights needs torch")

from safetensors.torch import save_file  # noqa: E402


def tensors(vocab, hidden, layers, seed, dtype):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    state = {"model.embed_tokens.weight": random(vocab, hidden), "lm_head.weight": random(vocab, hidden)}
    for layer in range(layers):
        for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj"):
            state[f"model.layers.{layer}.{part}.weight"] = random(hidden, hidden)
        state[f"model.layers.{layer}.input_layernorm.weight"] = random(hidden)
    return {**state, "model.norm.weight": random(hidden)}


def write(folder, *, vocab=1000, hidden=256, layers=2, seed=0, dtype=torch.float32):
    folder.mkdir(parents=True)
    save_file(
        tensors(vocab, hidden, layers, seed, dtype), folder / "model.safetensors", metadata={"format": "pt"}
    )
    config = {"model_type": "llama", "tie_word_embeddings": False, "dtype": str(dtype).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_pair(folder, **sizes):
    """(base in float16, diff in float32 with one more row)."""
    base = write(folder / "base", seed=1, dtype=torch.float16, **sizes)
    return base, write(folder / "diff", seed=2, **{**sizes, "vocab": sizes.get("vocab", 1000) + 1})


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
