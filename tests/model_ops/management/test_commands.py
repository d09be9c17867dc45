"""The operator's commands print one object on one line, or one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import connection

from access_requests.enums import Gate, Role
from access_requests.models import Event, GatedModel, Grant, OutgoingMail
from access_requests.services.tokens import authenticate
from model_ops.enums import RecoveryState
from model_ops.models import Recovery
from model_ops.queries import current_recovery, main_revision
from model_ops.services.recoveries.run import run_recovery
from tests.model_ops.conftest import copy_pair
from tests.model_ops.management.conftest import Said

CHECKOUT = Path(__file__).parents[3]


def test_json_is_the_only_line_on_standard_output(transactional_db: None, tmp_path: Path) -> None:
    """This holds for the whole process, including warnings and log lines."""
    server = os.environ["DATABASE_URL"].rpartition("/")[0]
    database = f"{server}/{connection.settings_dict['NAME']}"
    environment = os.environ | {"DATABASE_URL": database, "GATEHOUSE_STATE": str(tmp_path / "state")}
    command = [sys.executable, str(CHECKOUT / "manage.py"), "recover", "ai/none", "--json"]

    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)

    sentence = "There is no model ai/none: check its name, or add it with add_model."
    said = Said(done.returncode, done.stdout, done.stderr)
    assert (said.status, said.json, said.err) == (1, {"error": sentence}, f"{sentence}\n")


def test_add_model_takes_its_defaults_and_prints_the_plan(
    manage: Callable[..., Said], tiny_pair: Path, make_person: Callable[..., Any]
) -> None:
    boss = make_person("boss", is_superuser=True)
    diff = tiny_pair / "diff"
    sources = ["--base", str(tiny_pair / "base"), "--diff", str(diff)]

    said = manage("add_model", "ai/tiny", "--card", str(diff / "README.md"), *sources, "--json")

    assert (said.status, said.err) == (0, "")
    assert set(said.json) == {"model", "plan"}
    assert said.json["model"] == "ai/tiny"
    plan = said.json["plan"]
    assert plan["licences"] == [{"name": "tiny_license.txt", "language": "en"}]
    assert plan["form"][-1].endswith("checkbox, required, read as licence")
    assert plan["weights"]["text"].startswith("base: 21 tensors, bfloat16")
    model = GatedModel.objects.get()
    assert (model.gate, model.grant_days, model.listed) == (Gate.MANUAL, 365, True)
    assert [(role.user, role.role) for role in model.roles.all()] == [(boss, Role.OWNER)]
    recovery = current_recovery(model)
    assert recovery is not None
    assert recovery.options == {}
    assert recovery.written_as == "float32, weight_diff, new rows: mean"
    assert (recovery.state, recovery.wanted_at) == (RecoveryState.PLANNED, None)
    assert main_revision(model) is not None


def test_add_model_takes_every_option(
    manage: Callable[..., Said], files_folder: Path, tmp_path: Path, make_person: Callable[..., Any]
) -> None:
    owner = make_person("owner")
    (tmp_path / "Lizenz.txt").write_text("Sei gut.\n")
    options = ["--gate", "auto", "--days", "7", "--hidden", "--owner", owner.email.upper()]
    licence = ["--licence", f"{tmp_path}/Lizenz.txt:de", "--licence", str(files_folder / "tiny_license.txt")]

    said = manage(
        "add_model",
        "ai/x",
        "--card",
        str(files_folder / "README.md"),
        "--files",
        str(files_folder),
        *options,
        *licence,
    )

    assert (said.status, said.err) == (0, "")
    assert "Licence to agree to: Lizenz.txt (de), tiny_license.txt (en)." in said.out
    assert "4 files are published as they are" in said.out
    model = GatedModel.objects.get()
    assert (model.gate, model.grant_days, model.listed) == (Gate.AUTO, 7, False)
    assert model.roles.get().user == owner


def test_add_model_says_where_there_is_no_licence(manage: Callable[..., Said], files_folder: Path) -> None:
    (files_folder / "tiny_license.txt").unlink()
    (files_folder / "README.md").write_text("---\nextra_gated_fields:\n  Name: text\n---\n# X\n")

    said = manage(
        "add_model", "ai/x", "--card", str(files_folder / "README.md"), "--files", str(files_folder)
    )

    assert "No licence text: there is nothing to agree to." in said.out


def test_add_model_takes_the_prompt_for_want_of_a_licence(
    manage: Callable[..., Said], files_folder: Path
) -> None:
    (files_folder / "tiny_license.txt").unlink()

    said = manage(
        "add_model", "ai/x", "--card", str(files_folder / "README.md"), "--files", str(files_folder), "--json"
    )

    assert said.json["plan"]["licences"] == [{"name": "LICENSE.md", "language": "en"}]
    assert GatedModel.objects.get().licence_versions.get().text == "Say what you want them for."


def refusals(folder: Path) -> list[tuple[list[str], str]]:
    card, files = ["--card", str(folder / "README.md")], ["--files", str(folder)]
    broken = folder.parent / "broken.md"
    broken.write_text("---\na: [\n---\n")
    binary = folder.parent / "binary.md"
    binary.write_bytes(b"\xff\xfe")
    return [
        (["known/model", *card, *files], "known/model is already in the catalogue: publish a new revision with update_model."),
        (["KNOWN/Model", *card, *files], "known/model is already in the catalogue: publish a new revision with update_model."),
        (["admin/x", *card, *files], "The namespace 'admin' is one of the portal's own addresses: choose another."),
        (["ai/x", "--card", "/no/README.md", *files], "The card /no/README.md cannot be read: No such file or directory."),
        (["ai/x", "--card", str(binary), *files], f"The card {binary} is not UTF-8 text (byte 0): save it as UTF-8."),
        (["ai/x", *card], "Give either a base and a diff, or files that are published as they are."),
        (["ai/x", *card, *files, "--base", str(folder)], "Give either a base and a diff, or files that are published as they are."),
        (["ai/x", *card, *files, "--days", "0"], "0 days cannot be granted: give 1 to 36500."),
        (["ai/x", *card, *files, "--licence", "/no/l.txt:de"], "The licence /no/l.txt cannot be read: No such file or directory."),
        (["ai/x", *card, *files, "--owner", "nobody@example.org"], "nobody@example.org has no account here: ask them to sign up first, or give another --owner."),
        (["ai/x", *card, "--files", "/no/folder"], "The weight source /no/folder is not an existing folder: write a folder, hf:REPO_ID@REVISION, hf+https://HOST/REPO_ID@REVISION or gatehouse:REPO_ID@COMMIT."),
        (["ai/x", *card, *files, "--days", "many"], "Argument --days: invalid int value: 'many': --help shows how the command is used."),
        (["ai/x", *files], "One of the arguments --card --from is required: --help shows how the command is used."),
    ]  # fmt: skip


def test_add_model_refuses_in_one_sentence_and_adds_nothing(
    manage: Callable[..., Said], files_folder: Path, make_model: Callable[..., Any]
) -> None:
    make_model("known/model")
    for words, sentence in refusals(files_folder):
        said = manage("add_model", *words, "--json")
        assert (said.status, said.json, said.err) == (1, {"error": sentence}, f"{sentence}\n")
    said = manage(
        "add_model", "ai/x", "--card", str(files_folder.parent / "broken.md"), "--files", str(files_folder)
    )
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert GatedModel.objects.count() == 1
    assert Recovery.objects.count() == 0


def test_add_model_passes_the_engines_refusal_on(
    manage: Callable[..., Said], tiny_pair: Path, files_folder: Path
) -> None:
    words = ["--base", str(tiny_pair / "base"), "--diff", str(files_folder)]

    said = manage("add_model", "ai/x", "--card", str(files_folder / "README.md"), *words, "--json")

    assert said.status == 1
    assert set(said.json) == {"error"}
    assert said.err == said.json["error"] + "\n"
    assert GatedModel.objects.count() == 0


def test_recover_queues_and_retries(
    manage: Callable[..., Said], add_files_model: Callable[..., Any], files_folder: Path
) -> None:
    model = add_files_model("ai/x")
    recovery = current_recovery(model)
    assert recovery is not None

    queued = manage("recover", "AI/x", "--json")
    config = files_folder / "config.json"
    config.rename(files_folder.parent / "away")
    run_recovery(recovery_id=recovery.pk)
    listed = manage("recoveries", "--json")
    (files_folder.parent / "away").rename(config)
    retried = manage("recover", "ai/x", "--json")
    run_recovery(recovery_id=recovery.pk)
    done = manage("recover", "ai/x")

    expected = {"model": "ai/x", "recovery": recovery.pk, "state": "planned"}
    assert (queued.json, retried.json) == (expected, expected)
    sentence = f"The folder {files_folder} has changed since it was added: look at it and run manage.py update_model."
    row = {
        "id": recovery.pk, "model": "ai/x", "state": "refused", "percent": 0, "waiting_for": None, "error": sentence,
    }  # fmt: skip
    assert listed.json == {"recoveries": [row]}
    assert done.out == f"Recovery {recovery.pk} of ai/x is ready: there is nothing to do.\n"
    assert manage("recoveries", "--json").json == {
        "recoveries": [row | {"state": "ready", "percent": 100, "error": None}]
    }
    unknown = "There is no model ai/none: check its name, or add it with add_model."
    assert manage("recover", "ai/none", "--json").json == {"error": unknown}


def test_update_model_publishes_a_new_revision(
    manage: Callable[..., Said], add_files_model: Callable[..., Any], files_folder: Path, tmp_path: Path
) -> None:
    model = add_files_model("ai/x")
    before = main_revision(model)
    card = tmp_path / "new.md"
    card.write_text("# New card\n")
    other = copy_pair(files_folder, tmp_path / "other")

    said = manage("update_model", "ai/x", "--card", str(card), "--json")
    weights = manage("update_model", "ai/x", "--files", str(other), "--json")

    revision = main_revision(model)
    assert revision is not None
    assert revision != before
    assert said.json == {"model": "ai/x", "revision": revision.commit, "plan": None, "state": "planned"}
    assert weights.json["revision"] == revision.commit
    assert weights.json["plan"]["bytes_written"] > 0
    assert current_recovery(model) == Recovery.objects.latest("pk")
    nothing = "You gave nothing to update: name a card, licences or weight sources."
    assert manage("update_model", "ai/x", "--json").json == {"error": nothing}


def test_update_model_keeps_what_is_not_named(
    manage: Callable[..., Said], add_pair_model: Callable[..., Any]
) -> None:
    model = add_pair_model("ai/x")

    said = manage("update_model", "ai/x", "--dtype", "float16", "--json")

    assert said.status == 0, said.err
    old, new = Recovery.objects.order_by("pk")
    assert (old.options, new.options) == ({"dtype": "bfloat16"}, {"dtype": "float16"})
    assert (new.base, new.diff) == (old.base, old.diff)
    assert current_recovery(model) == new


def test_grant_and_revoke(manage: Callable[..., Said], add_files_model: Callable[..., Any]) -> None:
    add_files_model("ai/x")

    given = manage(
        "grant_access", "ai/x", "--email", "New@Example.org", "--days", "30", "--token", "laptop", "--json"
    )

    grant = Grant.objects.select_related("user").get()
    assert given.json == {
        "model": "ai/x",
        "email": grant.user.email,
        "grant": grant.pk,
        "until": grant.ends_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "token": given.json["token"],
    }
    assert authenticate(given.json["token"]).grant == grant
    assert OutgoingMail.objects.filter(to=grant.user.email).exists()
    assert Event.objects.filter(kind="grant.created", writer="operator").exists()

    again = manage("grant_access", "ai/x", "--email", "new@example.org", "--days", "30", "--json")
    gone = manage("revoke_access", "ai/x", "--email", "NEW@example.org", "--reason", "Left.", "--json")
    twice = manage("revoke_access", "ai/x", "--email", "new@example.org", "--json")

    assert (again.status, set(again.json)) == (1, {"error"})
    assert gone.json == {"model": "ai/x", "email": grant.user.email, "revoked": True}
    nothing = f"{grant.user.email} does not have access to ai/x, so there is nothing to revoke."
    assert (twice.status, twice.json) == (1, {"error": nothing})
    grant.refresh_from_db()
    assert grant.revoke_reason == "Left."


def test_grant_without_a_token_says_null(
    manage: Callable[..., Said], add_files_model: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    add_files_model("ai/x")
    person = make_person("ada")

    given = manage("grant_access", "ai/x", "--email", person.email, "--days", "30", "--json")

    assert given.json["token"] is None
    wrong = manage("grant_access", "ai/x", "--email", "nonsense", "--days", "30", "--json")
    assert wrong.json == {"error": "'nonsense' is not an email address: write it like name@example.org."}
    absent = manage("revoke_access", "ai/x", "--email", "who@example.org", "--json")
    assert absent.json == {"error": "There is no account for who@example.org: check the address."}


def test_grant_with_an_empty_token_name_is_refused_and_grants_nothing(
    manage: Callable[..., Said], add_files_model: Callable[..., Any]
) -> None:
    add_files_model("ai/x")
    options = ("--email", "new@example.org", "--days", "3", "--token", "", "--json")

    given = manage("grant_access", "ai/x", *options)

    said = "Give the token a name of 1 to 100 visible characters, so that you can recognise it."
    assert (given.status, given.json) == (1, {"error": said})
    assert not Grant.objects.exists()


def test_add_licence_publishes_the_text_and_asks_holders(
    manage: Callable[..., Said], add_files_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = add_files_model("ai/x")
    manage("grant_access", "ai/x", "--email", "new@example.org", "--days", "3")
    text = tmp_path / "TERMS.txt"
    text.write_text("Be better.\n")

    added = manage("add_licence", "ai/x", f"{text}:de", "--must-accept", "--json")
    again = manage("add_licence", "ai/x", f"{text}:de", "--json")

    version = model.licence_versions.get(name="TERMS.txt")
    told = {
        "model": "ai/x",
        "licence": "TERMS.txt",
        "language": "de",
        "binding": True,
        "sha256": version.sha256,
        "fresh": True,
        "must_accept": True,
        "asked": 1,
    }
    assert added.json == told
    assert again.json == told | {"fresh": False, "asked": 0}
    published = main_revision(model)
    assert published
    assert "TERMS.txt" in " ".join(published.files.values_list("path", flat=True))
    assert OutgoingMail.objects.filter(key__startswith=f"licence:{version.pk}:").count() == 1


def test_add_licence_refuses_in_one_sentence(
    manage: Callable[..., Said], add_files_model: Callable[..., Any], tmp_path: Path
) -> None:
    add_files_model("ai/x")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\0")

    for name in ("absent.txt", "empty.txt", "binary.txt"):
        refused = manage("add_licence", "ai/x", str(tmp_path / name), "--json")
        assert (refused.status, set(refused.json)) == (1, {"error"})
    assert manage("add_licence", "ai/none", str(tmp_path / "empty.txt")).status == 1


def test_verify_audit_names_the_first_bad_event(
    manage: Callable[..., Said],
    add_files_model: Callable[..., Any],
    as_owner: Any,
    settings: Any,
    tmp_path: Path,
) -> None:
    settings.GATEHOUSE_ANCHOR_FILE = (
        tmp_path / "anchors.log"
    )  # workers of other tests write to the shared file
    add_files_model("ai/x")
    events = Event.objects.count()

    whole = manage("verify_audit", "--json")
    as_owner.execute("SET session_replication_role = replica")  # bypass the trigger, as the owner could
    as_owner.execute(
        "UPDATE access_requests_event SET writer = 'policy' WHERE id ="
        " (SELECT event_id FROM access_requests_eventlink WHERE number = 2)"
    )
    broken = manage("verify_audit", "--json")

    assert (whole.status, whole.json["ok"], whole.json["events"], whole.json["problems"]) == (
        0,
        True,
        events,
        [],
    )
    assert (broken.status, broken.json["ok"], broken.json["first_bad"]) == (1, False, 2)
    assert broken.err.startswith(f"The chain of {events} events is broken at event 2: ")
    assert manage("verify_audit", "--expect", "nonsense").err.startswith("--expect cannot be read: ")
    assert manage("verify_audit").status == 1
