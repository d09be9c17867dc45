"""The whole job, step by step, as people and clients would do it: over HTTP alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from portal.demo.pair import MODEL_ID, Pair
from portal.demo.visitor import Visitor, WalkError

OWNER = {"email": "owner@gatehouse.example", "password": "let-me-look-after-it"}
RESEARCHER = {"email": "researcher@university.example", "password": "let-me-download-it"}
TOKEN = re.compile(r"gth_[0-9A-Za-z]{38}")
LONGEST_RECOVERY = 600  # seconds
LEAST_LICENCE = 400  # characters of a licence text that the page must contain


@dataclass
class Walk:
    """The results that one step passes on to the next."""

    origin: str
    pair: Pair
    owner_link: str
    manage: Callable[..., str]  # runs a management command, returns its standard output
    folder: Path  # of this run, for the client's downloads
    owner: Visitor = field(init=False)
    researcher: Visitor = field(init=False)
    token: str = ""
    downloaded: Path = Path()
    files: int = 0
    bytes: int = 0

    def __post_init__(self) -> None:
        self.owner, self.researcher = Visitor(self.origin), Visitor(self.origin)


def steps() -> Iterator[tuple[str, Callable[[Walk], str]]]:
    """Yield name and action of every step, in order. An action returns a line for the reader or raises."""
    yield "owner creates the first account", create_owner
    yield "operator adds the model", add_model
    yield "researcher signs up", sign_up
    yield "researcher confirms the address", confirm_address
    yield "stranger is refused without a grant", try_without_grant
    yield "researcher reads card and licence", read_card
    yield "researcher submits the form", submit_form
    yield "owner approves in the admin", approve
    yield "worker recovers the weights", watch_recovery
    yield "researcher shows the token", show_token
    yield "researcher downloads with huggingface_hub", download
    yield "every file is compared", compare
    yield "the event log is verified", verify_log


def create_owner(walk: Walk) -> str:
    page = walk.owner.get(walk.owner_link)
    names = {"first_name": "Demo", "last_name": "Owner", "username": "demo-owner"}
    walk.owner.send(page, page.form("email", "password"), **OWNER, **names)
    walk.owner.get("/admin/").must_say("Access requests")
    return f"{OWNER['email']}, in the admin"


def add_model(walk: Walk) -> str:
    licences = [argument for path in walk.pair.licences for argument in ("--licence", str(path))]
    out = walk.manage(
        "add_model", MODEL_ID, "--card", str(walk.pair.card), *licences, "--dtype", "bfloat16",
        "--base", str(walk.pair.base), "--diff", str(walk.pair.diff), "--json",
    )  # fmt: skip
    weights = json.loads(out)["plan"]["weights"]
    return f"{MODEL_ID}, planned: {weights['bytes_to_write']:,} bytes to write"


def sign_up(walk: Walk) -> str:
    page = walk.researcher.get("/accounts/signup/")
    form = page.form("email", "password1", "first_name")
    person = {"email": RESEARCHER["email"], "first_name": "Ada", "last_name": "Lovelace"}
    walk.researcher.send(page, form, **person, password1=RESEARCHER["password"]).form("code")
    return RESEARCHER["email"]


def confirm_address(walk: Walk) -> str:
    code = _read_code_from_outbox(walk)
    page = walk.researcher.get("/accounts/confirm-email/")
    walk.researcher.send(page, page.form("code"), code=code)
    walk.researcher.get("/me/").must_say("My requests")
    return f"code {code} from the outbox"


def _read_code_from_outbox(walk: Walk) -> str:
    """The confirmation code, read where emails are read without a mail server."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        listing = walk.researcher.get("/outbox/")
        for path in re.findall(r'href="(/outbox/[^"]+)"', listing.html):
            mail = walk.researcher.get(path)
            found = re.search(r"^\s*([A-Z0-9]{3,4}-?[A-Z0-9]{3,4})\s*$", mail.text, re.MULTILINE)
            if RESEARCHER["email"] in mail.text and found:
                return found.group(1)
        time.sleep(0.3)
    raise WalkError("No email with a confirmation code came to the outbox.")


def try_without_grant(walk: Walk) -> str:
    answer = walk.researcher.get(f"/{MODEL_ID}/resolve/main/model.safetensors")
    if answer.status != 401 or f"/{MODEL_ID}" not in answer.text:
        raise WalkError(
            f"An anonymous download was answered {answer.status}, not refused with the page's address."
        )
    return "401 GatedRepo, with the page's address"


def read_card(walk: Walk) -> str:
    page = walk.researcher.get(f"/{MODEL_ID}").must_say("<|assistant|>")
    form_page = walk.researcher.get(f"/{MODEL_ID}/request")
    for path in walk.pair.licences:
        text = " ".join(path.read_text("utf-8").split())
        if len(text) < LEAST_LICENCE or text not in " ".join(form_page.text.split()):
            raise WalkError(f"The licence {path.name} is not shown whole on {form_page.url}.")
    return f"{len(page.html):,} characters of card, {len(walk.pair.licences)} licences whole"


def submit_form(walk: Walk) -> str:
    page = walk.researcher.get(f"/{MODEL_ID}/request")
    form = page.form("f1", "f7")
    answers = {
        "f1": "Ada",
        "f2": "Lovelace",
        "f3": "University of Examples",
        "f4": "GB",
        "f5": "Reading how a gated model is asked for, decided on and recovered.",
        "f6": "10.48550/arXiv.2306.04751",
        "f7": "on",
    }
    walk.researcher.send(page, form, ("action", "submit"), **answers)
    walk.researcher.get(f"/{MODEL_ID}").must_say("waiting for a reviewer")
    return "waiting for a reviewer"


def approve(walk: Walk) -> str:
    queue = walk.owner.get("/admin/access_requests/accessrequest/").must_say("Lovelace")
    links = re.findall(r'href="(/admin/access_requests/accessrequest/\d+/change/[^"]*)"', queue.html)
    if not links:
        raise WalkError(f"The request is not in the queue at {queue.url}.")
    page = walk.owner.get(links[0].replace("&amp;", "&")).must_say("University of Examples")
    walk.owner.send(page, page.form("outcome"), ("outcome", "approved")).must_say("approved")
    return "in the admin, by the owner"


def watch_recovery(walk: Walk) -> str:
    began, page = time.monotonic(), None
    while time.monotonic() - began < LONGEST_RECOVERY:
        page = walk.researcher.get(f"/{MODEL_ID}/access")
        if 'badge ready"' in page.html:
            return f"base + diff, ready after {time.monotonic() - began:.1f} s"
        if 'badge failed"' in page.html or 'badge refused"' in page.html:
            (row,) = json.loads(walk.manage("recoveries", "--json"))["recoveries"]
            raise WalkError(f"The recovery is {row['state']}: {row['error']}")
        time.sleep(0.3)
    raise WalkError(f"The weights were not ready after {LONGEST_RECOVERY} s.")


def show_token(walk: Walk) -> str:
    page = walk.researcher.get(f"/{MODEL_ID}/access")
    if TOKEN.search(page.html):
        raise WalkError("The page showed a token before the button was pressed.")
    form = next((form for form in page.forms if form.action.endswith("/token")), None)
    if form is None:
        raise WalkError(f"{page.url} has no button that shows the token.")
    shown = walk.researcher.send(page, form)
    found = TOKEN.search(shown.html)
    if found is None:
        raise WalkError("The token was not shown.")
    walk.token = found.group()
    if walk.token in walk.researcher.get(f"/{MODEL_ID}/access").html:
        raise WalkError("The token was shown a second time.")
    return f"{walk.token[:8]}..., shown once"


CLIENT = "import huggingface_hub, sys; print(huggingface_hub.snapshot_download(sys.argv[1], cache_dir=sys.argv[2]))"


def download(walk: Walk) -> str:
    """Download in a separate process with only the two variables set and an empty cache."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    home = tempfile.mkdtemp(dir=walk.folder)
    said = subprocess.run(
        [sys.executable, "-c", CLIENT, MODEL_ID, str(walk.folder / "cache")],
        env=kept
        | {
            "HF_ENDPOINT": walk.origin,
            "HF_TOKEN": walk.token,
            "HF_HOME": home,
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if said.returncode:
        raise WalkError(f"huggingface_hub could not download: {said.stderr.strip().splitlines()[-1]}")
    walk.downloaded = Path(said.stdout.strip().splitlines()[-1])
    return "snapshot_download with HF_ENDPOINT and HF_TOKEN"


def compare(walk: Walk) -> str:
    """Compare weight files with the tuned model and all others with the diff.

    Only `dtype` differs in `config.json`.
    """
    got = {path.relative_to(walk.downloaded).as_posix(): path for path in _files_below(walk.downloaded)}
    weights = {path.name for path in walk.pair.tuned.glob("*.safetensors*")}
    released = {path.name for path in _files_below(walk.pair.diff)}
    wanted = weights | {
        name for name in released if ".safetensors" not in name and name != "weights.manifest.json"
    }
    missing = wanted - set(got)
    if missing:
        raise WalkError(f"Not downloaded: {', '.join(sorted(missing))}.")
    if extra := set(got) - wanted - {".gitattributes"}:
        raise WalkError(
            f"Downloaded, but neither in the tuned model nor in the diff: {', '.join(sorted(extra))}."
        )
    for name in sorted(wanted):
        source = (walk.pair.tuned if name in weights else walk.pair.diff) / name
        if name == "config.json":
            ours, theirs = json.loads(got[name].read_text()), json.loads(source.read_text())
            dtype = ours.pop("dtype", None)
            theirs.pop("dtype", None)
            same = ours == theirs and dtype == "bfloat16"
        else:
            same = _sha256_of(got[name]) == _sha256_of(source)
        if not same:
            raise WalkError(f"{name} differs from {source}.")
    walk.files, walk.bytes = len(got), sum(path.stat().st_size for path in got.values())
    return (
        f"{len(weights)} weight file(s) equal the tuned model, {len(wanted) - len(weights)} others the diff's"
    )


def _files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_log(walk: Walk) -> str:
    report = json.loads(walk.manage("verify_audit", "--json"))
    if not report["ok"]:
        raise WalkError(f"The event log is broken at event {report['first_bad']}.")
    return f"{report['events']} events, chain unbroken"
