"""`gatehouse-recover recover|make_diff|plan|verify|smoke`; in a checkout `python -m model_ops.recovery ...`.

Options have the names that open-instruct's weight_diff.py uses. Exit status: 0 done, 2 refused before
writing, 1 failed during the run. Then standard error gets one sentence, never a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from model_ops.recovery.errors import RecoveryError, Refusal, one_line, what_lacks
from model_ops.recovery.execution.finish import NON_FINITE
from model_ops.recovery.execution.progress import choose_report
from model_ops.recovery.execution.resources import check_device, choose_jobs
from model_ops.recovery.execution.run import choose_shards, execute
from model_ops.recovery.formats.folder import pin_folder
from model_ops.recovery.formats.layout import parse_size
from model_ops.recovery.planning.memory import peak_memory
from model_ops.recovery.planning.options import (
    COMPATS,
    DEFAULT_SHARD_SIZE,
    DIFF_ONLY,
    METHODS,
    RESIZE_POLICIES,
    Options,
)
from model_ops.recovery.planning.planner import make_diff_plan, make_plan
from model_ops.recovery.smoke.answer import MAX_NEW_TOKENS, PROMPT, smoke_folder
from model_ops.recovery.system.control import Control
from model_ops.recovery.verify import verify_folder

COMMAND = "gatehouse-recover"  # as named in pyproject.toml


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refusal(f"{self.prog}: {message}; --help shows the options.")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands and options."""
    installed = Path(sys.argv[0]).name == COMMAND
    prog = COMMAND if installed else "python -m model_ops.recovery"
    parser = _Parser(prog=prog, description="Full weights from a base and a released diff.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    recover = commands.add_parser("recover", help="base + diff -> full weights")
    _add_inputs(recover, diff=True, target="--path_tuned", target_required=True)
    _add_work_options(recover)
    _add_sharing(recover)
    make_diff = commands.add_parser("make_diff", help="tuned - base -> diff")
    _add_inputs(make_diff, diff=False, target="--path_diff", target_required=True)
    _add_work_options(make_diff)
    plan = commands.add_parser("plan", help="what recover would do, without writing anything")
    _add_inputs(plan, diff=True, target="--path_tuned", target_required=False)
    _add_work_options(plan)
    _add_sharing(plan)
    verify = commands.add_parser("verify", help="check a folder against its manifest")
    verify.add_argument("folder", metavar="DIR")
    verify.add_argument("--json", action="store_true", help="one JSON object as the last line")
    smoke = commands.add_parser("smoke", help="load a result with transformers and ask it something")
    smoke.add_argument("folder", metavar="DIR")
    smoke.add_argument("--prompt", default=PROMPT, metavar="TEXT", help=f"what is asked (default: {PROMPT})")
    smoke.add_argument(
        "--max-new-tokens", type=int, default=MAX_NEW_TOKENS, metavar="N", help=f"default: {MAX_NEW_TOKENS}"
    )
    smoke.add_argument("--device", default="auto", help="auto, cpu or cuda[:N]")
    smoke.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser


def _add_inputs(parser: argparse.ArgumentParser, *, diff: bool, target: str, target_required: bool) -> None:
    parser.add_argument("--path_raw", required=True, metavar="DIR", help="the base")
    parser.add_argument(
        "--no-links",
        action="store_true",
        help="refuse input folders whose path is a link or goes through one",
    )
    parser.set_defaults(expected_sum=None, sum_tolerance=None)
    if diff:
        parser.add_argument("--path_diff", required=True, metavar="DIR", help="the released diff")
    else:
        parser.add_argument("--path_tuned", required=True, metavar="DIR", help="the tuned model")
    parser.add_argument(target, dest="target", required=target_required, metavar="DIR", help="what is made")
    parser.add_argument(
        "--compat",
        choices=sorted(COMPATS),
        default="weight_diff",
        help="whose arithmetic is followed (default: weight_diff)",
    )
    parser.add_argument("--dtype", help="float32, float16 or bfloat16 (default: what the compat tool writes)")
    parser.add_argument(
        "--resize-policy",
        choices=RESIZE_POLICIES,
        help="rows that the base lacks, or has too many (default: what the diff's manifest says, else mean)",
    )
    parser.add_argument(
        "--tied",
        metavar="NAMES",
        help="names of one tensor, like lm_head.weight=model.embed_tokens.weight, or none, if the checkpoints do not show it",
    )
    parser.add_argument(
        "--diff-only",
        choices=DIFF_ONLY,
        help="tensors that the base does not have: copy takes them as they are (default: what the diff's manifest says, "
        "else refuse)",
    )
    parser.add_argument(
        "--max-shard-size",
        default=DEFAULT_SHARD_SIZE,
        help="like 2500MB, 200KB; powers of ten (default: 5GB)",
    )
    parser.add_argument("--keep-rotary", action="store_true", help="keep rotary_emb.inv_freq buffers")
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="add",
        help="sums of values, or exclusive or of the files' bytes (default: add)",
    )
    if diff:
        _add_sum_options(parser)


def _add_sum_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--expected-sum",
        type=float,
        metavar="S",
        help="sum of all recovered parameters as its publisher names it (default: model_sum.txt beside the diff)",
    )
    parser.add_argument(
        "--sum-tolerance",
        type=float,
        metavar="T",
        help="how far off the sum may be (default: 0.01, or a millionth of a large sum; 1e-5 of what model_sum.txt says)",
    )


def _add_work_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda[:N]")
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="shards at once (default: min(cores, shards), lowered to fit --memory)",
    )
    parser.add_argument(
        "--memory", default="700MB", metavar="SIZE", help="what the process may take (default: 700MB)"
    )
    parser.add_argument(
        "--non-finite",
        choices=NON_FINITE,
        default="refuse",
        help="NaN or Inf in the result (default: refuse)",
    )
    parser.add_argument("--json", action="store_true", help="the last line of output is one JSON object")
    parser.add_argument("--progress-json", action="store_true", help="progress as JSON lines, one a second")
    parser.add_argument("--exit-with-parent", action="store_true", help="cancel when the parent process ends")
    parser.add_argument("--test_inference", help=argparse.SUPPRESS)
    parser.add_argument("--original_model", help=argparse.SUPPRESS)
    parser.set_defaults(only=[], run_id="")


def _add_sharing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        action="append",
        metavar="FILE",
        help="make only this weight file and stop; can be repeated, and several machines can do this at once",
    )
    parser.add_argument(
        "--run-id", type=_parse_run_id, metavar="HEX", help="files of the same run are not read again"
    )


def _parse_run_id(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{0,64}", text):
        raise Refusal(
            f"--run-id {text!r} is not understood; write at most 64 hexadecimal digits in lower case."
        )
    return text


def main(argv: Sequence[str] | None = None, control: Control | None = None) -> int:
    """Run one command and return its exit status. To stop it early, cancel `control`."""
    control = control or Control()
    try:
        arguments = build_parser().parse_args(argv)
        if getattr(arguments, "no_links", False):
            for name in ("path_raw", "path_diff", "path_tuned"):
                if name in arguments:
                    pin_folder(getattr(arguments, name))
        return _COMMANDS[arguments.command](arguments, control)
    except RecoveryError as error:
        sentence, status = str(error), error.exit_status
    except MemoryError:
        sentence, status = "There was not enough memory; try fewer --jobs.", 1
    except OSError as error:
        sentence, status = f"The operating system said: {error.strerror or error}.", 1
    except Exception as error:
        kind = type(error).__name__
        sentence, status = f"Something unforeseen went wrong in the engine ({kind}: {error}).", 1
    control.end_in_order()
    _print_error(sentence)
    return status


def _print_line(text: str) -> None:
    """Print a line to standard output. If no one reads it any more, ignore that: the work is done."""
    try:
        print(text, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _print_error(sentence: str) -> None:
    with contextlib.suppress(OSError):
        print(one_line(sentence), file=sys.stderr, flush=True)


def _read_options(arguments: argparse.Namespace) -> Options:
    return Options(
        method=arguments.method,
        compat=arguments.compat,
        dtype=arguments.dtype,
        resize_policy=arguments.resize_policy,
        max_shard_size=arguments.max_shard_size,
        keep_rotary=arguments.keep_rotary,
        expected_sum=arguments.expected_sum,
        sum_tolerance=arguments.sum_tolerance,
        tied=arguments.tied,
        diff_only=arguments.diff_only,
    )


def _show_plan(arguments: argparse.Namespace, control: Control) -> int:
    """Print the plan. Takes recover's options and makes the same refusals, but does not check for a GPU."""
    memory = parse_size(arguments.memory)
    check_device(arguments.device)
    plan = make_plan(
        arguments.path_raw, arguments.path_diff, _read_options(arguments), target=arguments.target
    )
    choose_jobs(choose_shards(plan, arguments.only), plan.dtype, arguments.jobs, memory)
    peak = peak_memory([shard.tasks for shard in plan.shards], plan.dtype, memory)
    plan = replace(plan, peak_memory=peak)
    control.end_in_order()
    _print_line(json.dumps(plan.to_json()) if arguments.json else plan.summary())
    return 0


def _make_weights(arguments: argparse.Namespace, control: Control) -> int:
    """Recover weights, or make a diff."""
    started = time.monotonic()
    parse_size(arguments.memory)
    control.set_report(choose_report(as_json=arguments.progress_json))
    if arguments.exit_with_parent:
        control.follow(os.getppid())
    try:
        if arguments.command == "recover":
            plan = make_plan(arguments.path_raw, arguments.path_diff, _read_options(arguments))
        else:
            plan = make_diff_plan(arguments.path_raw, arguments.path_tuned, _read_options(arguments))
        result = execute(
            plan,
            Path(arguments.target),
            device=arguments.device,
            jobs=arguments.jobs,
            memory=parse_size(arguments.memory),
            non_finite=arguments.non_finite,
            only=arguments.only,
            run_id=arguments.run_id,
            control=control,
            started=started,
        )
    except (RecoveryError, MemoryError, OSError) as error:
        if arguments.json and (lacking := what_lacks(error)):
            _print_line(json.dumps(lacking))
        raise
    control.end_in_order()
    for note in result.notes:
        _print_error(f"note: {note}")
    if result.not_restored:
        _print_error(
            f"Warning: {result.not_restored} of {result.values} values will not come back from this diff; "
            "--method xor makes one that is always exact."
        )
    _print_line(json.dumps(result.to_json()) if arguments.json else result.summary())
    return 0


def _show_verification(arguments: argparse.Namespace, control: Control) -> int:
    control.end_in_order()
    control.set_report(choose_report())
    found = verify_folder(arguments.folder, control)
    if arguments.json:
        _print_line(json.dumps(found.to_json()))
    elif found.ok:
        _print_line(found.summary())
    if not found.ok:
        _print_error(found.problems[0] if arguments.json else found.summary())
    return 0 if found.ok else 1


def _ask_prompt(arguments: argparse.Namespace, control: Control) -> int:
    found = smoke_folder(
        arguments.folder,
        prompt=arguments.prompt,
        max_new_tokens=arguments.max_new_tokens,
        device=arguments.device,
    )
    control.end_in_order()
    _print_line(json.dumps(found.to_json()) if arguments.json else found.summary())
    if not found.finite:
        _print_error("The logits were not finite: these weights are broken.")
    return 0 if found.finite else 1


_COMMANDS: dict[str, Callable[[argparse.Namespace, Control], int]] = {
    "recover": _make_weights,
    "make_diff": _make_weights,
    "plan": _show_plan,
    "verify": _show_verification,
    "smoke": _ask_prompt,
}
