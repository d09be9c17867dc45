"""What the launcher says when it cannot go on."""


class StartError(Exception):
    """A start that failed; the message is one sentence for the person at the terminal."""


class Refused(StartError):
    """What the person gave cannot be used: a setting, an address or a port. Nothing has been kept yet that matters."""
