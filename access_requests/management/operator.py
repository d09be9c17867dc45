"""The base of the operator's commands: one answer, as text or a line of JSON; one-sentence refusals."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError

from access_requests.access.catalogue import find_model
from access_requests.errors import NotFound, RuleError
from access_requests.models import GatedModel


@dataclass(frozen=True)
class Answer:
    """A command's answer: `--json` prints `data`, otherwise `text` is printed.

    If not `ok`, the exit status is 1.
    """

    data: dict[str, Any]
    text: str
    ok: bool = True


class OperatorCommand(BaseCommand):
    """A command that defines `options` and `answer`.

    Everything except the answer is written to standard error.
    """

    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        if getattr(self, "_called_from_command_line", False):  # wrong options are refused like anything else
            parser.error = self._refuse_usage  # type: ignore[method-assign]
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
        self.options(parser)

    def options(self, parser: CommandParser) -> None:
        """Add the command's own arguments."""

    def answer(self, *args: Any, **options: Any) -> Answer:
        """Do the work by a service and return the answer; a RuleError is shown as the refusal."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        as_json = options["json"]
        try:
            answer = self.answer(**options)
        except RuleError as refusal:
            self._end_with_refusal(refusal.sentence, as_json)
        except DatabaseError as error:
            why = " ".join(str(error).split())[:200]
            self._end_with_refusal(
                f"The database did not answer ({why}): is it running, and are its tables there?", as_json
            )
        else:
            self.stdout.write(json.dumps(answer.data) if as_json else answer.text)
            if not answer.ok:
                self.stderr.write(answer.text)
                sys.exit(1)

    def _refuse_usage(self, message: str) -> NoReturn:
        sentence = f"{message[:1].upper()}{message[1:]}: --help shows how the command is used."
        self._end_with_refusal(sentence, "--json" in sys.argv)

    def _end_with_refusal(self, sentence: str, as_json: bool) -> NoReturn:
        if as_json:
            self.stdout.write(json.dumps({"error": sentence}))
        self.stderr.write(sentence)
        sys.exit(1)


def known_model(repo_id: str) -> GatedModel:
    """Return the model with that id, ignoring case. Raises a RuleError if there is none."""
    model = find_model(repo_id)
    if model is None:
        raise NotFound(f"There is no model {repo_id}: check its name, or add it with add_model.")
    return model


def moment(at: datetime) -> str:
    """Return a time as `2026-11-23T10:00:00Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
