"""How a run ends without weights: refused, failed or cancelled. Each message is one sentence for the user."""

import errno

_MAX_SENTENCE = 1000  # characters


class RecoveryError(Exception):
    """A run that made nothing. The command line exits with `exit_status`.

    The message may contain names from untrusted files, and is shown in terminals, logs and pages: see
    `one_line`. `lacks` says what the machine was short of, if waiting can help: `room` on the disk
    (`bytes_needed` of it, 0 if unknown), `memory` or `device`.
    """

    exit_status = 1

    def __init__(self, sentence: str, *, lacks: str = "", bytes_needed: int = 0) -> None:
        super().__init__(one_line(sentence))
        self.lacks, self.bytes_needed = lacks, bytes_needed


class Refusal(RecoveryError):
    """A problem found in headers, sizes, indexes or pickles, before any output was written."""

    exit_status = 2


class Failure(RecoveryError):
    """A problem during the run: a failed read, a full disk, a forbidden value. No visible result is left."""


class Cancelled(Failure):
    """Stopped on request; finished shards stay in the partial folder."""

    def __init__(self) -> None:
        super().__init__("The run was cancelled; finished shards are kept, and the same command resumes it.")


def what_lacks(error: BaseException) -> dict[str, object]:
    """Return what the machine was short of, as `--json` prints it; empty if waiting does not help."""
    lacks, needed = getattr(error, "lacks", ""), getattr(error, "bytes_needed", 0)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        lacks = "room"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        lacks = "memory"
    return {"lacks": lacks, "bytes_needed": needed} if lacks else {}


def one_line(text: str, limit: int = _MAX_SENTENCE) -> str:
    """Return the text on one line of at most `limit` characters, with terminal control characters escaped.

    This is the engine's version; the portal's (`access_requests.lines`) drops the characters that are escaped
    here.
    """
    flat = " ".join(_cut_middle(text, limit).split())
    return _cut_middle(printable(flat), limit)


def printable(text: str, *, keep: str = "") -> str:
    """Return the text with terminal control characters escaped, except for the characters in `keep`."""
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def _cut_middle(text: str, limit: int) -> str:
    """Cut the middle out of a text: a message says what happened at its start and what to do at its end."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end - 5]} ... {text[-end:]}"
