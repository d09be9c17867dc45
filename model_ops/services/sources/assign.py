"""Give namespaces folders on the server, and repositories for the portal's Hub token; for superusers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.translation import gettext as _

from access_requests.errors import Conflict, Invalid, NotAllowed, NotFound
from access_requests.ids import is_remote_id
from access_requests.services.catalogue.gated_models import check_namespace
from access_requests.services.event_log.append import append_event, recorded
from model_ops.enums import SourceKind
from model_ops.models import AllowedRepository, AssignedFolder, ModelWeights
from model_ops.services.sources.rights import folders_of, is_listed, is_of_portal, real_path

if TYPE_CHECKING:
    from portal.accounts.models import User

SNAPSHOTS = "snapshots"  # of a Hub cache: links to files in `blobs` next to it


def check_assignment(*, path: str, namespace: str) -> tuple[Path, str]:
    """Return the folder's real path and the namespace as they would be stored; raises `Invalid` or `Conflict`."""
    namespace = _checked_namespace(namespace)
    folder = real_path(path.strip())
    if folder is None or len(str(folder)) > 1000:
        raise Invalid(
            _("%(path)r is not an absolute path without '..': write it in full.") % {"path": path[:300]},
            field="path",
        )
    if not is_listed(folder):
        raise Invalid(
            _(
                "%(folder)s is not at or below a folder of GATEHOUSE_SOURCES: choose one that is, or add it there."
            )
            % {"folder": folder},
            field="path",
        )
    if not folder.is_dir():
        raise Invalid(
            _("%(folder)s is not an existing folder: check its name.") % {"folder": folder}, field="path"
        )
    if is_of_portal(folder):
        raise Invalid(
            _("%(folder)s holds the portal's own state, or lies in it: choose another.") % {"folder": folder},
            field="path",
        )
    if SNAPSHOTS in (folder.name, folder.parent.name):
        raise Invalid(
            _(
                "%(folder)s is part of a Hub cache, whose files lie in 'blobs' beside %(snapshots)s: assign the folder "
                "above both."
            )
            % {"folder": folder, "snapshots": SNAPSHOTS},
            field="path",
        )
    if AssignedFolder.objects.filter(path=str(folder), namespace__iexact=namespace).exists():
        raise Conflict(
            _("%(folder)s is already assigned to %(namespace)s.")
            % {"folder": folder, "namespace": namespace},
            field="path",
        )
    return folder, namespace


def assign_folder(*, path: str, namespace: str, actor: User | None = None) -> AssignedFolder:
    """Let owners in the namespace name the folder, and every folder below it, as a weight source."""
    _check_superuser(actor)
    with recorded():
        folder, namespace = check_assignment(path=path, namespace=namespace)
        assigned = AssignedFolder.objects.create(path=str(folder), namespace=namespace, assigned_by=actor)
        _record_change("source.assigned", actor, {"folder": assigned.path, "namespace": namespace})
    return assigned


def withdraw_folder(*, assigned: AssignedFolder, actor: User | None = None) -> None:
    """End an assignment. Existing weights stay; a recovery that has not started is refused."""
    _check_superuser(actor)
    with recorded():
        AssignedFolder.objects.filter(pk=assigned.pk).delete()
        _record_change("source.withdrawn", actor, {"folder": assigned.path, "namespace": assigned.namespace})


def others_who_may(assigned: AssignedFolder) -> list[AssignedFolder]:
    """Return the assignments to other namespaces that overlap with this one, for the superuser to know."""
    folder = Path(assigned.path)
    others = AssignedFolder.objects.exclude(namespace__iexact=assigned.namespace)
    return [
        other
        for other in others
        if folder.is_relative_to(other.path) or Path(other.path).is_relative_to(folder)
    ]


def check_allowance(*, repo_id: str, namespace: str) -> tuple[str, str]:
    """Return repository id and namespace as they would be stored; raises `Invalid` or `Conflict`."""
    repo_id = repo_id.strip().removeprefix("hf:")
    namespace = _checked_namespace(namespace) if namespace.strip() else ""
    if not is_remote_id(repo_id):
        raise Invalid(
            _("%(repository)r is not a repository id: write NAMESPACE/NAME.") % {"repository": repo_id[:300]},
            field="repo_id",
        )
    if _find_allowed(repo_id, namespace):
        if namespace:
            why = _("%(repository)s is allowed for %(namespace)s already.")
        else:
            why = _("%(repository)s is allowed for every namespace already.")
        raise Conflict(why % {"repository": repo_id, "namespace": namespace}, field="repo_id")
    return repo_id, namespace


def allow_repository(*, repo_id: str, namespace: str = "", actor: User | None = None) -> AllowedRepository:
    """Let the portal's Hub token be used for the repository when an owner in the namespace (empty: any) names it."""
    _check_superuser(actor)
    with recorded():
        repo_id, namespace = check_allowance(repo_id=repo_id, namespace=namespace)
        allowed = AllowedRepository.objects.create(
            endpoint=settings.GATEHOUSE_HUB_ENDPOINT, repo_id=repo_id, namespace=namespace, allowed_by=actor
        )
        _record_change("repository.allowed", actor, _allowance_facts(allowed))
    return allowed


def withdraw_repository(*, allowed: AllowedRepository, actor: User | None = None) -> None:
    """End an allowance. Fetched files and existing weights stay; a fetch that has not started is refused."""
    _check_superuser(actor)
    with recorded():
        AllowedRepository.objects.filter(pk=allowed.pk).delete()
        _record_change("repository.withdrawn", actor, _allowance_facts(allowed))


def find_assignment(*, path: str, namespace: str) -> AssignedFolder:
    """Return the assignment. Raises `NotFound`. The path is compared as stored, whatever is there now."""
    found = AssignedFolder.objects.filter(path=path.rstrip("/") or "/", namespace__iexact=namespace).first()
    if found is None:
        raise NotFound(
            f"{path[:300]} is not assigned to {namespace[:96]}: see what is with source_rights list."
        )
    return found


def find_allowance(*, repo_id: str, namespace: str = "") -> AllowedRepository:
    """Return the allowance for exactly that namespace (empty: all). Raises `NotFound`."""
    found = _find_allowed(repo_id.removeprefix("hf:"), namespace)
    if found is None:
        where = namespace[:96] or "every namespace"
        raise NotFound(f"{repo_id[:300]} is not allowed for {where}: see what is with source_rights list.")
    return found


def folders_without_assignment() -> list[tuple[str, str]]:
    """Return (folder, model) for models whose current weights come from a folder not assigned to their namespace."""
    current = ModelWeights.objects.filter(replaced_at=None).select_related(
        "model", "recovery__base", "recovery__diff", "recovery__files"
    )
    found = []
    for weights in current.order_by("model__repo_id"):
        roots = folders_of(weights.model.namespace)
        for source in (weights.recovery.base, weights.recovery.diff, weights.recovery.files):
            if source is None or source.kind != SourceKind.FOLDER:
                continue
            if not any(Path(source.spec).is_relative_to(root) for root in roots):
                found.append((source.spec, weights.model.repo_id))
    return found


def _find_allowed(repo_id: str, namespace: str) -> AllowedRepository | None:
    return AllowedRepository.objects.filter(
        endpoint=settings.GATEHOUSE_HUB_ENDPOINT, repo_id__iexact=repo_id, namespace__iexact=namespace
    ).first()


def _checked_namespace(namespace: str) -> str:
    namespace = namespace.strip().rstrip("/")
    try:
        check_namespace(namespace)
    except Invalid as error:
        raise Invalid(
            _("%(namespace)r is not a namespace: write the part of a model's id before the slash.")
            % {"namespace": namespace[:96]},
            field="namespace",
        ) from error
    return namespace


def _check_superuser(actor: User | None) -> None:
    if actor is not None and not (actor.is_active and actor.is_superuser):
        raise NotAllowed(_("Only a superuser assigns folders and allows repositories."))


def _allowance_facts(allowed: AllowedRepository) -> dict[str, str]:
    return {"hub": allowed.endpoint, "repository": allowed.repo_id, "namespace": allowed.namespace}


def _record_change(kind: str, actor: User | None, data: dict[str, str]) -> None:
    append_event(kind=kind, actor=actor, by="operator", data=data)
