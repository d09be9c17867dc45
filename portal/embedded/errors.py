"""Errors of the launcher that prevent the portal from starting."""


class StartError(Exception):
    """The portal could not start; the message is one sentence for the person at the terminal."""


class Refused(StartError):
    """A setting, address or port that the person gave cannot be used.

    Nothing that matters has been stored yet.
    """
