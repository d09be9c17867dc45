"""LLaMA-shaped checkpoints of random values: a base in float16 and a diff in float32 with one more row.

Generated tensor by tensor in blocks of 16 MB from a fixed seed, and kept. A marker shows that a set is
complete.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

from tests.bench.errors import BenchError
from tests.bench.recovery.page_cache import sync_and_drop

MARKER = "set.json"
MAKING = 1  # increase it when sets of the same shape would come out different
_BLOCK = 4 * 1024 * 1024  # values generated at once
_ITEM_SIZE = {"float16": 2, "float32": 4}
_LABEL = {"float16": "F16", "float32": "F32"}


@dataclass(frozen=True)
class Shape:
    """A LLaMA with untied embeddings. The diff has one row more than `vocab`, for a padding token."""

    hidden: int
    layers: int
    intermediate: int
    vocab: int
    base_shards: int = 3

    def tensors(self, *, rows: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Return names and shapes in the order in which a loaded model is saved."""
        wide, narrow = (self.intermediate, self.hidden), (self.hidden, self.intermediate)
        yield "lm_head.weight", (rows, self.hidden)
        yield "model.embed_tokens.weight", (rows, self.hidden)
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            yield f"{prefix}input_layernorm.weight", (self.hidden,)
            for name, shape in (("down", narrow), ("gate", wide), ("up", wide)):
                yield f"{prefix}mlp.{name}_proj.weight", shape
            yield f"{prefix}post_attention_layernorm.weight", (self.hidden,)
            for name in "koqv":
                yield f"{prefix}self_attn.{name}_proj.weight", (self.hidden, self.hidden)
        yield "model.norm.weight", (self.hidden,)

    def values(self, *, rows: int | None = None) -> int:
        """Return how many values a checkpoint of this shape holds."""
        return sum(prod(shape) for _, shape in self.tensors(rows=rows or self.vocab))

    @property
    def base_bytes(self) -> int:
        """Return the bytes of the base's values in float16."""
        return 2 * self.values()

    @property
    def diff_bytes(self) -> int:
        """Return the bytes of the diff's values in float32; the result is as large."""
        return 4 * self.values(rows=self.vocab + 1)


class EmbeddingShape(Shape):
    """An embedding and a norm, so that the cost is mostly that of the added row."""

    def tensors(self, *, rows: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Return names and shapes in the order in which a loaded model is saved."""
        yield "model.embed_tokens.weight", (rows, self.hidden)
        yield "model.norm.weight", (self.hidden,)


SETS = {
    "tiny": Shape(hidden=64, layers=2, intermediate=96, vocab=320),
    "tiny-2x": Shape(hidden=64, layers=5, intermediate=96, vocab=320),
    "tiny-vocab": Shape(hidden=64, layers=2, intermediate=96, vocab=1_280),
    "small": Shape(hidden=512, layers=12, intermediate=1376, vocab=32_000),
    "1b": Shape(hidden=2048, layers=20, intermediate=5504, vocab=32_000),
    "2b": Shape(hidden=2048, layers=43, intermediate=5504, vocab=32_000),
    "1b-vocab": Shape(hidden=2048, layers=20, intermediate=5504, vocab=128_000),
    "tiny-row": EmbeddingShape(hidden=64, layers=0, intermediate=96, vocab=320),
    "1b-row": EmbeddingShape(hidden=2560, layers=0, intermediate=0, vocab=262_144, base_shards=1),
}

# Twice as many values, and a largest tensor four times as large.
MEMORY_SETS = {"tiny": ("tiny-2x", "tiny-vocab"), "1b": ("2b", "1b-vocab")}
# An embedding that gets one more row.
ROW_SETS = {"tiny": "tiny-row", "1b": "1b-row"}


@dataclass(frozen=True)
class WeightSet:
    """An existing set, and the folder for outputs next to its inputs."""

    name: str
    folder: Path
    shape: Shape

    @property
    def base(self) -> Path:
        """Return the base's folder."""
        return self.folder / "base"

    @property
    def diff(self) -> Path:
        """Return the diff's folder."""
        return self.folder / "diff"

    @property
    def base_files(self) -> list[Path]:
        """Return the base's weight files."""
        return sorted(self.base.glob("*.safetensors"))

    @property
    def diff_files(self) -> list[Path]:
        """Return the diff's weight files."""
        return sorted(self.diff.glob("*.safetensors"))

    @property
    def inputs(self) -> list[Path]:
        """Return every weight file that is read."""
        return [*self.base_files, *self.diff_files]

    @property
    def out(self) -> Path:
        """Return the folder for copies and results, which is removed before and after each of them."""
        return self.folder / "out"

    def clear_output(self) -> None:
        """Delete the output, and sync."""
        for folder in (self.out, self.out.with_name("out.partial")):
            shutil.rmtree(folder, ignore_errors=True)
        os.sync()


def ensure_set(folder: Path, name: str) -> WeightSet:
    """Return the set `name` in `folder`, generated if missing.

    Raise BenchError if there is not enough room.
    """
    shape = SETS[name]
    made = WeightSet(name, folder / name, shape)
    if _is_made(made):
        _check_room(folder, shape.diff_bytes)
        return made
    if made.folder.exists():
        raise BenchError(
            f"{made.folder} is not a set that this benchmark made; move it away or name another --folder."
        )
    making = folder / f"{name}.making"
    shutil.rmtree(making, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    _check_room(folder, shape.base_bytes + 2 * shape.diff_bytes)
    print(f"Making the set {name} in {made.folder}, once", flush=True)
    write_checkpoint(making / "base", shape, dtype="float16", scale=0.02, rows=shape.vocab, seed=1)
    write_checkpoint(making / "diff", shape, dtype="float32", scale=0.001, rows=shape.vocab + 1, seed=2)
    (making / MARKER).write_text(json.dumps(_marker(shape)))
    making.rename(made.folder)
    return made


def _marker(shape: Shape) -> dict[str, Any]:
    return {"making": MAKING, "shape": asdict(shape)}


def _is_made(made: WeightSet) -> bool:
    try:
        return bool(json.loads((made.folder / MARKER).read_text()) == _marker(made.shape))
    except (OSError, ValueError):
        return False


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed * 1.02:
        raise BenchError(
            f"{folder} has {free / 1e9:.1f} GB free, and the benchmark needs {needed * 1.02 / 1e9:.1f} GB there;"
            " make room, or name another --folder or a smaller --size."
        )


def write_checkpoint(folder: Path, shape: Shape, *, dtype: str, scale: float, rows: int, seed: int) -> None:
    """Write one folder as `save_pretrained` would, without a tokenizer."""
    folder.mkdir(parents=True)
    tensors = list(shape.tensors(rows=rows))
    groups = _split(tensors, shape.base_shards) if dtype == "float16" else [tensors]
    weight_map = {}
    for number, group in enumerate(groups, 1):
        name = "model.safetensors"
        if len(groups) > 1:
            name = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        _write_file(folder / name, sorted(group), dtype=dtype, scale=scale, seed=seed)
        weight_map |= {tensor: name for tensor, _ in group}
    if len(groups) > 1:
        total = {"total_size": sum(prod(each) for _, each in tensors) * _ITEM_SIZE[dtype]}
        index = {"metadata": total, "weight_map": dict(sorted(weight_map.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (folder / "config.json").write_text(json.dumps(_config(shape, dtype=dtype, rows=rows), indent=2))


def _split(tensors: list[tuple[str, tuple[int, ...]]], parts: int) -> list[list[tuple[str, tuple[int, ...]]]]:
    """Split tensors into parts of about equal bytes, keeping neighbours together."""
    ends = list(accumulate(prod(shape) for _, shape in tensors))
    groups: list[list[tuple[str, tuple[int, ...]]]] = [[] for _ in range(parts)]
    for tensor, end in zip(tensors, ends, strict=True):
        groups[min(parts - 1, (end - 1) * parts // ends[-1])].append(tensor)
    return [group for group in groups if group]


def _write_file(
    path: Path, tensors: list[tuple[str, tuple[int, ...]]], *, dtype: str, scale: float, seed: int
) -> None:
    with path.open("wb") as file:
        file.write(_header(tensors, dtype))
        for name, shape in tensors:
            for block in _random(prod(shape), scale=scale, seed=zlib.crc32(f"{seed}/{name}".encode())):
                file.write(block.astype(dtype).tobytes())
    sync_and_drop([path])


def _header(tensors: list[tuple[str, tuple[int, ...]]], dtype: str) -> bytes:
    """Return a safetensors header, padded to a multiple of 8 bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in tensors:
        end = position + prod(shape) * _ITEM_SIZE[dtype]
        header[name] = {"dtype": _LABEL[dtype], "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _random(count: int, *, scale: float, seed: int) -> Iterator[Any]:
    """Yield normally distributed values as float32 arrays, a block at a time."""
    import numpy

    generator = numpy.random.default_rng(seed)
    for start in range(0, count, _BLOCK):
        values = generator.standard_normal(min(_BLOCK, count - start), dtype=numpy.float32)
        values *= scale
        yield values


def _config(shape: Shape, *, dtype: str, rows: int) -> dict[str, Any]:
    with_output = any(name == "lm_head.weight" for name, _ in shape.tensors(rows=rows))
    return {
        "architectures": ["LlamaForCausalLM" if with_output else "LlamaModel"], "model_type": "llama", "vocab_size": rows,
        "hidden_size": shape.hidden, "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers, "num_attention_heads": 16, "num_key_value_heads": 16,
        "tie_word_embeddings": False, "torch_dtype": dtype,
    }  # fmt: skip
