"""`python -m tests.bench.recovery.loop BASE DIFF OUT`: what a few lines of safetensors and torch do to recover.

Both files are opened, each tensor of the diff is added to the base's in float32, and all is saved in one file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

_FILE = "model.safetensors"


def recover(base_folder: str, diff_folder: str, out: str) -> None:
    """Base plus diff, in float32, into `out`."""
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
