"""Plans of small checkpoints for every rule and dtype, which need only torch and safetensors."""

import json

from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_diff_plan, make_plan
from tests.model_ops.recovery import plain

torch = plain.torch

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
MIXES = [(base, first) for base in DTYPES for first in DTYPES]
HIDDEN = 64

# name -> (rows of the base, rows of the other side, the plan's options)
ADDED = {
    "plain": (301, 301, {}),
    "mean": (301, 304, {}),
    "zero": (301, 333, {"resize_policy": "zero"}),
    "skip": (301, 302, {"resize_policy": "skip"}),
    "tied": (301, 301, {}),
    "tied_grown": (301, 305, {}),
    "to_float16": (301, 304, {"dtype": "float16"}),
    "to_bfloat16": (301, 304, {"dtype": "bfloat16"}),
    "fastchat": (301, 301, {"compat": "fastchat"}),
    "fastchat_grown": (301, 304, {"compat": "fastchat", "resize_policy": "mean"}),
    "fastchat_float32": (301, 304, {"compat": "fastchat", "resize_policy": "mean", "dtype": "float32"}),
    "shards": (301, 304, {"max_shard_size": "40KB"}),
    "tiny": (1, 2, {}),
    "not_finite": (301, 304, {}),
    "not_finite_float16": (301, 304, {"dtype": "float16"}),
    "not_finite_bfloat16": (301, 304, {"dtype": "bfloat16"}),
    "not_finite_fastchat": (301, 301, {"compat": "fastchat"}),
    "xor": (301, 304, {"method": "xor"}),
    "xor_shorter": (304, 301, {"method": "xor"}),
}  # fmt: skip
SUBTRACTED = {
    "diff": (301, 304, {}),
    "diff_tied": (301, 304, {}),
    "diff_float16": (301, 304, {"dtype": "float16"}),
    "diff_fastchat": (301, 301, {"compat": "fastchat"}),
    "diff_not_finite": (301, 301, {}),
    "diff_xor": (301, 304, {"method": "xor"}),
}
CASES = ADDED | SUBTRACTED


def plan_of(case, folder, base_dtype="F16", first_dtype="F32"):
    """Return the plan of this case, with its inputs in `folder`."""
    base_rows, first_rows, options = CASES[case]
    tied, not_finite = "tied" in case, "not_finite" in case
    base = _write(folder / "base", _state(1, base_rows, base_dtype, tied, not_finite), tied)
    first = _write(folder / "first", _state(2, first_rows, first_dtype, tied, not_finite), tied)
    if case in SUBTRACTED:
        return make_diff_plan(base, first, Options(**options))
    if "xor" in case:
        _code(first / "model.safetensors", (base / "model.safetensors").read_bytes())
    return make_plan(base, first, Options(**options))


def _code(path, base):
    """Replace a file with its exclusive or with the base's."""
    mine = path.read_bytes()
    path.write_bytes(bytes(a ^ b for a, b in zip(mine, base.ljust(len(mine), b"\0"), strict=False)))


def _state(seed, rows, dtype, tied, not_finite):
    shapes = {"lm_head.weight": (rows, HIDDEN)} if not tied else {}
    shapes |= {
        "model.embed_tokens.weight": (rows, HIDDEN),
        "model.layers.0.bias": (1,),
        "model.layers.0.empty": (0, 3),
        "model.layers.0.mlp.weight": (97, HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    state = plain.random_state(seed, shapes, [DTYPES[dtype]])
    if not_finite:
        _spoil(state["model.layers.0.mlp.weight"].view(-1), seed)
    return state


def _spoil(values, seed):
    """Add NaNs of several payloads and signs, opposite infinities, sums that overflow; the sides differ."""
    bits = {
        8: (torch.int64, (0x7FF8000000000001, 0x7FF0000012345678, -0x7FFFFFFFFFFFE)),
        4: (torch.int32, (0x7FC00001, 0x7F812345, -0x3FFFFE)),
        2: (torch.int16, (0x7FFF, 0x7FA5, -2)),
    }
    kind, nans = bits[values.element_size()]
    values.view(kind)[10:13] = torch.tensor(nans, dtype=kind)
    values.view(kind)[20 + seed] = nans[seed]
    values[30] = float("inf")
    values[31] = float("inf") if seed == 1 else float("-inf")
    values[40:42] = torch.finfo(values.dtype).max
    values[50] = 65000.0


def _write(folder, state, tied):
    plain.write_state(folder, state)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "tie_word_embeddings": tied}))
    return folder
