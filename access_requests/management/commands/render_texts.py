"""`manage.py render_texts [--all]`: render the HTML of cards and forms again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.management.operator import Answer, OperatorCommand
from access_requests.services.catalogue.rendered_texts import render_outdated


class Command(OperatorCommand):
    help = "Renders the cards and forms that are not rendered yet or that an older version of the portal rendered."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="also those that are up to date")

    def answer(self, *, all: bool, **options: Any) -> Answer:
        cards, forms = render_outdated(everything=all)
        return Answer({"cards": cards, "forms": forms}, f"Rendered cards: {cards}, forms: {forms}.")
