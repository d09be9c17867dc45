from __future__ import annotations

from typing import Any

import pytest

from access_requests.enums import TokenKind
from access_requests.errors import Invalid
from access_requests.services.tokens.issuing import issue_person_token
from model_ops.services.uploads.objects import MOST_PARTS, plan_uploads
from tests.model_ops.uploads import Uploads

A, B = "a" * 64, "b" * 64


def plan(uploads: Uploads, *objects: tuple[str, int]) -> Any:
    token = issue_person_token(user=uploads.owner, kind=TokenKind.USER, name="x").token
    return plan_uploads(model=uploads.model, token=token, objects=objects, in_parts=True)


def test_object_that_is_named_often_is_answered_once(held: Uploads) -> None:
    wanted = plan(held, *[(A, 5_000)] * 500, (B, 7))
    assert [(one.sha256, one.size) for one in wanted] == [(A, 5_000), (B, 7)]


def test_object_with_two_sizes_is_refused(held: Uploads) -> None:
    with pytest.raises(Invalid, match="listed with two different sizes"):
        plan(held, (A, 1), (B, 2), (A, 3))


def test_parts_of_one_answer_are_bounded_together(held: Uploads, settings: Any) -> None:
    settings.GATEHOUSE_UPLOAD_PART = 1
    wanted = plan(held, *[(f"{number:064x}", 100_000) for number in range(20)])
    assert {one.chunk for one in wanted} == {200}
    assert sum(len(one.parts) for one in wanted) == MOST_PARTS
