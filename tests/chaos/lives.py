"""One life: a person asks over HTTP, a reviewer approves, weights are made, the person downloads and compares.

Both act as people do when a page fails to load: they reload it and repeat whatever was lost.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookiejar import Cookie
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from portal.demo.steps import CLIENT, TOKEN
from portal.demo.visitor import Visitor, WalkError

Result = TypeVar("Result")
FAILURES = (WalkError, OSError, http.client.HTTPException)
PAUSE = 0.5  # seconds
NUMBER = re.compile(r"<span>#(\d+)</span>\s*<span>submitted")  # on My requests; a life has one


class Stuck(Exception):
    """A step did not succeed within a life's time."""


def browser(origin: str, session: str) -> Visitor:
    """Return a signed-in browser."""
    visitor = Visitor(origin)
    host = urlsplit(origin).hostname or ""
    domain, path, forever = (host, False, False), ("/", True), (False, None, True, None, None, {})
    visitor.cookies.set_cookie(Cookie(0, "gatehouse_session", session, None, False, *domain, *path, *forever))
    return visitor


@dataclass
class Life:
    """One person and one model; `retries` counts the retries of each step."""

    origin: str
    model: str
    person: Visitor
    reviewer: Visitor
    wanted: str  # SHA-256 of the weights
    folder: Path
    seconds: float
    with_client: bool  # downloads with huggingface_hub, else in ranges
    retries: dict[str, int] = field(default_factory=dict)

    def live(self) -> None:
        """Go through every step; raise `Stuck` with the step that did not succeed."""
        self.deadline = time.monotonic() + self.seconds
        number = self.persist("submit", self.submit)
        self.persist("approve", lambda: self.approve(number))
        self.persist("weights", self.see_weights)
        token = self.persist("token", self.take_token)
        self.persist("download", lambda: self.download(token))

    def persist(self, step: str, action: Callable[[], Result | None]) -> Result:
        """Repeat a step until it succeeds."""
        last: object = "it is not so yet"
        while time.monotonic() < self.deadline:
            try:
                if (result := action()) is not None:
                    return result
            except FAILURES as error:
                last = error
                self.retries[step] = self.retries.get(step, 0) + 1
            time.sleep(PAUSE)
        raise Stuck(f"{step} of {self.model}: {last}")

    def submit(self) -> str | None:
        if (found := NUMBER.search(self.person.get("/me/").html)) is not None:
            return found.group(1)
        page = self.person.get(f"/{self.model}/request")
        self.person.send(page, page.form("f1"), button=("action", "submit"), f1="To live.")
        return None

    def approve(self, number: str) -> bool:
        page = self.reviewer.get(f"/admin/access_requests/accessrequest/{number}/change/")
        if "Approved by boss" not in " ".join(page.text.split()):
            self.reviewer.send(page, page.form("outcome"), button=("outcome", "approved"))
        return True

    def see_weights(self) -> bool | None:
        return 'badge ready"' in self.person.get(f"/{self.model}/access").html or None

    def take_token(self) -> str:
        """Return the first token; create another if the page that showed it was lost."""
        page = self.person.get(f"/{self.model}/access")
        first = next((form for form in page.forms if form.action.endswith("/token")), None)
        if first is not None:
            shown = self.person.send(page, first)
        else:
            shown = self.person.send(page, page.form("name", "expires"), name="again")
        found = TOKEN.search(shown.html)
        if found is None:
            raise WalkError("No token was shown.")
        return found.group()

    def download(self, token: str) -> bool:
        got = self._by_client(token) if self.with_client else self._in_ranges(token)
        if hashlib.sha256(got).hexdigest() != self.wanted:
            raise Stuck(f"{self.model} came with other bytes")
        return True

    def _by_client(self, token: str) -> bytes:
        environment = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        said = subprocess.run(
            [sys.executable, "-c", CLIENT, self.model, str(self.folder / "cache")],
            env=environment
            | {"HF_ENDPOINT": self.origin, "HF_TOKEN": token, "HF_HOME": str(self.folder / "home")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if said.returncode:
            raise WalkError(said.stderr.strip().splitlines()[-1])
        return (Path(said.stdout.strip().splitlines()[-1]) / "model.safetensors").read_bytes()

    def _in_ranges(self, token: str) -> bytes:
        """Download in ranges; after a cut, continue from what has arrived."""
        path = self.folder / "model.safetensors"
        path.touch()
        request = urllib.request.Request(f"{self.origin}/{self.model}/resolve/main/model.safetensors")
        request.add_header("Authorization", f"Bearer {token}")
        request.add_header("Range", f"bytes={path.stat().st_size}-")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer, path.open("ab") as file:
                shutil.copyfileobj(answer, file)
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # the file is complete
                raise
        return path.read_bytes()
