"""The hub asks the database a constant number of questions, however many files or models there are."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from access_requests.services.grants import grant_access
from tests.model_ops.hub import seeder


@pytest.fixture
def granted(
    make_person: Callable[..., Any], make_model: Callable[..., Any], settings: Settings, tmp_path: Path
) -> Client:
    """A client with a token of `ai/tulu`, whose use was noted already."""
    settings.WEIGHTS_ROOT = tmp_path
    model = make_model("ai/tulu")
    made = grant_access(model=model, email=make_person("ada").email, days=9, token_name="laptop")
    client = Client(headers={"Authorization": f"Bearer {made.secret}"}, REMOTE_ADDR="192.0.2.7")
    seeder.commit("ai/tulu", {"a.bin": "AAAA"})
    assert client.get("/api/whoami-v2").status_code == 200
    return client


def queries(client: Client, method: str, path: str, **options: Any) -> int:
    with CaptureQueriesContext(connection) as asked:
        response = getattr(client, method)(path, **options)
        b"".join(response)
    assert response.status_code in {200, 307}, path
    return len(asked)


PATHS = [
    ("get", "/api/models/ai/tulu", 6),
    ("get", "/api/models/ai/tulu/revision/main?blobs=true", 6),
    ("get", "/api/models/ai/tulu/tree/main?recursive=true", 5),
    ("get", "/api/models/ai/tulu/tree/main?recursive=true&expand=true", 7),
    ("get", "/api/models/ai/tulu/refs", 3),
    ("get", "/api/models/ai/tulu/commits/main", 5),
    ("get", "/api/models/ai/tulu/auth-check", 3),
    ("get", "/api/models?full=true", 5),
    ("head", "/ai/tulu/resolve/main/a.bin", 5),
]


@pytest.mark.parametrize(("method", "path", "most"), PATHS)
def test_hub_route_asks_as_much_of_many_as_of_one(
    granted: Client, make_model: Callable[..., Any], method: str, path: str, most: int
) -> None:
    before = queries(granted, method, path)
    assert before <= most
    content = base64.b64encode(b"x").decode()
    commit = seeder.commit("ai/tulu", {f"folder-{n % 5}/{n}.txt": content for n in range(60)})
    for number in range(5):
        make_model(f"ai/more-{number}")
        seeder.commit(f"ai/more-{number}", {"a.bin": "AAAA"})
    assert len(commit["commit"]) == 40
    assert queries(granted, method, path) == before


def test_body_costs_one_question_more_than_its_head(granted: Client) -> None:
    location = granted.get("/ai/tulu/resolve/main/a.bin")["Location"]
    assert queries(granted, "get", location) == queries(granted, "head", location) + 1
