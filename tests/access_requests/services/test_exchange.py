from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import Client
from django.utils import timezone

from access_requests.enums import TokenKind, TokenOrigin
from access_requests.errors import Conflict, Invalid, NotAllowed, RuleError
from access_requests.models import AccessToken, Event, IssuerKeys, TokenExchange, TrustedRepository
from access_requests.services import tokens
from access_requests.services.audit import verify_chain
from access_requests.services.oauth import exchange, keys, limits
from access_requests.services.oauth.errors import OAuthError, TooMany
from access_requests.services.oauth.trusted import MOST_TRUSTED, remove_trusted, trust_repository
from portal import environment
from tests.issuer import Issuer, running_issuer

pytestmark = pytest.mark.django_db
SITE = "https://gatehouse.example.org"


@pytest.fixture(scope="module")
def running() -> Generator[Issuer]:
    with running_issuer() as issuer:
        issuer.add_key("second")
        issuer.add_key("curve", algorithm="ES256")
        yield issuer


@pytest.fixture
def issuer(running: Issuer, settings: Any) -> Generator[Issuer]:
    """The issuer, let in as one of GitHub's kind, with its keys and answers as they were before the test."""
    settings.GATEHOUSE_OIDC_ISSUERS = {running.url: "github"}
    settings.GATEHOUSE_URL = SITE
    cache.clear()
    shown = list(running.keys)
    running.asked.clear()
    yield running
    running.keys[:] = shown
    running.answers.clear()


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    return make_person("ada")


@pytest.fixture
def trusted(ada: Any, issuer: Issuer) -> TrustedRepository:
    return trust_repository(user=ada, issuer=issuer.url, repository="acme/eval")


def trade(identity: str, resource: str = "ada", address: str = "192.0.2.9") -> tokens.Issued:
    return exchange.exchange_identity(identity=identity, resource=resource, address=address)


def refused(identity: str, resource: str = "ada") -> str:
    with pytest.raises(OAuthError) as raised:
        trade(identity, resource)
    assert not TokenExchange.objects.exists()
    assert not AccessToken.objects.filter(origin=TokenOrigin.OIDC).exists()
    return raised.value.sentence


def part(found: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(found).encode()).rstrip(b"=").decode()


def signed_as_it_is(issuer: Issuer, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Signed by the first key, whatever header and claims are: the library would refuse to write some of them."""
    text = f"{part(header)}.{part(claims)}"
    rsa = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    signature = rsa.sign(text.encode(), issuer.private["first"])
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def give(model: Any, person: Any, days: int = 30) -> Any:
    from access_requests.services.grants import grant_access

    return grant_access(model=model, email=person.email, days=days).grant


def test_a_job_of_a_trusted_repository_gets_an_hour(
    trusted: TrustedRepository, issuer: Issuer, ada: Any
) -> None:
    issued = trade(issuer.identity(SITE))
    token = tokens.authenticate(issued.secret)
    assert (token.user, token.kind, token.origin) == (ada, TokenKind.USER, TokenOrigin.OIDC)
    assert token.expires_at is not None
    assert abs(token.expires_at - timezone.now() - timedelta(minutes=60)) < timedelta(minutes=1)
    kept = TokenExchange.objects.get()
    assert (kept.token, kept.claims["ref"], kept.claims["actor"]) == (token, "refs/heads/main", "ada")
    assert Event.objects.order_by("-number").values_list("kind", flat=True)[0] == "trusted.exchanged"
    assert verify_chain().ok


def test_a_curve_key_is_taken(trusted: TrustedRepository, issuer: Issuer) -> None:
    assert trade(issuer.sign(issuer.claims(SITE), kid="curve", algorithm="ES256"))


def test_an_identity_is_exchanged_once(trusted: TrustedRepository, issuer: Issuer) -> None:
    identity = issuer.identity(SITE, jti="same")
    first = trade(identity)
    for again in (identity, issuer.identity(SITE, jti="same")):
        with pytest.raises(OAuthError, match="exchanged before"):
            trade(again)
    assert tokens.authenticate(first.secret)
    assert AccessToken.objects.count() == 1


# What is wrong with an identity that its issuer really signed.
BAD_CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({"aud": "https://huggingface.co"}, "audience"),
    ({"aud": f"{SITE}/"}, "audience"),
    ({"aud": SITE.upper()}, "audience"),
    ({"aud": [SITE, "https://evil.example"]}, "not valid|audience"),
    ({"aud": [SITE]}, "not valid|audience"),
    ({"aud": None}, "not valid"),
    ({"aud": {}}, "not valid|audience"),
    ({"iss": "https://token.actions.githubusercontent.com"}, "does not trust"),
    ({"iss": None}, "does not trust"),
    ({"iss": ["x"]}, "does not trust|JSON web token"),
    ({"exp": int(time.time()) - 3600}, "has ended"),
    ({"exp": None}, "not valid"),
    ({"exp": "never"}, "not valid"),
    ({"exp": 10**30}, "not valid|more than a day"),
    ({"exp": int(time.time()) + 90_000}, "more than a day"),
    ({"iat": int(time.time()) + 3600, "nbf": None}, "not valid"),
    ({"nbf": int(time.time()) + 3600}, "not valid"),
    ({"iat": None}, "not valid"),
    ({"sub": None}, "not valid"),
    ({"sub": 7}, "not valid"),
    ({"jti": None}, "not valid"),
    ({"jti": ""}, "no id"),
    ({"jti": 5}, "not valid|no id"),
    ({"repository": None}, "names no repository"),
    ({"repository": "acme"}, "names no repository"),
    ({"repository": ["acme/eval"]}, "names no repository"),
    ({"repository": "acme/eval\n"}, "names no repository|Nobody trusts"),
    ({"repository_id": None}, "names no repository"),
    ({"repository_owner": "eve"}, "contradicts itself"),
    ({"repository_owner": None}, "contradicts itself"),
    ({"repository": "eve/eval", "repository_owner": "acme"}, "contradicts itself"),
    ({"repository": "eve/acme/eval", "repository_owner": "acme"}, "contradicts itself"),
    ({"repository": "eve/eval", "repository_owner": "eve"}, "Nobody trusts"),
    ({"repository": "acme/eval2"}, "Nobody trusts"),
    ({"repository": "acme/EVAL%"}, "names no repository"),
    # Another service's words for a repository count for nothing here.
    ({"repository": None, "project_path": "acme/eval", "namespace_path": "acme", "project_id": "1"}, "names no"),
    ({"repository": "eve/x", "repository_owner": "eve", "project_path": "acme/eval"}, "Nobody trusts"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "why"), BAD_CLAIMS)
def test_bad_claims_are_refused(
    trusted: TrustedRepository, issuer: Issuer, changes: dict[str, Any], why: str
) -> None:
    claims = {name: value for name, value in (issuer.claims(SITE) | changes).items() if value is not None}
    with pytest.raises(OAuthError, match=why):
        trade(signed_as_it_is(issuer, {"alg": "RS256", "kid": "first"}, claims))
    assert not AccessToken.objects.exists()


def test_a_token_without_signature_is_refused(trusted: TrustedRepository, issuer: Issuer) -> None:
    body = part(issuer.claims(SITE))
    for alg in ("none", "None", "NONE", "", None, 5):
        assert "signed with" in refused(f"{part({'alg': alg, 'kid': 'first'})}.{body}.") or alg in {
            "",
            None,
            5,
        }
    good = issuer.identity(SITE)
    assert refused(good.rpartition(".")[0] + ".")
    assert trade(good)


def test_the_public_key_is_no_shared_secret(trusted: TrustedRepository, issuer: Issuer) -> None:
    public = issuer.private["first"].public_key()
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(issuer.keys[0]).encode(),
    ):
        for alg, hashed in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
            signed = f"{part({'alg': alg, 'kid': 'first'})}.{part(issuer.claims(SITE))}"
            signature = base64.urlsafe_b64encode(hmac.new(secret, signed.encode(), hashed).digest())
            assert "signed with" in refused(f"{signed}.{signature.rstrip(b'=').decode()}")


def test_a_key_of_the_token_itself_is_not_believed(trusted: TrustedRepository, issuer: Issuer) -> None:
    with running_issuer() as thief:
        claims = issuer.claims(SITE)
        for header in (
            {"jwk": thief.keys[0]},
            {"jku": f"{thief.url}/keys"},
            {"x5u": f"{thief.url}/keys"},
            {},
        ):
            assert "not valid" in refused(thief.sign(claims, **header))
        assert "does not show" in refused(
            jwt.encode(claims, thief.private["first"], "RS256", {"kid": "thief"})
        )
        assert "does not trust" in refused(thief.identity(SITE))
        assert thief.asked == []


def test_wrong_algorithm_for_a_key_is_refused(trusted: TrustedRepository, issuer: Issuer) -> None:
    claims = issuer.claims(SITE)
    assert refused(jwt.encode(claims, issuer.private["curve"], "ES256", {"kid": "first"}))
    assert refused(jwt.encode(claims, issuer.private["first"], "RS256", {"kid": "curve"}))
    assert "signed with" in refused(jwt.encode(claims, issuer.private["first"], "RS512", {"kid": "first"}))


def test_headers_that_change_the_meaning_are_refused(trusted: TrustedRepository, issuer: Issuer) -> None:
    claims = issuer.claims(SITE)
    good = {"alg": "RS256", "kid": "first"}
    for wrong in ({"crit": ["x"], "x": 1}, {"crit": []}, {"b64": True}, {"b64": False}):
        refused(signed_as_it_is(issuer, good | wrong, claims))
    for kid in (None, 5, ["first"], {}):
        refused(signed_as_it_is(issuer, good | {"kid": kid}, claims))
    assert trade(signed_as_it_is(issuer, good, claims))


@pytest.mark.parametrize("junk", ["", "a", "a.b.c", "...", "é.é.é", "\x01", "e30.e30.e30", "A" * 20_000])
def test_junk_is_refused(trusted: TrustedRepository, issuer: Issuer, junk: str) -> None:
    assert refused(junk)
    assert issuer.asked == []


def test_a_flood_of_unknown_keys_asks_the_issuer_once(trusted: TrustedRepository, issuer: Issuer) -> None:
    claims = issuer.claims(SITE)
    for n in range(20):
        refused(jwt.encode(claims, issuer.private["first"], "RS256", {"kid": f"unknown-{n}"}))
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    assert trade(issuer.identity(SITE))


def test_refused_exchanges_of_an_address_are_bounded(trusted: TrustedRepository, issuer: Issuer) -> None:
    for n in range(5):
        assert trade(issuer.identity(SITE, jti=f"good-{n}"))
    for _ in range(limits.FAILED_EXCHANGES_OF_ADDRESS.most):
        with pytest.raises(OAuthError):
            trade("junk")
    with pytest.raises(TooMany):
        trade(issuer.identity(SITE))
    assert trade(issuer.identity(SITE), address="192.0.2.10")


def test_new_keys_are_found_and_old_ones_forgotten(trusted: TrustedRepository, issuer: Issuer) -> None:
    old_key = issuer.keys[0]
    issuer.keys[:] = [old_key]
    assert trade(issuer.identity(SITE))
    issuer.keys[:] = [key for key in [*issuer.keys] if key is not old_key]
    issuer.add_key("rotated")
    rotated = issuer.sign(issuer.claims(SITE), kid="rotated")
    with pytest.raises(OAuthError, match="does not show"):  # asked for a moment ago
        trade(rotated)
    IssuerKeys.objects.update(tried_at=timezone.now() - keys.AGAIN)
    assert trade(rotated)
    with pytest.raises(OAuthError, match="does not show"):
        trade(issuer.identity(SITE))


def test_keys_are_believed_for_hours_and_not_longer(trusted: TrustedRepository, issuer: Issuer) -> None:
    assert trade(issuer.identity(SITE))
    issuer.answers["/keys"] = lambda: (500, {}, b"")
    long_ago = timezone.now() - keys.FRESH
    IssuerKeys.objects.update(tried_at=long_ago)
    assert trade(issuer.identity(SITE))
    IssuerKeys.objects.update(tried_at=long_ago, fetched_at=long_ago)
    with pytest.raises(OAuthError, match="try again") as raised:
        trade(issuer.identity(SITE))
    assert raised.value.status == 503


def test_weak_and_strange_keys_are_not_used(trusted: TrustedRepository, issuer: Issuer) -> None:
    issuer.add_key("weak", bits=1024)
    issuer.keys += [
        {"kty": "oct", "kid": "shared", "alg": "RS256", "k": part("x")},
        {**issuer.keys[0], "kid": "to-encrypt", "use": "enc"},
        {**issuer.keys[0], "kid": "other-alg", "alg": "RS512"},
        {"kty": "RSA", "kid": "broken", "n": 5, "e": None},
        {"kty": "RSA", "kid": "empty"},
        "no key at all",  # type: ignore[list-item]
    ]
    claims = issuer.claims(SITE)
    for kid in ("shared", "to-encrypt", "other-alg", "broken", "empty"):
        assert "does not show" in refused(jwt.encode(claims, issuer.private["first"], "RS256", {"kid": kid}))
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        weak = issuer.sign(claims, kid="weak")
    assert "does not show" in refused(weak)
    assert trade(issuer.identity(SITE))


ELSEWHERE = "https://169.254.169.254/keys"
TRICKS: dict[str, tuple[str, Callable[[str], tuple[int, dict[str, str], bytes]]]] = {
    "redirect": ("/keys", lambda url: (302, {"Location": f"{url}/secret"}, b"")),
    "redirect of the configuration": (
        "/.well-known/openid-configuration",
        lambda url: (307, {"Location": f"{url}/secret"}, b""),
    ),
    "another host": (
        "/.well-known/openid-configuration",
        lambda url: (200, {}, json.dumps({"issuer": url, "jwks_uri": ELSEWHERE}).encode()),
    ),
    "another port": (
        "/.well-known/openid-configuration",
        lambda url: (200, {}, json.dumps({"issuer": url, "jwks_uri": "http://127.0.0.1:1/secret"}).encode()),
    ),
    "a file": (
        "/.well-known/openid-configuration",
        lambda url: (200, {}, json.dumps({"issuer": url, "jwks_uri": "file:///etc/passwd"}).encode()),
    ),
    "a bracket": (
        "/.well-known/openid-configuration",
        lambda url: (200, {}, json.dumps({"issuer": url, "jwks_uri": "http://[::1"}).encode()),
    ),
    "another name": (
        "/.well-known/openid-configuration",
        lambda url: (200, {}, json.dumps({"issuer": url + "/", "jwks_uri": f"{url}/keys"}).encode()),
    ),
    "too large": ("/keys", lambda url: (200, {}, b" " * (keys.LARGEST + 1))),
    "no JSON": ("/keys", lambda url: (200, {}, b"<html>")),
    "deep JSON": ("/keys", lambda url: (200, {}, b"[" * 100_000)),
    "no object": ("/keys", lambda url: (200, {}, b"[]")),
    "no list": ("/keys", lambda url: (200, {}, b'{"keys": {}}')),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_an_issuer_cannot_lead_elsewhere(trusted: TrustedRepository, issuer: Issuer, trick: str) -> None:
    path, answer = TRICKS[trick]
    issuer.answers[path] = lambda: answer(issuer.url)
    issuer.answers["/secret"] = lambda: (200, {}, json.dumps({"keys": issuer.keys}).encode())
    assert "cannot be fetched" in refused(issuer.identity(SITE))
    assert "/secret" not in issuer.asked


def test_conditions_must_all_hold(ada: Any, issuer: Issuer) -> None:
    trust_repository(
        user=ada,
        issuer=issuer.url,
        repository="Acme/Eval",
        ref="refs/heads/main",
        environment="production",
        workflow=".github/workflows/ci.yml",
    )
    good = {"environment": "production"}
    for wrong in (
        {"environment": None},
        {"environment": "Production"},
        {"ref": "refs/heads/main2"},
        {"ref": "refs/tags/main"},
        {"ref": None},
        {"ref": "refs/pull/7/merge"},
        {"workflow_ref": "acme/eval/.github/workflows/other.yml@refs/heads/main"},
        {"workflow_ref": "eve/eval/.github/workflows/ci.yml@refs/heads/main"},
        {"workflow_ref": None},
        {"workflow_ref": "acme/eval/x/.github/workflows/ci.yml@acme/eval/.github/workflows/ci.yml@x"},
    ):
        assert "Nobody trusts" in refused(issuer.identity(SITE, **(good | wrong)))
    assert trade(issuer.identity(SITE, **good))


def test_gitlab_says_it_in_its_own_words(ada: Any, issuer: Issuer, settings: Any) -> None:
    settings.GATEHOUSE_OIDC_ISSUERS = {issuer.url: "gitlab"}
    trust_repository(
        user=ada,
        issuer=issuer.url,
        repository="lab/group/eval",
        ref="refs/heads/main",
        workflow=".gitlab-ci.yml",
    )
    claims = {
        "repository": None, "repository_owner": None, "repository_id": None, "ref": "main",
        "project_path": "lab/group/eval", "namespace_path": "lab/group", "project_id": 17,
        "ref_path": "refs/heads/main",
        "ci_config_ref_uri": "gitlab.example/lab/group/eval//.gitlab-ci.yml@refs/heads/main",
    }  # fmt: skip
    assert "contradicts" in refused(issuer.identity(SITE, **(claims | {"namespace_path": "lab"})))
    for wrong in (
        {"ref_path": "main"},
        {"ci_config_ref_uri": "gitlab.example/eve/x//.gitlab-ci.yml@refs/heads/main"},
        {"project_path": "lab/group/x", "repository": "lab/group/eval", "repository_owner": "lab/group"},
    ):
        assert "Nobody trusts" in refused(issuer.identity(SITE, **(claims | wrong)))
    assert trade(issuer.identity(SITE, **claims))
    assert TrustedRepository.objects.get().repository_id == "17"


def test_who_takes_over_a_repositorys_name_is_refused(trusted: TrustedRepository, issuer: Issuer) -> None:
    assert trade(issuer.identity(SITE))
    with pytest.raises(OAuthError, match="another repository"):
        trade(issuer.identity(SITE, repository_id="4712"))
    assert trade(issuer.identity(SITE))


def test_a_trust_is_the_persons_who_made_it(
    trusted: TrustedRepository, issuer: Issuer, make_person: Callable[..., Any]
) -> None:
    make_person("bob")
    sentences = {refused(issuer.identity(SITE), name).replace(name, "X") for name in ("bob", "nobody")}
    assert len(sentences) == 1, "whether a person exists is not told"
    assert trade(issuer.identity(SITE), "ADA").token.user.username == "ada"


def test_a_disabled_persons_trust_is_worth_nothing(
    trusted: TrustedRepository, issuer: Issuer, ada: Any
) -> None:
    ada.is_active = False
    ada.save()
    assert "Nobody trusts" in refused(issuer.identity(SITE))


def test_a_trust_of_one_model_gives_a_token_of_its_grant(
    ada: Any, issuer: Issuer, make_model: Callable[..., Any]
) -> None:
    model, other = make_model("ai/one"), make_model("ai/two")
    grant = give(model, ada)
    give(other, ada)
    trust_repository(user=ada, issuer=issuer.url, repository="acme/eval", model=model)
    for resource in ("ada", "ai/one", "models/ai/one"):
        token = trade(issuer.identity(SITE), resource).token
        assert (token.kind, token.grant, token.origin) == (TokenKind.GRANT, grant, TokenOrigin.OIDC)
    for resource in ("ai/two", "ai/none", "datasets/ai/one", "ai", "", "ai/one/x"):
        with pytest.raises(OAuthError, match="Nobody trusts"):
            trade(issuer.identity(SITE), resource)


def test_a_busy_ci_leaves_room_for_the_persons_own_tokens(
    client: Client, ada: Any, issuer: Issuer, make_model: Callable[..., Any]
) -> None:
    model = make_model("ai/one")
    grant = give(model, ada)
    trust_repository(user=ada, issuer=issuer.url, repository="acme/eval", model=model)
    for _ in range(tokens.MOST_TOKENS):
        trade(issuer.identity(SITE))
    name = AccessToken.objects.values_list("name", flat=True)[0]
    made = tokens.issue_token(grant=grant, user=ada, name=name)
    assert tokens.rotate_token(token=made.token, user=ada, overlap="1d").token.name == name
    client.force_login(ada)
    by_ci = set(AccessToken.objects.filter(origin=TokenOrigin.OIDC).values_list("hint", flat=True))
    for page in ("/ai/one/access", "/me/", "/me/tokens"):
        shown = client.get(page).content.decode()
        assert made.token.hint in shown, page
        assert [hint for hint in by_ci if hint in shown] == [], page


def test_a_resource_narrows_a_wide_trust(
    trusted: TrustedRepository, issuer: Issuer, ada: Any, make_model: Callable[..., Any]
) -> None:
    model, hidden = make_model("ai/one"), make_model("ai/two")
    grant = give(model, ada)
    assert trade(issuer.identity(SITE), "ai/one").token.grant == grant
    with pytest.raises(OAuthError, match="Nobody trusts"):
        trade(issuer.identity(SITE), hidden.repo_id)


def test_two_models_of_one_repository_are_told_apart(
    ada: Any, issuer: Issuer, make_model: Callable[..., Any]
) -> None:
    for name in ("ai/one", "ai/two"):
        model = make_model(name)
        give(model, ada)
        trust_repository(user=ada, issuer=issuer.url, repository="acme/eval", model=model)
    assert "several models" in refused(issuer.identity(SITE))
    assert trade(issuer.identity(SITE), "ai/two").token.grant.model.repo_id == "ai/two"


def test_two_people_who_trust_one_repository_are_told_apart(
    trusted: TrustedRepository, issuer: Issuer, ada: Any, make_person: Any, make_model: Any
) -> None:
    bob, model = make_person("bob"), make_model("ai/one")
    trust_repository(user=bob, issuer=issuer.url, repository="acme/eval")
    give(model, ada)
    assert trade(issuer.identity(SITE), "ai/one").token.user == ada
    give(model, bob)
    with pytest.raises(OAuthError, match="Several people"):
        trade(issuer.identity(SITE), "ai/one")
    assert trade(issuer.identity(SITE), "bob").token.user == bob


def test_a_grant_that_ended_gives_no_token(ada: Any, issuer: Issuer, make_model: Callable[..., Any]) -> None:
    from access_requests.services.grants import revoke_access

    model = make_model("ai/one")
    give(model, ada)
    trust_repository(user=ada, issuer=issuer.url, repository="acme/eval", model=model)
    revoke_access(model=model, user=ada)
    assert "no access" in refused(issuer.identity(SITE))
    assert "Nobody trusts" in refused(issuer.identity(SITE), "ai/one")


def test_removing_a_trust_ends_its_tokens(
    trusted: TrustedRepository, issuer: Issuer, ada: Any, make_person: Callable[..., Any]
) -> None:
    issued = trade(issuer.identity(SITE))
    with pytest.raises(NotAllowed):
        remove_trusted(trusted=trusted, user=make_person("eve"))
    assert tokens.authenticate(issued.secret)
    assert [remove_trusted(trusted=trusted, user=ada), remove_trusted(trusted=trusted, user=ada)] == [1, 0]
    with pytest.raises(tokens.TokenRefused, match="not trusted"):
        tokens.authenticate(issued.secret)
    with pytest.raises(OAuthError, match="Nobody trusts"):
        trade(issuer.identity(SITE))


BAD_TRUSTS: list[tuple[dict[str, str], str]] = [
    ({"issuer": "https://evil.example"}, "issuer"),
    ({"repository": "acme"}, "repository"),
    ({"repository": "https://github.com/acme/eval"}, "repository"),
    ({"repository": "acme/eval\0"}, "repository"),
    ({"repository": "acme/%"}, "repository"),
    ({"repository": "acme/" + "x" * 300}, "repository"),
    ({"ref": "main"}, "ref"),
    ({"environment": "a\nb"}, "environment"),
    ({"workflow": "x" * 300}, "workflow"),
]


@pytest.mark.parametrize(("changes", "field"), BAD_TRUSTS)
def test_bad_trusts_are_refused(ada: Any, issuer: Issuer, changes: dict[str, str], field: str) -> None:
    with pytest.raises(Invalid) as raised:
        trust_repository(user=ada, **({"issuer": issuer.url, "repository": "acme/eval"} | changes))
    assert raised.value.field == field


def test_trusts_are_bounded_and_not_doubled(ada: Any, issuer: Issuer, make_model: Callable[..., Any]) -> None:
    with pytest.raises(Invalid, match="no live grant"):
        trust_repository(user=ada, issuer=issuer.url, repository="acme/eval", model=make_model("ai/one"))
    for n in range(MOST_TRUSTED):
        trust_repository(user=ada, issuer=issuer.url, repository=f"acme/eval{n}")
    with pytest.raises(Conflict):
        trust_repository(user=ada, issuer=issuer.url, repository="acme/eval0")
    with pytest.raises(RuleError, match="remove one"):
        trust_repository(user=ada, issuer=issuer.url, repository="acme/eval")


def test_the_wire_speaks_as_the_client_does(
    client: Client, trusted: TrustedRepository, issuer: Issuer
) -> None:
    asked = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": issuer.identity(SITE),
        "resource": "ada",
    }
    for missing in ("subject_token_type", "subject_token", "resource"):
        without = {name: value for name, value in asked.items() if name != missing}
        answer = client.post("/oauth/token", without, content_type="application/json")
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    answer = client.post("/oauth/token", asked, content_type="application/json")
    told = answer.json()
    assert (answer.status_code, answer["Cache-Control"]) == (200, "no-store")
    assert (told["token_type"], told["expires_in"]) == ("bearer", 3600)
    assert tokens.authenticate(told["access_token"]).user.username == "ada"
    again = client.post("/oauth/token", asked, content_type="application/json")
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert "hf auth token" in again["X-Error-Message"]


@pytest.mark.django_db(transaction=True)
def test_twenty_jobs_at_once_after_a_rotation_ask_once(
    ada: Any, issuer: Issuer, trusted: TrustedRepository
) -> None:
    results: list[str] = []

    def job(n: int) -> None:
        try:
            results.append(trade(issuer.identity(SITE, jti=f"job-{n}")).token.user.username)
        except RuleError as error:
            results.append(error.sentence)
        finally:
            connection.close()

    threads = [threading.Thread(target=job, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == ["ada"] * 8
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize(
    "value",
    ["https://gitlab.com", "github=http://ci.example.org", "jenkins=https://ci.example.org", "gitlab=https://x/", "github=https://u@x", "github=ftp://127.0.0.1", "github=https://x?y", "github="],
)  # fmt: skip
def test_a_wrong_list_of_issuers_stops_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("GATEHOUSE_OIDC_ISSUERS", value)
    with pytest.raises(ImproperlyConfigured, match="GATEHOUSE_OIDC_ISSUERS holds"):
        environment.oidc_issuers()


def test_the_usual_issuers_are_let_in_unless_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEHOUSE_OIDC_ISSUERS", raising=False)
    usual = {"https://token.actions.githubusercontent.com": "github", "https://gitlab.com": "gitlab"}
    assert environment.oidc_issuers() == usual
    monkeypatch.setenv("GATEHOUSE_OIDC_ISSUERS", "none")
    assert environment.oidc_issuers() == {}
