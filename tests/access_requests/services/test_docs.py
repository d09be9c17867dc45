from __future__ import annotations

from pathlib import Path

from access_requests.services.requests.transitions import as_mermaid

CHECKOUT = Path(__file__).resolve().parents[3]


def test_picture_in_the_architecture_page_is_the_table() -> None:
    assert as_mermaid() in (CHECKOUT / "ARCHITECTURE.md").read_text("utf-8")
