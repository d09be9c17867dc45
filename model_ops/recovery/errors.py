"""How a run ends without weights: refused, failed or cancelled. Each message is one sentence for who asked."""

_MAX_SENTENCE = 1000  # characters


class RecoveryError(Exception):
    """A run that made nothing. `exit_status` is what the command line returns.

    The sentence may hold names from strangers' files, and it goes to terminals, logs and pages: see `one_line`.
    """

    exit_status = 1

    def __init__(self, sentence: str) -> None:
        super().__init__(one_line(sentence))


class Refusal(RecoveryError):
    """Seen in headers, sizes, indexes or pickles, before a byte of output was written."""

    exit_status = 2


class Failure(RecoveryError):
    """Went wrong on the way: a read, a full disk, a value that must not be. Nothing visible was left."""


class Cancelled(Failure):
    """Stopped on request; finished shards wait in the partial folder."""

    def __init__(self) -> None:
        super().__init__("The run was cancelled; finished shards are kept, and the same command resumes it.")


def one_line(text: str, limit: int = _MAX_SENTENCE) -> str:
    """The text on one line of at most `limit` characters, with whatever would steer a terminal written as an escape."""
    flat = " ".join(_shortened(text, limit).split())
    return _shortened(printable(flat), limit)


def printable(text: str, *, keep: str = "") -> str:
    """The text with whatever would steer a terminal written as an escape; the characters in `keep` stay."""
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def _shortened(text: str, limit: int) -> str:
    """The middle is what goes: a sentence says what at its beginning and what to do at its end."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end - 5]} ... {text[-end:]}"
