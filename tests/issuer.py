"""A CI service's OIDC issuer, over real HTTP on loopback: its configuration, keys and jobs' identities."""

from __future__ import annotations

import http.server
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

REQUEST_SECRET = "the-runner's-own-secret"


class Issuer:
    """An issuer that tests can make misbehave.

    `keys` are published as they are, `answers` overrides the answer at a path, `asked` lists the requests.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.private: dict[str, Any] = {}
        self.keys: list[dict[str, Any]] = []
        self.answers: dict[str, Callable[[], tuple[int, dict[str, str], bytes]]] = {}
        self.asked: list[str] = []
        self.job: dict[str, Any] = {}
        self.add_key("first")

    def add_key(self, kid: str, *, algorithm: str = "RS256", bits: int = 2048) -> None:
        """Add a key pair and publish its public half."""
        if algorithm == "RS256":
            private: Any = rsa.generate_private_key(65537, bits)
            public = RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        else:
            private = ec.generate_private_key(ec.SECP256R1())
            public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        self.private[kid] = private
        self.keys.append({**public, "kid": kid, "alg": algorithm, "use": "sig"})

    def claims(self, audience: str, **changes: Any) -> dict[str, Any]:
        """Return GitHub's claims for a job on `main` of acme/eval; changing a claim to None leaves it out."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": audience,
            "sub": "repo:acme/eval:ref:refs/heads/main",
            "jti": str(uuid.uuid4()),
            "iat": now,
            "nbf": now - 60,
            "exp": now + 300,
            "repository": "acme/eval",
            "repository_owner": "acme",
            "repository_id": "4711",
            "ref": "refs/heads/main",
            "workflow_ref": "acme/eval/.github/workflows/ci.yml@refs/heads/main",
            "event_name": "push",
            "actor": "ada",
            "run_id": "1",
            "sha": "0" * 40,
        } | changes
        return {name: value for name, value in claims.items() if value is not None}

    def sign(
        self, claims: dict[str, Any], *, kid: str = "first", algorithm: str = "RS256", **header: Any
    ) -> str:
        return jwt.encode(claims, self.private[kid], algorithm=algorithm, headers={"kid": kid, **header})

    def identity(self, audience: str, **changes: Any) -> str:
        """Return a valid identity token with these claims changed."""
        return self.sign(self.claims(audience, **changes))

    def answer(self, path: str, query: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        if path in self.answers:
            return self.answers[path]()
        if path == "/.well-known/openid-configuration":
            return _json({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})
        if path == "/keys":
            return _json({"keys": self.keys})
        if path == "/runner" and authorization == f"Bearer {REQUEST_SECRET}":
            return _json({"value": self.identity(parse_qs(query)["audience"][0], **self.job)})
        return 404, {}, b"not here"


def _json(found: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """Run an issuer until the block ends."""
    issuers: list[Issuer] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, headers, body = issuers[0].answer(
                parts.path, parts.query, self.headers.get("Authorization", "")
            )
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuers.append(Issuer(f"http://127.0.0.1:{server.server_address[1]}"))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield issuers[0]
        finally:
            server.shutdown()
            thread.join(10)
