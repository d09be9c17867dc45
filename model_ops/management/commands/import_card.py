"""`manage.py import_card REPO_ID hf:REPO_ID[@REVISION] [--apply] [--with-gate]`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.management.operator import Answer, OperatorCommand, known_model
from access_requests.services.catalogue.gated_models import understand_card
from model_ops.services.catalogue.import_card import differences, import_card, take_over, texts_of


class Command(OperatorCommand):
    help = "Shows how a model's card, licences and gate differ from those of a Hub repository, and copies them with --apply."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID", help="the model here")
        parser.add_argument("origin", metavar="hf:REPO_ID[@REVISION]", help="the repository there")
        parser.add_argument(
            "--apply", action="store_true", help="publish card and licences as a new revision"
        )
        parser.add_argument("--with-gate", action="store_true", help="with --apply: the gate as well")

    def answer(self, *, repo_id: str, origin: str, **options: Any) -> Answer:
        model = known_model(repo_id)
        imported = import_card(text=origin)
        read = understand_card(imported.card)
        texts = texts_of(imported, prompt=read.form.prompt)
        lines = differences(model=model, imported=imported, texts=texts)
        data: dict[str, Any] = {"model": model.repo_id, "origin": imported.origin, "differences": lines}
        if not lines:
            return Answer(data, f"{model} has the card, licences and gate of {imported.origin}.")
        if not options["apply"]:
            return Answer(data, "\n".join([*lines, "Nothing was changed: use --apply to copy this."]))
        revision = take_over(model=model, imported=imported, texts=texts, with_gate=options["with_gate"])
        data["revision"] = revision.commit
        return Answer(data, "\n".join([*lines, f"{model} is at {revision.commit} ({revision.title})."]))
