from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_requests.errors import Conflict, Invalid, NotFound
from access_requests.models import Event, LicenceVersion
from access_requests.services.catalogue.gated_models import LicenceText, replace_licences
from access_requests.services.grants import grant_access
from model_ops.enums import DeliveryState, Method, RecoveryState, SourceKind
from model_ops.models import Delivery, ModelWeights, Recovery, Ref, Revision, WeightSource
from model_ops.queries import current_weights, main_revision
from model_ops.services.recoveries import deliver
from model_ops.services.revisions.publish import publish_revision
from model_ops.services.uploads.committing import upload_head
from model_ops.services.uploads.creating import create_branch, delete_branch
from model_ops.services.uploads.holding import difference, discard_upload, publish_upload
from model_ops.services.uploads.rules import set_upload_rule
from tests.model_ops.uploads import WEIGHTS, Uploads

CARD = "---\nlicense: other\nextra_gated_fields:\n  Why: text\n---\n# Mine\n"


def test_published_upload_is_main_with_its_own_commit(held: Uploads) -> None:
    first = held.commit({"a.txt": b"a"}).revision
    second = held.commit({"README.md": CARD.encode(), "model.safetensors": WEIGHTS}).revision
    top = publish_upload(revision=second, actor=held.owner)
    assert (top, main_revision(held.model)) == (second, second)
    assert not Revision.objects.filter(
        held_at__isnull=False
    ).exists()  # the one below it is part of the history
    first.refresh_from_db()
    held.model.refresh_from_db()
    assert (first.held_at, held.model.card) == (None, CARD)
    event = Event.objects.filter(kind="revision.published").latest("pk")
    assert (event.actor, event.data["commit"]) == (held.owner, second.commit)


def test_publishing_twice_and_what_was_discarded_is_refused(held: Uploads) -> None:
    one = held.commit({"a.txt": b"a"}).revision
    publish_upload(revision=one)
    two = held.commit({"b.txt": b"b"}).revision
    discard_upload(revision=two)
    for revision in (one, two):
        with pytest.raises(Conflict, match="not held any more"):
            publish_upload(revision=revision)


def test_upload_stands_on_main_again_after_only_the_portals_files_moved(held: Uploads) -> None:
    upload = held.commit({"a.txt": b"a"}).revision
    replace_licences(model=held.model, licences=[LicenceText("LICENSE", "en", "Be good.\n")])
    moved = publish_revision(model=held.model)
    top = publish_upload(revision=upload)
    assert (top.parent, main_revision(held.model)) == (moved, top)
    assert held.content(top) == {"LICENSE": b"Be good.\n", "a.txt": b"a"}
    assert held.commit({"b.txt": b"b"}).revision.parent == top


def test_upload_is_refused_where_main_has_other_files_by_now(held: Uploads) -> None:
    one = held.commit({"a.txt": b"a"}).revision
    ref = Ref.objects.get(model=held.model, name="main")
    other = Revision.objects.create(
        model=held.model, commit="f" * 40, title="x", author="x", parent=one.parent
    )
    other.files.create(path="z.txt", blob=one.files.get(path="a.txt").blob, is_lfs=False)
    Ref.objects.filter(pk=ref.pk).update(revision=other)
    with pytest.raises(Conflict, match="The files on main have changed"):
        publish_upload(revision=one)
    one.refresh_from_db()
    assert one.held_at is not None


def test_outrun_upload_is_told_so_and_later_ones_do_not_stand_on_it(held: Uploads) -> None:
    """One upload is held, the next is published at once and makes it outdated, later ones are held again."""
    old = held.commit({"old.txt": b"old"}).revision
    set_upload_rule(model=held.model, publish_uploads=True)
    shown = held.commit({"a.txt": b"a"}).revision
    set_upload_rule(model=held.model, publish_uploads=False)
    assert upload_head(held.model, "main") == main_revision(held.model) == shown
    new = held.commit({"b.txt": b"b"}, parent=shown.commit).revision
    newer = held.commit({"c.txt": b"c"}).revision
    assert (new.parent, newer.parent) == (shown, new)

    told = f"The files on main have changed since {old.commit[:8]} was uploaded"
    assert (difference(old).outrun.startswith(told), difference(newer).outrun) == (True, "")
    with pytest.raises(Conflict, match=told):
        publish_upload(revision=old)
    assert main_revision(held.model) == shown
    assert discard_upload(revision=old) == [old.commit]
    top = publish_upload(revision=newer)
    assert (top, main_revision(held.model)) == (newer, newer)
    assert held.content(top) == {"a.txt": b"a", "b.txt": b"b", "c.txt": b"c"}


def test_upload_that_was_held_first_is_published_where_main_has_not_moved(held: Uploads) -> None:
    """Changing the rule does not move main, and neither does a change of the portal's own files."""
    old = held.commit({"old.txt": b"old"}).revision
    set_upload_rule(model=held.model, publish_uploads=True)
    replace_licences(model=held.model, licences=[LicenceText("LICENSE", "en", "Be good.\n")])
    moved = publish_revision(model=held.model)
    assert upload_head(held.model, "main") == moved  # the held upload waits for its owner
    set_upload_rule(model=held.model, publish_uploads=False)
    assert (upload_head(held.model, "main"), difference(old).outrun) == (old, "")
    top = publish_upload(revision=old)
    assert held.content(top) == {"LICENSE": b"Be good.\n", "old.txt": b"old"}


def test_upload_goes_on_top_of_weights_that_came_meanwhile(held: Uploads) -> None:
    """An upload held before those weights could only be discarded, with everything on top of it."""
    old = held.commit({"old.txt": b"old"}).revision
    other = Revision.objects.create(
        model=held.model, commit="f" * 40, title="x", author="x", parent=old.parent
    )
    other.files.create(path="z.txt", blob=old.files.get(path="old.txt").blob, is_lfs=False)
    Ref.objects.filter(model=held.model, name="main").update(revision=other)
    assert upload_head(held.model, "main") == other
    assert held.commit({"new.txt": b"new"}).revision.parent == other


def test_head_is_found_by_as_many_questions_however_much_is_held(held: Uploads) -> None:
    counts = []
    for _ in range(2):
        held.commit({f"{len(counts)}.txt": b"x"})
        with CaptureQueriesContext(connection) as asked:
            upload_head(held.model, "main")
        counts.append(len(asked))
        for number in range(5):
            held.commit({f"{len(counts)}-{number}.txt": b"x"})
    assert counts[0] == counts[1]


def test_licence_is_taken_only_where_it_is_named(held: Uploads) -> None:
    replace_licences(model=held.model, licences=[LicenceText("LICENSE", "de", "Sei gut.\n")])
    publish_revision(model=held.model)
    upload = held.commit({"LICENSE": b"Sei besser.\n", "COPYING.txt": b"New.\n", "a.txt": b"a"}).revision
    assert difference(upload).licences == ["COPYING.txt", "LICENSE"]
    with pytest.raises(Invalid, match=r"'a\.txt' is not a licence text"):
        publish_upload(revision=upload, licences=["a.txt"])
    top = publish_upload(revision=upload)
    assert held.content(top)["LICENSE"] == b"Sei gut.\n"
    assert top.parent == upload

    again = held.commit({"LICENSE": b"Sei besser.\n"}).revision
    top = publish_upload(revision=again, licences=["LICENSE"])
    assert (top, held.content(top)["LICENSE"]) == (again, b"Sei besser.\n")
    current = LicenceVersion.objects.get(model=held.model, retired_at=None)
    assert (current.name, current.language, current.text) == ("LICENSE", "de", "Sei besser.\n")


def test_difference_shows_files_card_and_form(held: Uploads) -> None:
    publish_upload(revision=held.commit({"a.txt": b"a", "b.txt": b"b"}).revision)
    upload = held.commit(
        {"a.txt": b"A", "c.txt": b"c", "README.md": CARD.encode()}, delete=("b.txt",)
    ).revision
    found = difference(upload)
    assert [[file.path for file in files] for files in (found.added, found.changed, found.removed)] == [
        ["README.md", "c.txt"], ["a.txt"], ["b.txt"],
    ]  # fmt: skip
    assert "+# Mine" in found.card.splitlines()
    assert "+Why: text" in found.form.splitlines()
    assert (found.card_problem, found.licences) == ("", [])


def test_discarding_takes_what_stands_on_it(held: Uploads) -> None:
    below = held.commit({"a.txt": b"a"}).revision
    one = held.commit({"b.txt": b"b"}).revision
    two = held.commit({"c.txt": b"c"}).revision
    assert discard_upload(revision=one, actor=held.owner) == [two.commit, one.commit]
    assert held.commit({"d.txt": b"d"}).revision.parent == below
    event = Event.objects.filter(kind="revision.discarded").latest("pk")
    assert event.data == {"commits": [two.commit, one.commit]}


def test_discarding_a_source_of_weights_is_refused(held: Uploads) -> None:
    one = held.commit({"model.safetensors": WEIGHTS}).revision
    WeightSource.objects.create(spec="gatehouse:x", kind=SourceKind.UPLOAD, revision=one)
    with pytest.raises(Conflict, match="is a source of weights"):
        discard_upload(revision=one)
    assert Revision.objects.filter(pk=one.pk, held_at__isnull=False).exists()
    assert held.commit({"a.txt": b"a"}).revision.parent == one.parent  # skipped as a parent


def test_branch_moves_alone(held: Uploads) -> None:
    create_branch(model=held.model, name="diff", start="", user=held.owner)
    main = main_revision(held.model)
    upload = held.commit({"README.md": b"not the card", "model.safetensors": WEIGHTS}, branch="diff").revision
    assert publish_upload(revision=upload) == upload
    held.model.refresh_from_db()
    assert (main_revision(held.model), held.model.card) == (main, "")
    assert Ref.objects.get(model=held.model, name="diff").revision == upload


def test_branch_is_deleted_once_nothing_is_held_on_it(held: Uploads) -> None:
    model, owner = held.model, held.owner
    create_branch(model=model, name="work/diff", start="", user=owner)
    upload = held.commit({"a.txt": b"a"}, branch="work/diff").revision
    with pytest.raises(Conflict, match="1 uploaded revision is held on work/diff: publish or discard"):
        delete_branch(model=model, name="work/diff", user=owner)
    publish_upload(revision=upload)
    delete_branch(model=model, name="work/diff", user=owner)
    assert list(Ref.objects.filter(model=model).values_list("name", flat=True)) == ["main"]
    event = Event.objects.filter(model=model).latest("pk")
    assert (event.kind, event.actor, event.data) == (
        "branch.deleted", owner, {"branch": "work/diff", "commit": upload.commit},
    )  # fmt: skip
    assert Revision.objects.filter(pk=upload.pk).exists()  # it still exists by its commit
    with pytest.raises(NotFound, match="has no branch of that name"):
        delete_branch(model=model, name="work/diff", user=owner)


def test_main_and_tags_are_not_deleted_as_branches(held: Uploads) -> None:
    with pytest.raises(Invalid, match="main is what readers of ada/model get, and cannot be deleted"):
        delete_branch(model=held.model, name="main", user=held.owner)
    Ref.objects.create(model=held.model, name="v1", is_tag=True, revision=main_revision(held.model))
    with pytest.raises(NotFound):
        delete_branch(model=held.model, name="v1", user=held.owner)
    assert Ref.objects.filter(model=held.model).count() == 2


def test_whoever_waits_for_weights_is_told(held: Uploads, make_person: Callable[..., Any]) -> None:
    grant = grant_access(model=held.model, email=make_person("waits").email, days=30).grant
    deliver.deliver_grant(grant_id=grant.pk)
    assert Delivery.objects.get(grant=grant).state == DeliveryState.WAITING
    publish_upload(revision=held.commit({"model.safetensors": WEIGHTS}).revision)
    deliver.deliver_grant(grant_id=grant.pk)
    assert Delivery.objects.get(grant=grant).state == DeliveryState.READY


def test_uploaded_weights_take_the_place_of_those_being_made(held: Uploads) -> None:
    source = WeightSource.objects.create(spec="/x", kind=SourceKind.FOLDER)
    recovery = Recovery.objects.create(method=Method.COPY, files=source)
    ModelWeights.objects.create(model=held.model, recovery=recovery)
    publish_upload(revision=held.commit({"a.txt": b"a"}).revision)
    assert current_weights(held.model) is not None  # the upload did not change the weights
    upload = held.commit({"model.safetensors": WEIGHTS}).revision
    publish_upload(revision=upload)
    assert current_weights(held.model) is None
    Recovery.objects.update(state=RecoveryState.READY)
    assert publish_revision(model=held.model) == upload


def test_upload_below_a_revision_that_was_made_keeps_what_was_made(
    add_files_model: Callable[..., Any], make_person: Callable[..., Any]
) -> None:
    """A tokenizer is uploaded next to recovered weights, then the card is changed in the portal."""
    from model_ops.services.recoveries.run import run_recovery

    model = add_files_model("ai/plain")
    recovery = current_weights(model).recovery  # type: ignore[union-attr]
    Recovery.objects.filter(pk=recovery.pk).update(wanted_at="2026-01-01T00:00Z")
    run_recovery(recovery_id=recovery.pk)
    uploads = Uploads(model, make_person("maker"))
    top = publish_upload(revision=uploads.commit({"tokenizer.json": b"{}"}).revision)
    assert (top.recovery, current_weights(model).recovery) == (recovery, recovery)  # type: ignore[union-attr]
    replace_licences(model=model, licences=[LicenceText("LICENSE", "en", "Be good.\n")])
    files = uploads.content(publish_revision(model=model))
    assert sorted(files) == [
        "LICENSE",
        "README.md",
        "config.json",
        "model.safetensors",
        "tiny_license.txt",
        "tokenizer.json",
    ]
