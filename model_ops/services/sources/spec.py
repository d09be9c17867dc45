"""Resolve weight sources: a folder on the server, a Hub repository at a commit, or an uploaded revision."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.errors import Invalid
from access_requests.ids import GIT_ID, REMOTE_ID, is_remote_id
from model_ops.enums import SourceKind
from model_ops.models import WeightSource
from model_ops.recovery.errors import RecoveryError
from model_ops.recovery.formats.folder import LOADED_SUFFIXES
from model_ops.recovery.inspection.folder import inspect_folder
from model_ops.recovery.inspection.folders import judge_link
from model_ops.recovery.inspection.listing import judge_listing
from model_ops.remote_hub import errors
from model_ops.services.sources.rights import (
    check_folder_named,
    is_bound,
    is_in_place,
    is_of_portal,
    may_use_token,
    owns_in,
)
from model_ops.services.sources.upload import PREFIX, laid_out_folder, resolve_upload

if TYPE_CHECKING:
    from portal.accounts.models import User

HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?\Z")
# The ways to write a source, for sentences that list them.
WAYS = {
    "hub": "hf:REPO_ID@REVISION",
    "other_hub": "hf+https://HOST/REPO_ID@REVISION",
    "upload": "gatehouse:REPO_ID@COMMIT",
}
NO_PATH = gettext_lazy(
    "The weight source %(source)r is not a folder's path: write a folder, %(hub)s, %(other_hub)s or %(upload)s."
)
OWN_STORE = gettext_lazy(
    "The folder %(folder)s belongs to the portal's own store: give the folder the weights came from."
)


@dataclass(frozen=True)
class HubSpec:
    """One repository at a revision on one endpoint, as it was written."""

    endpoint: str
    repo_id: str
    revision: str
    prefix: str  # the text before the repository's id


def resolve_source(
    *,
    text: str,
    role: str = "files",
    in_admin: bool = False,
    actor: User | None = None,
    namespace: str = "",
) -> WeightSource:
    """Return the stored source that `text` names now: a folder as it is, or the revision's commit.

    `role` is base, diff or files. The admin only accepts folders below `GATEHOUSE_SOURCES`, the portal's own Hub endpoint,
    and revisions of models that `actor` owns; owners who are not superusers may only use what is assigned to
    `namespace`, that of the model (see `rights`).
    """
    bound = is_bound(actor, in_admin=in_admin)
    text = text.strip()
    if not text:
        raise Invalid(
            _("No weight source was given: write a folder, %(hub)s, %(other_hub)s or %(upload)s.") % WAYS
        )
    if text.startswith(PREFIX):
        return resolve_upload(text=text, in_admin=in_admin, actor=actor)
    if text.startswith(("hf:", "hf+")):
        spec = parse_hub(text, in_admin=in_admin)
        with_token = not bound
        if (
            bound
        ):  # the portal's token only if that was allowed; an allowance is only for owners of its namespace
            scope = namespace if owns_in(actor, namespace) else ""
            with_token = may_use_token(endpoint=spec.endpoint, repo_id=spec.repo_id, namespace=scope)
        return _resolve_hub(spec, role, with_token=with_token)
    if bound:
        folder = check_folder_named(text=text, namespace=namespace, actor=actor)
    else:
        folder = check_folder(text, in_admin=in_admin)
    return _resolve_folder(_check_usable(text, folder), role, bound=bound)


def check_folder(text: str, *, in_admin: bool) -> Path:
    """Return the folder's real path for an operator, or for a superuser in the admin."""
    try:
        folder = Path(text).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise Invalid(NO_PATH % {"source": text, **WAYS}) from error
    if in_admin and not any(folder.is_relative_to(root) for root in settings.GATEHOUSE_SOURCES):
        raise Invalid(
            _(
                "The folder %(folder)s is not below GATEHOUSE_SOURCES: only folders listed there can be chosen in the "
                "admin; an operator can add others with manage.py add_model."
            )
            % {"folder": text}
        )
    if in_admin and is_of_portal(folder):
        raise Invalid(OWN_STORE % {"folder": text})
    return folder


def _check_usable(text: str, folder: Path) -> Path:
    """Return the folder. Refuses anything that is not a folder, and the portal's own state."""
    try:
        is_folder = folder.is_dir()
    except (OSError, ValueError) as error:
        raise Invalid(NO_PATH % {"source": text, **WAYS}) from error
    if not is_folder and folder.is_file():
        raise Invalid(
            _("The weight source %(source)s is a file. Name the folder that it is in: %(folder)s.")
            % {"source": text, "folder": folder.parent}
        )
    if not is_folder and "/" in text and REMOTE_ID.fullmatch(text):
        raise Invalid(
            _(
                "The weight source %(source)s is not an existing folder. If it is a repository on the Hub, write "
                "hf:%(source)s@main."
            )
            % {"source": text}
        )
    if not is_folder:
        raise Invalid(
            _(
                "The weight source %(source)s is not an existing folder: write a folder, %(hub)s, %(other_hub)s or "
                "%(upload)s."
            )
            % {"source": text, **WAYS}
        )
    if folder.is_relative_to(settings.WEIGHTS_ROOT.resolve()):
        raise Invalid(OWN_STORE % {"folder": text})
    return folder


def parse_hub(text: str, *, in_admin: bool = False) -> HubSpec:
    """Read `hf:REPO_ID@REVISION` or `hf+https://HOST/REPO_ID@REVISION`; plain http only for this machine."""
    name, at, revision = text.rpartition("@")
    if not at or not revision or any(c.isspace() or not c.isprintable() for c in text):
        raise Invalid(
            _("The weight source %(source)r names no revision: write hf:REPO_ID@REVISION.") % {"source": text}
        )
    if name.startswith("hf:"):
        endpoint, repo_id, prefix = settings.GATEHOUSE_HUB_ENDPOINT, name.removeprefix("hf:"), "hf:"
    else:
        endpoint, repo_id = _split_address(text, name.removeprefix("hf+"))
        prefix = f"hf+{endpoint}/"
        if in_admin and endpoint != settings.GATEHOUSE_HUB_ENDPOINT:
            raise Invalid(
                _("Hubs other than %(hub)s can only be named on the command line.")
                % {"hub": settings.GATEHOUSE_HUB_ENDPOINT}
            )
    if not is_remote_id(repo_id):
        raise Invalid(
            _("The weight source %(source)r holds no repository id: write it as namespace/name@REVISION.")
            % {"source": text}
        )
    return HubSpec(endpoint, repo_id, revision, prefix)


def _split_address(text: str, address: str) -> tuple[str, str]:
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        is_safe = parts.scheme == "https" or (
            parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
        )
        known = is_safe and HOST.match(parts.netloc) and not parts.query
    except ValueError:
        known = None
    if not known:
        raise Invalid(
            _(
                "The weight source %(source)r is not valid: name a folder, %(hub)s, %(other_hub)s or %(upload)s."
            )
            % {"source": text, **WAYS}
        )
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/")


def _resolve_folder(folder: Path, role: str, *, bound: bool) -> WeightSource:
    files = list_files(folder, bound=bound)
    if not any(path.endswith(LOADED_SUFFIXES) for path in files):
        try:
            inspect_folder(folder, role)
        except RecoveryError as error:
            if role != "files":
                raise Invalid(str(error)) from error
        raise Invalid(
            _("The folder %(folder)s holds no weight file: expected *.safetensors or *.bin in it.")
            % {"folder": folder}
        )
    source, _created = WeightSource.objects.get_or_create(
        spec=str(folder), fingerprint=fingerprint(files), defaults={"kind": SourceKind.FOLDER}
    )
    return source


def list_files(folder: Path, *, bound: bool = False) -> dict[str, tuple[int, int]]:
    """Return path in the folder -> (bytes, change time in ns); hidden files and folders are not part of a model.

    Refuses links out of the folder and anything that is neither file nor folder. In `bound` folders, which owners named,
    it also refuses files with another name outside the folder (hard links), since they may never have been assigned.
    """
    found: dict[str, tuple[int, int]] = {}
    linked: dict[str, os.stat_result] = {}
    try:
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if any(part.startswith(".") for part in relative.parts) or (
                path.is_dir() and not path.is_symlink()
            ):
                continue
            _check_entry(folder, path, str(relative), bound=bound)
            stat = path.stat()
            found[relative.as_posix()] = (stat.st_size, stat.st_mtime_ns)
            if stat.st_nlink > 1 and not path.is_symlink():
                linked[str(path)] = stat
    except OSError as error:
        raise Invalid(
            _("The folder %(folder)s cannot be read: %(error)s.")
            % {"folder": folder, "error": error.strerror or error}
        ) from error
    if bound:
        names = Counter((stat.st_dev, stat.st_ino) for stat in linked.values())
        for name, stat in linked.items():
            if names[stat.st_dev, stat.st_ino] < stat.st_nlink:
                raise Invalid(
                    _("%(path)s is a hard link to a file outside the folder: put a copy in its place.")
                    % {"path": name}
                )
    return found


def _check_entry(folder: Path, path: Path, name: str, *, bound: bool) -> None:
    if not name.isprintable() or "\\" in name or len(name) > 500:
        raise Invalid(
            _("The folder %(folder)s holds a file with an unusable name, %(name)r: rename it.")
            % {"folder": folder, "name": name[:100]}
        )
    leads_out = False
    if path.is_symlink():
        try:
            leads_out = not _is_inside(folder, path.resolve())
        except (OSError, RuntimeError):  # the link leads back to itself
            leads_out = True
    if bound and leads_out:  # reveal nothing about the target, not even whether it exists
        raise Invalid(
            _("%(path)s is a link out of the model's folder: put the file in its place.") % {"path": path}
        )
    if why := judge_link(path, "files"):
        raise Invalid(f"{path} {why}")
    if not path.is_file():
        raise Invalid(
            _("%(path)s is a broken link or not a regular file: remove it or put the file in its place.")
            % {"path": path}
        )
    if leads_out:
        raise Invalid(
            _("%(path)s is a link to %(target)s, outside the model's folder: put the file in its place.")
            % {"path": path, "target": path.resolve()}
        )


def _is_inside(folder: Path, target: Path) -> bool:
    """Return whether a file is below the folder, or in the store of a Hub cache, `../../blobs` of a snapshot."""
    repository = folder.parent.parent
    cached = folder.parent.name == "snapshots" and target.is_relative_to(repository / "blobs")
    return cached or target.is_relative_to(folder)


def check_inside(folder: Path, path: Path, descriptor: int) -> None:
    """Refuse an open file that is outside the folder (a real path), whatever its name pointed to before.

    Linux shows where an open file is; elsewhere only the earlier check of links applies.
    """
    try:
        real = Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        return
    if not _is_inside(folder, real):
        raise Invalid(f"{path} is a link out of the model's folder: put the file in its place.")


def fingerprint(files: dict[str, tuple[int, int]]) -> str:
    """Return SHA-256 of names, sizes and change times: any write to the folder changes it."""
    lines = "".join(f"{path}\0{size}\0{changed}\n" for path, (size, changed) in sorted(files.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def check_unchanged(source: WeightSource, *, bound: bool = False) -> dict[str, tuple[int, int]]:
    """Return the folder's files if they are unchanged since the check; else refuse and say what to do.

    `bound` is the same as for `list_files`. If a part of the path has become a link, it may lead to another folder.
    """
    folder = Path(source.spec)
    if not folder.is_dir():
        raise Invalid(
            f"The folder {folder} is gone: put it back, or choose another with manage.py update_model."
        )
    if not is_in_place(folder):
        raise Invalid(
            f"The folder {folder} is, or lies behind, a link by now: put the folder back, or choose another with "
            "manage.py update_model."
        )
    files = list_files(folder, bound=bound)
    if fingerprint(files) != source.fingerprint:
        raise Invalid(
            f"The folder {folder} has changed since it was added: look at it and run manage.py update_model."
        )
    return files


def hub_token(endpoint: str, *, allowed: bool = True) -> str | bool:
    """Return the portal's token for its own endpoint if it is `allowed`, else False; never the user's stored token."""
    own = endpoint == settings.GATEHOUSE_HUB_ENDPOINT
    return settings.GATEHOUSE_HUB_TOKEN if own and allowed and settings.GATEHOUSE_HUB_TOKEN else False


def is_withheld(endpoint: str, *, allowed: bool) -> bool:
    """Return whether there is a token for that endpoint that no superuser has allowed for the repository."""
    return not allowed and bool(hub_token(endpoint))


def _resolve_hub(spec: HubSpec, role: str, *, with_token: bool) -> WeightSource:
    commit = resolve_commit(spec, role, with_token=with_token)
    source, _created = WeightSource.objects.get_or_create(
        spec=f"{spec.prefix}{spec.repo_id}@{commit}",
        fingerprint="",
        with_token=with_token,
        defaults={
            "kind": SourceKind.HUB,
            "endpoint": spec.endpoint,
            "repo_id": spec.repo_id,
            "commit": commit,
        },
    )
    return source


def resolve_commit(spec: HubSpec, role: str = "files", *, with_token: bool = True) -> str:
    """Return the revision's commit, from the endpoint; every failure is one sentence."""
    from huggingface_hub import HfApi

    from model_ops.remote_hub import limits

    token = hub_token(spec.endpoint, allowed=with_token)
    try:
        with limits.limited_to(spec.endpoint, settings.GATEHOUSE_HUB_REDIRECTS):
            api = HfApi(endpoint=spec.endpoint, token=token)
            info = api.model_info(spec.repo_id, revision=spec.revision, timeout=20)
            api.auth_check(spec.repo_id)  # the listing of a gated repository is public, its files are not
    except Exception as error:
        raise Invalid(refusal(spec, error, with_token=with_token)) from error
    place = {"repository": spec.repo_id, "hub": spec.endpoint}
    if not info.sha or not GIT_ID.fullmatch(info.sha):
        raise Invalid(
            _("%(repository)s at %(hub)s gave no commit for the revision: it does not answer as a Hub does.")
            % place
        )
    files = [sibling.rfilename for sibling in info.siblings or []]
    if not any(path.endswith(LOADED_SUFFIXES) for path in files):
        raise Invalid(
            _("%(repository)s at %(hub)s holds no weight file: expected *.safetensors or *.bin in it.")
            % place
        )
    if role != "files" and (why := judge_listing(files, role)):
        raise Invalid(f"{spec.repo_id} at {spec.endpoint}: {why}")
    return info.sha


def refusal(spec: HubSpec, error: Exception, *, with_token: bool = True) -> str:
    """Return the remote's refusal in one sentence."""
    return errors.refused_because(
        error,
        repo_id=spec.repo_id,
        endpoint=spec.endpoint,
        revision=spec.revision,
        own=spec.endpoint == settings.GATEHOUSE_HUB_ENDPOINT,
        token=bool(hub_token(spec.endpoint, allowed=with_token)),
        withheld=is_withheld(spec.endpoint, allowed=with_token),
    )


def fetched_folder(source: WeightSource) -> Path:
    """Return the folder of the source's files, also if they are not fetched yet.

    Files fetched without the portal's token have a separate folder: an owner who may not use the token must not get files
    that another owner fetched with it.
    """
    if source.kind == SourceKind.FOLDER:
        return Path(source.spec)
    if source.kind == SourceKind.UPLOAD:
        return laid_out_folder(source)
    host = re.sub(r"[^A-Za-z0-9.-]", "_", urlsplit(source.endpoint).netloc)
    host = host if source.with_token else f"{host}+open"
    return Path(settings.WEIGHTS_ROOT) / "sources" / host / source.repo_id.replace("/", "--") / source.commit
