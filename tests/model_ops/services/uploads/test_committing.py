from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from access_requests.cards import read_card
from access_requests.enums import Role
from access_requests.errors import Invalid, RuleError
from access_requests.models import Event, GatedModel, OutgoingMail
from access_requests.services.catalogue.gated_models import LicenceText, replace_licences
from access_requests.services.catalogue.roles import assign_role
from model_ops.models import Ref, Revision
from model_ops.queries import main_revision
from model_ops.recovery.formats.git_ids import blob_id
from model_ops.services.revisions.publish import publish_revision
from model_ops.services.uploads import staging
from model_ops.services.uploads.committing import commit_files, upload_head
from model_ops.services.uploads.creating import create_branch
from model_ops.services.uploads.errors import NoBranch, NoFile, NotSent, Stale
from model_ops.services.uploads.holding import publish_upload
from model_ops.services.uploads.objects import has_content
from model_ops.services.uploads.operations import Added, AddedLarge, Copied, Header
from model_ops.services.uploads.rules import set_upload_rule
from tests.model_ops.uploads import WEIGHTS, Uploads

CARD = "---\nlicense: other\nextra_gated_fields:\n  Why: text\n---\n# Mine\n"


def test_commit_is_held_and_main_stays(held: Uploads) -> None:
    before = main_revision(held.model)
    done = held.commit({"config.json": b"{}", "model.safetensors": WEIGHTS})
    assert main_revision(held.model) == before
    revision = done.revision
    assert (revision.held_at is not None, revision.branch, revision.parent, revision.uploader) == (
        True, "main", before, held.owner,
    )  # fmt: skip
    assert held.content(revision) == {"config.json": b"{}", "model.safetensors": WEIGHTS}
    assert (revision.has_weights, upload_head(held.model, "main")) == (True, revision)


def test_other_owners_get_one_mail_while_uploads_to_a_branch_are_held(
    held: Uploads, make_person: Callable[..., Any]
) -> None:
    held.model.roles.exclude(user=held.owner).delete()
    first = held.commit({"a.txt": b"a"}).revision
    assert not OutgoingMail.objects.filter(
        key__startswith="upload-held:"
    ).exists()  # the only owner made the upload
    publish_upload(revision=first, actor=held.owner)
    for name, role in (("grace", Role.OWNER), ("rita", Role.REVIEWER)):
        assign_role(model=held.model, user=make_person(name), role=role)
    revision = held.commit({"b.txt": b"b"}, title="Add b & c").revision
    held.commit({"b.txt": b"b"})  # no change
    held.commit({"c.txt": b"c"})  # on top of an upload that they know is held
    mail = OutgoingMail.objects.get(key__startswith="upload-held:")
    grace = held.model.roles.get(user__username="grace").user
    assert (mail.to, mail.subject) == (grace.email, "An upload to ada/model is waiting to be published")
    assert f"Add b & c (commit {revision.commit})" in mail.text
    assert f"/admin/model_ops/revision/{revision.pk}/change/" in mail.text


def test_upload_that_is_published_at_once_is_no_mail(
    at_once: Uploads, make_person: Callable[..., Any]
) -> None:
    assign_role(model=at_once.model, user=make_person("grace"), role=Role.OWNER)
    at_once.commit({"a.txt": b"a"})
    assert not OutgoingMail.objects.filter(key__startswith="upload-held:").exists()


def test_commit_is_published_where_the_owner_said_so(at_once: Uploads) -> None:
    done = at_once.commit({"config.json": b"{}"})
    assert main_revision(at_once.model) == done.revision
    assert (done.revision.held_at, done.notes) == (None, [])
    kinds = list(Event.objects.filter(model=at_once.model).order_by("pk").values_list("kind", flat=True))
    assert kinds[-2:] == ["revision.uploaded", "revision.published"]


def test_ids_are_those_that_git_computes(at_once: Uploads, tmp_path: Path) -> None:
    first = main_revision(at_once.model)
    assert first is not None
    done = at_once.commit(
        {"config.json": b"{}", "a/b.txt": b"x\n", "model.safetensors": WEIGHTS, "e.bin": b""}, title="Add"
    ).revision
    written = [_with_git(tmp_path, revision) for revision in (first, done)]
    assert written == [first.commit, done.commit]


def _with_git(folder: Path, revision: Revision) -> str:
    """Return the commit that git itself makes from the same files, with LFS files as pointers."""
    who, at = revision.author, f"{int(revision.created_at.timestamp())} +0000"
    names = {f"GIT_{role}_{name}": value for role in ("AUTHOR", "COMMITTER") for name, value in (("NAME", who), ("EMAIL", ""), ("DATE", at))}  # fmt: skip

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "core.autocrlf=false", *arguments], cwd=folder, env=names | {"PATH": "/usr/bin:/bin", "HOME": str(folder)},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    if not (folder / ".git").is_dir():
        git("init", "-q")
    for file in revision.files.select_related("blob"):
        path = folder / file.path
        path.parent.mkdir(exist_ok=True)
        content = (settings.WEIGHTS_ROOT / file.blob.location).read_bytes()
        if file.is_lfs:
            sha256 = hashlib.sha256(content).hexdigest()
            content = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
        path.write_bytes(content)
        git("-c", "filter.lfs.process=", "-c", "filter.lfs.clean=cat", "update-index", "--add", "--cacheinfo",
            f"100644,{git('hash-object', '-w', '--no-filters', file.path)},{file.path}")  # fmt: skip
    tree = git("write-tree")
    parent = ["-p", revision.parent.commit] if revision.parent else []
    return git("commit-tree", tree, *parent, "-m", revision.title)


def test_second_commit_stands_on_the_first_held_one(held: Uploads) -> None:
    first = held.commit({"a.txt": b"a"}).revision
    second = held.commit({"b.txt": b"b"}).revision
    assert second.parent == first
    assert held.content(second) == {"a.txt": b"a", "b.txt": b"b"}


def test_commit_on_a_parent_that_is_not_the_newest_is_stale(held: Uploads) -> None:
    main = main_revision(held.model)
    assert main is not None
    first = held.commit({"a.txt": b"a"}, parent=main.commit).revision
    with pytest.raises(Stale, match="held: publish or discard it first") as refused:
        held.commit({"b.txt": b"b"}, parent=main.commit)
    assert refused.value.status == 412
    assert held.commit({"b.txt": b"b"}, parent=first.commit).revision.parent == first


def test_commit_that_changes_nothing_makes_no_revision(at_once: Uploads) -> None:
    done = at_once.commit({"a.txt": b"a"})
    again = at_once.commit({"a.txt": b"a"})
    empty = at_once.commit({})
    assert again.revision == empty.revision == done.revision
    assert Revision.objects.filter(model=at_once.model).count() == 2


def test_operations_follow_each_other(at_once: Uploads) -> None:
    at_once.commit({"a/x.txt": b"x", "a/y.txt": b"y", "b.txt": b"b", "ab.txt": b"ab"})
    at_once.commit({"a/z.txt": b"z"}, delete=("a/", "b.txt"))
    main = main_revision(at_once.model)
    assert main is not None
    assert at_once.content(main) == {"a/z.txt": b"z", "ab.txt": b"ab"}


@pytest.mark.parametrize("path", ["absent.txt", "absent/", "a", "a/x.txt/"])
def test_deleting_what_is_not_there_is_refused_in_the_hubs_words(at_once: Uploads, path: str) -> None:
    at_once.commit({"a/x.txt": b"x"})
    with pytest.raises(NoFile, match="A file with this name doesn't exist"):
        at_once.commit(delete=(path,))


def test_file_is_copied_by_name_and_by_commit(at_once: Uploads) -> None:
    first = at_once.commit({"a.txt": b"old", "m.bin": b"weights"}).revision
    at_once.commit({"a.txt": b"new"})
    operations = [
        Copied("b.txt", "a.txt"),
        Copied("c.txt", "a.txt", first.commit),
        Copied("n.dat", "m.bin"),
    ]
    done = commit_files(
        model=at_once.model, branch="main", header=Header("Copy"), operations=operations, user=at_once.owner
    )
    assert at_once.content(done.revision) == {
        "a.txt": b"new", "b.txt": b"new", "c.txt": b"old", "m.bin": b"weights", "n.dat": b"weights",
    }  # fmt: skip
    named = {file.path: file.etag for file in done.revision.files.select_related("blob")}
    git = b"blob 7\0weights"
    assert named["n.dat"] == hashlib.sha1(git, usedforsecurity=False).hexdigest()
    with pytest.raises(NoFile):
        commit_files(
            model=at_once.model, branch="main", header=Header("Copy"), operations=[Copied("x", "absent")], user=at_once.owner
        )  # fmt: skip


def test_large_file_that_was_not_sent_is_refused_whoever_else_has_it(
    make_uploads: Callable[..., Uploads],
) -> None:
    one, other = make_uploads("ada", at_once=True), make_uploads("eve", at_once=True)
    one.commit({"model.safetensors": WEIGHTS})
    secret = hashlib.sha256(WEIGHTS).hexdigest()
    sentences = []
    for sha256 in (secret, "0" * 64):
        with pytest.raises(NotSent) as refused:
            commit_files(
                model=other.model, branch="main", header=Header("Guess"), user=other.owner,
                operations=[AddedLarge("stolen.safetensors", sha256, len(WEIGHTS))],
            )  # fmt: skip
        sentences.append(refused.value.sentence.replace(sha256, "HASH"))
    assert sentences[0] == sentences[1]
    assert other.commit(
        {"mine.safetensors": WEIGHTS}
    ).revision.has_weights  # allowed for people who have the bytes


@pytest.mark.parametrize("paths", [["a.txt", "A.TXT"], ["a", "a/b"]])
def test_names_that_cannot_lie_together_are_refused(at_once: Uploads, paths: list[str]) -> None:
    at_once.commit({paths[0]: b"1"})
    with pytest.raises(Invalid, match="cannot be in one repository"):
        at_once.commit({paths[1]: b"2"})


def test_unknown_branch_and_tag_take_no_upload(at_once: Uploads) -> None:
    revision = main_revision(at_once.model)
    Ref.objects.create(model=at_once.model, name="v1", is_tag=True, revision=revision)
    for name in ("nope", "v1", str(revision and revision.commit)):
        with pytest.raises(NoBranch, match="Invalid rev id"):
            at_once.commit({"a": b"a"}, branch=name)


def test_other_branches_have_files_of_their_own(at_once: Uploads) -> None:
    Ref.objects.create(model=at_once.model, name="diff", revision=main_revision(at_once.model))
    done = at_once.commit({"README.md": b"no card", "model.safetensors": WEIGHTS}, branch="diff")
    assert Ref.objects.get(model=at_once.model, name="diff").revision == done.revision
    at_once.model.refresh_from_db()
    assert at_once.model.card == ""
    assert main_revision(at_once.model) == done.revision.parent


def test_uploaded_card_becomes_the_models(at_once: Uploads) -> None:
    done = at_once.commit({"README.md": CARD.encode()})
    at_once.model.refresh_from_db()
    assert at_once.model.card == CARD
    assert at_once.model.form is not None
    assert [field["label"] for field in at_once.model.form.schema["fields"]] == ["Why"]
    assert main_revision(at_once.model) == done.revision


BROKEN = "---\nextra_gated_fields:\nWhy: text\n---\n"


@pytest.mark.parametrize("fixture", ["held", "at_once"])
def test_card_that_would_lose_the_gate_is_refused(request: pytest.FixtureRequest, fixture: str) -> None:
    uploads: Uploads = request.getfixturevalue(fixture)
    uploads.commit({"README.md": CARD.encode()})
    with pytest.raises(ValueError, match="indented") as expected:
        read_card(BROKEN)
    for content, sentence in (
        (BROKEN.encode(), str(expected.value)),
        (b"\xff", "README.md is not UTF-8 text (byte 0): save it as UTF-8."),
        (b"x" * (2**20 + 1), "README.md is larger than 1,048,576 bytes: move long texts into other files."),
    ):
        with pytest.raises(Invalid) as refused:
            uploads.commit({"README.md": content, "b.txt": b"b"})
        assert refused.value.sentence == sentence
    assert Revision.objects.filter(model=uploads.model).count() == 2


def test_card_cannot_be_deleted(at_once: Uploads) -> None:
    at_once.commit({"README.md": CARD.encode(), "a.txt": b"a"})
    done = at_once.commit(delete=("README.md", "a.txt"))
    assert at_once.content(done.revision) == {"README.md": CARD.encode()}
    assert done.notes == ["README.md holds the gate and was not deleted."]


def test_licence_that_people_accept_is_not_changed_by_an_upload(at_once: Uploads) -> None:
    replace_licences(model=at_once.model, licences=[LicenceText("LICENSE", "en", "Be good.\n")])
    publish_revision(model=at_once.model)
    done = at_once.commit({"LICENSE": b"Do as you like.\n", "a.txt": b"a"})
    assert at_once.content(done.revision) == {"LICENSE": b"Be good.\n", "a.txt": b"a"}
    assert done.notes == [
        "LICENSE is the licence that people accept and stays as it is: change it in the admin."
    ]


def test_gitattributes_are_the_portals(at_once: Uploads) -> None:
    done = at_once.commit({".gitattributes": b"* binary\n", "big.txt": bytes(10 * 2**20 + 1)})
    file = done.revision.files.get(path=".gitattributes")
    text = (settings.WEIGHTS_ROOT / file.blob.location).read_text()
    assert ("* binary" in text, "big.txt filter=lfs" in text) == (False, True)
    assert done.notes == [".gitattributes is written by the portal and was left as it is."]


def test_deleted_gitattributes_stay_away_until_they_are_uploaded_again(at_once: Uploads) -> None:
    at_once.commit({"a.txt": b"a"})
    gone = at_once.commit(delete=(".gitattributes",))
    assert gone.notes == []
    later = at_once.commit({"b.txt": b"b"})
    publish_revision(model=at_once.model)
    shown = Ref.objects.get(model=at_once.model, name="main").revision
    for revision in (gone.revision, later.revision, shown):
        assert not revision.files.filter(path=".gitattributes").exists()
    back = at_once.commit({".gitattributes": b"* binary\n"})
    assert back.revision.files.filter(path=".gitattributes").exists()


def test_uploaded_files_stay_when_the_portal_publishes_again(at_once: Uploads) -> None:
    at_once.commit({"README.md": CARD.encode(), "model.safetensors": WEIGHTS, "a.txt": b"a"})
    replace_licences(model=at_once.model, licences=[LicenceText("LICENSE", "en", "Be good.\n")])
    revision = publish_revision(model=at_once.model)
    assert at_once.content(revision) == {
        "LICENSE": b"Be good.\n", "README.md": CARD.encode(), "a.txt": b"a", "model.safetensors": WEIGHTS,
    }  # fmt: skip
    assert revision.has_weights
    replace_licences(model=at_once.model, licences=[])
    assert "LICENSE" not in at_once.content(publish_revision(model=at_once.model))


@pytest.mark.django_db(transaction=True)
def test_of_two_commits_at_once_with_a_parent_one_is_stale(held: Uploads) -> None:
    main = main_revision(held.model)
    assert main is not None
    both, ended = threading.Barrier(2), []

    def run(name: str) -> None:
        try:
            both.wait(60)
            ended.append(held.commit({name: b"x"}, parent=main.commit).revision.title)
        except RuleError as error:
            ended.append(type(error).__name__)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(f"{number}.txt",)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ended) == ["Stale", "Upload"]
    assert Revision.objects.filter(model=held.model).count() == 2


def test_commit_that_is_refused_late_changes_nothing(at_once: Uploads) -> None:
    card = GatedModel.objects.get(pk=at_once.model.pk).card
    with pytest.raises(Invalid):
        at_once.commit({"README.md": CARD.encode(), "a": b"a", "A": b"b"})
    assert GatedModel.objects.get(pk=at_once.model.pk).card == card
    assert Revision.objects.filter(model=at_once.model).count() == 1


def test_file_that_the_same_commit_adds_is_copied(at_once: Uploads) -> None:
    operations = [
        Added("a.txt", staging.stage_bytes(model_id=at_once.model.pk, content=b"new")),
        Copied("b.txt", "a.txt"),
        AddedLarge("m.bin", at_once.stage(b"weights"), 7),
        Copied("n.dat", "m.bin"),
    ]
    done = commit_files(
        model=at_once.model, branch="main", header=Header("Copy"), operations=operations, user=at_once.owner
    )
    assert at_once.content(done.revision) == {
        "a.txt": b"new", "b.txt": b"new", "m.bin": b"weights", "n.dat": b"weights",
    }  # fmt: skip
    ids = {file.path: file.etag for file in done.revision.files.select_related("blob")}
    assert (ids["b.txt"], ids["n.dat"]) == (blob_id(b"new"), blob_id(b"weights"))


def test_same_commit_on_two_branches_is_two_revisions(
    at_once: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        create_branch(model=at_once.model, name=name, start="", user=at_once.owner)
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    first, second = (at_once.commit({"a.txt": b"a"}, branch=name).revision for name in ("one", "two"))
    assert second.created_at - first.created_at == timedelta(seconds=1)
    refs = Ref.objects.filter(model=at_once.model, name__in=["one", "two"]).order_by("name")
    assert [ref.revision for ref in refs] == [first, second]


def test_what_was_held_before_uploads_are_published_at_once_stays_held(held: Uploads) -> None:
    unseen = held.commit({"secret.txt": b"unseen"}).revision
    set_upload_rule(model=held.model, publish_uploads=True)
    done = held.commit({"a.txt": b"a"})
    assert held.content(done.revision) == {"a.txt": b"a"}
    assert main_revision(held.model) == done.revision
    unseen.refresh_from_db()
    assert unseen.held_at is not None


def test_copies_are_looked_up_and_stored_before_the_events_are_locked(
    at_once: Uploads, django_assert_max_num_queries: Any
) -> None:
    names = [f"{number}.txt" for number in range(100)]
    first = at_once.commit({name: name.encode() for name in names}).revision
    operations = [Copied(f"copy/{name}", name, first.commit) for name in names]
    with django_assert_max_num_queries(60) as asked:
        commit_files(
            model=at_once.model, branch="main", header=Header("Copy"), operations=operations, user=at_once.owner
        )  # fmt: skip
    said = [one["sql"] for one in asked.captured_queries]
    locked = next(number for number, sql in enumerate(said) if "pg_advisory" in sql)
    read = next(number for number, sql in enumerate(said) if "model_ops_repofile" in sql and "IN (" in sql)
    assert read < locked


def test_large_file_of_a_refused_commit_need_not_be_sent_again(held: Uploads) -> None:
    sha256 = held.stage(WEIGHTS)
    with pytest.raises(Invalid, match="cannot be in one repository"):
        held.commit({"a": b"a", "A": b"b", "model.safetensors": WEIGHTS})
    assert has_content(held.model, sha256, len(WEIGHTS))
    held.commit({"model.safetensors": WEIGHTS})
    assert not staging.is_staged(held.model.pk, sha256, len(WEIGHTS))
