"""Cards whose Markdown once took 11 to 16 seconds for each reader are rendered once, within limits, and stored."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.attacks.portal.lines import TOGETHER, all_well, look, statuses
from tests.model_ops.hub.conftest import Portal

SIZE = 2**18
FRONT = "---\nlicense: mit\n---\n"


def repeated(unit: str) -> str:
    return (unit * (SIZE // len(unit) + 1))[:SIZE]


SHAPES: dict[str, str] = {
    "pictures": repeated("!["),
    "brackets": repeated("["),
    "underlines": repeated("a\n=\n"),
    "tables": "|" + "a|" * (SIZE // 8) + "\n|" + "-|" * (SIZE // 8) + "\n" + "a\n" * (SIZE // 4),
    "blocks": repeated("<div>\n\n"),
    "links": repeated("<a><div>"),
    "emphasis": repeated("*a_ "),
    "ticks": "".join("`" * n + "a" for n in range(1, 720)),
    "quotes": "".join(">" * n + "\n" for n in range(1, 720)),
    "references": f"[a]: /{'x' * 100_000}\n\n" + "[a] " * 30_000,
}


def visited(url: str, path: str) -> Callable[[list[int]], None]:
    return lambda found: found.append(look(url, path))


@pytest.mark.parametrize("name", SHAPES)
def test_card_is_saved_within_limits_and_readers_get_what_is_stored(bare_portal: Portal, name: str) -> None:
    """An owner saves the card (in a process next to the web server, as a command does) while others read pages."""
    repo_id = f"slow/{name}"
    saved = threading.Thread(
        target=lambda: bare_portal.order("model", repo_id=repo_id, card=f"{FRONT}{SHAPES[name]}")
    )
    saved.start()
    pages = statuses(bare_portal.url, rounds=1)
    saved.join()
    assert pages == all_well(rounds=1)
    answer = bare_portal.get(f"/{repo_id}")
    assert answer.status == 200
    assert 'id="card"' in answer.text
    found: list[int] = []
    readers = [
        threading.Thread(target=visited(bare_portal.url, f"/{repo_id}"), args=(found,))
        for _ in range(TOGETHER)
    ]
    for reader in readers:
        reader.start()
    assert statuses(bare_portal.url, rounds=1) == all_well(rounds=1)
    for reader in readers:
        reader.join()
    assert found == [200] * TOGETHER


def test_card_that_reaches_a_limit_is_shown_as_it_was_written(bare_portal: Portal) -> None:
    """Its HTML would be gigabytes, so the speed of the machine does not matter."""
    bare_portal.order("model", repo_id="slow/too-much", card=f"{FRONT}{SHAPES['references']}")
    shown = bare_portal.get("/slow/too-much").text
    assert "<pre>[a]: /xxx" in shown
    assert "Rendering the Markdown" not in shown  # only the owner sees this
