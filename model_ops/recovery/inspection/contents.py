"""Recognise files that are not what their names promise, by their first bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from model_ops.recovery import MANIFEST
from model_ops.recovery.formats import file_names
from model_ops.recovery.formats.folder import WEIGHT_SUFFIXES

HEAD = 4096  # bytes that are read from each file
SMALL = 4096  # bytes; pointers and a server's messages in place of a file are not longer, but pages are
_PAGE_SUFFIXES = WEIGHT_SUFFIXES | {".json", ".model", ".tiktoken", ".spm", ".yaml", ".yml", ".py"}
_SAFE = re.compile(r"[A-Za-z0-9._+-]{1,120}")
_LEGACY_TORCH = (
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # a pickled number that torch writes first
)
_GGML = (b"lmgg", b"fmgg", b"tjgg", b"algg")
_HTML = re.compile(
    r"(?:<\?xml[^>]*>\s*)?(?>(?:<!--.*?-->\s*)*)<(?:!doctype html|html|head|body|script|title)\b", re.I | re.S
)
_XML = re.compile(r"(?:<\?xml[^>]*>\s*)?<(?:Error|ErrorResponse|AccessDenied)\b")
_REFUSAL = re.compile(
    r"(?:\d{3}[ :]+)?(?:entry not found|repository not found|revision not found|(?:file )?not found|access denied|"
    r"access to model .{1,120} is restricted|cannot access gated repo|invalid username or password|"
    r"invalid credentials|unauthorized|forbidden|too many requests|rate limit|bad request|bad gateway|"
    r"gateway time-?out|service (?:temporarily )?unavailable|internal server error|moved permanently|found\. redirecting|"
    r"temporary redirect)",
    re.IGNORECASE,
)  # fmt: skip
_SAYS_WHY = frozenset(("error", "errors", "message", "detail", "error_description"))
_BESIDE_WHY = frozenset(("status", "statuscode", "code", "success", "path", "timestamp", "requestid", "error_code",
                         "request_id", "documentation_url", "url", "reason", "type"))  # fmt: skip


@dataclass(frozen=True)
class Head:
    """A file's name, its size and its first bytes."""

    name: str
    size: int
    raw: bytes

    @property
    def suffix(self) -> str:
        """Return the suffix in lower case, as `.safetensors`."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def text(self) -> str:
        """Return the first bytes as text without leading white space; undecodable bytes are replaced."""
        encoding = "utf-16" if self.raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return self.raw.decode(encoding, "replace").lstrip()

    @property
    def promised(self) -> str:
        """Return what the file should be, as worded in messages."""
        base = PurePosixPath(self.name).name.lower()
        if self.suffix in WEIGHT_SUFFIXES:
            return "the weights"
        if base.endswith(".index.json"):
            return "the index"
        if file_names.tokenizer_files([base]):
            return "the tokenizer"
        known = {"config.json": "the configuration", MANIFEST: "the manifest"}
        return known.get(base, "the file itself")

    @property
    def can_be_a_page(self) -> bool:
        """Return whether a web page with this name must be a mistake."""
        return self.suffix in _PAGE_SUFFIXES or self.promised != "the file itself"

    @property
    def can_be_a_message(self) -> bool:
        """Return whether an error message with this name must be a mistake."""
        return self.promised != "the file itself" or self.name.lower().endswith("config.json")

    @property
    def is_needed(self) -> bool:
        """Return whether loaders fail if this file is empty.

        An empty merges.txt or chat template is allowed.
        """
        fixed = self.suffix in {".json", ".model"} and self.promised not in {"the file itself", "the weights"}
        return fixed or PurePosixPath(self.name).name == "vocab.txt"

    @property
    def is_weights(self) -> bool:
        """Return whether loaders read weights from this name, such as `pytorch_model-00001-of-00002.bin`."""
        base = PurePosixPath(self.name).name
        part = file_names.shard(base)
        stem = part.stem if part else base.rpartition(".")[0]
        return self.suffix in {".safetensors", ".bin"} and stem in {"model", "pytorch_model", "adapter_model"}


@dataclass(frozen=True)
class Kind:
    """A kind of wrong file. `says` completes a sentence that begins with the file's name.

    `only` limits it to some files.
    """

    name: str
    fits: Callable[[Head], bool]
    says: str
    only: Callable[[Head], bool] = lambda head: True


def _is_lfs(head: Head) -> bool:
    """Return whether this is a Git LFS pointer, of any version, with any line ends, or inside a merge conflict."""
    if head.size > SMALL or not re.match(
        r"version\s+https?://|oid |<{7} |# (?:git-media|external)", head.text
    ):
        return False
    lines = [line.strip() for line in head.text.splitlines()]
    has_id = any(re.fullmatch(r"(?:oid )?(?:sha256:)?[0-9a-f]{40,64}", line) for line in lines)
    return has_id and (lines[0].startswith("#") or any(re.fullmatch(r"size \d+", line) for line in lines))


def _is_refusal(head: Head) -> bool:
    """Return whether this is a short error text, or a JSON object that contains only an error."""
    if not 0 < head.size <= SMALL:
        return False
    if _REFUSAL.match(head.text) and head.text.rstrip().isprintable():
        return head.suffix != ".txt" or len(head.text) < 200
    try:
        value = json.loads(head.text)
    except (ValueError, RecursionError):
        return False
    keys = {str(key).lower() for key in value} if isinstance(value, dict) else set()
    return bool(keys & _SAYS_WHY) and keys <= _SAYS_WHY | _BESIDE_WHY


def _packed_names(head: Head) -> str:
    """Return the name of the first entry of a zip file, "" for any other file."""
    if not head.raw.startswith(b"PK\x03\x04") or len(head.raw) < 30:
        return ""
    length = int.from_bytes(head.raw[26:28], "little")
    return head.raw[30 : 30 + length].decode("utf-8", "replace")


def _is_zipped_folder(head: Head) -> bool:
    """Return whether this is a zip archive of a checkpoint's files; torch.save uses other entry names."""
    entry = _packed_names(head).lower()
    return entry.endswith((".safetensors", ".bin", ".json", ".model", ".md", ".txt"))


def _starts_with(*magic: bytes) -> Callable[[Head], bool]:
    return lambda head: head.raw.startswith(magic) and not _is_safetensors(head)


def _is_safetensors(head: Head) -> bool:
    """Return whether this begins like safetensors. Its header length may look like an archive by chance."""
    return 2 <= int.from_bytes(head.raw[:8], "little") < 2**32 and head.raw[8:9] == b"{"


_DOWNLOAD = "Download it again, for instance with `hf download`, then try again."
CUT = "is an unfinished download: its end is missing. " + _DOWNLOAD
CUT_JSON = "is cut short or damaged: it does not end as JSON does. " + _DOWNLOAD
_UNPACK = "Unpack it with {command} and put the unpacked file in its place."
KINDS = (
    Kind("lfs_pointer", _is_lfs,
         "is a Git LFS pointer, not {promised}. Run `git lfs pull` {where}, {again}."),
    Kind("annex_pointer", lambda head: head.size <= SMALL and bool(re.match(r"/?\S*annex/objects/\S+", head.text)),
         "is a git-annex pointer, not {promised}. Run `git annex get .` {where}, {again}."),
    Kind("xet_pointer", lambda head: head.size <= SMALL and head.text.startswith("# xet version"),
         "is a Xet pointer, not {promised}. " + _DOWNLOAD),
    Kind("empty", lambda head: head.size == 0,
         "is empty: the download did not finish, or the disk was full. " + _DOWNLOAD, lambda head: head.is_needed),
    Kind("page", lambda head: bool(_HTML.match(head.text)),
         "is a web page, not {promised}: the server sent the page instead of the file. Download the file again, for "
         "instance with `hf download`; if the repository is gated, run `hf auth login` first.", lambda head: head.can_be_a_page),
    Kind("refusal", lambda head: bool(_XML.match(head.text)) or _is_refusal(head),
         "is a server's error message, not {promised}. Download the file again, for instance with `hf download`; if the "
         "repository is gated, run `hf auth login` first.", lambda head: head.can_be_a_message),
)  # fmt: skip
# Compressed files. A server may have compressed a JSON file during the transfer, too.
PACKED = (
    Kind("gzip", _starts_with(b"\x1f\x8b\x08"), "is compressed with gzip. " + _UNPACK.format(command="`gzip -dc {name} > UNPACKED`")),
    Kind("zstd", _starts_with(b"\x28\xb5\x2f\xfd"), "is compressed with zstd. " + _UNPACK.format(command="`zstd -dc {name} > UNPACKED`")),
    Kind("xz", _starts_with(b"\xfd7zXZ\0"), "is compressed with xz. " + _UNPACK.format(command="`xz -dc {name} > UNPACKED`")),
    Kind("bzip2", lambda head: bool(re.match(rb"BZh[1-9]1AY&SY", head.raw)), "is compressed with bzip2. " + _UNPACK.format(command="`bzip2 -dc {name} > UNPACKED`")),
    Kind("7z", _starts_with(b"7z\xbc\xaf\x27\x1c"), "is a 7z archive. " + _UNPACK.format(command="`7z x {name}`")),
    Kind("rar", _starts_with(b"Rar!"), "is a RAR archive. " + _UNPACK.format(command="`unrar x {name}`")),
    Kind("tar", lambda head: head.raw[257:262] == b"ustar" and not _is_safetensors(head), "is a tar archive. " + _UNPACK.format(command="`tar -xf {name}`")),
    Kind("zip", _is_zipped_folder, "is a zip archive of other files. " + _UNPACK.format(command="`unzip {name}`")),
)  # fmt: skip
# Kinds that only weights are checked for.
WEIGHTS = (
    Kind("empty", lambda head: head.size == 0,
         "is empty: the download did not finish, or the disk was full. " + _DOWNLOAD),
    Kind("zeros", lambda head: head.size >= 16 and not any(head.raw),
         "begins with zeros: its download did not finish. " + _DOWNLOAD),
    *PACKED,
    Kind("gguf", _starts_with(b"GGUF", *_GGML),
         "is a GGUF file for llama.cpp under another name. Use the model's original Hugging Face checkpoint instead."),
    Kind("hdf5", _starts_with(b"\x89HDF\r\n\x1a\n"),
         "is an HDF5 file of TensorFlow or Keras under another name. Use the model's PyTorch or safetensors checkpoint instead."),
    Kind("numpy", _starts_with(b"\x93NUMPY"),
         "is a NumPy array under another name. Use the model's PyTorch or safetensors checkpoint instead."),
    Kind("safetensors_as_bin", _is_safetensors,
         "is a safetensors file under another name. Rename it to end in .safetensors, and an index with it.",
         lambda head: head.suffix == ".bin"),
    Kind("bin_as_safetensors", lambda head: bool(_packed_names(head)) or head.raw.startswith(_LEGACY_TORCH),
         "is a PyTorch file under another name. Rename it to end in .bin, as pytorch_model.bin does.",
         lambda head: head.suffix == ".safetensors"),
)  # fmt: skip
TEXT = Kind("text", lambda head: head.size > 0 and _is_text(head),
            "is text, not {promised}: it begins with {start}. " + _DOWNLOAD)  # fmt: skip
# Valid files that the engine does not read.
UNREAD = (
    Kind("legacy_bin", _starts_with(_LEGACY_TORCH),
         "was saved in the format from before PyTorch 1.6, which is not read. Save it again: `python -c \"import torch; "
         "p = '{name}'; torch.save(torch.load(p, map_location='cpu', weights_only=True), p)\"`."),
)  # fmt: skip


def _is_text(head: Head) -> bool:
    shown = head.raw.decode("utf-8", "ignore")
    return len(shown.encode()) >= len(head.raw) - 3 and all(
        letter.isprintable() or letter in "\r\n\t" for letter in shown
    )


def judge(head: Head, kinds: tuple[Kind, ...], *, where: str, again: str) -> str:
    """Return the rest of a sentence that begins with the file's name, for the first kind that fits; "" if none does."""
    for kind in kinds:
        if kind.only(head) and kind.fits(head):
            name = in_command(PurePosixPath(head.name).name)
            return kind.says.format(
                promised=head.promised, where=where, again=again, name=name, start=repr(head.text[:60])
            )
    return ""


def in_command(name: str) -> str:
    """Return a name that is safe inside a shell command; any other becomes `FILE`."""
    return name if _SAFE.fullmatch(name) and not name.startswith("-") else "FILE"
