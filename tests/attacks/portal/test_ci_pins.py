"""CI jobs that pose as another workflow, and signed identities whose claims have the wrong type."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from access_requests.models import AccessToken, IssuerKeys
from access_requests.services.oauth import issuers, keys
from access_requests.services.oauth.trusted import trust_repository
from tests.access_requests.services.oauth.trading import SITE, signed_as_it_is
from tests.issuer import Issuer, running_issuer

pytestmark = pytest.mark.django_db
PINNED = ".github/workflows/e.yml"
GITLAB = {
    "repository": None, "repository_owner": None, "repository_id": None, "ref": None,
    "project_path": "lab/group/eval", "namespace_path": "lab/group", "project_id": "17", "ref_path": "refs/heads/main",
}  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Generator[Issuer]:
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(running: Issuer, settings: Any) -> Generator[Issuer]:
    settings.GATEHOUSE_OIDC_ISSUERS = {running.url: "github"}
    settings.GATEHOUSE_URL = SITE
    cache.clear()
    shown = list(running.keys)
    yield running
    running.keys[:] = shown
    running.answers.clear()


@pytest.fixture
def send(client: Client, issuer: Issuer) -> Callable[..., tuple[int, dict[str, Any]]]:
    """`send(workflow_ref="...")`: send the job's signed identity with these claims; return status and answer."""

    def post(
        header: dict[str, Any] | None = None, raw: str = "", **changes: Any
    ) -> tuple[int, dict[str, Any]]:
        cache.clear()  # the limit on failures is tested elsewhere
        claims = {name: value for name, value in (issuer.claims(SITE) | changes).items() if value is not None}
        identity = raw or signed_as_it_is(issuer, header or {"alg": "RS256", "kid": "first"}, claims)
        asked = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "subject_token": identity,
            "resource": "ada",
        }
        answer = client.post("/oauth/token", asked, content_type="application/json")
        assert client.get("/").status_code == 200
        return answer.status_code, answer.json()

    return post


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    return make_person("ada")


def is_refused(answer: tuple[int, dict[str, Any]]) -> bool:
    """Return whether the answer has a code of RFC 6749 or 8693 and a sentence, and no token."""
    status, body = answer
    coded = body.get("error") in {
        "invalid_grant",
        "invalid_target",
        "invalid_request",
        "temporarily_unavailable",
    }
    return (
        status in {400, 503}
        and coded
        and bool(body["error_description"])
        and not AccessToken.objects.exists()
    )


WORKFLOWS = [
    "e.yml@evil@refs/heads/x",
    "e.yml@refs/heads/x@refs/heads/main",
    "e.yml@evil",
    "e.yml@",
    "e.yml",
    "e.yml@refs/",
    "e.yml@refs/evil/x",
    "e.yml@heads/main",
    "e.yml@REFS/heads/main",
    "E.yml@refs/heads/main",
    "e.YML@refs/heads/main",
    "e.yml/@refs/heads/main",
    "e.yml @refs/heads/main",
    " e.yml@refs/heads/main",
    "/e.yml@refs/heads/main",
    "./e.yml@refs/heads/main",
    "../workflows/e.yml@refs/heads/main",
    "sub/e.yml@refs/heads/main",
    "e%2Eyml@refs/heads/main",
    "%65.yml@refs/heads/main",
    "e.yml%40evil@refs/heads/main",
    "e.yml\uff20evil@refs/heads/main",
    "\u0435.yml@refs/heads/main",
    "e\u200b.yml@refs/heads/main",
    "e.yml\0@refs/heads/main",
    "e.yml\n@refs/heads/main",
    "e.yml#@refs/heads/main",
    "e.yml?x@refs/heads/main",
    "e.yml;x@refs/heads/main",
    "e.yaml@refs/heads/main",
    "@refs/heads/main",
]
PATHS = [
    "eve/eval/.github/workflows/e.yml@refs/heads/main",
    "acme/eval2/.github/workflows/e.yml@refs/heads/main",
    "eve/acme/eval/.github/workflows/e.yml@refs/heads/main",
    "acme/eval//.github/workflows/e.yml@refs/heads/main",
    "acme/eval/x/.github/workflows/e.yml@refs/heads/main",
    "acme/eval/.github/workflows/.github/workflows/e.yml@refs/heads/main",
    "/acme/eval/.github/workflows/e.yml@refs/heads/main",
    "acme/eval/.github/workflows@refs/heads/x/e.yml@refs/heads/main",
    "acme/eval@refs/heads/x/.github/workflows/e.yml",
    "\uff41cme/eval/.github/workflows/e.yml@refs/heads/main",
    "acme%2Feval/.github/workflows/e.yml@refs/heads/main",
    ".github/workflows/e.yml@refs/heads/main",
    "",
]


@pytest.mark.parametrize("claim", [f"acme/eval/.github/workflows/{file}" for file in WORKFLOWS] + PATHS)
def test_workflow_that_only_looks_like_the_pinned_one_is_refused(
    ada: Any, issuer: Issuer, send: Callable[..., Any], claim: str
) -> None:
    trust_repository(user=ada, issuer=issuer.url, repository="acme/eval", workflow=PINNED)
    assert is_refused(send(workflow_ref=claim))


@pytest.mark.parametrize(
    "ref", ["refs/heads/main", "refs/heads/a@b", "refs/heads/@{x", "refs/tags/v1@2", "refs/pull/7/merge"]
)
@pytest.mark.parametrize("repository", ["acme/eval", "ACME/Eval"])
def test_pinned_workflow_is_taken_from_every_ref(
    ada: Any, issuer: Issuer, send: Callable[..., Any], ref: str, repository: str
) -> None:
    trust_repository(user=ada, issuer=issuer.url, repository="acme/eval", workflow=PINNED)
    assert send(workflow_ref=f"{repository}/{PINNED}@{ref}")[0] == 200


def test_file_with_an_at_sign_is_pinned_by_its_own_name(
    ada: Any, issuer: Issuer, send: Callable[..., Any]
) -> None:
    trust_repository(
        user=ada, issuer=issuer.url, repository="acme/eval", workflow=".github/workflows/e@v2.yml"
    )
    assert is_refused(send(workflow_ref="acme/eval/.github/workflows/e@refs/heads/main"))
    assert send(workflow_ref="acme/eval/.github/workflows/e@v2.yml@refs/heads/main")[0] == 200


@pytest.mark.parametrize(
    "claim",
    [
        "gitlab.example/lab/group/eval//.gitlab-ci.yml@evil@refs/heads/main",
        "gitlab.example/lab/group/eval//.gitlab-ci.yml@refs/heads/x/evil.yml@refs/heads/main",
        "gitlab.example/lab/group/eval//.gitlab-ci.yml@evil",
        "gitlab.example/lab/group/eval//.gitlab-ci.yml",
        "gitlab.example/lab/group/eval//x//.gitlab-ci.yml@refs/heads/main",
        "gitlab.example/lab/group/eval///.gitlab-ci.yml@refs/heads/main",
        "gitlab.example/lab/group/eval/.gitlab-ci.yml@refs/heads/main",
        "gitlab.example/evil/lab/group/eval//.gitlab-ci.yml@refs/heads/main",
        "gitlab.example/lab/group/eval2//.gitlab-ci.yml@refs/heads/main",
        "gitlab.example/eve/x//lab/group/eval//.gitlab-ci.yml@refs/heads/main",
        "/lab/group/eval//.gitlab-ci.yml@refs/heads/main",
        "lab/group/eval//.gitlab-ci.yml@refs/heads/main",
        "gitlab.example/lab/group/eval//.GITLAB-CI.yml@refs/heads/main",
        "gitlab.example/lab/group/eval//sub/.gitlab-ci.yml@refs/heads/main",
        "https://gitlab.example/lab/group/eval//.gitlab-ci.yml@refs/heads/main",
    ],
)
def test_gitlab_configuration_that_only_looks_like_the_pinned_one_is_refused(
    ada: Any, issuer: Issuer, send: Callable[..., Any], settings: Any, claim: str
) -> None:
    settings.GATEHOUSE_OIDC_ISSUERS = {issuer.url: "gitlab"}
    trust_repository(user=ada, issuer=issuer.url, repository="lab/group/eval", workflow=".gitlab-ci.yml")
    assert is_refused(send(**GITLAB, ci_config_ref_uri=claim))
    good = "gitlab.example:8443/Lab/Group/Eval//.gitlab-ci.yml@refs/heads/a@b"
    assert send(**GITLAB, ci_config_ref_uri=good)[0] == 200


def test_gitlab_below_a_path_names_it() -> None:
    read = issuers.DIALECTS["gitlab"].workflow_file
    claim = "example.org/gitlab/lab/eval//ci/a.yml@refs/heads/main"
    assert read(claim, "lab/eval", "https://example.org/gitlab") == "ci/a.yml"
    assert read(claim, "lab/eval", "https://example.org") == ""


def test_pin_of_nothing_is_no_pin_for_everything(ada: Any, issuer: Issuer) -> None:
    for workflow in ("/", "//", " / "):
        with pytest.raises(Exception, match="leave it empty"):
            trust_repository(user=ada, issuer=issuer.url, repository="acme/eval", workflow=workflow)


WRONG: list[Any] = ["", "soon", "1893456000", 1.5, -1, True, False, [], [1], {}, {"a": 1}, 10**400, float("nan"),
                    float("inf"), float("-inf"), "x" * 3000, "\ud800"]  # fmt: skip


def test_table_of_claims_takes_no_wrong_kind() -> None:
    for claim, kind in issuers.CLAIMS.items():
        taken = [value for value in WRONG if kind.fits(value)]
        texts = ["", "soon", "1893456000"]
        assert taken == ([] if kind is issuers.MOMENT else texts), claim


@pytest.mark.parametrize("claim", sorted(issuers.CLAIMS))
def test_claims_of_a_wrong_kind_are_refused_with_a_code(
    ada: Any, issuer: Issuer, send: Callable[..., Any], claim: str
) -> None:
    """The issuer signs them all the same. A text claim may hold any text that is not too long."""
    trusted = trust_repository(user=ada, issuer=issuer.url, repository="acme/eval")
    kind = issuers.CLAIMS[claim]
    for value in WRONG:
        if kind.fits(value) and claim not in {
            "iss",
            "aud",
        }:  # text or a number: its type is valid
            assert isinstance(value, str | int)
            continue
        status, body = send(**{claim: value})
        assert (status, body["error"]) == (400, "invalid_grant"), (claim, value)
        assert body["error_description"], (claim, value)
    assert not AccessToken.objects.exists()
    assert send()[0] == 200
    trusted.refresh_from_db()
    assert trusted.repository_id == "4711"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [SITE]}, {"aud": [SITE, SITE]}, {"aud": {SITE: 1}}, {"aud": [[SITE]]}, {"aud": f"{SITE} evil"},
        {"sub": {"repo": "acme/eval"}}, {"repository": {"name": "acme/eval"}}, {"iss": {}}, {"exp": {"$date": 1}},
        {"repository": "acme/eval\u200b"}, {"repository": "\uff41cme/eval"}, {"repository": "acme/../acme/eval"},
        {"repository": "acme/eval/"}, {"repository": "acme%2Feval"}, {"repository_id": "1" * 41},
        {"repository_id": 10**60}, {"sub": None}, {"jti": None},
    ],
)  # fmt: skip
def test_claims_with_other_tricks_are_refused(
    ada: Any, issuer: Issuer, send: Callable[..., Any], claims: dict[str, Any]
) -> None:
    trust_repository(user=ada, issuer=issuer.url, repository="acme/eval")
    assert is_refused(send(**claims))


def test_environment_with_colons_in_the_subject_counts_for_nothing(
    ada: Any, issuer: Issuer, send: Callable[..., Any]
) -> None:
    trust_repository(user=ada, issuer=issuer.url, repository="acme/eval", environment="production")
    assert is_refused(send(sub="repo:acme/eval:environment:production"))
    assert is_refused(send(environment="x:environment:production"))
    assert is_refused(send(environment="Production"))
    assert send(environment="production")[0] == 200


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"}, {"alg": "HS256", "kid": "first"}, {"alg": "RS256"}, {"alg": "RS256", "kid": None},
        {"alg": "RS256", "kid": "FIRST"}, {"alg": "RS256", "kid": "first "}, {"alg": "RS256", "kid": "../first"},
        {"alg": "RS256", "kid": "x" * 10_000}, {"alg": "RS256", "kid": "' OR 1=1 --"}, {"alg": "RS256", "kid": "\0"},
        {"alg": ["RS256"], "kid": "first"}, {"alg": "rs256", "kid": "first"},
    ],
)  # fmt: skip
def test_headers_that_name_another_key_or_none_are_refused(
    ada: Any, issuer: Issuer, send: Callable[..., Any], header: dict[str, Any]
) -> None:
    trust_repository(user=ada, issuer=issuer.url, repository="acme/eval")
    assert is_refused(send(header=header))


def test_identity_of_a_megabyte_is_refused(ada: Any, issuer: Issuer, send: Callable[..., Any]) -> None:
    trust_repository(user=ada, issuer=issuer.url, repository="acme/eval")
    for raw in ("A" * 2**20, "e30." * 250_000, f"{'A' * 500_000}.{'B' * 500_000}.C"):
        status, body = send(raw=raw)
        assert status in {400, 413}
        assert body["error"]


def test_ten_thousand_keys_and_odd_ones_are_bounded(
    ada: Any, issuer: Issuer, send: Callable[..., Any]
) -> None:
    trust_repository(user=ada, issuer=issuer.url, repository="acme/eval")
    good = issuer.keys[0]
    odd: list[Any] = [None, 5, [], "x", {}, {"kid": 5}, {"kid": "first"}, {**good, "kid": "giant", "n": "A" * 100_000},
                      {**good, "kid": "zero", "n": "", "e": ""}, {**good, "kid": "even", "e": "Ag"}]  # fmt: skip
    issuer.keys[:] = [good, *odd, *({"kid": f"k{n}"} for n in range(10_000))]
    assert len(json.dumps(issuer.keys)) > keys.LARGEST
    assert is_refused(send())
    IssuerKeys.objects.all().delete()
    issuer.keys[:] = [good, *odd, *({"kid": f"k{n}"} for n in range(1000))]
    assert send()[0] == 200
    row = IssuerKeys.objects.get()
    assert len(row.keys) <= keys.MOST_KEYS
    assert "giant" not in {key["kid"] for key in row.keys}


def test_issuer_that_drips_its_headers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte came within the time limit of one step, so a fetch took as long as the issuer wanted."""
    monkeypatch.setattr(keys, "PATIENCE", 1.0)
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"

    def drip() -> None:
        with suppress(OSError), listening:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                for _ in range(60):
                    time.sleep(0.1)
                    connection.sendall(b"x")
                connection.sendall(b"\r\nContent-Length: 2\r\n\r\n{}")

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    with pytest.raises(keys.Unreachable, match=r"timed out|too slowly"):
        keys.fetch_keys(address)
    thread.join(60)
