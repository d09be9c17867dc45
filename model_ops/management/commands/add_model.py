"""`manage.py add_model REPO_ID (--card README.md | --from hf:REPO_ID[@REVISION]) (--base SOURCE --diff SOURCE | --files SOURCE)`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from access_requests.enums import Gate
from access_requests.management.operator import Answer, OperatorCommand
from access_requests.services.catalogue.gated_models import LicenceText, understand_card
from model_ops.management.weights import add_weight_options, choices_from, sources_from, weights_from
from model_ops.services.catalogue.add_model import add_model_with_weights, check_new, find_owner
from model_ops.services.catalogue.import_card import import_card, texts_of
from model_ops.services.revisions.licence_files import find_licences, read_text


class Command(OperatorCommand):
    help = "Adds a gated model and prints the plan of its recovery; the recovery starts at the first grant."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID", help="namespace/name")
        card = parser.add_mutually_exclusive_group(required=True)
        card.add_argument("--card", type=Path, metavar="README.md")
        card.add_argument(
            "--from",
            dest="origin",
            default="",
            metavar="hf:REPO_ID[@REVISION]",
            help="card, licence files and gate of a repository on the Hub, or hf+https://HOST/REPO_ID",
        )
        parser.add_argument(
            "--licence", action="append", default=[], metavar="FILE[:LANG]", help="may be given several times"
        )
        parser.add_argument(
            "--gate",
            choices=[Gate.MANUAL.value, Gate.AUTO.value],
            help="default: the same as where the card comes from, otherwise manual",
        )
        parser.add_argument("--days", type=int, default=365, metavar="N", help="how long a grant lasts")
        parser.add_argument("--hidden", action="store_true", help="hidden from people without access")
        parser.add_argument(
            "--owner",
            default="",
            metavar="EMAIL",
            help="the account that owns it (default: the first superuser)",
        )
        add_weight_options(parser)

    def answer(
        self, *, repo_id: str, card: Path | None, origin: str, licence: list[str], **options: Any
    ) -> Answer:
        check_new(repo_id)
        owner = find_owner(options["owner"])
        imported = import_card(text=origin) if card is None else None
        text = imported.card if imported else read_text(card or Path(), "card")
        read = understand_card(text)
        if imported and not licence:
            licences = texts_of(imported, prompt=read.form.prompt)
        else:
            licences = find_licences(given=licence, card_file=card or Path(), prompt=read.form.prompt)
        gate = options["gate"] or (imported.gate if imported else "") or Gate.MANUAL.value
        prepared = weights_from(sources_from(options), choices_from(options))
        model, weights = add_model_with_weights(
            repo_id=repo_id,
            prepared=prepared,
            card=text,
            licences=licences,
            gate=gate,
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
            "gate": str(gate),
            "origin": imported.origin if imported else None,
        }
        return Answer({"model": model.repo_id, "plan": plan}, describe(model.repo_id, plan, licences))


def describe(repo_id: str, plan: dict[str, Any], licences: list[LicenceText]) -> str:
    """Return the plan as text for a terminal."""
    lines = [
        f"{repo_id} is in the catalogue. Its form was read like this:",
        *(f"  {line}" for line in plan["form"]),
    ]
    lines += [f"  note: {warning}" for warning in plan["warnings"]]
    if plan["origin"]:
        lines.append(f"Card and licences come from {plan['origin']}; the gate here is {plan['gate']}.")
    agreed = ", ".join(f"{text.name} ({text.language})" for text in licences)
    lines.append(
        f"Licence to agree to: {agreed}." if agreed else "No licence text: there is nothing to agree to."
    )
    lines += [
        plan["weights"]["text"],
        f"The weights are made at the first grant, or now by: manage.py recover {repo_id}",
    ]
    return "\n".join(lines)
