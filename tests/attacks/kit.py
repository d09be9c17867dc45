"""Tools shared by the attacks: a valid pair to damage, writers for malformed files, and a watched command line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model_ops.recovery import cli
from tests.attacks.watch import Watch

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {"model_type": "llama", "tie_word_embeddings": False, "dtype": "float32"}
SHAPES = {
    "lm_head.weight": (6, 8),
    "model.embed_tokens.weight": (6, 8),
    "model.layers.0.mlp.up_proj.weight": (8, 8),
    "model.norm.weight": (8,),
}
Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]  # name -> dtype, shape, bytes


def floats(count: int, value: float = 1.0) -> bytes:
    return struct.pack(f"<{count}f", *[value] * count)


def product(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def sound_tensors(value: float = 1.0) -> Tensors:
    """Return tensors filled with `value`, except the embedding, so that the output is not tied to it."""
    return {
        name: ("F32", shape, floats(product(shape), value + (name == "model.embed_tokens.weight")))
        for name, shape in SHAPES.items()
    }


def header_of(tensors: Tensors) -> dict[str, Any]:
    """Return a header that lays out the tensors one after another."""
    header, position = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [position, position + len(data)],
        }
        position += len(data)
    return header


def write_safetensors(path: Path, header: Any, data: bytes, length: int | None = None) -> Path:
    """Write a file with any header (bytes are written as they are) and any header length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def write_tensors(path: Path, tensors: Tensors) -> Path:
    return write_safetensors(path, header_of(tensors), b"".join(data for _, _, data in tensors.values()))


def write_checkpoint(folder: Path, value: float = 1.0) -> Path:
    """Write a valid single-file checkpoint with a model configuration and a tokenizer configuration."""
    folder.mkdir()
    write_tensors(folder / "model.safetensors", sound_tensors(value))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 32}\n')
    return folder


def write_index(folder: Path, weight_map: Any, name: str = "model.safetensors.index.json") -> Path:
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder / name


# The pickle of a state dict, opcode by opcode, as torch.save writes it.


def text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if 0 <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str, elements: int, kind: str = "FloatStorage") -> bytes:
    return (
        b"("
        + text("storage")
        + f"ctorch\n{kind}\n".encode()
        + text(key)
        + text("cpu")
        + number(elements)
        + b"tQ"
    )


def tensor(place: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    arguments = (
        place + number(offset) + numbers(shape) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)R"
    )
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(product(shape[place + 1 :]) for place in range(len(shape)))


def dictionary(values: Mapping[str, bytes]) -> bytes:
    """Return a complete pickle of a dictionary whose values are already pickled."""
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in values.items()) + b"u."


def state_pickle(tensors: Tensors) -> bytes:
    return dictionary(
        {
            name: tensor(storage(str(key), product(shape)), 0, shape, contiguous(shape))
            for key, (name, (_, shape, _)) in enumerate(tensors.items())
        }
    )


def bin_entries(tensors: Tensors, pickled: bytes | None = None) -> dict[str, bytes]:
    """Return the zip entries of a `.bin` of float32 tensors, with `pickled`, if given, as its pickle."""
    return {
        "archive/data.pkl": state_pickle(tensors) if pickled is None else pickled,
        "archive/byteorder": b"little",
        **{f"archive/data/{key}": data for key, (_, _, data) in enumerate(tensors.values())},
        "archive/version": b"3\n",
    }


def write_zip(path: Path, entries: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(zipfile.ZipInfo(name), data, compression)
    return path


def naive(code: str, folder: Path, *, memory: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run `code` as an unsuspecting reader would: Python with only its standard library, in `folder`."""
    limit = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))\n" if memory else ""
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", limit + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return everything below a folder, without following links or opening anything but regular files."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        content: Any = path.readlink() if path.is_symlink() else None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes() if status.st_size < 10**6 else (status.st_size, status.st_mtime_ns)
        found[str(path.relative_to(root))] = (kind, stat.S_IMODE(status.st_mode), content)
    return found


@dataclass(frozen=True)
class Outcome:
    """The result of one command."""

    status: int
    stdout: str
    stderr: str
    watch: Watch

    @property
    def sentence(self) -> str:
        """Return standard error, after checking that it is one line that is safe to print in a terminal."""
        assert self.stderr.endswith("\n")
        line = self.stderr[:-1]
        assert line.isprintable(), line
        assert 0 < len(line) <= 1000
        assert line.endswith("."), line
        assert "Something unforeseen" not in line
        return line


def run(*arguments: object, seconds: float = 20) -> Outcome:
    """Run the command line in this process; raise Hang if it takes too long."""
    stdout, stderr = io.StringIO(), io.StringIO()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with (
            time_limit(seconds),
            Watch() as watch,
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            status = cli.main([str(argument) for argument in arguments])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return Outcome(status, stdout.getvalue(), stderr.getvalue(), watch)


class Hang(BaseException):
    """A time limit was exceeded. Not an Exception, so that no handler on the way catches it."""


@contextlib.contextmanager
def time_limit(seconds: float, timer: int = signal.ITIMER_REAL) -> Iterator[None]:
    number = {signal.ITIMER_REAL: signal.SIGALRM, signal.ITIMER_PROF: signal.SIGPROF}[timer]

    def stop(*_: object) -> None:
        raise Hang(f"not done within {seconds} s")

    before = signal.signal(number, stop)
    remaining, _ = signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, remaining)
        signal.signal(number, before)


class World:
    """A base and a diff that are valid until an attack damages them, a secret file, and the path of the result."""

    def __init__(self, root: Path) -> None:
        self.root, self.out = root / "world", root / "world" / "out"
        self.root.mkdir()
        self.base = write_checkpoint(self.root / "base", 1.0)
        self.diff = write_checkpoint(self.root / "diff", 0.5)
        self.secret = write_tensors(self.root / "secret.safetensors", sound_tensors(42.0))

    @property
    def weights(self) -> Path:
        return self.diff / "model.safetensors"

    def use_bin(self, folder: Path, entries: Mapping[str, bytes] | None = None) -> Path:
        """Replace the weights of a folder with a `.bin`, which is valid unless entries are given."""
        (folder / "model.safetensors").unlink()
        return write_zip(folder / "pytorch_model.bin", entries or bin_entries(sound_tensors()))

    def run(self, *options: object) -> Outcome:
        return run(
            "recover", "--path_raw", self.base, "--path_diff", self.diff, "--path_tuned", self.out, *options
        )

    def plan(self, *options: object) -> Outcome:
        return run(
            "plan", "--path_raw", self.base, "--path_diff", self.diff, "--path_tuned", self.out, *options
        )

    def refused(self, *options: object) -> str:
        """Run, and return the sentence of the refusal.

        The exit status is 2, no file has changed and nothing was started.
        """
        before = tree(self.root)
        outcome = self.run(*options)
        assert (outcome.status, outcome.stdout) == (2, ""), outcome.stderr
        assert tree(self.root) == before
        self._only_wrote(outcome, before)
        return outcome.sentence

    def failed(self, *options: object) -> str:
        """Run, and return the sentence of the failure.

        The exit status is 1, there is no result, and only unfinished work was written.
        """
        pytest.importorskip("torch", reason="only making weights needs torch")
        before = tree(self.root)
        outcome = self.run(*options)
        assert (outcome.status, outcome.stdout) == (1, ""), outcome.stderr
        self._only_wrote(outcome, before)
        assert not self.out.exists()
        return outcome.sentence

    def made(self, *options: object) -> dict[str, bytes]:
        """Run, and return the files of the result. Nothing was written anywhere else."""
        pytest.importorskip("torch", reason="only making weights needs torch")
        before = tree(self.root)
        outcome = self.run(*options)
        assert outcome.status == 0, outcome.stderr
        self._only_wrote(outcome, before)
        assert not (self.root / "out.partial").exists()
        return {path.name: path.read_bytes() for path in self.out.iterdir()}

    def _only_wrote(self, outcome: Outcome, before: dict[str, Any]) -> None:
        ours = (str(self.out), f"{self.out}.partial")
        strays = [path for path in outcome.watch.writes if not inside(path, ours)]
        assert strays == []
        assert outcome.watch.runs == []
        after = tree(self.root)
        assert {
            name: fact for name, fact in after.items() if name.split("/")[0] not in {"out", "out.partial"}
        } == {name: fact for name, fact in before.items() if name.split("/")[0] not in {"out", "out.partial"}}


def inside(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


Change = Callable[[World], object]
