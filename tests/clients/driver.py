"""Runs in a client's own environment: imports the client once, then forks a process for each order.

An order is a line of JSON: `{"op": "start", "argv": [...]}` runs the `hf` command, `{"op": "start", "code":
"..."}` a program; `stdout` and `stderr` are written to `folder`, and `environment` is set in the fork.
`{"op": "wait", "pid": ...}` answers with the exit status. A fork does what the command does in a terminal,
but saves a second of imports.
"""

import json
import os
import sys
import traceback
from pathlib import Path

import huggingface_hub
import huggingface_hub.cli.hf
import huggingface_hub.file_download
import huggingface_hub.hf_api
import huggingface_hub.hf_file_system


def start(order):
    pid = os.fork()
    if pid:
        return {"pid": pid}
    status = 1
    try:
        redirect(order["folder"])
        os.environ.update(order.get("environment", {}))
        status = run(order)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def redirect(folder):
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    for number, name in ((1, "stdout"), (2, "stderr")):
        target = os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(target, number)


def run(order):
    try:
        if "argv" in order:
            sys.argv = ["hf", *order["argv"]]
            huggingface_hub.cli.hf.main()
        else:
            exec(compile(order["code"], "program.py", "exec"), {"__name__": "__main__"})  # noqa: S102 - a test's program
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def wait(order):
    _, status = os.waitpid(order["pid"], 0)
    return {"status": os.waitstatus_to_exitcode(status)}


print(json.dumps({"version": huggingface_hub.__version__}), flush=True)  # noqa: T201 - the answer
for line in sys.stdin:
    order = json.loads(line)
    print(json.dumps({"start": start, "wait": wait}[order["op"]](order)), flush=True)  # noqa: T201 - the answer
