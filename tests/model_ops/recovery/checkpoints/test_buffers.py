"""Masks, positions and angles are not weights: they are dropped from either side by name, shape and dtype."""

import json

import pytest

from model_ops.recovery.checkpoints.buffers import is_buffer
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.planning.planner import make_plan
from tests.model_ops.recovery import plain

torch = plain.torch

WEIGHTS = ("gpt_neox.embed_in.weight", "embed_out.weight", "gpt_neox.layers.0.attention.dense.weight")
AT = "gpt_neox.layers.0.attention."
BUFFERS = {
    AT + "bias": torch.ones(1, 1, 16, 16).tril().bool(),
    AT + "masked_bias": torch.tensor(-1e4),
    AT + "rotary_emb.inv_freq": torch.arange(4).float(),
    "gpt_neox.embeddings.position_ids": torch.arange(16)[None],
}


def write(folder, state):
    plain.write_state(folder, state)
    (folder / "config.json").write_text(json.dumps({"architectures": ["GPTNeoXForCausalLM"]}))
    return folder


@pytest.mark.parametrize("sides", ["base", "diff", "both"])
def test_buffers_are_dropped_from_either_side(tmp_path, sides):
    states = {
        role: plain.random_state(n, dict.fromkeys(WEIGHTS, (24, 8)))
        for n, role in enumerate(("base", "diff"))
    }
    folders = [
        write(tmp_path / role, states[role] | (BUFFERS if sides in (role, "both") else {}))
        for role in ("base", "diff")
    ]
    assert make_plan(*folders).dropped == tuple(sorted(BUFFERS))
    plain.recover(*folders, tmp_path / "out")
    made = plain.state_of(tmp_path / "out")
    assert set(made) == set(WEIGHTS)
    assert all(torch.equal(made[name], states["diff"][name] + states["base"][name]) for name in WEIGHTS)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "expected"),
    [
        ("h.0.attn.bias", "F32", (1, 1, 8, 8), True),
        ("h.0.attn.bias", "F32", (8,), False),
        ("h.0.attn.c_attn.bias", "F32", (24,), False),
        ("attn.masked_bias", "F16", (), True),
        ("h.0.attn.causal_mask", "BOOL", (1, 1, 8, 8), True),
        ("embeddings.position_ids", "I64", (1, 512), True),
        ("embeddings.position_ids", "F32", (1, 512), False),
        ("model.layers.0.self_attn.rotary_emb.cos_cached", "F16", (1, 1, 64, 8), True),
        ("rotary_pos_emb.inv_freq", "F32", (8,), True),
        ("model.norm.weight", "F32", (8,), False),
    ],
)
def test_a_buffer_is_known_by_name_shape_and_dtype(name, dtype, shape, expected):
    assert is_buffer(TensorRef(name, "", 0, 0, dtype, shape)) is expected


def test_bias_of_an_attention_that_is_a_weight_is_not_dropped(tmp_path):
    base = write(
        tmp_path / "base",
        plain.random_state(1, {WEIGHTS[0]: (24, 8), WEIGHTS[1]: (24, 8), AT + "bias": (8,)}),
    )
    diff = write(tmp_path / "diff", plain.random_state(2, dict.fromkeys(WEIGHTS[:2], (24, 8))))
    with pytest.raises(
        Refusal, match=r"The base has gpt_neox.layers.0.attention.bias with shape \[8\], which is missing"
    ):
        make_plan(base, diff)
