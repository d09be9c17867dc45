"""The options that name weights, for add_model and update_model."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from model_ops.enums import Compat, Dtype, ResizePolicy
from model_ops.services.weights import Prepared, prepare_weights

SOURCE_HELP = "a folder, hf:REPO_ID@REVISION or hf+https://HOST/REPO_ID@REVISION"


def add_weight_options(
    parser: CommandParser, dtype: str | None, compat: str | None, resize_policy: str | None
) -> None:
    """`--base --diff --files --dtype --compat --resize-policy` with these defaults."""
    for name in ("base", "diff", "files"):
        parser.add_argument(f"--{name}", default="", metavar="SOURCE", help=SOURCE_HELP)
    parser.add_argument("--dtype", choices=Dtype.values, default=dtype)
    parser.add_argument("--compat", choices=Compat.values, default=compat)
    parser.add_argument("--resize-policy", choices=ResizePolicy.values, default=resize_policy)


def weights_from(options: dict[str, Any]) -> Prepared:
    """Looks at the sources that the options name."""
    names = ("base", "diff", "files", "dtype", "compat", "resize_policy")
    return prepare_weights(**{name: options[name] for name in names})
