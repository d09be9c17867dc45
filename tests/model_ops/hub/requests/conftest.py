"""A model's people, each with a suitable token, and calls of the API without a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from access_requests.enums import TokenKind
from access_requests.services.catalogue.gated_models import LicenceText
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access
from access_requests.services.requests.decide import record_decision
from access_requests.services.tokens import issue_person_token, issue_token

PLAIN_CARD = """---
extra_gated_fields:
  Why: text
  Country: country
  Kind of use:
    type: select
    options: [Research, {label: Something else, value: other}]
  Since: {type: date_picker, required: false}
  Papers: text
  geo: ip_location
  I agree to the terms of the license: checkbox
---
# Plain
"""
AGREE = "I agree to the terms of the license"
WHOLE = {"Why": "To test.", "Country": "France", "Kind of use": "Something else", AGREE: True}


class Desk:
    """API calls: `api("ada", "POST", "/ai/tulu/ask-access", {...})` sends one with that person's token."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}

    def api(self, who: str, method: str, path: str, body: Any = None, **options: Any) -> Any:
        if who in self.tokens:
            options["headers"] = {"authorization": f"Bearer {self.tokens[who]}"} | options.get("headers", {})
        if body is not None:
            options.setdefault("content_type", "application/json")
        data = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
        return Client().generic(method, path, data or "", **options)

    def post(self, what: str, body: Any = None, *, who: str = "rita", model: str = "ai/tulu") -> Any:
        return self.api(who, "POST", f"/api/models/{model}/user-access-request/{what}", body)

    def list(self, place: str, query: str = "", *, who: str = "rita", model: str = "ai/tulu") -> Any:
        return self.api(who, "GET", f"/api/models/{model}/user-access-request/{place}{query}")

    def names(self, place: str, query: str = "") -> list[str]:
        return [item["user"]["user"] for item in self.list(place, query).json()]


@pytest.fixture
def desk(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> Any:
    """Applicant ada, owner olga, reviewer rita and stranger sam, with personal tokens and tokens for their roles."""
    desk: Any = Desk()
    for name in ("ada", "olga", "rita", "sam"):
        setattr(desk, name, make_person(name, first_name=name.title(), last_name="X"))
    desk.model = make_model()
    assign_role(model=desk.model, user=desk.olga, role="owner")
    assign_role(model=desk.model, user=desk.rita, role="reviewer")
    assign_role(model=make_model("ai/elsewhere"), user=desk.sam, role="reviewer")
    for who, person, kind in (
        ("ada", desk.ada, TokenKind.USER),
        ("sam", desk.sam, TokenKind.USER),
        ("sam's reviewer", desk.sam, TokenKind.REVIEWER),
        ("olga", desk.olga, TokenKind.REVIEWER),
        ("olga's own", desk.olga, TokenKind.USER),
        ("rita", desk.rita, TokenKind.REVIEWER),
        ("rita's own", desk.rita, TokenKind.USER),
    ):
        desk.tokens[who] = issue_person_token(user=person, kind=kind, name=who).secret
    desk.tokens["unknown"] = "gth_" + "0" * 38
    return desk


@pytest.fixture
def plain(desk: Any, make_model: Callable[..., Any]) -> Any:
    """A model whose card has only a checkbox for its licence."""
    made = make_model("ai/plain", card=PLAIN_CARD, licences=())
    assign_role(model=made, user=desk.rita, role="reviewer")
    return made


@pytest.fixture
def stand(desk: Any, submit: Callable[..., Any]) -> Callable[..., Any]:
    """`stand("rejected")`: bring Ada into that state and return her request."""

    def put(where: str) -> Any:
        if where == "granted":
            return grant_access(model=desk.model, email=desk.ada.email, days=3)
        request = submit(desk.ada, desk.model)
        outcome = {"accepted": "approved"}.get(where, where)
        if outcome != "pending":
            record_decision(
                request=request, reviewer=desk.rita, outcome=outcome, reason_code="other", words="Words."
            )
        return request

    return put


@pytest.fixture
def grant_token(desk: Any, make_model: Callable[..., Any]) -> str:
    """A token of Ada's that is valid only for another model."""
    other = make_model("ai/other", licences=[LicenceText("licence.txt", "en", "Other.\n")])
    grant = grant_access(model=other, email=desk.ada.email, days=3).grant
    secret: str = issue_token(grant=grant, user=desk.ada, name="cluster").secret
    return secret
