"""Trade identities for tokens, or for refusals."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest

from access_requests.enums import TokenOrigin
from access_requests.models import AccessToken, TokenExchange
from access_requests.services import tokens
from access_requests.services.oauth import exchange
from access_requests.services.oauth.errors import OAuthError
from tests.issuer import Issuer

SITE = "https://gatehouse.example.org"


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
    """Sign any header and claims with the first key; the library refuses to write some of them."""
    text = f"{part(header)}.{part(claims)}"
    rsa = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    signature = rsa.sign(text.encode(), issuer.private["first"])
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def give(model: Any, person: Any, days: int = 30) -> Any:
    from access_requests.services.grants import grant_access

    return grant_access(model=model, email=person.email, days=days).grant
