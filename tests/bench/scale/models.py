"""The models of `bench scale`: a few are added as owners would, then copied under other ids."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db.models import Model

from access_requests.models import (
    FormVersion,
    GatedModel,
    LicenceVersion,
    ModelRole,
    RenderedCard,
)
from access_requests.services.catalogue.gated_models import LicenceText, add_model
from model_ops.models import Blob, Ref, RepoFile, Revision
from model_ops.recovery.formats.git_ids import pointer_id
from model_ops.services.store.blobs import store_bytes, store_file
from model_ops.services.store.git_objects import StoredFile, is_lfs
from tests.bench.scale.clock import DAY, moment
from tests.bench.scale.copying import copies_of, copy_rows, next_id
from tests.bench.scale.plan import Plan, has_licence, is_auto, is_listed, is_published

NAMESPACES = 40
LARGE = 64  # MiB of the larger file
CARD = """---
license: apache-2.0
language: en
tags: [bench]
extra_gated_heading: Ask for this model
extra_gated_prompt: Read the licence first.
extra_gated_fields:
  First Name: text
  Last Name: text
  Institution: text
  Country (where user is located): text
  Intended Use: text
  Previous Related Publications: text
  "I agree to abide by the terms of the license associated to this artifact, including domain and used-based restrictions": checkbox
---
# A model

"""
BODY = "Trained on text, evaluated on other text. See the paper for what it can and cannot do.\n\n" * 20
LICENCE = LicenceText(
    "licence.txt", "en", "You may use this for research, and say so where you publish.\n" * 40
)


@dataclass(frozen=True)
class Template:
    """One model with everything that is copied along with it."""

    model: GatedModel
    card: RenderedCard
    form: FormVersion
    licence: LicenceVersion | None


@dataclass(frozen=True)
class Catalogue:
    """The ids of the models in the plan's order, and of their forms and licences (0: none)."""

    models: list[int]
    forms: list[int]
    licences: list[int]
    sha256: str


def repo_id_of(number: int) -> str:
    """Return the id of the model with this number; the first is the most popular."""
    return f"lab{number % NAMESPACES:02}/model-{number:04}"


def commit_of(number: int) -> str:
    """Return the commit of the model's `main`."""
    return hashlib.sha1(f"bench {number}".encode(), usedforsecurity=False).hexdigest()


def add_templates() -> tuple[dict[str, Template], Revision]:
    """Add three models and a published revision through the services, before anything is copied."""
    found = {
        "licence": _template("templates/licence", licences=[LICENCE]),
        "plain": _template("templates/plain"),
        "auto": _template("templates/auto", gate="auto"),
    }
    model = found["licence"].model
    files = [
        store_bytes(path="config.json", content=b'{"model_type": "llama"}\n'),
        store_bytes(path="README.md", content=(CARD + BODY).encode()),
        store_bytes(path="tokenizer.json", content=b'{"version": "1.0"}\n' * 500),
        _large_file(),
    ]
    Blob.objects.bulk_create([Blob(sha256=f.sha256, git_oid=f.git_oid, size=f.size) for f in files])
    revision = Revision.objects.create(
        model=model, commit=commit_of(-1), has_weights=True, title="Weights", author="bench"
    )
    RepoFile.objects.bulk_create(
        [RepoFile(revision=revision, path=f.path, blob_id=f.sha256, is_lfs=is_lfs(f)) for f in files]
    )
    Ref.objects.update_or_create(model=model, name="main", defaults={"revision": revision})
    return found, revision


def _template(repo_id: str, **options: Any) -> Template:
    model = add_model(repo_id=repo_id, card=CARD + BODY, listed=False, **options)
    assert model.form is not None
    return Template(model, model.rendered_card, model.form, model.licence_versions.first())


def _large_file() -> StoredFile:
    """Return random bytes, repeated with a different number each time."""
    path = Path(settings.WEIGHTS_ROOT) / "large"
    path.parent.mkdir(parents=True, exist_ok=True)
    block, whole = os.urandom(2**20 - 8), hashlib.sha256()
    with path.open("wb") as stream:
        for number in range(LARGE):
            piece = number.to_bytes(8, "big") + block
            whole.update(piece)
            stream.write(piece)
    size = LARGE * 2**20
    file = StoredFile("model.safetensors", whole.hexdigest(), pointer_id(whole.hexdigest(), size), size)
    store_file(file=file, source=path)
    return file


def template_of(number: int, templates: dict[str, Template]) -> Template:
    """Return the template of the model with this number."""
    return templates["auto" if is_auto(number) else "licence" if has_licence(number) else "plain"]


def copy_models(
    owner: psycopg.Connection[Any],
    plan: Plan,
    templates: dict[str, Template],
    revision: Revision,
    first_user: int,
) -> Catalogue:
    """Write all models, forms, licences, roles and published revisions of the plan."""
    count = plan.sizes.models
    licences = _ids(owner, LicenceVersion, count)
    licence = templates["licence"].licence
    assert licence is not None
    catalogue = Catalogue(
        models=_ids(owner, GatedModel, count),
        forms=_ids(owner, FormVersion, count),
        licences=[pk if has_licence(number) else 0 for number, pk in enumerate(licences)],
        sha256=licence.sha256,
    )
    cards = _ids(owner, RenderedCard, count)
    for number in range(count):
        since = moment(plan.now - 5 * 365 * DAY + number * 3600)
        _copy_model(owner, number, template_of(number, templates), catalogue, cards[number], since)
    _copy_roles(owner, plan, catalogue, first_user)
    _copy_revisions(owner, plan, catalogue, revision)
    return catalogue


def _copy_model(
    owner: psycopg.Connection[Any],
    number: int,
    template: Template,
    catalogue: Catalogue,
    card: int,
    since: str,
) -> None:
    """Copy one template as the model with this number."""
    model, form = catalogue.models[number], catalogue.forms[number]
    here = {"model_id": model, "created_at": since}
    own = {"id": model, "repo_id": repo_id_of(number), "form_id": form, "listed": is_listed(number)}
    _copy(owner, template.model, {**own, "created_at": since, "updated_at": since})
    _copy(owner, template.form, {"id": form, **here})
    _copy(owner, template.card, {"id": card, **here})
    if template.licence is not None:
        _copy(owner, template.licence, {"id": catalogue.licences[number], **here})


def _ids(owner: psycopg.Connection[Any], model: type[Model], count: int) -> list[int]:
    first = next_id(owner, model)
    return list(range(first, first + count))


def _copy(owner: psycopg.Connection[Any], row: Model, change: dict[str, Any]) -> None:
    names, rows = copies_of(row, [change])
    copy_rows(owner, type(row), names, rows)


def _copy_roles(owner: psycopg.Connection[Any], plan: Plan, catalogue: Catalogue, first_user: int) -> None:
    first = next_id(owner, ModelRole)
    rows = (
        (catalogue.models[number], first_user + person, "reviewer" if place else "owner")
        for number, people in enumerate(plan.roles)
        for place, person in enumerate(people)
    )
    copy_rows(
        owner,
        ModelRole,
        ("id", "model_id", "user_id", "role"),
        ((first + n, *row) for n, row in enumerate(rows)),
    )


def _copy_revisions(
    owner: psycopg.Connection[Any], plan: Plan, catalogue: Catalogue, revision: Revision
) -> None:
    """Write one revision for each published model; all of them share the blobs."""
    numbers = [number for number in range(plan.sizes.models) if is_published(number)]
    first, first_ref, first_file = (next_id(owner, kind) for kind in (Revision, Ref, RepoFile))
    names, rows = copies_of(
        revision,
        [
            {"id": first + n, "model_id": catalogue.models[number], "commit": commit_of(number)}
            for n, number in enumerate(numbers)
        ],
    )
    copy_rows(owner, Revision, names, rows)
    copy_rows(
        owner, Ref, ("id", "model_id", "name", "revision_id"),
        ((first_ref + n, catalogue.models[number], "main", first + n) for n, number in enumerate(numbers)),
    )  # fmt: skip
    files = list(revision.files.all())
    copy_rows(
        owner,
        RepoFile,
        ("id", "revision_id", "path", "blob_id", "is_lfs"),
        _files(files, first_file, first, len(numbers)),
    )


def _files(files: list[RepoFile], first: int, revision: int, count: int) -> Iterator[tuple[Any, ...]]:
    for n in range(count):
        for place, file in enumerate(files):
            yield first + n * len(files) + place, revision + n, file.path, file.blob_id, file.is_lfs
