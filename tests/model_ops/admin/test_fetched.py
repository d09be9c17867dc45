"""The result of comparing hashes after a fetch is on the recovery's page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from model_ops.models import Recovery, WeightSource


def test_recovery_page_says_what_comparing_hashes_showed(
    settings: Any, client: Any, make_person: Callable[..., Any], add_files_model: Callable[..., Any]
) -> None:
    settings.GATEHOUSE_DEMO = True  # so that no second factor is required
    add_files_model("ai/x")
    client.force_login(make_person("root", is_superuser=True))
    address = f"/admin/model_ops/recovery/{Recovery.objects.get().pk}/change/"
    assert "nothing was fetched" in client.get(address).content.decode()
    WeightSource.objects.update(checked="1 of 2 files have the hashes that the remote names")
    assert "1 of 2 files have the hashes" in client.get(address).content.decode()
