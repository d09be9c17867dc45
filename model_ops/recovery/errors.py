"""The three ways a run ends without weights; each message is one sentence for the person who asked."""


class RecoveryError(Exception):
    """A run that made nothing. `exit_status` is what the command line returns."""

    exit_status = 1


class Refusal(RecoveryError):
    """Seen in headers, sizes, indexes or pickles, before a byte of output was written."""

    exit_status = 2


class Failure(RecoveryError):
    """Went wrong on the way: a read, a full disk, a value that must not be. Nothing visible was left."""


class Cancelled(Failure):
    """Stopped on request; finished shards wait in the partial folder."""

    def __init__(self) -> None:
        super().__init__("The run was cancelled; finished shards are kept, and the same command resumes it.")
