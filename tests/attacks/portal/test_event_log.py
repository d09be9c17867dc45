"""The database owner can cut or rewrite the log and change licence texts. Each of these is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from access_requests.models import Event, EventLink, EventText, LicenceVersion
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.anchors import write_anchor_if_due
from access_requests.services.event_log.append import event_digest, head, link_hash, verify_chain
from access_requests.services.event_log.verify import verify_log
from access_requests.services.requests.decide import record_decision

pytestmark = pytest.mark.django_db(transaction=True)

Run = Callable[[str], None]


@pytest.fixture
def damage(as_owner: Any) -> Run:
    """`damage(sql)`: run the statements as the owner of the tables, with all triggers switched off."""
    as_owner.execute("SET session_replication_role = replica")
    return lambda sql: as_owner.execute(sql)


@pytest.fixture
def anchors(tmp_path: Path, settings: Any) -> Path:
    settings.GATEHOUSE_STATE = tmp_path
    settings.GATEHOUSE_ANCHOR_FILE = tmp_path / "anchors.log"
    return tmp_path / "anchors.log"


@pytest.fixture
def decided(
    make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any, anchors: Path
) -> Any:
    """An approved request in a log that was anchored afterwards."""
    model, olga = make_model(), make_person("olga")
    assign_role(model=model, user=olga, role="owner")
    request = submit(make_person("ada"), model)
    record_decision(request=request, reviewer=olga, outcome="approved", words="Welcome.")
    assert write_anchor_if_due() is not None
    assert verify_log().ok
    return request


def rewrite_everything(damage: Run) -> None:
    """Recompute every digest and link from the first event on, from the events as they are now."""
    previous = "0" * 64
    for link in EventLink.objects.select_related("event").order_by("number"):
        digest = event_digest(link.event)
        hash = link_hash(link.number, previous, digest)
        damage(f"UPDATE access_requests_event SET digest = '{digest}' WHERE id = {link.event_id}")
        damage(
            f"UPDATE access_requests_eventlink SET previous_hash = '{previous}', hash = '{hash}'"
            f" WHERE number = {link.number}"
        )
        previous = hash


def test_cut_tail_is_found(decided: Any, damage: Run) -> None:
    """The chain alone cannot show it: the rest of it is intact."""
    last = [link.event_id for link in EventLink.objects.order_by("-number")[:5]]
    ids = ",".join(map(str, last))
    for table, column in [("eventlink", "event_id"), ("eventtext", "event_id"), ("event", "id")]:
        damage(f"DELETE FROM access_requests_{table} WHERE {column} IN ({ids})")
    assert verify_chain().ok
    (problem,) = verify_log().problems
    assert problem.startswith("The log was cut: it ends at event ")


def test_rewritten_chain_is_found(decided: Any, damage: Run, make_person: Callable[..., Any]) -> None:
    """Every row and hash of the log now says that someone else decided."""
    mallory = make_person("mallory")
    damage(f"UPDATE access_requests_event SET actor_id = {mallory.pk} WHERE kind = 'request.approved'")
    rewrite_everything(damage)
    assert verify_chain().ok
    (problem,) = verify_log().problems
    assert problem.startswith("The log was rewritten at or before event ")


@pytest.mark.parametrize("also", ["nothing", "its SHA-256", "its SHA-256 and the acceptance"])
def test_changed_licence_text_is_found(decided: Any, damage: Run, also: str) -> None:
    licence = LicenceVersion.objects.get()
    damage(f"UPDATE access_requests_licenceversion SET text = 'Do as you like.' WHERE id = {licence.pk}")
    if also != "nothing":
        forged = LicenceVersion.digest("Do as you like.")
        damage(f"UPDATE access_requests_licenceversion SET sha256 = '{forged}' WHERE id = {licence.pk}")
    if also == "its SHA-256 and the acceptance":
        damage(f"UPDATE access_requests_licenceacceptance SET sha256 = '{forged}'")
    assert verify_chain().ok
    problems = verify_log().problems
    assert problems[0].startswith(f"Licence text licence.txt (en, version {licence.pk}) ")


def test_changed_text_of_an_event_is_found(decided: Any, damage: Run) -> None:
    damage("UPDATE access_requests_eventtext SET text = '\"Never.\"' WHERE name = 'words' AND text <> '\"\"'")
    assert not verify_chain().ok


def test_text_that_was_erased_without_saying_so_is_found(decided: Any, damage: Run) -> None:
    damage("UPDATE access_requests_eventtext SET text = NULL, salt = NULL WHERE name = 'words'")
    assert not verify_chain().ok


def test_text_that_was_erased_by_the_function_is_accepted(decided: Any, as_owner: Any) -> None:
    ada, olga = decided.applicant, decided.model.roles.get().user
    texts = list(EventText.objects.filter(event__actor=ada).values_list("pk", flat=True))
    (erased,) = as_owner.execute("SELECT gatehouse_erase_event_texts(%s, %s)", [texts, olga.pk]).fetchone()
    assert erased == len(texts) > 1
    left = EventText.objects.filter(event__actor=ada)
    assert {(row.salt, row.text) for row in left} == {(None, None)}
    report = verify_log()
    assert (report.problems, report.erased) == ([], erased)


def test_head_that_was_kept_elsewhere_finds_what_the_anchors_cannot(
    decided: Any, damage: Run, anchors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file of anchors is gone as well, and an undamaged log may be too young to have one."""
    number, hash = head()
    call_command("verify_audit", "--expect", f"{number}:{hash}")
    rewritten = "UPDATE access_requests_event SET kind = 'request.rejected' WHERE kind = 'request.approved'"
    damage(rewritten)
    rewrite_everything(damage)
    anchors.unlink()
    assert verify_log().ok
    with pytest.raises(SystemExit):
        call_command("verify_audit", "--expect", f"{number}:{hash}")
    assert f"Event {number} has another hash than the expected one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: "", "There is no anchor"),
        (
            lambda text: json.dumps({**json.loads(text), "at": "2020-01-01T00:00:00Z"}) + "\n",
            "does not carry the signature",
        ),
        (lambda text: "what\n" + text, "Line 1 of the anchors is not an anchor"),
        (lambda text: "[" * 100_000 + "\n" + text, "Line 1 of the anchors is not an anchor"),
        (lambda text: json.dumps({**json.loads(text), "number": 10**30}) + "\n", "Line 1 of the anchors"),
    ],
    ids=["emptied", "dated back", "other text", "nested", "a huge number"],
)
def test_changed_file_of_anchors_is_found(
    decided: Any, anchors: Path, damage: Run, change: Callable[[str], str], sentence: str
) -> None:
    anchors.write_text(change(anchors.read_text()))
    long_ago = timezone.now() - timedelta(days=2)
    first = Event.objects.order_by("pk")[0]
    if sentence == "There is no anchor":
        assert verify_log().ok  # a young portal has no anchors
        damage(f"UPDATE access_requests_event SET at = '{long_ago.isoformat()}' WHERE id = {first.pk}")
        rewrite_everything(damage)
    assert sentence in verify_log().problems[0]


def test_anchor_that_is_overdue_is_found(decided: Any, anchors: Path, settings: Any) -> None:
    content = json.loads(anchors.read_text())
    settings.GATEHOUSE_ANCHOR_MINUTES = 60
    assert verify_log().ok
    from access_requests.services.event_log import anchors as service

    line = service.signed_line(timezone.now() - timedelta(hours=3))
    anchors.write_text(line + "\n")
    assert json.loads(line)["key"] == content["key"]
    (problem,) = verify_log().problems
    assert "one is due every 60 min" in problem


def test_head_of_an_empty_log_is_expected_of_any_log(decided: Any) -> None:
    assert verify_log(expect=f"0:{'0' * 64}").problems == []
    assert verify_log(expect=f"0:{'1' * 64}").problems != []


def test_line_that_was_cut_short_spoils_no_other(decided: Any, anchors: Path, settings: Any) -> None:
    whole = anchors.read_text()
    settings.GATEHOUSE_ANCHOR_MINUTES = 1
    anchors.write_text(whole + whole[:40])
    assert write_anchor_if_due() is None
    anchors.write_text(whole[:40])
    assert write_anchor_if_due() is not None
    assert len(anchors.read_text().splitlines()) == 2
    assert "Line 1 of the anchors" in verify_log().problems[0]


def test_anchor_leaves_by_email_once_a_day(decided: Any, anchors: Path, settings: Any) -> None:
    from access_requests.models import OutgoingMail

    settings.GATEHOUSE_ANCHOR_MAIL = ["auditor@example.org"]
    anchors.unlink()
    write_anchor_if_due()
    settings.GATEHOUSE_ANCHOR_MINUTES = 0
    write_anchor_if_due()
    (mail,) = OutgoingMail.objects.filter(to="auditor@example.org")
    number, hash = head()
    assert f"verify_audit --expect {number}:{hash}" in mail.text
    assert anchors.read_text().splitlines()[0] in mail.text
    assert [line.count('"number"') for line in anchors.read_text().splitlines()] == [1, 1]
