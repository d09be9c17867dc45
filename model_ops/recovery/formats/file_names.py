"""Read file names: unfinished downloads, second copies, shards, and files that are not part of a model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

# What download tools append to the names of unfinished files -> the tool. Files with the suffixes in `BESIDE`
# are next to the file itself, which already has its full size; the others take its place.
UNFINISHED = {
    "aria2": "aria2",
    "lftp-pget-status": "lftp",
    "st": "axel",
    "incomplete": "the Hub's client",
    "part": "a browser",
    "crdownload": "Chrome",
    "opdownload": "Opera",
    "download": "Safari",
    "partial": "a download tool",
    "filepart": "WinSCP",
    "tmp": "a download tool",
    "temp": "a download tool",
    "!ut": "uTorrent",
    "!qb": "qBittorrent",
    "bc!": "BitComet",
    "xltd": "Xunlei",
}
BESIDE = frozenset(("aria2", "lftp-pget-status", "st"))
_MARK = re.compile(
    rf"(?P<target>.+?)(?:\.[0-9a-f]{{16,64}})?\.(?P<mark>{'|'.join(map(re.escape, UNFINISHED))})",
    re.IGNORECASE,
)
_RSYNC = re.compile(r"\.(?P<target>[^.].*\.[A-Za-z0-9_]+)\.(?=.*[A-Z0-9])[A-Za-z0-9]{6}")
_COPY = re.compile(
    r"(?P<stem>.+?)(?: ?\(\d{1,3}\)| - Copy(?: \(\d+\))?| copy(?: \d+)?)(?P<suffix>\.[A-Za-z0-9.]+)"
)
_WGET = re.compile(r"(?P<target>.+\.(?:safetensors|bin|json|model|pt|pth|txt))\.\d{1,3}")
_SHARD = re.compile(r"(?P<stem>.+?)-(?P<number>\d{1,6})-of-(?P<count>\d{1,6})\.(?P<suffix>safetensors|bin)")

_LICENCE = re.compile(r"(?i)(?:.*[._ -])?(?:licen[cs]e|copying|notice)(?:[._ -].*)?")

# Left with the weights by trainers, systems and tools: never read as weights, never copied into a result.
LEFT_BESIDE = (
    "training_args.bin", "optimizer*.pt", "optimizer*.bin", "optimizer*.safetensors", "scheduler*.pt",
    "scheduler*.bin", "scaler.pt", "rng_state*.pth", "random_states_*.pkl", "trainer_state.json",
    "events.out.tfevents*", "zero_to_fp32.py", "latest", "nohup.out", "*.log", "*.tfevents",
    "thumbs.db", "desktop.ini", ".ds_store", "._*", "*.dvc", "*.torrent", "*.md5", "*.sha256", "sha256sums",
    "md5sums", "adapter_config.json", "adapter_model.*", "checklist.chk",
)  # fmt: skip
SKIPPED_FOLDERS = frozenset(("__macosx", "onnx", "original", "runs", "logs", "wandb", "tensorboard"))
HUB_NOTES = ".cache/huggingface/download"  # where the Hub's client keeps unfinished downloads
_VOCABULARIES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
    "sentencepiece.bpe.model", "tekken.json", "*.tiktoken",
)  # fmt: skip
_ABOUT_TOKENS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.*")


@dataclass(frozen=True)
class Unfinished:
    """An unfinished download. `target` is the name of the finished file, "" if unknown."""

    target: str
    tool: str
    beside: bool


@dataclass(frozen=True)
class Shard:
    """The parts of `STEM-00001-of-00003.safetensors`; `digits` are the widths of the number and the count."""

    stem: str
    number: int
    count: int
    suffix: str
    digits: tuple[int, int]

    @property
    def group(self) -> tuple[str, int, str]:
        """Return a key that all shards of one checkpoint share."""
        return self.stem, self.count, self.suffix

    def sibling(self, number: int) -> str:
        """Return the name of another shard of the same checkpoint."""
        first, last = self.digits
        return f"{self.stem}-{number:0{first}d}-of-{self.count:0{last}d}.{self.suffix}"


def unfinished(name: str) -> Unfinished | None:
    """Return what the name says about an unfinished download; None for any other file."""
    if found := _MARK.fullmatch(name):
        mark, target = found["mark"].lower(), found["target"]
        target = "" if target.startswith("Unconfirmed ") else target
        return Unfinished(target, UNFINISHED[mark], mark in BESIDE)
    if found := _RSYNC.fullmatch(name):
        return Unfinished(found["target"], "rsync", False)
    return None


def second_copy(name: str) -> str:
    """Return the original name of a second download (`model.safetensors.1`, `model (1).safetensors`), else ""."""
    if found := _WGET.fullmatch(name):
        return found["target"]
    if found := _COPY.fullmatch(name):
        return found["stem"] + found["suffix"]
    return ""


def shard(name: str) -> Shard | None:
    """Return the parts of a shard's name; None for any other file."""
    if not (found := _SHARD.fullmatch(name)):
        return None
    digits = len(found["number"]), len(found["count"])
    return Shard(found["stem"], int(found["number"]), int(found["count"]), found["suffix"], digits)


def is_left_beside(name: str) -> bool:
    """Return whether a trainer, an operating system or a download left this file with a model."""
    lower = name.lower()
    return (
        any(fnmatchcase(lower, pattern) for pattern in LEFT_BESIDE)
        or unfinished(name) is not None
        or bool(_WGET.fullmatch(name))
    )


def is_licence(name: str) -> bool:
    """Return whether a file is named like a licence, which a release may add or replace."""
    return bool(_LICENCE.fullmatch(name))


def vocabularies(names: Iterable[str]) -> list[str]:
    """Return the names that hold a tokenizer's vocabulary, in order."""
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in _VOCABULARIES)]


def tokenizer_files(names: Iterable[str]) -> list[str]:
    """Return the names that a tokenizer is loaded from, in order."""
    known = (*_VOCABULARIES, *_ABOUT_TOKENS)
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in known)]


def looks_like(name: str, names: Collection[str]) -> str:
    """Return a file that is probably meant by `name`: other case or a second copy; else ""."""
    for other in sorted(names):
        if other != name and (other.casefold() == name.casefold() or second_copy(other) == name):
            return other
    return ""
