"""`manage.py unfollow REPO_ID`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.management.operator import Answer, OperatorCommand, known_model
from access_requests.services.following.managing import followed_by, unfollow


class Command(OperatorCommand):
    help = "Stops following a repository: nothing is polled or reported any more. Requests and grants stay as they are."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID")

    def answer(self, *, repo_id: str, **options: Any) -> Answer:
        followed = followed_by(known_model(repo_id))
        unfollow(followed=followed)
        data = {"model": followed.model.repo_id, "endpoint": followed.endpoint, "repository": followed.far_id}
        return Answer(data, f"{followed.model} does not follow {followed} any more.")
