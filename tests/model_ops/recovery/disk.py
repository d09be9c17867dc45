"""A disk that fails: answers in place of the operating system's calls, for chosen files and after a while."""

import os
from pathlib import Path

CALLS = ("preadv", "pwrite", "fsync", "fdatasync")


class Disk:
    """While installed, `fail` and `on` say what happens at a call on a file of that name."""

    def __init__(self, monkeypatch):
        self.calls = {}
        self._rules = []
        for call in CALLS:
            monkeypatch.setattr(os, call, self._answer(call, getattr(os, call)))

    def fail(self, call, name, error, *, after=0):
        """From the call after `after` others on, `call` on files named `name` raises OSError(error)."""

        def refuse(*_):
            raise OSError(error, os.strerror(error))

        self.on(call, name, refuse, after=after)

    def on(self, call, name, action, *, after=0, times=None):
        """`action(descriptor, *arguments)` goes first; unless it returns None, its answer is the call's."""
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
