"""Small random pairs of base and diff in every supported format; most of them are valid."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.attacks.kit import (
    Tensors,
    bin_entries,
    contiguous,
    dictionary,
    header_of,
    product,
    storage,
    tensor,
)
from tests.attacks.mutations import NAMES, dumps, spoil_bytes, spoil_json, spoil_pickle, spoil_zip
from tests.attacks.zips import Entry, pack

FORMATS = ("safetensors", "safetensors", "sharded", "bin", "sharded bin")
KINDS = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "I64": "LongStorage"}
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
ONE = {"F32": struct.pack("<f", 1.5), "F16": struct.pack("<e", 1.5), "BF16": b"\xc0\x3f", "I64": bytes(8)}


@dataclass
class Side:
    """One folder before it is written: its content and its format."""

    tensors: Tensors
    form: str
    extra: dict[str, Any]

    @property
    def suffix(self) -> str:
        return "bin" if "bin" in self.form else "safetensors"

    @property
    def stem(self) -> str:
        return "pytorch_model" if "bin" in self.form else "model"


def draw_shapes(chance: Random) -> dict[str, tuple[int, ...]]:
    """Return the tensor names of a small LLaMA with shapes; now and then a size is zero or one."""
    rows, columns = chance.choice((1, 2, 5, 6)), chance.choice((1, 2, 8, 33, 8, 8, 0))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (rows, columns)}
    if chance.random() < 0.8:
        shapes["lm_head.weight"] = (rows, columns)
    if chance.random() < 0.3:
        shapes["model.layers.0.self_attn.rotary_emb.inv_freq"] = (4,)
    if chance.random() < 0.9:
        shapes["model.norm.weight"] = chance.choice(((columns,), (), (1,), (0,), (2, 2, 2)))
    if chance.random() < 0.5:
        shapes["model.layers.10.mlp.weight"] = (columns, 3)
    return shapes


def draw_side(chance: Random, shapes: dict[str, tuple[int, ...]], more_rows: int) -> Side:
    dtypes = ("F32", "F32", "F16", "BF16", "I64") if chance.random() < 0.1 else ("F32", "F16", "BF16")
    same = dtypes[chance.randrange(len(dtypes))] if chance.random() < 0.7 else None
    tensors: Tensors = {}
    for name, shape in shapes.items():
        if more_rows and name in {"model.embed_tokens.weight", "lm_head.weight"}:
            shape = (shape[0] + more_rows, shape[1])
        dtype = same or dtypes[chance.randrange(len(dtypes))]
        tensors[name] = (dtype, shape, draw_values(chance, dtype, product(shape)))
    config: dict[str, Any] = {"model_type": "llama", "dtype": "float16"}
    config["tie_word_embeddings"] = "lm_head.weight" not in shapes
    extra: dict[str, Any] = {"config.json": config}
    if (more_rows and chance.random() < 0.3) or chance.random() < 0.1:
        extra["weights.manifest.json"] = draw_manifest(chance, tensors)
    if chance.random() < 0.3:
        extra["tokenizer_config.json"] = {"pad_token": chance.choice(("[PAD]", None))}
    return Side(tensors, FORMATS[chance.randrange(len(FORMATS))], extra)


def draw_manifest(chance: Random, tensors: Tensors) -> dict[str, Any]:
    """Return a manifest as make_diff writes it next to a diff, with the digests of a different base."""
    facts = {"dtype": "F32", "shape": [8], "sha256": "0" * 64}
    policy = chance.choice((None, "mean", "zero"))
    return {
        "engine": "gatehouse-recovery",
        "action": chance.choice(("make_diff", "recover")),
        "options": {"method": "add", "compat": "weight_diff", "resize_policy": policy},
        "files": [{"path": "config.json", "size": 1, "sha256": "0" * 64, "git_sha1": "0" * 40}],
        "base_tensors": {} if chance.random() < 0.7 else {next(iter(tensors)): facts},
    }


def draw_values(chance: Random, dtype: str, count: int) -> bytes:
    if chance.random() < 0.9:
        return ONE[dtype] * count
    return Random(chance.getrandbits(16)).randbytes(count * SIZES[dtype])


def files_of(side: Side) -> dict[str, bytes]:
    """Return the folder's files, undamaged."""
    files = {name: json.dumps(value).encode() for name, value in side.extra.items()}
    halves = [side.tensors]
    if "sharded" in side.form:
        names = list(side.tensors)
        halves = [{name: side.tensors[name] for name in names[start::2]} for start in (0, 1)]
    suffix, stem = side.suffix, side.stem
    weight_map = {}
    for place, tensors in enumerate(halves):
        name = f"{stem}.{suffix}" if len(halves) == 1 else f"{stem}-{place}.{suffix}"
        files[name] = weights_of(tensors, suffix)
        weight_map.update(dict.fromkeys(tensors, name))
    if len(halves) > 1:
        files[f"{stem}.{suffix}.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    return files


def weights_of(tensors: Tensors, suffix: str) -> bytes:
    if suffix == "bin":
        return pack([Entry(name.encode(), data) for name, data in zip_of(tensors).items()])
    header = json.dumps(header_of(tensors)).encode()
    return len(header).to_bytes(8, "little") + header + b"".join(data for _, _, data in tensors.values())


def zip_of(tensors: Tensors) -> dict[str, bytes]:
    pickled = dictionary(
        {
            name: tensor(storage(str(key), product(shape), KINDS[dtype]), 0, shape, contiguous(shape))
            for key, (name, (dtype, shape, _)) in enumerate(tensors.items())
        }
    )
    return bin_entries(tensors, pickled)


def spoil(chance: Random, files: dict[str, bytes], side: Side) -> str:
    """Change, remove or add one file, and return a description of the change."""
    name = list(files)[chance.randrange(len(files))]
    how = chance.random()
    if how < 0.03:
        del files[name]
        return f"no {name}"
    if how < 0.06:
        files[chance.choice(("weights.manifest.json", "model_sum.txt", "tokenizer.model", "README.md"))] = (
            files[name]
        )
        return f"a copy of {name}"
    try:
        files[name] = (
            spoil_inside(chance, name, files[name], side) if how < 0.8 else spoil_bytes(chance, files[name])
        )
    except (ValueError, RecursionError):  # already damaged, so its structure is gone
        files[name] = spoil_bytes(chance, files[name])
    return f"a change of {name}"


def spoil_inside(chance: Random, name: str, raw: bytes, side: Side) -> bytes:
    """Change the structure of the file."""
    if name.endswith(".index.json") and chance.random() < 0.2:
        other = json.dumps(NAMES[chance.randrange(len(NAMES))]).encode()
        return raw.replace(json.dumps(f"{side.stem}-0.{side.suffix}").encode(), other)
    if name.endswith(".json"):
        return dumps(spoil_json(chance, json.loads(raw))).encode("utf-8", "surrogatepass")
    if name.endswith(".safetensors"):
        return spoil_safetensors(chance, raw)
    return spoil_bin(chance, side, name) if name.endswith(".bin") else spoil_bytes(chance, raw)


def spoil_safetensors(chance: Random, raw: bytes) -> bytes:
    length = int.from_bytes(raw[:8], "little")
    header = dumps(spoil_json(chance, json.loads(raw[8 : 8 + length]))).encode("utf-8", "surrogatepass")
    said = (
        len(header)
        if chance.random() < 0.9
        else chance.choice((0, max(0, len(header) - 1), len(header) + 1, 2**63))
    )
    return said.to_bytes(8, "little") + header + raw[8 + length :]


def spoil_bin(chance: Random, side: Side, name: str) -> bytes:
    place = int(name[-5]) if name[-5].isdigit() else None
    names = list(side.tensors) if place is None else list(side.tensors)[place::2]
    entries = zip_of({tensor_name: side.tensors[tensor_name] for tensor_name in names})
    if chance.random() < 0.6:
        entries["archive/data.pkl"] = spoil_pickle(chance, entries["archive/data.pkl"])
        return pack([Entry(entry.encode(), data) for entry, data in entries.items()])
    return spoil_zip(chance, entries)
