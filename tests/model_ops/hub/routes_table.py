"""Every route of the protocol and its answer to each kind of person: the table behind both the tests and the docs.

An answer is a status, with the `X-Error-Code` if there is one. `{model}` is a gated, listed model; the other
names in braces are in `MODELS`. `docs/hub-routes.md` is generated from this: `python -m
tests.model_ops.hub.routes_page`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PEOPLE = {
    "anonymous": "no token",
    "stranger": "never asked",
    "pending": "asked, not decided",
    "granted": "a live grant",
    "expired": "the grant is over",
    "revoked": "the grant was revoked",
    "reviewer": "reviewer of the model, with a reviewer token",
    "owner": "owner of the model, with a reviewer token",
    "disabled": "a grant, and a disabled account",
}
MODELS = {
    "model": "maker/table",
    "open": "maker/table-open",
    "hidden": "maker/table-hidden",
    "renamed": "maker/table-old",
    "asked": "maker/table-asked",
    "left": "maker/table-left",
    "absent": "maker/no-such-model",
}
WHAT = {
    "model": "gated",
    "open": "not gated",
    "hidden": "gated and not listed",
    "renamed": "a former id",
    "asked": "gated",
    "left": "gated",
    "absent": "no model",
}
Answers = Mapping[str, str]


def all_get(answer: str, **others: str) -> Answers:
    """Return answers in which everyone gets `answer`, except those named."""
    return {who: others.get(who, answer) for who in PEOPLE}


EVERYBODY = all_get("200")
NOT_FOUND = all_get("404 RepoNotFound")
WITH_ACCESS = {"granted": "200", "reviewer": "200", "owner": "200"}
NOBODY = {"anonymous": "401 GatedRepo", "disabled": "401 GatedRepo"}
NO_TOKEN = {"anonymous": "401 InvalidToken", "disabled": "401 InvalidToken"}
GATED = all_get("403 GatedRepo", **NOBODY, **WITH_ACCESS)
PERSON = all_get("200", **NO_TOKEN)
NO_TOKEN_THERE = {"anonymous": "401", "disabled": "401"}  # without a code, as on the Hub
DECIDES = all_get("403", **NO_TOKEN_THERE, reviewer="200", owner="200")
CHANGES = all_get("403 NotAllowed", **NO_TOKEN, owner="200")


def instead(answers: Answers, was: str, now: str) -> Answers:
    """Return the answers with `was` replaced by another answer."""
    return {who: now if answer == was else answer for who, answer in answers.items()}


@dataclass(frozen=True)
class Route:
    """One route. `body` is sent as JSON, as a form (`form`) or unchanged; `{who}` stands for the name."""

    method: str
    path: str
    answers: Answers
    what: str
    body: Any = None
    form: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def asked(self, who: str, names: Mapping[str, str]) -> tuple[str, bytes | None, dict[str, str]]:
        """Return the path, body and headers for one person."""
        filled = {**names, "who": who}
        path = self.path
        for name, value in filled.items():
            path = path.replace(f"{{{name}}}", value)
        if self.body is None:
            return path, None, dict(self.headers)
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        kind = "application/x-www-form-urlencoded" if self.form else "application/json"
        body = text.replace("{who}", who).encode()
        return path, body, {"content_type": kind, **self.headers}


INFO = "/api/models/{model}"
REQUESTS = f"{INFO}/user-access-request"
COMMIT = "\n".join(
    json.dumps(line)
    for line in (
        {"key": "header", "value": {"summary": "By {who}"}},
        {"key": "file", "value": {"path": "note.txt", "content": "QnkgaGFuZAo=", "encoding": "base64"}},
    )
)
OBJECT = {"oid": "a" * 64, "size": 7}
TEXT_FILE = {"path": "a.txt", "size": 1, "sample": "YQ=="}

GROUPS: dict[str, list[Route]] = {
    "Looking at models": [
        Route("GET", "/api/models", EVERYBODY, "the catalogue"),
        Route("GET", INFO, EVERYBODY, "a model; ids of gated files are masked for those without access"),
        Route("GET", f"{INFO}/revision/main", EVERYBODY, "the same of a branch, tag or commit"),
        Route("GET", f"{INFO}/revision/no-such", all_get("404 RevisionNotFound"), "an unknown revision"),
        Route("GET", f"{INFO}?expand=nonsense", all_get("400 BadRequest"), "an unknown field"),
        Route("GET", f"{INFO}/tree/main?recursive=true", EVERYBODY, "file names and sizes"),
        Route("GET", f"{INFO}/tree/main/no-such", all_get("404 EntryNotFound"), "an unknown folder"),
        Route(
            "POST",
            f"{INFO}/paths-info/main",
            EVERYBODY,
            "the same of named paths",
            body="paths=config.json",
            form=True,
        ),
        Route("GET", f"{INFO}/refs", EVERYBODY, "branches and tags"),
        Route("GET", f"{INFO}/commits/main", EVERYBODY, "history"),
        Route(
            "GET",
            f"{INFO}/safetensors-metadata/model.safetensors",
            GATED,
            "headers of weights, which are content",
        ),
        Route("GET", f"{INFO}/auth-check", GATED, "may I read?"),
        Route(
            "GET",
            f"{INFO}/auth-check/write",
            {**instead(GATED, "200", "403 GatedRepo"), "owner": "200"},
            "may I change it?",
        ),
        Route(
            "GET",
            f"{INFO}/no-such-route",
            all_get("404 NotServed"),
            "what Gatehouse does not serve of a model",
        ),
        Route("GET", f"{INFO}/discussions", all_get("404 NotServed"), "discussions, which there are none of"),
    ],
    "Files": [
        Route(
            "GET",
            "/{model}/resolve/main/config.json",
            instead(GATED, "200", "307"),
            "a branch is pinned to its commit",
        ),
        Route("GET", "/{model}/resolve/{commit}/config.json", GATED, "a file"),
        Route("GET", "/{model}/resolve/{commit}/README.md", EVERYBODY, "card and licence files"),
        Route(
            "GET",
            "/{model}/resolve/main/no-such.json",
            instead(GATED, "200", "404 EntryNotFound"),
            "the gate comes before existence",
        ),
        Route(
            "GET",
            "/{model}/resolve/no-such/config.json",
            instead(GATED, "200", "404 RevisionNotFound"),
            "likewise of a revision",
        ),
        Route(
            "GET",
            "/{model}/resolve/main/LICENSE.txt",
            all_get("404 EntryNotFound"),
            "but not for a licence file, which anyone may read",
        ),
        Route("GET", "/{model}/raw/main/config.json", GATED, "what git holds"),
        Route("GET", "/{model}/raw/main/README.md", GATED, "nothing is public here, as on the Hub"),
        Route("GET", "/{model}/raw/main/a%00b", all_get("400 BadRequest"), "what cannot be a name"),
        Route(
            "GET",
            "/{model}/blob/main/config.json",
            all_get("302"),
            "pages of the Hub lead to the model's page",
        ),
        Route(
            "PUT",
            "/{model}/resolve/main/config.json",
            all_get("405 MethodNotAllowed"),
            "another method",
            body="",
        ),
    ],
    "Other models": [
        Route("GET", "/api/models/{open}", EVERYBODY, "not gated"),
        Route(
            "GET",
            "/{open}/resolve/{open_commit}/config.json",
            EVERYBODY,
            "anyone reads, whatever their token",
        ),
        Route(
            "GET",
            "/api/models/{hidden}",
            all_get(
                "200", anonymous="404 RepoNotFound", stranger="404 RepoNotFound", disabled="404 RepoNotFound"
            ),
            "not found by those who may not know of it",
        ),
        Route(
            "GET",
            "/{hidden}/resolve/{hidden_commit}/config.json",
            {**instead(GATED, "401 GatedRepo", "404 RepoNotFound"), "stranger": "404 RepoNotFound"},
            "likewise",
        ),
        Route(
            "GET",
            "/api/models/{renamed}/tree/main",
            all_get("307 RepoRenamed"),
            "a former id leads to today's",
        ),
        Route("GET", "/{renamed}/resolve/main/config.json", all_get("307 RepoRenamed"), "likewise"),
        Route("GET", "/api/models/{absent}", NOT_FOUND, "unknown"),
        Route("GET", "/{absent}/resolve/main/config.json", NOT_FOUND, "unknown"),
        Route("GET", "/api/models/gpt2", NOT_FOUND, "ids of one part"),
        Route("GET", "/gpt2/resolve/main/config.json", NOT_FOUND, "likewise"),
        Route("GET", "/api/datasets", EVERYBODY, "the empty list of data sets, spaces or kernels"),
        Route("GET", "/api/datasets/{model}", NOT_FOUND, "data sets, spaces and kernels"),
        Route("GET", "/datasets/{model}/resolve/main/config.json", NOT_FOUND, "likewise"),
        Route("GET", "/api/no-such-route", all_get("404 NotServed"), "what Gatehouse does not serve"),
    ],
    "Who am I": [
        Route("GET", "/api/whoami-v2", PERSON, "the token's person, organizations and role"),
        Route(
            "POST",
            "/api/tokens/report",
            EVERYBODY,
            "found secrets are revoked",
            body=[{"token": "gth_" + "0" * 38, "url": "https://example.org/{who}"}],
        ),
        Route(
            "POST",
            "/api/credentials/revoke",
            all_get("202"),
            "tokens are revoked, as by `hf auth revoke`",
            body={"credentials": ["gth_" + "0" * 38]},
        ),
        Route("POST", "/oauth/device", EVERYBODY, "`hf auth login` begins", body="client_id=c", form=True),
        Route(
            "POST",
            "/oauth/token",
            all_get("400 unsupported_grant_type"),
            "an exchange that is not known",
            body="grant_type=password",
            form=True,
        ),
        Route("POST", "/oauth/revoke", EVERYBODY, "sign out", body="token=gth_nothing", form=True),
        Route(
            "GET",
            "/oauth/activate",
            all_get("302"),
            "the page on which a machine is approved: cookies count there, tokens do not",
        ),
        Route("GET", "/api/agent-harnesses", EVERYBODY, "every client asks once a day"),
        Route("GET", "/api/telemetry/anything", EVERYBODY, "nothing is kept"),
    ],
    "Asking and deciding": [
        Route("GET", f"{REQUESTS}/pending", DECIDES, "lists: pending, accepted, rejected, reset"),
        Route(
            "POST",
            f"{REQUESTS}/handle",
            DECIDES,
            "a decision",
            body={"user": "table-for-{who}-1", "status": "accepted"},
        ),
        Route(
            "POST",
            f"{REQUESTS}/batch",
            DECIDES,
            "several",
            body={"status": "accepted", "requests": [{"user": "table-for-{who}-2"}]},
        ),
        Route(
            "POST",
            f"{REQUESTS}/grant",
            {**DECIDES, "reviewer": "403"},
            "access without a request",
            body={"user": "table-for-{who}-3"},
        ),
        Route("GET", "/{model}/user-access-report", DECIDES, "everyone who asked"),
        Route(
            "POST",
            "/{asked}/ask-access",
            all_get("303", **NO_TOKEN_THERE),
            "asks; where nothing can be asked for, nothing changes",
            body={"Why": "To test."},
        ),
        Route(
            "POST",
            "/api/models/{left}/user-access-request/cancel",
            all_get("404", **NO_TOKEN_THERE, pending="200"),
            "takes one's own request back",
        ),
        Route(
            "POST",
            f"{REQUESTS}/handle",
            instead(DECIDES, "200", "404"),
            "nobody of that name has asked",
            body={"user": "no-such-person", "status": "accepted"},
        ),
    ],
    "Changing a model": [
        Route("PUT", f"{INFO}/settings", CHANGES, "gate and visibility", body={"gated": "manual"}),
        Route("GET", f"{INFO}/settings", all_get("404 NotServed"), "not read, as on the Hub"),
        Route(
            "POST",
            "/api/repos/create",
            CHANGES,
            "a new repository, in a namespace where one owns a model",
            body={"name": "made-by-{who}", "organization": "maker", "type": "model"},
        ),
        Route(
            "POST",
            "/api/validate-yaml",
            EVERYBODY,
            "what the card reader says of a card",
            body={"content": "---\nlicense: mit\n---\n", "repoType": "model"},
        ),
        Route(
            "POST",
            f"{INFO}/preupload/main",
            CHANGES,
            "how each file is to be sent",
            body={"files": [TEXT_FILE]},
        ),
        Route(
            "POST",
            "/{model}.git/info/lfs/objects/batch",
            CHANGES,
            "where large files are to be sent",
            body={"operation": "upload", "objects": [OBJECT]},
        ),
        Route(
            "PUT",
            "/api/uploads/nonsense",
            all_get("403 NotAllowed"),
            "a large file's bytes; the address holds the right",
            body="",
        ),
        Route(
            "POST",
            "/api/uploads/nonsense/verify",
            all_get("403 NotAllowed"),
            "whether they have arrived",
            body={},
        ),
        Route(
            "POST",
            f"{INFO}/commit/main",
            CHANGES,
            "a commit, held until an owner publishes it",
            body=COMMIT,
            headers={"content_type": "application/x-ndjson"},
        ),
        Route("POST", f"{INFO}/branch/by-{{who}}", CHANGES, "a branch", body={}),
        Route("DELETE", f"{INFO}/branch/by-{{who}}", CHANGES, "that branch goes again"),
        Route(
            "GET",
            f"{INFO}/xet-write-token/main",
            all_get("400 XetNotServed"),
            "Xet is not offered: the sentence names the switch",
        ),
    ],
}
