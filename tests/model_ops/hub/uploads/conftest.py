"""A maker with an empty repository on the live portal."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tests.model_ops.hub.conftest import CHECKOUT, Portal

SEEDER = "import django; django.setup(); from tests.model_ops.hub.uploads import seeder; seeder.main()"
NUMBER = itertools.count(1)


@dataclass
class Maker:
    """The owner of `repo_id`, with a client that uses their token."""

    portal: Portal
    repo_id: str
    token: str
    pk: int

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.portal.url, token=self.token)

    @property
    def staged(self) -> list[str]:
        """The files in the model's staging folder."""
        root = Path(self.portal.environment["GATEHOUSE_STATE"]) / "weights" / "uploads" / str(self.pk)
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def uploads_portal(bare_portal: Portal, tmp_path_factory: pytest.TempPathFactory) -> Generator[Portal]:
    """The live portal, with a seeder that also has the orders for uploads."""
    log = tmp_path_factory.mktemp("uploads") / "seeder.log"
    with log.open("w") as lines:
        seeder = subprocess.Popen(
            [sys.executable, "-c", SEEDER],
            cwd=CHECKOUT, env=bare_portal.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=lines, text=True,
        )  # fmt: skip
    log.with_name("web.log").symlink_to(bare_portal.log)
    portal = dataclasses.replace(bare_portal, seeder=seeder, log=log.with_name("web.log"))
    try:
        yield portal
    finally:
        seeder.terminate()
        seeder.wait(60)
        assert seeder.stdin
        assert seeder.stdout
        seeder.stdin.close()
        seeder.stdout.close()


@pytest.fixture
def make_maker(uploads_portal: Portal, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Maker]:
    """`make_maker(at_once=True)`: create a new person with a new repository."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    def make(*, at_once: bool = True) -> Maker:
        name = f"maker{next(NUMBER)}-{os.getpid()}"
        repo_id = f"{name}/model"
        made = uploads_portal.order("empty", repo_id=repo_id, owner=name, at_once=at_once)
        return Maker(uploads_portal, repo_id, made["token"], made["pk"])

    return make


@pytest.fixture
def maker(make_maker: Callable[..., Maker]) -> Maker:
    """A maker whose uploads are published at once."""
    return make_maker()


@pytest.fixture
def holder(make_maker: Callable[..., Maker]) -> Maker:
    """A maker whose uploads are held."""
    return make_maker(at_once=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with a small, an empty and an oddly named file, and LFS files smaller and larger than a part."""
    root = tmp_path / "made"
    (root / "extra").mkdir(parents=True)
    (root / "README.md").write_text("---\nlicense: mit\n---\n# Made\n")
    (root / "config.json").write_text('{"model_type": "llama"}\n')
    (root / "model-1.safetensors").write_bytes(os.urandom(3_300_001))
    (root / "model-2.safetensors").write_bytes(os.urandom(20_000))
    (root / "extra" / "empty.bin").write_bytes(b"")
    (root / "extra" / "what? 100%: a,b é.json").write_text("{}\n")
    return root
