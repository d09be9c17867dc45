"""Show what held revisions would change, and publish or discard them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import OperationalError
from django.db.models import ProtectedError
from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.cards import CardRefused, read_card
from access_requests.errors import Conflict, Invalid
from access_requests.models import GatedModel, LicenceVersion
from access_requests.services.catalogue.edit import add_licence
from access_requests.services.catalogue.gated_models import LicenceText, ReadCard, prepare_card, update_card
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import share_store
from access_requests.services.queue import enqueue_on_commit
from model_ops.enums import DeliveryState
from model_ops.models import Delivery, ModelWeights, Ref, RepoFile, Revision
from model_ops.queries import MAIN
from model_ops.recovery.formats.git_ids import blob_id
from model_ops.services.recoveries.deliver import DELIVER
from model_ops.services.revisions.licence_files import DEFAULT_LANGUAGE, LIKE_A_LICENCE
from model_ops.services.revisions.publish import (
    CARD,
    GITATTRIBUTES,
    Content,
    own_files,
    publish_content,
    publish_revision,
    revision_files,
)
from model_ops.services.store.blobs import blob_path
from model_ops.services.store.bucket import expect_copies
from model_ops.services.store.git_objects import StoredFile
from model_ops.services.uploads.errors import full_disk_refused
from model_ops.services.uploads.inspecting import check_upload
from model_ops.services.uploads.staging import staged_path

if TYPE_CHECKING:
    from portal.accounts.models import User

LARGEST_CARD = 2**20  # bytes, the reader's own limit
LARGEST_LICENCE = 8 * 2**20
LONGEST_DIFFERENCE = 2000  # lines


@dataclass(frozen=True)
class Difference:
    """What publishing a held revision would change on its branch; each list is sorted by path."""

    added: Sequence[StoredFile]
    changed: Sequence[StoredFile]
    removed: Sequence[StoredFile]
    card: str  # a unified diff of README.md, empty if it is unchanged
    form: str  # the same for the form's questions
    card_problem: str
    licences: Sequence[str]  # uploaded texts that are new or differ from those that people accept
    outrun: str  # why it cannot be published any more, empty if it can


def difference(revision: Revision) -> Difference:
    """Return the difference from the branch's present head."""
    model = revision.model
    ref = Ref.objects.filter(model=model, name=revision.branch).select_related("revision").first()
    old = _files_by_path(ref.revision) if ref else {}
    new = _files_by_path(revision)
    card = form = problem = ""
    if revision.branch == MAIN and CARD in new:
        try:
            text = card_text(model, new[CARD])
            asked = _form_questions(text)
        except (Invalid, CardRefused) as error:
            problem = str(error)
        else:
            card = _unified_diff(model.card, text)
            form = _unified_diff(_form_questions(model.card), asked)
    return Difference(
        added=[file for path, file in new.items() if path not in old],
        changed=[file for path, file in new.items() if path in old and old[path].sha256 != file.sha256],
        removed=[file for path, file in old.items() if path not in new],
        card=card,
        form=form,
        card_problem=problem,
        licences=_licence_names(model, new) if revision.branch == MAIN else [],
        outrun=_why_outdated(revision, _held_line(revision)[-1].parent, ref.revision if ref else None),
    )


def _files_by_path(revision: Revision) -> dict[str, StoredFile]:
    return {file.path: file for file in revision_files(revision)}


def _form_questions(card: str) -> str:
    """Return a line for each thing that an applicant sees or answers."""
    form = read_card(card).form
    optional = _("%(label)s: %(type)s (optional)")
    asked = [
        f"{field.label}: {field.type}"
        if field.required
        else optional % {"label": field.label, "type": field.type}
        for field in form.fields
    ]
    return "\n".join([form.heading, form.description, form.prompt, *asked, form.button])


def _unified_diff(old: str, new: str) -> str:
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), _("published"), _("uploaded"), lineterm="", n=2
    )
    return "\n".join(list(lines)[:LONGEST_DIFFERENCE])


def _licence_names(model: GatedModel, files: dict[str, StoredFile]) -> list[str]:
    own = own_files(model)
    return [
        path
        for path, file in files.items()
        if (path in own or LIKE_A_LICENCE.match(path))
        and path not in {CARD, GITATTRIBUTES}
        and "/" not in path
        and file.size <= LARGEST_LICENCE
        and (path not in own or file.git_oid != blob_id(own[path]))
    ]


def card_text(model: GatedModel, file: StoredFile) -> str:
    """Return a card's text, from the store or the staging folder."""
    return _file_text(model, file, LARGEST_CARD)


def _file_text(model: GatedModel, file: StoredFile, largest: int) -> str:
    if file.size > largest:
        raise Invalid(
            _("%(path)s is larger than %(largest)s bytes: move long texts into other files.")
            % {"path": file.path, "largest": f"{largest:,}"}
        )
    path = blob_path(file.sha256)
    path = path if path.is_file() else staged_path(model.pk, file.sha256)
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Invalid(
            _("%(path)s is not UTF-8 text (byte %(byte)s): save it as UTF-8.")
            % {"path": file.path, "byte": error.start}
        ) from error


@full_disk_refused()
def publish_upload(
    *, revision: Revision, actor: User | None = None, licences: Collection[str] = (), looked_at: bool = False
) -> Revision:
    """Publish a held revision and those below it: move the branch to it and return the new head.

    On `main`, its README.md becomes the model's card. The portal's licence files stay, except that those named in
    `licences` become texts to accept. If the files then differ from the upload, one more commit on top has them. Emails
    everyone who waits for weights. Refuses files that do not match their names, unless they were already `looked_at`.
    """
    card = None
    if not looked_at:
        branch = Ref.objects.filter(model=revision.model_id, name=revision.branch).select_related("revision")
        head = branch.first()
        check_upload(revision=revision, published=head.revision if head else None)
        card = _read_card(revision)
    with recorded():
        share_store()
        model = GatedModel.objects.select_for_update(no_key=True).get(pk=revision.model_id)
        revision = _held_revision(model, revision.pk)
        line = _held_line(revision)
        base = line[-1].parent
        ref = Ref.objects.filter(model=model, name=revision.branch, is_tag=False).first()
        if ref is None:
            raise Conflict(
                _("%(model)s has no branch %(branch)s any more.")
                % {"model": model.repo_id, "branch": revision.branch}
            )
        if why := _why_outdated(revision, base, ref.revision):
            raise Conflict(why)
        moved = base is None or ref.revision_id != base.pk
        Revision.objects.filter(pk__in=[one.pk for one in line]).update(held_at=None)
        expect_copies()
        for one in line:
            one.held_at = None
        if revision.branch != MAIN:
            Ref.objects.filter(pk=ref.pk).update(revision=revision)
            _note_published(model, revision, actor)
            return revision
        _take_texts(model, revision, licences, actor, card)
        return _publish_on_main(model, revision, ref, moved, actor)


def _held_revision(model: GatedModel, pk: int) -> Revision:
    revision = Revision.objects.select_related("parent", "model").filter(model=model, pk=pk).first()
    if revision is None or revision.held_at is None:
        raise Conflict(_("This revision is not held any more: it was published or discarded."))
    return revision


def _held_line(revision: Revision) -> list[Revision]:
    """Return the revision and the held ones below it, newest first."""
    line = [revision]
    while (below := line[-1].parent) is not None and below.held_at is not None:
        line.append(below)
    return line


def newest_held(ref: Ref) -> Revision | None:
    """Return the newest upload that could be published on the branch's head: the next upload goes on top of it.

    Skip revisions used as weight sources and outdated ones: uploads stacked on them could never be published.
    """
    held = Revision.objects.filter(model=ref.model_id, branch=ref.name, held_at__isnull=False)
    bases: dict[int, int | None] = {}
    for pk, parent in held.order_by("pk").values_list("pk", "parent"):
        bases[pk] = bases.get(parent, parent) if parent else None
    free = list(held.filter(sources=None).order_by("-pk").values_list("pk", flat=True))
    found = next((pk for pk in free if bases[pk] == ref.revision_id), None)
    if found is None and free and _only_own_files_moved(ref.model_id, bases[free[0]], ref.revision_id):
        found = free[0]
    return held.filter(pk=found or 0).first()  # None if it was discarded in the meantime, before any lock


def _why_outdated(revision: Revision, base: Revision | None, now: Revision | None) -> str:
    """Return why the upload is outdated: the branch has moved on from its base; "" if it can be published."""
    if base and now and (base == now or _only_own_files_moved(revision.model_id, base.pk, now.pk)):
        return ""
    return _(
        "The files on %(branch)s have changed since %(commit)s was uploaded: upload again on top of them, and discard "
        "this one."
    ) % {"branch": revision.branch, "commit": revision.commit[:8]}


def _only_own_files_moved(model_id: int, base: int | None, now: int) -> bool:
    """Return whether only the portal's own files differ between the branch and the upload's base."""
    if base is None:
        return False
    model = GatedModel.objects.get(pk=model_id)
    names = LicenceVersion.objects.filter(model=model).values_list("name", flat=True)
    own = {CARD, GITATTRIBUTES, *own_files(model), *names}
    files = RepoFile.objects.order_by().values_list("revision", "path", "blob")
    old, new = ({row[1:] for row in files.filter(revision=one)} for one in (base, now))
    return all(path in own for path, _blob in old ^ new)


def _read_card(revision: Revision) -> ReadCard | None:
    """Return the card that publishing would use, read and rendered before the event log is locked."""
    model = GatedModel.objects.get(pk=revision.model_id)
    file = next((one for one in revision_files(revision) if one.path == CARD), None)
    if revision.branch != MAIN or file is None or file.git_oid == blob_id(model.card.encode()):
        return None
    return prepare_card(card_text(model, file), repo_id=model.repo_id, replaces=model.card)


def _take_texts(
    model: GatedModel,
    revision: Revision,
    licences: Collection[str],
    actor: User | None,
    card: ReadCard | None,
) -> None:
    files = {file.path: file for file in revision_files(revision)}
    if CARD in files and files[CARD].git_oid != blob_id(model.card.encode()):
        if card is None:
            raise Conflict(
                _("The card of %(model)s was changed meanwhile: look at the upload again.")
                % {"model": model.repo_id}
            )
        update_card(model=model, card=card, actor=actor)
    offered = _licence_names(model, files)
    for path in licences:
        if path not in offered:
            raise Invalid(
                _("%(path)r is not a licence text that this upload changes: leave it out.")
                % {"path": path[:200]}
            )
        current = LicenceVersion.objects.filter(model=model, name=path, binding=True, retired_at=None).first()
        language = current.language if current else DEFAULT_LANGUAGE
        text = LicenceText(path, language, _file_text(model, files[path], LARGEST_LICENCE))
        add_licence(model=model, licence=text, actor=actor)


def _publish_on_main(
    model: GatedModel, revision: Revision, ref: Ref, moved: bool, actor: User | None
) -> Revision:
    if revision.recovery_id is None and revision.has_weights:
        now = timezone.now()
        ModelWeights.objects.filter(model=model, replaced_at=None).update(replaced_at=now)
    if moved:
        content = Content(revision.recovery, revision)
        top = publish_content(model=model, content=content, title=revision.title, actor=actor)
    else:
        Ref.objects.filter(pk=ref.pk).update(revision=revision)
        _note_published(model, revision, actor)
        top = publish_revision(model=model, actor=actor)
    if top.has_weights:  # people who wait for them get their emails
        waiting = Delivery.objects.filter(grant__model=model, grant__closed_at=None)
        for grant_id in waiting.exclude(state=DeliveryState.READY).values_list("grant_id", flat=True):
            enqueue_on_commit(DELIVER, grant_id)
    return top


def _note_published(model: GatedModel, revision: Revision, actor: User | None) -> None:
    data = {"commit": revision.commit, "files": revision.files.count(), "branch": revision.branch}
    append_event(kind="revision.published", actor=actor, by="operator", model=model, data=data)


def _lock_to_delete(revisions: Sequence[Revision]) -> None:
    """Lock rows FOR UPDATE, since they are deleted; refuse at once if a new weight source holds one of them.

    A service that adds a source locks the revision before recoveries and models, so waiting for it here could deadlock.
    """
    rows = Revision.objects.select_for_update(nowait=True).filter(pk__in=[one.pk for one in revisions])
    try:
        list(rows.order_by("pk").values_list("pk"))
    except OperationalError as error:
        raise Conflict(
            _("This revision is being added as a source of weights: try again in a moment.")
        ) from error


def discard_upload(*, revision: Revision, actor: User | None = None) -> list[str]:
    """Delete a held revision and those uploaded on top of it; return their commits, newest first."""
    with recorded():
        model = GatedModel.objects.select_for_update(no_key=True).get(pk=revision.model_id)
        gone = [_held_revision(model, revision.pk)]
        while above := list(
            Revision.objects.filter(parent__in=[one.pk for one in gone]).exclude(
                pk__in=[one.pk for one in gone]
            )
        ):
            gone += above
        _lock_to_delete(gone)
        commits = [one.commit for one in sorted(gone, key=lambda one: -one.pk)]
        try:
            for one in sorted(gone, key=lambda one: -one.pk):
                one.delete()
        except ProtectedError as error:
            raise Conflict(
                _("%(revision)s is a source of weights: it stays as long as they are made from it.")
                % {"revision": revision}
            ) from error
        append_event(
            kind="revision.discarded",
            actor=actor,
            by="operator",
            model=model,
            data={"commits": commits},
        )
    return commits
