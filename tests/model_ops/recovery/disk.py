"""A failing disk: replaces system calls on chosen files, if need be only after some calls."""

import os
from pathlib import Path

CALLS = ("preadv", "pwrite", "fsync", "fdatasync")


class Disk:
    """Replaces system calls; `fail` and `on` set what happens at a call on files with a name."""

    def __init__(self, monkeypatch):
        self.calls = {}
        self._rules = []
        for call in CALLS:
            monkeypatch.setattr(os, call, self._answer(call, getattr(os, call)))

    def fail(self, call, name, error, *, after=0):
        """Make every `call` on files named `name` raise OSError(error) after the first `after` calls."""

        def refuse(*_):
            raise OSError(error, os.strerror(error))

        self.on(call, name, refuse, after=after)

    def on(self, call, name, action, *, after=0, times=None):
        """Call `action(descriptor, *arguments)` first.

        Any result other than None replaces the real call's.
        """
        self._rules.append([call, name, action, after, times])

    def heal(self):
        self._rules.clear()

    def _answer(self, call, real):
        def answer(descriptor, *arguments):
            name = Path(f"/proc/self/fd/{descriptor}").readlink().name
            self.calls[call, name] = self.calls.get((call, name), 0) + 1
            for rule in self._rules:
                if (call, name) == (rule[0], rule[1]) and self.calls[call, name] > rule[3] and rule[4] != 0:
                    rule[4] = None if rule[4] is None else rule[4] - 1
                    found = rule[2](descriptor, *arguments)
                    if found is not None:
                        return found
            return real(descriptor, *arguments)

        return answer
