"""`manage.py rename_model OLD NEW [--no-redirect]`, `manage.py rename_model --let-go OLD`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.errors import Invalid
from access_requests.management.operator import Answer, OperatorCommand, known_model
from access_requests.services.catalogue.names import let_go_of_name, rename_model


class Command(OperatorCommand):
    help = "Gives a model another id. Requests for the old id are redirected to the new one."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("old", nargs="?", default="", metavar="OLD")
        parser.add_argument("new", nargs="?", default="", metavar="NEW")
        parser.add_argument(
            "--no-redirect",
            action="store_true",
            help="do not redirect the old id; another model may take it",
        )
        parser.add_argument("--let-go", default="", metavar="OLD", help="end the redirect from a former id")

    def answer(self, *, old: str, new: str, no_redirect: bool, let_go: str, **options: Any) -> Answer:
        if let_go and not old:
            model = let_go_of_name(repo_id=let_go)
            return Answer({"model": model.repo_id, "let_go": let_go}, f"{let_go} leads to {model} no more.")
        if let_go or not new:
            raise Invalid("Give the model's id and its new one, or --let-go with a former id.")
        model = known_model(old)
        before = model.repo_id
        rename_model(model=model, to=new, keep_old=not no_redirect)
        led = "leads nowhere" if no_redirect else "leads to it"
        data = {"model": new, "before": before, "redirects": not no_redirect}
        return Answer(data, f"{before} is called {new} now; the old id {led}.")
