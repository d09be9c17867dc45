"""`manage.py publish_revision REPO_ID COMMIT [--licence FILE]... [--discard]`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.errors import NotFound
from access_requests.management.operator import Answer, OperatorCommand, known_model
from model_ops.models import Revision
from model_ops.services.uploads.holding import discard_upload, publish_upload


class Command(OperatorCommand):
    help = "Publishes or discards a held revision that was uploaded."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID")
        parser.add_argument("commit", metavar="COMMIT", help="its first 7 digits or more")
        parser.add_argument(
            "--licence",
            action="append",
            default=[],
            metavar="FILE",
            help="an uploaded licence text to accept from now on",
        )
        parser.add_argument("--discard", action="store_true", help="delete it, and what is on top of it")

    def answer(
        self, *, repo_id: str, commit: str, licence: list[str], discard: bool, **options: Any
    ) -> Answer:
        revision = held_revision(repo_id, commit)
        if discard:
            gone = discard_upload(revision=revision)
            return Answer({"discarded": gone}, f"Discarded: {', '.join(gone)}")
        top = publish_upload(revision=revision, licences=licence)
        facts = {"model": repo_id, "branch": revision.branch, "commit": top.commit}
        return Answer(facts, f"{repo_id}: {revision.branch} is at {top.commit} now.")


def held_revision(repo_id: str, commit: str) -> Revision:
    """Return the only held revision of the model whose commit starts with this prefix."""
    model = known_model(repo_id)
    held = Revision.objects.filter(model=model, held_at__isnull=False)
    found = list(held.filter(commit__startswith=commit)[:2]) if len(commit) >= 7 else []
    if len(found) != 1:
        names = ", ".join(one.commit[:8] for one in held[:10]) or "none"
        raise NotFound(f"{repo_id} holds no single revision {commit}: held are {names}.")
    return found[0]
