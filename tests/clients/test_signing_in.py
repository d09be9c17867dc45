"""Signing in with each client: with a token, in the browser, with the identity of a CI job."""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.clients.conftest import NEW, VERSIONS, content_of
from tests.clients.driving import Driver, Run, Running
from tests.issuer import REQUEST_SECRET, Issuer
from tests.model_ops.hub.conftest import MODEL, Portal

CODE = re.compile(r"/oauth/activate\?user_code=([A-Z]{4}-[A-Z]{4})")
FETCH = f"from huggingface_hub import hf_hub_download; print(hf_hub_download({MODEL!r}, 'config.json', cache_dir='fetched'))"


@pytest.fixture
def signed_out(driver_of: Callable[..., Driver], request: pytest.FixtureRequest) -> Generator[Driver]:
    """Return a client whose home has no trace of earlier sign-ins."""
    driver = driver_of(request.param)
    yield driver
    driver.hf("auth", "logout")


each = pytest.mark.parametrize("signed_out", VERSIONS, indirect=True)
each_new = pytest.mark.parametrize("signed_out", NEW, indirect=True)


def logged_in(driver: Driver, portal: Portal, *, name: str, machine: str) -> Run:
    """Run `hf auth login`, with a person who approves it."""
    run = driver.start("auth", "login")
    code = run.until(CODE.search)[1]
    portal.order("approve", name=name, user_code=code, machine=machine)
    return run.wait()


def stored(driver: Driver) -> configparser.ConfigParser:
    """Read the client's own file of tokens."""
    found = configparser.ConfigParser(interpolation=None)
    found.read(driver.home / "stored_tokens")
    return found


def write_stored(driver: Driver, found: configparser.ConfigParser) -> None:
    with (driver.home / "stored_tokens").open("w") as file:
        found.write(file)


@each
def test_login_with_a_token(signed_out: Driver, portal: Portal) -> None:
    login = signed_out.hf("auth", "login", "--token", str(portal.tokens["granted"]))
    assert login.status == 0, login.said
    whoami = signed_out.hf("auth", "whoami")
    assert whoami.status == 0, whoami.said
    assert "granted" in whoami.stdout
    assert "laptop" in signed_out.hf("auth", "list").stdout
    assert signed_out.hf("auth", "logout").status == 0
    assert "Not logged in" in signed_out.hf("auth", "whoami").said


@each
def test_login_with_a_wrong_token(signed_out: Driver, portal: Portal) -> None:
    login = signed_out.hf("auth", "login", "--token", str(portal.tokens["unknown"]))
    assert login.status == 1
    assert "Invalid user token" in login.said
    assert not (signed_out.home / "token").exists()


@each_new
def test_login_by_the_browser(signed_out: Driver, portal: Portal) -> None:
    login = logged_in(signed_out, portal, name="granted", machine="the cluster")
    assert login.status == 0, login.said
    assert "Login successful" in login.said
    assert "will be refreshed automatically" in login.said
    assert "user=granted" in signed_out.hf("auth", "whoami").said.replace("user: ", "user=")
    fetched = signed_out.python(FETCH)
    assert fetched.status == 0, fetched.stderr
    assert Path(signed_out.folder, fetched.stdout.strip()).read_bytes() == portal.files["config.json"]
    assert "the cluster" in signed_out.hf("auth", "list").stdout
    secret = stored(signed_out)["the cluster"]["hf_token"]
    asks = portal.ask(
        "POST", f"/{MODEL}/ask-access", token=secret, body=b"{}", content_type="application/json"
    )
    assert (asks.status, "only reads" in asks.headers["x-error-message"]) == (403, True)
    assert signed_out.hf("auth", "logout").status == 0
    assert "Not logged in" in signed_out.hf("auth", "whoami").said
    assert portal.order("machines", name="granted")[-1] == {"name": "the cluster", "live": True, "tokens": 1}


@each_new
def test_a_denied_login_says_so(signed_out: Driver, portal: Portal) -> None:
    run: Running = signed_out.start("auth", "login")
    portal.order("deny", name="granted", user_code=run.until(CODE.search)[1])
    login = run.wait()
    assert login.status == 1
    assert "Authorization was denied" in login.said
    assert not (signed_out.home / "token").exists()


@each_new
def test_a_token_near_its_end_is_refreshed(signed_out: Driver, portal: Portal) -> None:
    logged_in(signed_out, portal, name="granted", machine="refreshed")
    found = stored(signed_out)
    first = dict(found["refreshed"])
    found["refreshed"]["expires_at"] = "1"
    write_stored(signed_out, found)
    portal.order("expire", secret=first["hf_token"])
    assert signed_out.hf("auth", "whoami").status == 0
    second = dict(stored(signed_out)["refreshed"])
    assert second["hf_token"] != first["hf_token"]
    assert second["refresh_token"] != first["refresh_token"]
    assert int(second["expires_at"]) > int(first["expires_at"]) - 60
    assert (signed_out.home / "token").read_text() == second["hf_token"]
    assert portal.order("machines", name="granted")[-1]["tokens"] == 2


@each_new
def test_a_machine_that_was_signed_out_is_told(signed_out: Driver, portal: Portal) -> None:
    logged_in(signed_out, portal, name="granted", machine="lost")
    found = stored(signed_out)
    body = f"token={found['lost']['refresh_token']}".encode()
    form = "application/x-www-form-urlencoded"
    assert portal.ask("POST", "/oauth/revoke", body=body, content_type=form).status == 200
    refused = signed_out.hf("auth", "whoami")
    assert refused.status == 1
    assert "The token stored is invalid" in refused.said
    found["lost"]["expires_at"] = "1"
    write_stored(signed_out, found)
    again = signed_out.hf("auth", "whoami")
    assert again.status == 1
    assert "session expired or revoked" in again.said
    assert "hf auth login" in again.said


def in_ci(ci: Issuer) -> dict[str, str]:
    """Return the variables that GitHub sets in a job that may request its identity."""
    return {
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{ci.url}/runner?api-version=1",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": REQUEST_SECRET,
    }


@pytest.fixture(scope="session")
def trusting(portal: Portal, ci: Issuer) -> str:
    """Return the name of a user with a grant who trusts acme/eval."""
    portal.order("trust", name="granted", issuer=ci.url, repository="acme/eval", ref="refs/heads/main")
    return "granted"


def test_a_ci_job_needs_no_secret(
    new_driver: Driver, portal: Portal, ci: Issuer, trusting: str, tmp_path: Path
) -> None:
    for resource in (trusting, MODEL):
        target = ["--local-dir", str(tmp_path / resource)]
        run = new_driver.hf("download", MODEL, *target, HF_OIDC_RESOURCE=resource, **in_ci(ci))
        assert run.status == 0, run.said
        found = content_of(tmp_path / resource)
        assert {path: found[path] for path in portal.files} == portal.files


def test_a_ci_jobs_identity_is_exchanged_once_and_kept(
    new_driver: Driver, portal: Portal, ci: Issuer, trusting: str
) -> None:
    given = {"HF_OIDC_ID_TOKEN": ci.identity(portal.url), "HF_OIDC_RESOURCE": trusting}
    once = new_driver.hf("auth", "token", **given)
    assert once.status == 0, once.said
    assert new_driver.python(FETCH, token=once.stdout.strip()).status == 0
    again = new_driver.hf("auth", "token", **given)
    assert again.status == 1
    assert "was exchanged before" in again.said


def test_an_untrusted_ci_job_is_told_why(
    new_driver: Driver, portal: Portal, ci: Issuer, trusting: str
) -> None:
    given = {
        "another branch": ({"ref": "refs/heads/dev"}, trusting, "Nobody trusts this job for 'granted'"),
        "another audience": (
            {"aud": "https://huggingface.co"},
            trusting,
            f"ask your CI service for {portal.url}",
        ),
        "another person": ({}, "stranger", f"adds it at {portal.url}/me/trusted"),
    }
    for changes, resource, sentence in given.values():
        identity = ci.identity(portal.url, **changes)
        run = new_driver.hf("download", MODEL, HF_OIDC_ID_TOKEN=identity, HF_OIDC_RESOURCE=resource)
        assert run.status == 1
        assert sentence in run.said.replace('"', "'"), run.said
