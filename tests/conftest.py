"""Fixtures for the whole suite. The servers are started by tests/plugin_servers.py."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Generator
from typing import Any

import pytest

from portal.embedded.roles import OWNER, PORTAL, owner_password

pytest.register_assert_rewrite("tests.attacks.kit")


def pytest_configure() -> None:
    """Restore signals that our parent process ignored (`&` in a script, nohup), for child processes."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            handler = signal.default_int_handler if number == signal.SIGINT else lambda *_: None
            signal.signal(number, handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run long suites only if `-m` mentions them: `-m slow`, or `-m "slow or not slow"` for everything."""
    if "slow" not in config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres_server: Any) -> None:
    """Create the test database as its owner, named as usual with `test_` in front."""
    connect_as(OWNER, owner_password(postgres_server.state))


@pytest.fixture(scope="session")
def django_db_setup(
    django_db_setup: None, django_db_blocker: Any, owner_of: Callable[..., Any]
) -> Generator[None]:
    """Run tests as the portal's role, so that missing privileges show; the owner empties the tables later."""
    from django.db import connection

    name, owner = connection.settings_dict["NAME"], connection.settings_dict["PASSWORD"]
    with django_db_blocker.unblock():
        connect_as(PORTAL, "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(connection.ops), "execute_sql_flush", _emptied_by(owner_of, name))
        yield
    with django_db_blocker.unblock():
        connect_as(OWNER, owner)


def connect_as(user: str, password: str) -> None:
    """Connect as this user from now on, in every thread, since threads share the settings and the pool."""
    from django.db import connection

    connection.close()
    connection.close_pool()
    connection.settings_dict.update(USER=user, PASSWORD=password)


def _emptied_by(owner_of: Callable[..., Any], name: str) -> Callable[..., None]:
    """Return a replacement for Django's flush that truncates as the owner, despite the triggers."""

    def execute_sql_flush(operations: Any, sql_list: list[str]) -> None:
        with owner_of(name) as owner:
            owner.execute("SET session_replication_role = replica")
            for sql in sql_list:
                owner.execute(sql)

    return execute_sql_flush


@pytest.fixture
def as_owner(transactional_db: None, owner_of: Callable[..., Any]) -> Generator[Any]:
    """Connect to the test database as its owner, to do damage that the portal's role cannot. Autocommits."""
    from django.db import connection

    with owner_of(connection.settings_dict["NAME"]) as owner:
        yield owner


@pytest.fixture
def make_person(db: None) -> Callable[..., Any]:
    """Return `make_person("ada", **fields)`, which adds a confirmed account (password: `a good password`)."""
    from allauth.account.models import EmailAddress
    from django.contrib.auth import get_user_model
    from django.contrib.auth.hashers import PBKDF2PasswordHasher

    def make(name: str, **fields: Any) -> Any:
        password = fields.pop("password", "a good password")
        user = get_user_model()(email=fields.pop("email", f"{name}@example.org"), username=name, **fields)
        user.password = PBKDF2PasswordHasher().encode(
            password, "salt", iterations=1
        )  # a real hash, but a fast one
        user.save()
        EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
        return user

    return make


@pytest.fixture
def mail_through(settings: Any) -> Callable[..., None]:
    """Return `mail_through("a.Backend", host=...)`, which sets the email backend for this Django."""
    import django

    def choose(backend: str, **options: Any) -> None:
        if django.VERSION >= (6, 1):
            settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": options}}
            return
        settings.EMAIL_BACKEND = backend
        for name, value in options.items():
            setattr(settings, f"EMAIL_{name.upper()}", value)

    return choose


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the browser named by CHROMIUM, or one on PATH.

    Without a browser the test is skipped, or fails if GATEHOUSE_REQUIRE_BROWSER is set.
    """
    found = next(
        (path for name in [os.environ.get("CHROMIUM") or "", *BROWSERS] if (path := shutil.which(name))), ""
    )
    if not found and os.environ.get("GATEHOUSE_REQUIRE_BROWSER") == "1":
        pytest.fail(
            f"GATEHOUSE_REQUIRE_BROWSER is set and no browser is on PATH: install one of {', '.join(BROWSERS)}."
        )
    if not found:
        pytest.skip(f"no browser on PATH: install one of {', '.join(BROWSERS)}")
    return found


@pytest.fixture
def browser(chromium: str, monkeypatch: pytest.MonkeyPatch) -> Generator[Any]:
    """Start headless Chromium.

    Playwright runs its event loop in this thread, which Django would take for async code.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=options)
        yield started
        started.close()


TULU_CARD = """---
license: apache-2.0
extra_gated_heading: Ask for Tulu
extra_gated_prompt: Read the licence first.
extra_gated_button_content: Send the request
extra_gated_fields:
  First Name: text
  Last Name: text
  Institution: text
  Country (where user is located): text
  Intended Use: text
  Previous Related Publications: text
  "I agree to abide by the terms of the license associated to this artifact, including domain and used-based restrictions": checkbox
---
# Tulu

A model.
"""

TULU_ANSWERS = {
    "f1": "Ada",
    "f2": "Lovelace",
    "f3": "Analytical Society",
    "f4": "GB",
    "f5": "Study of instruction following.",
    "f6": [],
    "f7": True,
}


@pytest.fixture
def make_model(db: None) -> Callable[..., Any]:
    """Return `make_model("ai/tulu", **fields)`, which adds a gated model with Tulu's form and a licence."""
    from access_requests.services.catalogue.gated_models import LicenceText, add_model

    def make(repo_id: str = "ai/tulu", **fields: Any) -> Any:
        fields.setdefault("card", TULU_CARD)
        fields.setdefault("licences", [LicenceText("licence.txt", "en", "Be good.\n")])
        return add_model(repo_id=repo_id, **fields)

    return make


@pytest.fixture
def submit(db: None) -> Callable[..., Any]:
    """Return `submit(person, model)`, which submits a complete request."""
    from access_requests.services.requests.submit import start_request, submit_request

    def do(person: Any, model: Any, **fields: Any) -> Any:
        request = start_request(model=model, applicant=person)
        shown = list(model.licence_versions.filter(retired_at__isnull=True).values_list("pk", flat=True))
        fields.setdefault("answers", TULU_ANSWERS)
        return submit_request(
            request=request, applicant=person, licences_shown=shown, address="192.0.2.1", **fields
        )

    return do
