from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from tests.model_ops.hub.test_clients import content_of
from tests.model_ops.hub.uploads.conftest import Maker

# What the client itself does with its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_uploaded_folder_comes_back_whole(maker: Maker, folder: Path, tmp_path: Path) -> None:
    info = maker.api.upload_folder(repo_id=maker.repo_id, folder_path=folder)
    found = snapshot_download(
        maker.repo_id, endpoint=maker.portal.url, token=maker.token, cache_dir=tmp_path / "cache"
    )
    assert Path(found).name == info.oid == maker.api.model_info(maker.repo_id).sha
    expected = content_of(folder)
    have = content_of(found)
    assert {path: have[path] for path in expected} == expected
    assert sorted(set(have) - set(expected)) == [".gitattributes"]
    assert maker.staged == []
