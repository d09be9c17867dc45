"""Recognise tensors that are not plain weights (adapters, quantised, emptied) by name, dtype and shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.inspection.formats import MERGE
from model_ops.recovery.inspection.roles import Found, role_of

_ORIGINAL = "Use the original, unquantised weights instead."
_FLOATS = frozenset(("F64", "F32", "F16", "BF16"))


@dataclass(frozen=True)
class Sign:
    """A kind of tensor. `says` completes a sentence that begins with "The base"; `{tensor}` is the tensor's name."""

    name: str
    fits: Callable[[TensorRef], bool]
    says: str


def _name_ends(*endings: str) -> Callable[[TensorRef], bool]:
    return lambda ref: ref.name.endswith(endings)


def _name_holds(pattern: str) -> Callable[[TensorRef], bool]:
    known = re.compile(pattern)
    return lambda ref: known.search(ref.name) is not None


def _is_stored_as_integers(ref: TensorRef) -> bool:
    return ref.name.endswith((".weight", ".weight_packed")) and len(ref.shape) > 1 and ref.dtype[0] in "IU"


# A full model may have parts with these names (Phi-4-multimodal has LoRA tensors), so only peft's names
# count.
ADAPTED: tuple[Sign, ...] = (
    Sign("adapter", _name_holds(r"^base_model\.model\.|\.lora_(?:A|B|embedding_[AB])(?:\.default)?(?:\.weight)?$|\.ia3_l(?:\.default)?$|"
                           r"\.modules_to_save\.|^prompt_embeddings$"),
         "holds an adapter's tensors ({tensor}), not merged weights. Merge it into its base with " + MERGE + "."),
)  # fmt: skip
# Only checked if a tensor that is not floating-point has rows and columns.
QUANTISED: tuple[Sign, ...] = (
    Sign("gptq", _name_ends(".g_idx"), "is quantised with GPTQ ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("awq", _name_ends(".qweight", ".qzeros"),
         "is quantised with AWQ or GPTQ ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("bitsandbytes", _name_ends(".absmax", ".quant_map", ".nested_absmax", ".SCB", ".weight_format"),
         "is quantised with bitsandbytes ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("bitsandbytes", _name_holds(r"\.quant_state\.bitsandbytes__"),
         "is quantised with bitsandbytes ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("fp8", lambda ref: ref.dtype.startswith("F8_"),
         "is quantised to FP8 ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("compressed-tensors", _name_ends(".weight_packed", ".weight_shape", ".weight_zero_point", ".weight_global_scale"),
         "is quantised with compressed-tensors ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("scaled", _name_ends(".weight_scale_inv", ".weight_scale", ".input_scale", ".weight_scales"),
         "is quantised ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("hqq", _name_ends(".W_q"), "is quantised with HQQ ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("exl2", _name_ends(".q_weight", ".q_scale_max", ".q_invperm", ".trellis", ".suh", ".svh"),
         "is quantised with EXL2 or EXL3 ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("aqlm", _name_ends(".codebooks", ".Qidxs", ".SU", ".SV"),
         "is quantised with AQLM or QuIP ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("mxfp4", lambda ref: ref.name.endswith("_blocks") and ref.dtype == "U8",
         "is quantised to MXFP4 ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("quanto", _name_ends(".weight._data", ".weight._scale"),
         "is quantised with Quanto ({tensor}), and quantised values cannot be added up. " + _ORIGINAL),
    Sign("integers", _is_stored_as_integers,
         "is quantised ({tensor} holds whole numbers), and quantised values cannot be added up. " + _ORIGINAL),
)  # fmt: skip
EMPTIED: tuple[Sign, ...] = (
    Sign("zero3", lambda ref: ref.name.endswith(".weight") and ref.shape == (0,),
         "holds emptied tensors ({tensor} has shape [0]): it was saved under DeepSpeed ZeRO-3 without its weights. Make the "
         "checkpoint again with `python zero_to_fp32.py CHECKPOINT_FOLDER OUT --safe_serialization`."),
)  # fmt: skip


def check_tensors(tensors: Mapping[str, TensorRef], role: str) -> None:
    """Refuse tensors that are not plain weights, with the first kind that matches one of them."""
    has_others = any(ref.dtype not in _FLOATS and len(ref.shape) > 1 for ref in tensors.values())
    for sign in (*ADAPTED, *(QUANTISED if has_others else ()), *EMPTIED):
        for ref in tensors.values():
            if sign.fits(ref):
                raise Found(f"{role_of(role).name} {sign.says.format(tensor=ref.name[:200])}")
