"""Weights for the tests of model_ops: one tiny pair for all, and a worker in a thread or a process."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.tiny_models import make_tiny_pair, write_tiny_card

if TYPE_CHECKING:
    from tests.model_ops.uploads import Uploads

WORKER_ENDS = 120.0  # seconds that a worker in a thread has for its last task


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base`, `tuned` and `diff`; base and diff give the tuned model in bfloat16."""
    return make_tiny_pair(tmp_path_factory.mktemp("tiny") / "pair")


@pytest.fixture
def weights_root(settings: Any, tmp_path: Path) -> Path:
    """A separate store for this test."""
    settings.WEIGHTS_ROOT = tmp_path / "weights"
    return settings.WEIGHTS_ROOT


@pytest.fixture
def files_folder(tmp_path: Path) -> Path:
    """A folder to publish as it is, without torch: a header-only weight file, configuration and card."""
    folder = tmp_path / "files"
    write_tiny_card(folder)
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    header += b" " * (-len(header) % 8)
    content = len(header).to_bytes(8, "little") + header + bytes(8)
    (folder / "model.safetensors").write_bytes(content)
    (folder / "config.json").write_text('{"model_type": "llama"}\n')
    return folder


@pytest.fixture
def add_files_model(weights_root: Path, files_folder: Path, transactional_db: None) -> Callable[..., Any]:
    """`add_files_model("ai/plain")`: add a model whose weights are the files of `files_folder`."""
    from model_ops.services.catalogue.add_model import add_model_with_weights
    from model_ops.services.recoveries.weights import prepare_weights

    def add(repo_id: str = "ai/plain", folder: Path = files_folder, **fields: Any) -> Any:
        fields.setdefault("card", (files_folder / "README.md").read_text())
        prepared = prepare_weights(files=str(folder))
        return add_model_with_weights(repo_id=repo_id, prepared=prepared, **fields)[0]

    return add


@pytest.fixture
def add_pair_model(weights_root: Path, tiny_pair: Path, transactional_db: None) -> Callable[..., Any]:
    """`add_pair_model("ai/tiny")`: add a model that is recovered from the tiny pair in bfloat16."""
    from model_ops.services.catalogue.add_model import add_model_with_weights
    from model_ops.services.recoveries.weights import prepare_weights

    def add(repo_id: str = "ai/tiny", pair: Path = tiny_pair, options: Any = None, **fields: Any) -> Any:
        options = {"dtype": "bfloat16"} | (options or {})
        prepared = prepare_weights(base=str(pair / "base"), diff=str(pair / "diff"), options=options)
        fields.setdefault("card", (pair / "diff" / "README.md").read_text())
        return add_model_with_weights(repo_id=repo_id, prepared=prepared, **fields)[0]

    return add


@pytest.fixture
def grant(make_person: Callable[..., Any]) -> Callable[..., Any]:
    """`grant(model, "ada")`: grant a person access, as an operator does."""
    from access_requests.services.grants import grant_access

    def give(model: Any, name: str) -> Any:
        person = make_person(name)
        return grant_access(model=model, email=person.email, days=30).grant

    return give


@pytest.fixture
def worker(weights_root: Path, transactional_db: None) -> Generator[None]:
    """A real worker on the real broker, in a thread of this process."""
    from celery.contrib.testing.worker import start_worker

    from portal.celery import app

    app.control.purge()
    with start_worker(
        app,
        pool="solo",
        perform_ping_check=False,
        queues=["default", "mail", "remote", "recovery"],
        shutdown_timeout=WORKER_ENDS,
    ):
        yield


def engines(output: Path) -> list[int]:
    """Return the ids of engine processes that write to this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(output).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def published_files(model: Any) -> dict[str, Any]:
    """Return the path of the stored file for each path on `main`."""
    from model_ops.queries import main_revision
    from model_ops.services.store.blobs import blob_path

    revision = main_revision(model)
    assert revision is not None
    return {file.path: blob_path(file.blob_id) for file in revision.files.all()}


def copy_pair(pair: Path, target: Path) -> Path:
    shutil.copytree(pair, target)
    return target


@pytest.fixture
def make_uploads(weights_root: Path, make_person: Callable[..., Any]) -> Callable[..., Uploads]:
    """`make_uploads("ada")`: create Ada and `ada/model`; with `at_once`, her uploads are published."""
    from access_requests.enums import Role
    from access_requests.services.catalogue.roles import assign_role
    from model_ops.services.uploads.creating import create_repository
    from model_ops.services.uploads.rules import set_upload_rule
    from tests.model_ops.uploads import Uploads

    def make(name: str = "ada", *, at_once: bool = False) -> Uploads:
        weights_root.mkdir(exist_ok=True)
        owner = make_person(name)
        root = make_person(f"root-of-{name}", is_superuser=True)
        model = create_repository(repo_id=f"{name}/model", user=root)
        assign_role(model=model, user=owner, role=Role.OWNER)
        set_upload_rule(model=model, publish_uploads=at_once)
        return Uploads(model, owner)

    return make


@pytest.fixture
def held(make_uploads: Callable[..., Uploads]) -> Uploads:
    return make_uploads()


@pytest.fixture
def at_once(make_uploads: Callable[..., Uploads]) -> Uploads:
    return make_uploads(at_once=True)
