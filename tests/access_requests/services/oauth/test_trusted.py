from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from access_requests.enums import TokenKind, TokenOrigin
from access_requests.errors import Conflict, Invalid, NotAllowed, RuleError
from access_requests.models import AccessToken, TrustedRepository
from access_requests.services import tokens
from access_requests.services.oauth.errors import OAuthError
from access_requests.services.oauth.trusted import MOST_TRUSTED, remove_trusted, trust_repository
from tests.access_requests.services.oauth.trading import SITE, give, refused, trade
from tests.issuer import Issuer

pytestmark = pytest.mark.django_db


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


@pytest.mark.parametrize("removed", [True, False])
def test_a_repository_that_was_made_anew_is_trusted_anew(
    trusted: TrustedRepository, issuer: Issuer, ada: Any, removed: bool
) -> None:
    trade(issuer.identity(SITE))
    anew = {"repository_id": "4712", "ref": "refs/heads/main"}
    with pytest.raises(OAuthError, match="remove it and trust it again"):
        trade(issuer.identity(SITE, **anew))
    if removed:
        remove_trusted(trusted=trusted, user=ada)
    again = trust_repository(
        user=ada, issuer=issuer.url, repository="acme/eval", ref="" if removed else "refs/heads/main"
    )
    issued = trade(issuer.identity(SITE, **anew))
    assert issued.token.exchange.trusted == again
    again.refresh_from_db()
    assert again.repository_id == "4712"
    with pytest.raises(OAuthError, match="another repository"):
        trade(issuer.identity(SITE, repository_id="4713", ref="refs/heads/main"))


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
