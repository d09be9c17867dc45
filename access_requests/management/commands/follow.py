"""`manage.py follow REPO_ID [--endpoint URL] [--as FAR_ID]`"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from access_requests.management.operator import Answer, OperatorCommand, known_model
from access_requests.services.following.managing import follow


class Command(OperatorCommand):
    help = "Follows a gated repository elsewhere: its requests are decided here, and the decisions are reported there."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID")
        parser.add_argument(
            "--endpoint", default="", metavar="URL", help="GATEHOUSE_HUB_ENDPOINT when left out"
        )
        parser.add_argument(
            "--as", dest="far_id", default="", metavar="FAR_ID", help="its id there, if it is different"
        )

    def answer(self, *, repo_id: str, endpoint: str, far_id: str, **options: Any) -> Answer:
        endpoint = endpoint or settings.GATEHOUSE_HUB_ENDPOINT
        followed = follow(model=known_model(repo_id), endpoint=endpoint, far_id=far_id)
        data = {"model": followed.model.repo_id, "endpoint": followed.endpoint, "repository": followed.far_id}
        text = f"{followed.model} follows {followed}: its requests appear in the queue after the next poll."
        return Answer(data, text)
