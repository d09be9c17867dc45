"""Command-line options for weights, shared by add_model and update_model."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from typing import Any

from django.core.management.base import CommandParser

from model_ops.enums import Compat, DiffMethod, DiffOnly, Dtype, ResizePolicy
from model_ops.services.recoveries.weights import PreparedWeights, prepare_weights

SOURCE_HELP = "a folder, hf:REPO_ID@REVISION or hf+https://HOST/REPO_ID@REVISION"
SOURCES = ("base", "diff", "files")
CHOICES = (
    "method", "compat", "dtype", "resize_policy", "max_shard_size", "keep_rotary", "expected_sum", "sum_tolerance",
    "tied", "diff_only",
)  # fmt: skip


def add_weight_options(parser: CommandParser) -> None:
    """Add options for sources and the engine; one that is not given is None: the engine's default applies."""
    for name in SOURCES:
        parser.add_argument(f"--{name}", default="", metavar="SOURCE", help=SOURCE_HELP)
    parser.add_argument("--method", choices=DiffMethod.values, help="what the diff is (default: add)")
    parser.add_argument("--compat", choices=Compat.values, help="how it was made (default: weight_diff)")
    parser.add_argument("--dtype", choices=Dtype.values, help="default: what the compat tool writes")
    parser.add_argument(
        "--resize-policy",
        choices=ResizePolicy.values,
        help="rows that the base lacks (default: what the diff's manifest says, else mean)",
    )
    parser.add_argument(
        "--tied",
        metavar="NAMES",
        help="names of one tensor, NAME=NAME, or none, if the sources do not show it",
    )
    parser.add_argument(
        "--diff-only",
        choices=DiffOnly.values,
        help="tensors that the base does not have (default: what the diff's manifest says, else refuse)",
    )
    parser.add_argument("--max-shard-size", metavar="SIZE", help="like 5GB, 2500MB (default: 5GB)")
    parser.add_argument("--keep-rotary", action=BooleanOptionalAction, help="rotary_emb.inv_freq buffers")
    parser.add_argument(
        "--expected-sum", type=float, metavar="S", help="sum of all recovered parameters, as published"
    )
    parser.add_argument(
        "--sum-tolerance",
        type=float,
        metavar="T",
        help="allowed difference (default: 0.01, or a millionth of a large sum)",
    )


def sources_from(given: dict[str, Any]) -> dict[str, str]:
    """Return the sources given on the command line."""
    return {name: given[name] for name in SOURCES}


def weights_from(sources: dict[str, str], choices: dict[str, Any]) -> PreparedWeights:
    """Look at the given sources and prepare weights from them."""
    return prepare_weights(
        base=sources["base"], diff=sources["diff"], files=sources["files"], options=choices
    )


def choices_from(given: dict[str, Any]) -> dict[str, Any]:
    """Return the engine options given on the command line, without those left out."""
    return {name: given[name] for name in CHOICES if given[name] is not None}
