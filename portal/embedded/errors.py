"""What the launcher says when it cannot go on."""


class StartError(Exception):
    """A start that failed; the message is one sentence for the person at the terminal."""
