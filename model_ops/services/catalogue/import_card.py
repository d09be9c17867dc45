"""Import a card from another Hub, with its gate form, its licence files, and its kind of gate."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from access_requests.enums import Gate
from access_requests.errors import Invalid
from access_requests.models import GatedModel
from access_requests.services.catalogue.edit import change_some_settings
from access_requests.services.catalogue.gated_models import LicenceText
from access_requests.services.event_log.append import recorded
from access_requests.services.locks import share_store
from model_ops.models import Revision
from model_ops.services.catalogue.add_model import update_model
from model_ops.services.revisions import licence_files
from model_ops.services.sources.spec import HubSpec, hub_token, parse_hub, refusal

if TYPE_CHECKING:
    from portal.accounts.models import User

CARD = "README.md"
MOST_LICENCES = 20
GATES = {"auto": Gate.AUTO, "manual": Gate.MANUAL}


@dataclass(frozen=True)
class Imported:
    """A repository's card at a commit; `gate` is empty if the repository is not gated."""

    origin: str
    card: str
    licences: list[LicenceText]
    gate: str


def import_card(*, text: str, in_admin: bool = False) -> Imported:
    """Read `hf:REPO_ID[@REVISION]` (default `main`) from its Hub; every refusal is one sentence.

    Card and licence files of a gated repository are public there, so this needs no access.
    """
    from huggingface_hub import HfApi

    from model_ops.remote_hub import limits

    text = text.strip()
    if not text.startswith(("hf:", "hf+")):
        raise Invalid(f"A card cannot be imported from {text!r}: write hf:REPO_ID or hf:REPO_ID@REVISION.")
    spec = parse_hub(text if "@" in text else f"{text}@main", in_admin=in_admin)
    only_there = limits.limited_to(spec.endpoint, settings.GATEHOUSE_HUB_REDIRECTS)
    try:
        with only_there, tempfile.TemporaryDirectory(prefix="card-") as folder:
            api = HfApi(endpoint=spec.endpoint, token=hub_token(spec.endpoint))
            info = api.model_info(spec.repo_id, revision=spec.revision, files_metadata=True, timeout=20)
            sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
            wanted = _files_to_fetch(spec, sizes)
            for path in wanted:
                api.hf_hub_download(spec.repo_id, path, revision=info.sha, local_dir=folder)
            card_file = Path(folder) / CARD
            card = licence_files.read_text(card_file, "card")
            found = licence_files.licences_beside(card_file) if len(wanted) > 1 else []
            gate = GATES.get(info.gated, "") if isinstance(info.gated, str) else ""
    except Invalid:
        raise
    except Exception as error:
        raise Invalid(refusal(spec, error)) from error
    return Imported(f"{spec.prefix}{spec.repo_id}@{info.sha}", card, found, gate)


def _files_to_fetch(spec: HubSpec, sizes: dict[str, int]) -> list[str]:
    """Return the card and the files in the root that are named like a licence."""
    name = f"{spec.repo_id} at {spec.endpoint}"
    if CARD not in sizes:
        raise Invalid(f"{name} has no {CARD}: there is no card to import.")
    texts = sorted(path for path in sizes if "/" not in path and licence_files.is_licence(Path(path)))
    if len(texts) > MOST_LICENCES:
        raise Invalid(f"{name} holds {len(texts)} licence files: name the ones to use with --licence.")
    for path in (CARD, *texts):
        if sizes[path] > licence_files.LARGEST:
            raise Invalid(f"{path} of {name} is larger than {licence_files.LARGEST:,} bytes: it is no text.")
    return [CARD, *texts]


def differences(*, model: GatedModel, imported: Imported, texts: Sequence[LicenceText]) -> list[str]:
    """Return what importing would change in a model, as lines for a person; none if nothing differs."""
    lines = list(
        difflib.unified_diff(
            model.card.splitlines(), imported.card.splitlines(), "the card here", imported.origin, lineterm=""
        )
    )
    current = {(v.name, v.language): v.text for v in model.licence_versions.filter(retired_at=None)}
    fresh = {(text.name, text.language): text.text for text in texts}
    for name, language in sorted(current.keys() | fresh.keys()):
        here, there = current.get((name, language)), fresh.get((name, language))
        if here is None:
            lines.append(f"licence {name} ({language}) is new")
        elif there is None:
            lines.append(f"licence {name} ({language}) is not there any more: it would be retired")
        elif here != there:
            lines.append(f"licence {name} ({language}) has another text")
    if imported.gate and imported.gate != model.gate:
        lines.append(f"gate: {model.gate} here, {imported.gate} there")
    return lines


def texts_of(imported: Imported, *, prompt: str) -> list[LicenceText]:
    """Return the licence texts: the files next to the card, or else the card's prompt above the form."""
    return imported.licences or licence_files.prompt_as_licence(prompt)


def take_over(
    *,
    model: GatedModel,
    imported: Imported,
    texts: Sequence[LicenceText],
    with_gate: bool = False,
    actor: User | None = None,
) -> Revision:
    """Publish the imported card and licences as a new revision; the gate changes only on request."""
    with recorded():
        share_store()
        if with_gate and imported.gate:
            change_some_settings(model=model, gate=imported.gate, actor=actor)
        return update_model(model=model, card=imported.card, licences=texts, actor=actor)
