"""`manage.py sync_now REPO_ID`: poll at once, in this process, and report pending decisions."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.management.operator import Answer, OperatorCommand, known_model
from access_requests.models import FollowedRepo
from access_requests.services.following import polling, pushing
from access_requests.services.following.drift import drifted
from access_requests.services.following.managing import followed_by, sync_now


class Command(OperatorCommand):
    help = "Polls the followed repository now and reports the decisions that wait."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID")

    def answer(self, *, repo_id: str, **options: Any) -> Answer:
        followed = followed_by(known_model(repo_id))
        sync_now(followed=followed)
        polling.poll(followed_id=followed.pk)
        told = [
            pushing.push(push_id=pk)
            for pk in pushing.due().filter(remote__followed=followed).values_list("pk", flat=True)
        ]
        return said_of(FollowedRepo.objects.get(pk=followed.pk), sum(told))


def said_of(followed: FollowedRepo, told: int) -> Answer:
    """Return the state after a poll; if there is a problem, the command fails."""
    known, differ = followed.remote_requests.count(), drifted(followed)
    data = {
        "repository": followed.far_id,
        "endpoint": followed.endpoint,
        "known": known,
        "told": told,
        "drifted": differ,
        "problem": followed.problem,
    }
    text = f"{followed}: {known} request{'' if known == 1 else 's'} known, {told} told now, {differ} differ from ours."
    return Answer(data, followed.problem or text, ok=not followed.problem)
