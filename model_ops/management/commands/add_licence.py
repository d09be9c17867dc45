"""`manage.py add_licence REPO_ID FILE[:LANG] [--binding] [--must-accept]`"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.core.management.base import CommandParser

from access_requests.management.operator import Answer, OperatorCommand, known_model
from model_ops.services.catalogue.add_model import add_licence_text
from model_ops.services.revisions.licence_files import read_licence, split_language


class Command(OperatorCommand):
    help = "Adds a licence text, or a new version of the one with this file name and language."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID")
        parser.add_argument(
            "licence", metavar="FILE[:LANG]", help="UTF-8 text; the language is en if none is named"
        )
        parser.add_argument(
            "--binding",
            action="store_true",
            help="this language binds; other texts of this name are translations",
        )
        parser.add_argument(
            "--must-accept",
            action="store_true",
            help="refuse downloads of everyone with access until they agree to it, and email them",
        )

    def answer(
        self, *, repo_id: str, licence: str, binding: bool, must_accept: bool, **options: Any
    ) -> Answer:
        model = known_model(repo_id)
        text = replace(read_licence(*split_language(licence)), binding=binding or None)
        added = add_licence_text(model=model, licence=text, must_accept=must_accept)
        data = {
            "model": model.repo_id,
            "licence": added.licence.name,
            "language": added.licence.language,
            "binding": added.licence.binding,
            "sha256": added.licence.sha256,
            "fresh": added.fresh,
            "must_accept": added.licence.must_accept_at is not None,
            "asked": added.asked,
        }
        lines = [
            f"{added.licence.name} ({added.licence.language}) is current for {model}, SHA-256 {added.licence.sha256}."
            if added.fresh
            else f"{model} already has exactly this text of {added.licence.name}."
        ]
        if must_accept:
            lines.append(f"People with access who must now agree to it and got an email: {added.asked}.")
        return Answer(data, "\n".join(lines))
