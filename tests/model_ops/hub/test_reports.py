"""The endpoint for leaked tokens: anyone may revoke one, and nobody learns whose it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from access_requests.enums import TokenKind
from access_requests.models import AccessToken, OutgoingMail
from access_requests.services import tokens
from model_ops.hub.reports import LARGEST_REPORT, MOST_CREDENTIALS, MOST_TOKENS, REPORTS

pytestmark = pytest.mark.django_db

URL = "/api/tokens/report"
REVOKE = "/api/credentials/revoke"


@pytest.fixture(autouse=True)
def _fresh_counts() -> Generator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def leaked(make_person: Callable[..., Any]) -> list[str]:
    countess = make_person("countess", first_name="Augusta", last_name="Lovelace")
    return [
        tokens.issue_person_token(user=countess, kind=TokenKind.USER, name=f"secret project {n}").secret
        for n in range(3)
    ]


def send(body: Any, url: str = URL, **headers: Any) -> Any:
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return Client().post(url, body, content_type="application/json", headers=headers)


def live() -> int:
    return AccessToken.objects.filter(revoked_at=None).count()


@pytest.mark.parametrize(
    "shape",
    [
        lambda found: found,
        lambda found: [
            {"token": secret, "type": "gatehouse", "url": "https://a.example"} for secret in found
        ],
        lambda found: {"tokens": found},
        lambda found: {"matches": [{"location": {"line": f"HF_TOKEN={secret}"}} for secret in found]},
        lambda found: ("export A=" + found[0] + "\n" + found[1] + "X " + 'q="' + found[2] + '"').encode(),
        lambda found: b"\xff\xfe{" + " ".join(found).encode(),
        lambda found: ("[" * 5000 + ",".join(found) + "]" * 5000).encode(),
    ],
)
def test_every_token_in_a_report_ends(leaked: list[str], shape: Callable[[list[str]], Any]) -> None:
    answer = send(shape(leaked))
    assert (answer.status_code, answer.json()["revoked"]) == (200, 3)
    assert live() == 0
    for secret in leaked:
        with pytest.raises(tokens.TokenRefused):
            tokens.authenticate(secret)
    assert OutgoingMail.objects.count() == 3


def test_answer_tells_nothing_of_the_person(leaked: list[str]) -> None:
    """The answer does not contain the secret either, since answers may be logged."""
    unknown = tokens.make_secret()
    answer = send([leaked[0], unknown])
    assert answer.json() == {
        "revoked": 1,
        "tokens": [
            {"token": f"{leaked[0][:8]}…{leaked[0][-4:]}", "result": "revoked"},
            {"token": f"{unknown[:8]}…{unknown[-4:]}", "result": "not a token of this portal"},
        ],
    }
    seen = answer.content.decode() + repr(answer.headers)
    for secret in ("countess", "Augusta", "Lovelace", "secret project", leaked[0]):
        assert secret not in seen
    assert send([leaked[0]]).json()["tokens"][0]["result"] == "ended before"


def test_place_reaches_the_person_as_plain_text(leaked: list[str]) -> None:
    place = "https://a.example/<b>x</b>\r\nBcc: eve@example.org \ud800\0"
    assert send([{"token": leaked[0], "url": place}]).status_code == 200
    mail = OutgoingMail.objects.get()
    assert "https://a.example/<b>x</b> Bcc: eve@example.org" in mail.text
    assert "Bcc" not in mail.subject


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"[1, null, {}]", b"gth_short", b"\0", b"[" * 100_000]
)
def test_report_without_a_token_is_a_sentence(leaked: list[str], body: bytes) -> None:
    answer = send(body)
    assert (answer.status_code, answer["X-Error-Code"]) == (400, "BadRequest")
    assert "has no token in it" in answer.json()["error"]
    assert live() == 3


def test_thousands_in_one_report_are_refused_and_end_nothing(leaked: list[str]) -> None:
    many = [*leaked, *(tokens.make_secret() for _ in range(3000))]
    answer = send(many)
    assert answer.status_code == 400
    assert f"at most {MOST_TOKENS} at a time" in answer["X-Error-Message"]
    assert live() == 3
    assert send(many[:MOST_TOKENS]).json()["revoked"] == 3


def test_same_token_thousands_of_times_counts_once(leaked: list[str]) -> None:
    answer = send(leaked[:1] * 5000)
    assert (answer.status_code, len(answer.json()["tokens"])) == (200, 1)


def test_full_report_is_few_queries(leaked: list[str], django_assert_max_num_queries: Any) -> None:
    strangers = [tokens.make_secret() for _ in range(MOST_TOKENS)]
    with django_assert_max_num_queries(2):
        assert send(strangers).json()["revoked"] == 0


def test_huge_report_is_refused_before_it_is_read(leaked: list[str]) -> None:
    answer = send(leaked[0].encode() + b" " * LARGEST_REPORT)
    assert (answer.status_code, answer["X-Error-Code"]) == (413, "TooLarge")
    assert live() == 3


def test_too_many_reports_of_one_address_are_told_to_wait(leaked: list[str], settings: Any) -> None:
    settings.GATEHOUSE_PROXIES = ()
    for number in range(REPORTS.most):
        assert send([tokens.make_secret()], x_forwarded_for=f"192.0.2.{number}").status_code == 200
    answer = send([leaked[0]], x_forwarded_for="198.51.100.7")
    assert (answer.status_code, answer["Retry-After"]) == (429, str(REPORTS.seconds))
    assert live() == 3


@pytest.mark.parametrize("url", [URL, REVOKE])
def test_other_methods_are_refused_with_a_code(url: str) -> None:
    answer = Client().get(url)
    assert (answer.status_code, answer["X-Error-Code"]) == (405, "MethodNotAllowed")


def test_revoke_ends_tokens_and_answers_the_same_for_all(leaked: list[str]) -> None:
    """The answer is 202, as on the Hub, whether a token exists, has ended, or is not a token at all."""
    answers = [
        send({"credentials": credentials}, REVOKE)
        for credentials in (leaked, leaked, [tokens.make_secret()], ["hf_other", "", "\ud800"], [])
    ]
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (202, b'{"message": "Revocation requested."}')
    }
    assert live() == 0
    assert OutgoingMail.objects.count() == 3


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{}", b'{"credentials": "gth_x"}', b'{"credentials": [1]}', b'{"credentials": [['],
)
def test_revoke_says_what_is_wrong_with_a_body(leaked: list[str], body: bytes) -> None:
    answer = send(body, REVOKE)
    assert (answer.status_code, answer["X-Error-Code"]) == (400, "BadRequest")
    assert live() == 3


def test_revoke_takes_what_the_client_sends_at_once_and_no_more(
    leaked: list[str], django_assert_max_num_queries: Any
) -> None:
    strangers = [tokens.make_secret() for _ in range(MOST_CREDENTIALS)]
    with django_assert_max_num_queries(2):
        assert send({"credentials": strangers}, REVOKE).status_code == 202
    answer = send({"credentials": [*strangers, leaked[0]]}, REVOKE)
    assert (answer.status_code, live()) == (400, 3)
    assert f"at most {MOST_CREDENTIALS:,} at a time" in answer["X-Error-Message"]
