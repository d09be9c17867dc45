"""Check who may name which weight source: superusers and operators any, owners only those of their namespace.

Superusers give sources to the namespace of the model. Rights are checked when a source is named, when it is attached to
a model, and again by the worker before anything is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Q
from django.utils.translation import gettext as _

from access_requests.access.permissions import is_owner, is_person
from access_requests.enums import Role
from access_requests.errors import Invalid, NotAllowed
from access_requests.models import GatedModel, ModelRole
from model_ops.enums import SourceKind
from model_ops.models import AllowedRepository, AssignedFolder, Recovery, WeightSource

if TYPE_CHECKING:
    from portal.accounts.models import User

SHOWN = 300  # characters of the input that a refusal repeats


def is_bound(actor: User | None, *, in_admin: bool) -> bool:
    """Return whether the sources that this person may name are limited to those of a namespace.

    Outside the admin they are named by an operator, who has a shell on the server.
    """
    return in_admin and not (actor is not None and is_person(actor) and actor.is_superuser)


def owns_in(user: User | None, namespace: str) -> bool:
    """Return whether the person owns a model in the namespace."""
    roles = ModelRole.objects.filter(role=Role.OWNER, model__repo_id__istartswith=f"{namespace}/")
    return bool(namespace) and is_person(user) and roles.filter(user=user).exists()


def namespaces_of(user: User) -> list[str]:
    """Return the namespaces in which the person owns a model, in lower case, sorted."""
    owned = ModelRole.objects.filter(role=Role.OWNER, user=user).values_list("model__repo_id", flat=True)
    return sorted({repo_id.partition("/")[0].lower() for repo_id in owned})


def check_may_add(*, repo_id: str, actor: User | None) -> None:
    """Refuse to add a model to someone else's namespace: its owners could use the sources assigned there."""
    namespace = repo_id.partition("/")[0]
    if actor is None or actor.is_superuser or owns_in(actor, namespace):
        return
    taken = (
        GatedModel.objects.filter(repo_id__istartswith=f"{namespace}/"),
        AssignedFolder.objects.filter(namespace__iexact=namespace),
        AllowedRepository.objects.filter(namespace__iexact=namespace),
    )
    if any(rows.exists() for rows in taken):
        raise NotAllowed(
            _(
                "You own no model in %(namespace)s: ask a superuser to add the first one there and to make you its "
                "owner."
            )
            % {"namespace": namespace[:96]},
            field="repo_id",
        )


def folders_of(namespace: str) -> list[Path]:
    """Return the folders assigned to the namespace that are unchanged since then.

    One that has become a link, or is no longer below `GATEHOUSE_SOURCES`, does not count.
    """
    rows = AssignedFolder.objects.filter(namespace__iexact=namespace).order_by("path")
    return [folder for row in rows if is_listed(folder := Path(row.path)) and is_in_place(folder)]


def is_listed(folder: Path) -> bool:
    """Return whether a folder is at or below one of `GATEHOUSE_SOURCES`, compared part by part."""
    return any(folder.is_relative_to(root) for root in settings.GATEHOUSE_SOURCES)


def is_in_place(folder: Path) -> bool:
    """Return whether no part of the path is a link."""
    return os.path.realpath(folder) == str(folder)


def is_of_portal(folder: Path) -> bool:
    """Return whether the folder contains the portal's own state, or is inside it."""
    own = (Path(settings.GATEHOUSE_STATE).resolve(), Path(settings.WEIGHTS_ROOT).resolve())
    return any(folder.is_relative_to(one) or one.is_relative_to(folder) for one in own)


def check_folder_named(*, text: str, namespace: str, actor: User | None) -> Path:
    """Return the real path of a folder that an owner names.

    Raises `Invalid` with the same sentence for everything else, whether it exists, is a link or a file: the answer must
    reveal nothing about the rest of the disk.
    """
    folder = real_path(text)
    roots = folders_of(namespace) if owns_in(actor, namespace) else []
    if folder is not None and not is_of_portal(folder) and any(folder.is_relative_to(root) for root in roots):
        return folder
    if roots:
        why = _(
            "The folder %(folder)r is not allowed here. Folders assigned to %(namespace)s: %(folders)s. Name one at or "
            "below these, or ask a superuser to assign another."
        )
    elif namespace:
        why = _(
            "The folder %(folder)r is not allowed here. No folder is assigned to %(namespace)s for you: ask a "
            "superuser to assign one."
        )
    else:
        why = _(
            "The folder %(folder)r is not allowed here. No folder is assigned to this namespace for you: ask a "
            "superuser to assign one."
        )
    folders = ", ".join(str(root) for root in roots)
    raise Invalid(
        why
        % {"folder": text[:SHOWN], "namespace": namespace if roots else namespace[:96], "folders": folders}
    )


def real_path(text: str) -> Path | None:
    """Return the path after following every link; None for a path that is relative, climbs, or cannot be followed."""
    path = Path(text)
    if not path.is_absolute() or ".." in path.parts:
        return None
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return None


def may_use_token(*, endpoint: str, repo_id: str, namespace: str) -> bool:
    """Return whether a superuser allowed the portal's Hub token for that repository and models of the namespace."""
    scope = Q(namespace="") | Q(namespace__iexact=namespace)
    return AllowedRepository.objects.filter(scope, endpoint=endpoint, repo_id__iexact=repo_id).exists()


def check_attached(*, sources: Iterable[WeightSource], model: GatedModel, actor: User | None) -> bool:
    """Refuse sources that this person may not give this model; return whether an owner named them.

    Without an actor, an operator named them.
    """
    bound = is_bound(actor, in_admin=actor is not None)
    if bound and not is_owner(actor, model):
        raise NotAllowed(_("You do not own %(model)s: you cannot choose its weights.") % {"model": model})
    for source in sources if bound else ():
        if why := _why_not(source, model.namespace):
            raise Invalid(why)
        if source.kind == SourceKind.UPLOAD and not is_owner(actor, source.revision.model):  # type: ignore[union-attr]
            raise Invalid(
                _("The weight source %(source)s does not belong to a model that you own: check its name.")
                % {"source": source.spec}
            )
    return bound


def check_use(recovery: Recovery) -> bool:
    """Refuse to read sources whose owners have lost the right; return whether only owners named them.

    One model with the right is enough: models with the same inputs share a recovery.
    """
    links = recovery.weights.filter(replaced_at=None).select_related("model")
    if not links or not all(link.by_owner for link in links):
        return False
    sources = [source for source in (recovery.base, recovery.diff, recovery.files) if source]
    reasons = []  # for each model the first one, "" if it may use them all
    for link in links:
        why = (_why_not(source, link.model.namespace) for source in sources)
        reasons.append(next(filter(None, why), ""))
    if all(reasons):
        raise Invalid(reasons[0])
    return True


def _why_not(source: WeightSource, namespace: str) -> str:
    """Return why models of the namespace may not use the source, else ""."""
    if source.kind == SourceKind.FOLDER:
        folder = Path(source.spec)
        if is_of_portal(folder) or not any(folder.is_relative_to(root) for root in folders_of(namespace)):
            return _(
                "The folder %(folder)s is not assigned to %(namespace)s: ask a superuser to assign it, then try again."
            ) % {"folder": folder, "namespace": namespace}
    own = source.endpoint == settings.GATEHOUSE_HUB_ENDPOINT
    if source.kind == SourceKind.HUB and source.with_token and own:
        fields: dict[str, Any] = {"endpoint": source.endpoint, "repo_id": source.repo_id}
        if not may_use_token(**fields, namespace=namespace):
            return _(
                "%(repository)s is not allowed for %(namespace)s with the portal's Hub token: ask a superuser to allow "
                "it, then try again."
            ) % {"repository": source.repo_id, "namespace": namespace}
    return ""
