"""`manage.py update_model REPO_ID [--card README.md] [--licence FILE[:LANG]]... [--base SOURCE --diff SOURCE | --files SOURCE]`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from access_requests.errors import Invalid
from access_requests.management.operator import Answer, OperatorCommand, known_model
from access_requests.models import GatedModel
from model_ops.management.weights import add_weight_options, choices_from, sources_from, weights_from
from model_ops.queries import current_recovery
from model_ops.services.catalogue.add_model import update_model
from model_ops.services.recoveries.weights import PreparedWeights, options_kept
from model_ops.services.revisions.licence_files import read_licence, read_text, split_language


class Command(OperatorCommand):
    help = "Publishes a new revision with a new card, new licences or new weights. Whatever you don't give stays the same."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID")
        parser.add_argument("--card", type=Path, metavar="README.md")
        parser.add_argument("--licence", action="append", metavar="FILE[:LANG]", help="replaces all licences")
        add_weight_options(parser)

    def answer(self, *, repo_id: str, card: Path | None, licence: list[str] | None, **options: Any) -> Answer:
        model = known_model(repo_id)
        prepared = self._prepare_weights(model, options)
        if card is None and licence is None and prepared is None:
            raise Invalid("You gave nothing to update: name a card, licences or weight sources.")
        revision = update_model(
            model=model,
            card=read_text(card, "card") if card else None,
            licences=[read_licence(*split_language(text)) for text in licence] if licence else None,
            prepared=prepared,
        )
        recovery = current_recovery(model)
        data = {
            "model": model.repo_id,
            "revision": revision.commit,
            "plan": prepared.plan if prepared else None,
            "state": recovery.state if recovery else None,
        }
        lines = [f"{model} is at {revision.commit} ({revision.title})."]
        if prepared:
            lines += [prepared.plan["text"], "main keeps what it has until the new weights are ready."]
        return Answer(data, "\n".join(lines))

    def _prepare_weights(self, model: GatedModel, options: dict[str, Any]) -> PreparedWeights | None:
        """Prepare weights from the given sources and options; keep the current recovery's for the rest."""
        sources, chosen = sources_from(options), choices_from(options)
        if not any(sources.values()) and not chosen:
            return None
        recovery = current_recovery(model)
        old = recovery.options if recovery else {}
        choices = options_kept(old=old, chosen=chosen, new_sources=any(sources.values()))
        if recovery and not sources["files"]:
            for name in ("base", "diff"):
                source = getattr(recovery, name)
                sources[name] = sources[name] or (source.spec if source else "")
        return weights_from(sources, choices)
