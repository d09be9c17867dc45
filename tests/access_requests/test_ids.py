"""How ids are written."""

from __future__ import annotations

import pytest

from access_requests.ids import GIT_ID, REPO_ID, SHA256, is_remote_id


@pytest.mark.parametrize("text", ["ai/model", "a_b.c-d/X", "model"])
def test_id_on_another_hub(text: str) -> None:
    assert is_remote_id(text)
    assert (REPO_ID.fullmatch(text) is not None) == ("/" in text)


@pytest.mark.parametrize("text", ["", "/", "a/b/c", "a/..", "a--b/c", "a b/c", "ai/model\n", "x" * 97])
def test_what_is_no_id_on_another_hub(text: str) -> None:
    assert not is_remote_id(text)


def test_hashes_are_whole_and_in_lower_case() -> None:
    assert GIT_ID.fullmatch("0a" * 20)
    assert SHA256.fullmatch("0a" * 32)
    assert not any(
        pattern.fullmatch(text) for pattern in (GIT_ID, SHA256) for text in ("0A" * 20, "0a" * 20 + "\n")
    )
