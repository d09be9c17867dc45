"""Checkpoints of a given size without transformers: random tensors with LLaMA's names, and ways to run."""

import json

import pytest

torch = pytest.importorskip("torch", reason="recovering weights needs torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from model_ops.recovery.execution.run import execute  # noqa: E402
from model_ops.recovery.planning.options import Options  # noqa: E402
from model_ops.recovery.planning.planner import make_diff_plan, make_plan  # noqa: E402

METADATA = {"format": "pt"}


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


def random_state(seed, shapes, dtypes=(torch.float32,)):
    """Return normally distributed values, with the dtypes taking turns."""
    generator = torch.Generator().manual_seed(seed)
    values = (torch.randn(shape, generator=generator) for shape in shapes.values())
    return {
        name: v.to(dtypes[n % len(dtypes)]) for n, (name, v) in enumerate(zip(shapes, values, strict=True))
    }


def write_state(folder, state, *, kind="safetensors"):
    """Write one file of weights, and the configuration of a model without an output that could be tied."""
    folder.mkdir(parents=True)
    if kind == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors", metadata=METADATA)
    (folder / "config.json").write_text('{"architectures": ["LlamaModel"], "model_type": "llama"}')
    return folder


def state_of(folder):
    """Return every tensor in a folder of safetensors."""
    return {name: v for path in sorted(folder.glob("*.safetensors")) for name, v in load_file(path).items()}


WORK = ("device", "jobs", "memory", "non_finite", "control")


def recover(base, diff, out, **choices):
    work, options = _parted(choices)
    return execute(make_plan(base, diff, options), out, **work)


def make_diff(base, tuned, out, **choices):
    work, options = _parted(choices)
    return execute(make_diff_plan(base, tuned, options), out, **work)


def _parted(choices):
    """Split the choices into (arguments of `execute`, options of the plan)."""
    work = {name: value for name, value in choices.items() if name in WORK}
    return work, Options(**{name: value for name, value in choices.items() if name not in WORK})


def write(folder, *, vocab=1000, hidden=256, layers=2, seed=0, dtype=torch.float32):
    folder.mkdir(parents=True)
    save_file(tensors(vocab, hidden, layers, seed, dtype), folder / "model.safetensors", metadata=METADATA)
    config = {"model_type": "llama", "tie_word_embeddings": False, "dtype": str(dtype).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_pair(folder, **sizes):
    """Write and return (base in float16, diff in float32 with one more row)."""
    base = write(folder / "base", seed=1, dtype=torch.float16, **sizes)
    return base, write(folder / "diff", seed=2, **{**sizes, "vocab": sizes.get("vocab", 1000) + 1})


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
