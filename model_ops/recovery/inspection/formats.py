"""Recognise by names what a folder holds in place of a Hugging Face checkpoint, and say how to convert it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

MERGE = (
    '`python -c "from peft import AutoPeftModelForCausalLM as M; '
    "M.from_pretrained('ADAPTER').merge_and_unload().save_pretrained('MERGED')\"`"
)
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_NOT_MERGED = frozenset(
    ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "ADAPTION_PROMPT")
)


@dataclass(frozen=True)
class Format:
    """A format and the file names that reveal it. `says` completes a sentence that begins with "The base"."""

    name: str
    patterns: tuple[str, ...]
    says: str


_ZERO = "Make a checkpoint of it with its own script: `python zero_to_fp32.py CHECKPOINT_FOLDER OUT --safe_serialization`."
_FROM_ORIGINAL = (
    "Use the model's original Hugging Face checkpoint (model.safetensors or pytorch_model.bin) instead."
)
FORMATS = (
    Format("meta", ("consolidated.[0-9][0-9].pth",),
           "is in Meta's original format ({file}). Convert it with transformers 4: `python -m "
           "transformers.models.llama.convert_llama_weights_to_hf --input_dir FOLDER --model_size 7B --output_dir OUT`, or "
           "download the repository whose name ends in -hf."),
    Format("mistral", ("consolidated*.safetensors", "consolidated*.pth"),
           "is in Mistral's own format ({file}). Use the files of the same repository that are named model-*.safetensors instead."),
    Format("deepspeed", ("global_step*/", "zero_pp_rank_*", "mp_rank_*_model_states.pt", "bf16_zero_pp_rank_*"),
           "is a DeepSpeed training checkpoint ({file}). " + _ZERO),
    Format("fsdp", ("*.distcp", "pytorch_model_fsdp*/", "__*_*.distcp"),
           "is a sharded PyTorch training checkpoint ({file}). Make one file of it: `python -m "
           "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER pytorch_model.bin`."),
    Format("fsdp_bin", ("pytorch_model_fsdp.bin",),
           "holds {file}, which FSDP wrote. Rename it to pytorch_model.bin if it is the whole state dict."),
    Format("megatron", ("iter_[0-9]*/", "latest_checkpointed_iteration.txt", "model_optim_rng.pt", "*.nemo", "mp_rank_*/"),
           "is a Megatron or NeMo checkpoint ({file}). Convert it to Hugging Face's format with that framework's exporter first."),
    Format("gguf", ("*.gguf", "ggml-*.bin", "*.ggml*.bin", "*.ggml"),
           "holds only GGUF or GGML weights for llama.cpp ({file}), which are mostly quantised. " + _FROM_ORIGINAL),
    Format("mlx", ("weights.npz", "weights.[0-9]*.safetensors"),
           "is an MLX checkpoint ({file}). " + _FROM_ORIGINAL),
    Format("exl2", ("output.safetensors", "output-0*.safetensors"),
           "is an EXL2 quantised checkpoint ({file}). " + _FROM_ORIGINAL),
    Format("tensorrt", ("*.engine", "rank[0-9]*.safetensors", "*.plan"),
           "is built for TensorRT-LLM ({file}). " + _FROM_ORIGINAL),
    Format("flax", ("flax_model*.msgpack", "*.msgpack"),
           "holds only Flax weights ({file}). Save them for PyTorch with transformers 4: `python -c \"from transformers import "
           "AutoModelForCausalLM as M; M.from_pretrained('FOLDER', from_flax=True).save_pretrained('OUT')\"`."),
    Format("tensorflow", ("tf_model*.h5", "*.h5", "*.ckpt.index", "model.ckpt-*", "*.keras", "saved_model.pb"),
           "holds only TensorFlow weights ({file}). Save them for PyTorch with transformers 4: `python -c \"from transformers import "
           "AutoModelForCausalLM as M; M.from_pretrained('FOLDER', from_tf=True).save_pretrained('OUT')\"`."),
    Format("onnx", ("*.onnx", "*.onnx_data"), "holds only ONNX weights ({file}). " + _FROM_ORIGINAL),
    Format("openvino", ("openvino_model*.bin", "openvino_model*.xml"), "holds only OpenVINO weights ({file}). " + _FROM_ORIGINAL),
    Format("coreml", ("*.mlmodel", "*.mlpackage/"), "holds only Core ML weights ({file}). " + _FROM_ORIGINAL),
    Format("numpy", ("*.npz", "*.npy"), "holds only NumPy arrays ({file}). " + _FROM_ORIGINAL),
    Format("orbax", ("checkpoint_*/", "*.orbax-checkpoint*", "_checkpoint_metadata", "streaming_params*"),
           "is a JAX checkpoint ({file}). Export it to Hugging Face's format with the tool that made it first."),
    Format("lightning", ("*.ckpt",),
           "is a Lightning or Stable Diffusion checkpoint ({file}). Save its model alone with `save_pretrained`, and name that folder."),
    Format("pickle", ("*.pkl", "*.pickle"), "holds only pickled objects ({file}), which are not read because they can run code. "
           "Save the model with `save_pretrained`, and name that folder."),
    Format("dvc", ("*.dvc",), "holds DVC files ({file}) and not the weights. Run `dvc pull` in that folder, then try again."),
    Format("torrent", ("*.torrent", "*.metalink", "*.magnet"),
           "holds {file} and not the weights that it leads to. Download those first."),
    Format("archive", ("*.zip", "*.tar", "*.tar.*", "*.tgz", "*.7z", "*.rar", "*.safetensors.gz", "*.bin.gz", "*.zst", "*.xz", "*.gz"),
           "holds {file}, which has not been unpacked. Unpack it, and name the folder that the weights are in."),
    Format("split", ("*.safetensors.part*", "*.bin.part*", "*.part-a[a-z]", "*-split-a", "*.aa", "*.safetensors.0*"),
           "holds one file in pieces ({file}). Put them together: `cat PIECES > model.safetensors`."),
)  # fmt: skip


def find_format(entries: Iterable[str]) -> tuple[Format, str] | None:
    """Return the first format that a name reveals, and that name; folder names end with a slash."""
    ordered = sorted(entries)
    for known in FORMATS:
        for name in ordered:
            if any(fnmatchcase(name, pattern) for pattern in known.patterns):
                return known, name
    return None


def adapter(entries: Iterable[str], read: Callable[[str], bytes]) -> str:
    """Return the rest of a sentence that begins with "The diff" if the files are an adapter, else "".

    `read` returns the first bytes of a file.
    """
    found = set(ADAPTERS).intersection(entries)
    if not found:
        return ""
    raw = read(ADAPTERS[0]) if ADAPTERS[0] in found else b""
    try:
        said = json.loads(raw).get("peft_type")
    except (ValueError, AttributeError, RecursionError):
        said = ""
    kind = said if isinstance(said, str) and said.isidentifier() and len(said) < 40 else ""
    if kind in _NOT_MERGED:
        return f"is an adapter ({kind}) that cannot be merged into a base. Load it with peft on top of its base instead."
    named = "a LoRA adapter" if kind in ("", "LORA") else f"an adapter ({kind})"
    return f"is {named}, not {{role}}. Merge it into its base with {MERGE}."
