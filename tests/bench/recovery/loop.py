"""`python -m tests.bench.recovery.loop BASE DIFF OUT`: recovery in a few lines of safetensors and torch.

Opens both files, adds each tensor of the diff to the base's in float32, and saves everything in one file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

_FILE = "model.safetensors"


def recover(base_folder: str, diff_folder: str, out: str) -> None:
    """Write base plus diff, in float32, to `out`."""
    torch.set_num_threads(1)
    result = {}
    with (
        safe_open(Path(base_folder, _FILE), "pt") as base,
        safe_open(Path(diff_folder, _FILE), "pt") as diff,
    ):
        for name in diff.keys():  # noqa: SIM118 - it is no dictionary
            result[name] = diff.get_tensor(name).float() + base.get_tensor(name).float()
    Path(out).mkdir()
    save_file(result, Path(out, _FILE), metadata={"format": "pt"})


if __name__ == "__main__":
    recover(*sys.argv[1:])
