"""How a run ends without weights: refused, failed or cancelled. Each message is one sentence for who asked."""

import errno

_MAX_SENTENCE = 1000  # characters


class RecoveryError(Exception):
    """A run that made nothing. `exit_status` is what the command line returns.

    The sentence may hold names from strangers' files, and it goes to terminals, logs and pages: see `one_line`.
    `lacks` says what was missing on the machine, where waiting can help: `room` on the disk (`bytes_needed` of it, 0
    where that is not known), `memory` or `device`.
    """

    exit_status = 1

    def __init__(self, sentence: str, *, lacks: str = "", bytes_needed: int = 0) -> None:
        super().__init__(one_line(sentence))
        self.lacks, self.bytes_needed = lacks, bytes_needed


class Refusal(RecoveryError):
    """Seen in headers, sizes, indexes or pickles, before a byte of output was written."""

    exit_status = 2


class Failure(RecoveryError):
    """Went wrong on the way: a read, a full disk, a value that must not be. Nothing visible was left."""


class Cancelled(Failure):
    """Stopped on request; finished shards wait in the partial folder."""

    def __init__(self) -> None:
        super().__init__("The run was cancelled; finished shards are kept, and the same command resumes it.")


def what_lacks(error: BaseException) -> dict[str, object]:
    """Return what the machine lacked, as `--json` prints it; empty where waiting does not help."""
    lacks, needed = getattr(error, "lacks", ""), getattr(error, "bytes_needed", 0)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        lacks = "room"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        lacks = "memory"
    return {"lacks": lacks, "bytes_needed": needed} if lacks else {}


def one_line(text: str, limit: int = _MAX_SENTENCE) -> str:
    """The text on one line of at most `limit` characters, with whatever would steer a terminal written as an escape.

    The engine's own: the portal's lines (`access_requests.lines`) drop what is an escape here.
    """
    flat = " ".join(_cut_middle(text, limit).split())
    return _cut_middle(printable(flat), limit)


def printable(text: str, *, keep: str = "") -> str:
    """The text with whatever would steer a terminal written as an escape; the characters in `keep` stay."""
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def _cut_middle(text: str, limit: int) -> str:
    """Return the text without its middle: a sentence says what happened at its beginning and what to do at its end."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end - 5]} ... {text[-end:]}"
