"""Command-line runs as real processes that can be killed, forked from one that has already imported torch.

A separate start would spend a second importing torch; this way, fifty kills take no longer than their work.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from model_ops.recovery import cli

ROOT = Path(__file__).resolve().parents[3]
# The file system calls counted as steps; "open" counts only if the run opens a file.
STEPS = frozenset(
    ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "os.scandir", "os.listdir", "fcntl.flock")
)  # fmt: skip


class Forks:
    """Runs the command line, one run at a time."""

    def __init__(self, folder):
        self.errors = folder / "errors"
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", __name__],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *arguments, step=0, error=0):
        """Start a run; return its process id. At `step` it kills itself, or the call fails with `error`."""
        order = {
            "arguments": [*map(str, arguments)],
            "errors": str(self.errors),
            "step": step,
            "error": error,
        }
        print(json.dumps(order), file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline())

    def wait(self):
        """Return (exit status, standard error) of the run; the status is negative if a signal ended it."""
        self._server.stdout.readline()
        print(file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline()), self.errors.read_text()

    def run(self, *arguments, **options):
        self.start(*arguments, **options)
        return self.wait()

    def close(self):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


def _serve():
    import model_ops.recovery.execution.pipeline  # noqa: F401 - spend the second now

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _child(json.loads(line))
        _answer(pid)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # its id is not reused until the next line arrives
        _answer("ended")
        sys.stdin.readline()
        _answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _answer(value):
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


def _child(order):
    status = 3
    with contextlib.suppress(BaseException):
        errors = os.open(order["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if order["step"]:
            sys.addaudithook(_Steps(order))
        status = cli.main(order["arguments"])
    os._exit(status)


class _Steps:
    def __init__(self, order):
        self.left, self.error = order["step"], order["error"]
        self.folders = tuple(str(Path(word).parent) for word in order["arguments"] if word.startswith("/"))

    def __call__(self, event, arguments):
        if event in STEPS and (event != "open" or str(arguments[0]).startswith(self.folders)):
            self.left -= 1
            if self.left == 0 and self.error:
                raise OSError(self.error, os.strerror(self.error))
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _serve()
