"""Use an uploaded revision as a source of weights: `gatehouse:REPO_ID@COMMIT`."""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from access_requests.access.catalogue import find_model
from access_requests.access.permissions import is_owner
from access_requests.errors import Invalid
from model_ops.enums import SourceKind
from model_ops.models import Revision, WeightSource
from model_ops.services.store.blobs import blob_path

if TYPE_CHECKING:
    from portal.accounts.models import User

PREFIX = "gatehouse:"
SPEC = re.compile(r"gatehouse:([^@\s]+)@([0-9a-f]{40})")


def resolve_upload(*, text: str, in_admin: bool, actor: User | None) -> WeightSource:
    """Return the stored source; in the admin, only revisions of models that the person owns are allowed."""
    found = SPEC.fullmatch(text)
    if found is None:
        raise Invalid(
            _(
                "The weight source %(source)r cannot be read: write gatehouse:REPO_ID@COMMIT with a commit's 40 "
                "digits."
            )
            % {"source": text[:300]}
        )
    model = find_model(found[1])
    if model is None or (in_admin and not is_owner(actor, model)):
        raise Invalid(
            _("The weight source %(source)s does not belong to a model that you own: check its name.")
            % {"source": text}
        )
    revision = Revision.objects.filter(model=model, commit=found[2]).first()
    if revision is None:
        raise Invalid(
            _("%(model)s has no commit %(commit)s: look it up among its revisions.")
            % {"model": model.repo_id, "commit": found[2]}
        )
    if not revision.has_weights:
        raise Invalid(
            _("%(revision)s holds no weight file: expected *.safetensors or *.bin in it.")
            % {"revision": revision}
        )
    spec = f"{PREFIX}{model.repo_id}@{revision.commit}"
    fields = {
        "kind": SourceKind.UPLOAD, "repo_id": model.repo_id, "commit": revision.commit, "revision": revision,
    }  # fmt: skip
    with transaction.atomic():
        if not Revision.objects.select_for_update(no_key=True).filter(pk=revision.pk).exists():
            raise Invalid(
                _("%(model)s has no commit %(commit)s any more: it was discarded.")
                % {"model": model.repo_id, "commit": found[2]}
            )
        source, _created = WeightSource.objects.get_or_create(
            spec=spec, fingerprint="", with_token=True, defaults=fields
        )
    lay_out(source)
    return source


def laid_out_folder(source: WeightSource) -> Path:
    return Path(settings.WEIGHTS_ROOT) / "sources" / "uploads" / str(source.revision_id)


def lay_out(source: WeightSource) -> Path:
    """Lay out the revision's files under their names, as hard links to the stored contents, without copies."""
    folder = laid_out_folder(source)
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir(parents=True)
        for path, blob in source.revision.files.values_list("path", "blob_id"):  # type: ignore[union-attr]
            target = partial / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(blob_path(blob))
        partial.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # another process was faster
            raise Invalid(
                _("The files of %(source)s cannot be read on this server (%(error)s): tell the operator.")
                % {"source": source.spec, "error": error.strerror}
            ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
