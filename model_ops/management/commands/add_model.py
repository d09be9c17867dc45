"""`manage.py add_model REPO_ID --card README.md (--base SOURCE --diff SOURCE | --files SOURCE)`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from access_requests.enums import Gate
from access_requests.management.operator import Answer, OperatorCommand
from access_requests.services.catalogue import LicenceText, understand_card
from model_ops.management.weights import add_weight_options, choices_from, sources_from, weights_from
from model_ops.services.adding import add_model_with_weights, check_new, find_owner
from model_ops.services.licences import find_licences, read_text


class Command(OperatorCommand):
    help = "Adds a gated model and prints the plan of its recovery; the recovery starts at the first grant."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID", help="namespace/name")
        parser.add_argument("--card", required=True, type=Path, metavar="README.md")
        parser.add_argument(
            "--licence", action="append", default=[], metavar="FILE[:LANG]", help="may be given several times"
        )
        parser.add_argument("--gate", choices=[Gate.MANUAL.value, Gate.AUTO.value], default=Gate.MANUAL.value)
        parser.add_argument("--days", type=int, default=365, metavar="N", help="how long a grant lasts")
        parser.add_argument("--hidden", action="store_true", help="not listed for those who may not read it")
        parser.add_argument(
            "--owner", default="", metavar="EMAIL", help="a staff account; else the first superuser"
        )
        add_weight_options(parser)

    def answer(self, *, repo_id: str, card: Path, licence: list[str], **options: Any) -> Answer:
        check_new(repo_id)
        owner = find_owner(options["owner"])
        text = read_text(card, "card")
        read = understand_card(text)
        licences = find_licences(given=licence, card_file=card, prompt=read.form.prompt)
        prepared = weights_from(sources_from(options), choices_from(options))
        model, weights = add_model_with_weights(
            repo_id=repo_id,
            prepared=prepared,
            card=text,
            licences=licences,
            gate=options["gate"],
            days=options["days"],
            listed=not options["hidden"],
            owner=owner,
        )
        plan = {
            "recovery": weights.recovery.pk,
            "state": weights.recovery.state,
            "form": read.form.describe(),
            "warnings": read.warnings,
            "licences": [{"name": text.name, "language": text.language} for text in licences],
            "weights": prepared.plan,
        }
        return Answer({"model": model.repo_id, "plan": plan}, describe(model.repo_id, plan, licences))


def describe(repo_id: str, plan: dict[str, Any], licences: list[LicenceText]) -> str:
    """The plan for a person at a terminal."""
    lines = [f"{repo_id} is in the catalogue. Its form was read so:", *(f"  {line}" for line in plan["form"])]
    lines += [f"  note: {warning}" for warning in plan["warnings"]]
    agreed = ", ".join(f"{text.name} ({text.language})" for text in licences)
    lines.append(
        f"Licence to agree to: {agreed}." if agreed else "No licence text: there is nothing to agree to."
    )
    lines += [
        plan["weights"]["text"],
        f"The weights are made at the first grant, or now by: manage.py recover {repo_id}",
    ]
    return "\n".join(lines)
