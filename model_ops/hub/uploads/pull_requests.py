"""Refuse pull requests: held revisions replace them."""

from __future__ import annotations

from django.http import HttpRequest

from model_ops.hub.refusals import bad_request
from model_ops.hub.route import wants


def refuse_pull_request(request: HttpRequest) -> None:
    """Refuse `create_pr=1`."""
    if wants(request, "create_pr"):
        raise bad_request(
            "Gatehouse has no pull requests: upload without create_pr, and the revision is held until an owner publishes it."
        )
