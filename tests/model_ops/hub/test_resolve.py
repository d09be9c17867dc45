from __future__ import annotations

from tests.model_ops.hub.conftest import MODEL, Portal


def test_resolve_of_a_branch_is_pinned_to_its_commit(portal: Portal) -> None:
    for method in ("HEAD", "GET"):
        answer = portal.ask(method, f"/{MODEL}/resolve/main/config.json", token=portal.tokens["granted"])
        assert (answer.status, answer.headers["location"]) == (
            307,
            f"/{MODEL}/resolve/{portal.commit}/config.json",
        )
        assert answer.headers["x-repo-commit"] == portal.commit
