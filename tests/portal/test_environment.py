"""Each setting is read in a separate process; a wrong value stops the start with a sentence that names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from access_requests.services.following.credentials import check_endpoint
from portal import environment

CHECKOUT = Path(__file__).resolve().parents[2]
GOOD = {
    "DATABASE_URL": "postgresql://u:p@localhost/x",
    "REDIS_URL": "redis://localhost:6379/0",
    "SECRET_KEY": "k" * 40,
    "GATEHOUSE_URL": "https://models.example.org",
}


def settings(tmp_path: Path, show: str = "1", **changed: str) -> tuple[int, str, str]:
    """Return exit status, last line of standard error and the value shown, with only these variables set."""
    variables = {"PATH": os.environ["PATH"], "GATEHOUSE_STATE": str(tmp_path), **GOOD, **changed}
    code = f"import json; from portal import settings; print(json.dumps({show}, default=str))"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env=variables, capture_output=True, text=True, check=False
    )
    last = said.stderr.strip().splitlines()[-1] if said.stderr.strip() else ""
    return said.returncode, last, said.stdout.strip()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "mysql://u@h/x"),
        ("DATABASE_URL", "not an address"),
        ("DATABASE_URL", "postgresql://u:p@h:port/x"),
        ("DATABASE_URL", "postgresql://u:p@h:99999/x"),
        ("DATABASE_URL", "postgresql://[bad/x"),
        ("DATABASE_URL", "postgis://u@h/x"),
        ("REDIS_URL", ""),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://[host"),
        ("REDIS_URL", "redis://host:port"),
        ("SECRET_KEY", "short"),
        ("GATEHOUSE_URL", "models.example.org"),
        ("GATEHOUSE_URL", "ftp://models.example.org"),
        ("GATEHOUSE_URL", "https://example.org/models"),
        ("GATEHOUSE_URL", "https://ada@example.org"),
        ("GATEHOUSE_URL", "http://[bad"),
        ("GATEHOUSE_URL", "http://models.example.org:99999"),
        ("GATEHOUSE_PROXIES", "10.0.0.0/8,proxy.example.org"),
        ("GATEHOUSE_HUB_ENDPOINT", "huggingface"),
        ("GATEHOUSE_HUB_ENDPOINT", "https://ada:secret@hub.example.org"),
        ("GATEHOUSE_FOLLOW_TOKENS", "https://ada:secret@hub.example.org=t"),
        ("GATEHOUSE_FOLLOW_TOKENS", "https://hub.example.org#x=t"),
        ("GATEHOUSE_FOLLOW_TOKENS", "hf_secret"),
        ("GATEHOUSE_FOLLOW_TOKENS", "example.org=hf_secret"),
        ("GATEHOUSE_FOLLOW_TOKENS", "https://example.org="),
        ("GATEHOUSE_FOLLOW_TOKENS", "https://[bad=hf_secret"),
        ("GATEHOUSE_FOLLOW_TOKENS", "https://a.example.org=t ftp://b.example.org=hf_secret"),
        ("EMAIL_URL", "mail.example.org"),
        ("EMAIL_URL", "smtp+tls://user@host:port"),
        ("EMAIL_URL", "smtp://[host"),
        ("EMAIL_URL", "smtp://host:99999"),
        ("EMAIL_URL", "smtp://host?EMAIL_USE_TLS=1"),
        ("EMAIL_URL", "submission://host"),
        ("DEFAULT_FROM_EMAIL", "Gatehouse"),
        ("DEFAULT_FROM_EMAIL", "Gatehouse <gatehouse@example org>"),
        ("GATEHOUSE_SOURCES", "relative/folder"),
        ("GATEHOUSE_SOURCES", "/no/such/folder"),
        ("GATEHOUSE_STATE", "/etc/hostname"),
        ("GATEHOUSE_SHARED_WEIGHTS", "perhaps"),
        ("GATEHOUSE_NGINX_LOG", "downloads.log"),
        ("GATEHOUSE_NGINX_LOG", "/etc"),
        ("GATEHOUSE_MOST_BODIES", "0"),
        ("GATEHOUSE_MOST_BODIES", "ten"),
        ("GATEHOUSE_MOST_BODIES_EACH", "0"),
        ("GATEHOUSE_TOKEN_RATE", "-1"),
        ("GATEHOUSE_ADDRESS_RATE", "many"),
        ("GATEHOUSE_ANONYMOUS_RATE", "-1"),
        ("GATEHOUSE_DATABASE_CONNECTIONS", "29"),
        ("GATEHOUSE_WEB_PROCESSES", "14"),
        ("GATEHOUSE_STATEMENT_SECONDS", "1"),
        ("GATEHOUSE_DELIVERY", "ftp"),
        ("GATEHOUSE_DEMO", "maybe"),
        ("GATEHOUSE_DEMO", "1"),
    ],
)
def test_wrong_value_is_refused_in_one_sentence_that_names_it(tmp_path: Path, name: str, value: str) -> None:
    status, sentence, _ = settings(tmp_path, **{name: value})
    assert status == 1
    assert name in sentence
    assert sentence.startswith("django.core.exceptions.ImproperlyConfigured: ")
    assert sentence.endswith(".") or "http" in sentence


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEHOUSE_S3_BUCKET", ""),
        ("GATEHOUSE_S3_BUCKET", "s3://weights"),
        ("GATEHOUSE_S3_BUCKET", "Weights"),
        ("GATEHOUSE_S3_PREFIX", "a//b"),
        ("GATEHOUSE_S3_PREFIX", "a b"),
        ("GATEHOUSE_S3_PREFIX", "a" * 201),
        ("GATEHOUSE_S3_ENDPOINT", "minio:9000"),
        ("GATEHOUSE_S3_ENDPOINT", "http://127.0.0.1:9000"),
    ],
)
def test_wrong_bucket_is_refused_in_one_sentence_that_names_it(tmp_path: Path, name: str, value: str) -> None:
    well = {
        "GATEHOUSE_DELIVERY": "s3",
        "GATEHOUSE_S3_BUCKET": "weights",
        "GATEHOUSE_URL": "http://127.0.0.1:8000",
    }
    assert settings(tmp_path, **well)[0] == 0
    status, sentence, _ = settings(tmp_path, **(well | {name: value}))
    assert (status, name in sentence) == (1, True)
    assert sentence.startswith("django.core.exceptions.ImproperlyConfigured: ")


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("postgres://u:p%40s%2Fs@H.Example:5433/x", ("x", "u", "p@s/s", "h.example", 5433, {})),
        ("postgres://u:a#b+c@h/x", ("x", "u", "a#b+c", "h", "", {})),
        ("pgsql://u@[::1]/x", ("x", "u", "", "::1", "", {})),
        ("postgres://u@//run/a b+c/x", ("x", "u", "", "/run/a b+c", "", {})),
        ("postgres://u@/x?host=/run/pg", ("x", "u", "", "", "", {"host": "/run/pg"})),
        (
            "postgresql://u@h1,h2/x?sslmode=require&connect_timeout=5&options=-c%20a=b",
            ("x", "u", "", "h1,h2", "", {"sslmode": "require", "connect_timeout": 5, "options": "-c a=b"}),
        ),
    ],
)
def test_database_is_taken_from_its_address(
    monkeypatch: pytest.MonkeyPatch, address: str, found: tuple[Any, ...]
) -> None:
    monkeypatch.setenv("DATABASE_URL", address)
    read = environment.database()
    *names, options = found
    assert [read[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")] == names
    assert (read["ENGINE"], read["OPTIONS"]) == ("portal.database", {**options, "pool": True})


@pytest.mark.parametrize(
    ("address", "port", "tls", "ssl"),
    [
        ("smtp://host", 25, False, False),
        ("smtp+tls://host:587", 587, True, False),
        ("smtps://host:587", 587, True, False),
        ("smtp+ssl://host:465", 465, False, True),
    ],
)
def test_scheme_of_the_mail_server_says_how_it_is_spoken_to(
    monkeypatch: pytest.MonkeyPatch, address: str, port: int, tls: bool, ssl: bool
) -> None:
    monkeypatch.setenv("EMAIL_URL", address)
    read = environment.mailer()
    assert (read["port"], read["use_tls"], read["use_ssl"]) == (port, tls, ssl)


def test_mail_server_is_taken_from_its_address(tmp_path: Path) -> None:
    status, _, shown = settings(
        tmp_path,
        "[settings.MAILER, settings.OUTBOX_PAGE]",
        EMAIL_URL="smtp+tls://u:p%40ss@mail.example.org:587",
    )
    assert status == 0
    assert json.loads(shown) == [
        {
            "host": "mail.example.org",
            "port": 587,
            "username": "u",
            "password": "p@ss",
            "use_tls": True,
            "use_ssl": False,
            "timeout": 20,
        },
        False,
    ]


def test_secret_key_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    first = settings(tmp_path, "settings.SECRET_KEY", SECRET_KEY="")
    second = settings(tmp_path, "settings.SECRET_KEY", SECRET_KEY="")
    assert first == second
    assert len(json.loads(first[2])) >= 50
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


def test_hub_endpoint_of_a_client_is_never_read(tmp_path: Path) -> None:
    _, _, shown = settings(
        tmp_path, "settings.GATEHOUSE_HUB_ENDPOINT", HF_ENDPOINT="https://elsewhere.example.org"
    )
    assert json.loads(shown) == "https://huggingface.co"


def test_endpoints_are_kept_as_followed_ones_are_stored(tmp_path: Path) -> None:
    _, _, shown = settings(
        tmp_path,
        "[settings.GATEHOUSE_HUB_ENDPOINT, settings.GATEHOUSE_FOLLOW_TOKENS]",
        GATEHOUSE_HUB_ENDPOINT="HTTPS://Hub.Example.ORG:8443/Way/",
        GATEHOUSE_FOLLOW_TOKENS="https://A.Example.org/=hf_A",
    )
    hub, tokens = json.loads(shown)
    assert (hub, tokens) == ("https://hub.example.org:8443/Way", {"https://a.example.org": "hf_A"})
    assert [check_endpoint(address) for address in (hub, *tokens)] == [hub, *tokens]


def test_demo_answers_to_its_own_names_alone(tmp_path: Path) -> None:
    _, _, shown = settings(
        tmp_path, "settings.ALLOWED_HOSTS", GATEHOUSE_DEMO="1", GATEHOUSE_URL="http://127.0.0.1:8000"
    )
    assert json.loads(shown) == ["127.0.0.1", "localhost", "[::1]"]


def test_follow_tokens_are_read_and_never_repeated(tmp_path: Path) -> None:
    pairs = "https://a.example.org/=hf_a=b \n http://127.0.0.1:8000=gth_b"
    _, _, shown = settings(tmp_path, "settings.GATEHOUSE_FOLLOW_TOKENS", GATEHOUSE_FOLLOW_TOKENS=pairs)
    assert json.loads(shown) == {"https://a.example.org": "hf_a=b", "http://127.0.0.1:8000": "gth_b"}
    status, said, _ = settings(tmp_path, GATEHOUSE_FOLLOW_TOKENS="example.org=hf_secret")
    assert (status, "hf_secret" in said) == (1, False)
    assert said.endswith(
        "GATEHOUSE_FOLLOW_TOKENS cannot be read: write https://HOST=TOKEN pairs, separated by spaces."
    )
