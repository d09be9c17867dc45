"""The number formats: their names in safetensors, in PyTorch and on the command line, and their sizes."""

from __future__ import annotations

from model_ops.recovery.errors import Refusal

ITEM_SIZE = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}

# Dtypes that can be added. float32 holds every value of the first three exactly; a float64 value is rounded
# to it when read, as transformers does when it loads a model in float32.
ADDABLE = ("F32", "F16", "BF16", "F64")

# Counters and positions stored with the weights: added as whole numbers and written in their own dtype.
WHOLE = ("U8", "I8", "I16", "I32", "I64")

# The order of tensors in a file written by the safetensors library: by dtype in this order, then by name.
FILE_ORDER = (
    "U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "I8", "U8", "BOOL",
)  # fmt: skip

NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
LONG_NAMES = {short: long for long, short in NAMES.items()}
INPUT_NAMES = {**LONG_NAMES, "F64": "float64"}  # float64 is read but never written

TORCH_STORAGES = {
    "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16", "DoubleStorage": "F64",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip


def parse_dtype(text: str) -> str:
    """Return the short name ("BF16") of a dtype as people write it ("bfloat16")."""
    try:
        return NAMES[text]
    except KeyError:
        raise Refusal(f"The dtype {text!r} is not known; use one of {', '.join(NAMES)}.") from None
