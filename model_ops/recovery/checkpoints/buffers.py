"""Buffers: tensors that a model computes for itself and that older transformers saved with its weights.

They are not weights. A state dict that contains them is recovered without them, whichever side they are on.
"""

from __future__ import annotations

import re

from model_ops.recovery.formats.tensors import TensorRef

_PREFIX = r"(?:.+\.)?"
_ROTARY = re.compile(_PREFIX + r"rotary_emb\.inv_freq")
_FLOATS = ("F64", "F32", "F16", "BF16")


def _is_mask(shape: tuple[int, ...], dtype: str) -> bool:
    """Return whether the tensor may be an attention mask: [1, 1, n, n] or [n, n]."""
    return len(shape) in (2, 4) and shape[-1] == shape[-2] and all(size == 1 for size in shape[:-2])


def _is_single(shape: tuple[int, ...], dtype: str) -> bool:
    return shape in ((), (1,))


def _is_whole_numbers(shape: tuple[int, ...], dtype: str) -> bool:
    return dtype not in _FLOATS


def _is_vector(shape: tuple[int, ...], dtype: str) -> bool:
    return len(shape) == 1


def _is_angles(shape: tuple[int, ...], dtype: str) -> bool:
    """Return whether the tensor may be a table of angles: [n, d] or [1, 1, n, d]."""
    return len(shape) in (2, 4)


# The last parts of a name, with the shape and dtype that belong to it.
_KINDS = (
    (r"(?:attn|attention|self_attn|self_attention)\.bias", _is_mask),
    (r"(?:attn|attention|self_attn|self_attention)\.masked_bias", _is_single),
    (r"(?:causal_mask|attention_mask|attn_mask|masked_bias_mask)", _is_mask),
    (r"(?:position_ids|token_type_ids)", _is_whole_numbers),
    (r"(?:\w+\.)?(?:inv_freq|original_inv_freq)", _is_vector),
    (r"(?:\w*rotary\w*|\w*rope\w*)\.(?:cos|sin)(?:_cached|_cache)?", _is_angles),
    (r"(?:cos|sin)_cached", _is_angles),
    (r"(?:\w+\.)?_float_tensor", _is_single),
)
# Every such name ends with one of these, which rules out most tensors at once.
_ENDINGS = (
    "bias", "mask", "position_ids", "token_type_ids", "inv_freq", "cos", "sin", "_cached", "_cache", "_float_tensor",
)  # fmt: skip
_PATTERNS = tuple((re.compile(_PREFIX + pattern), fits) for pattern, fits in _KINDS)


def is_rotary(name: str) -> bool:
    """Return whether this is the name of rotary frequencies, which --keep-rotary keeps."""
    return name.endswith("inv_freq") and _ROTARY.fullmatch(name) is not None


def is_buffer(ref: TensorRef) -> bool:
    """Return whether a stored tensor is a mask or a table of positions or angles: by name, shape, dtype."""
    if not ref.name.endswith(_ENDINGS):
        return False
    if is_rotary(ref.name):
        return True
    return any(pattern.fullmatch(ref.name) and fits(ref.shape, ref.dtype) for pattern, fits in _PATTERNS)
