from __future__ import annotations

from collections.abc import Callable
from typing import Any

from model_ops.models import Revision
from model_ops.queries import main_revision
from tests.model_ops.management.conftest import Said
from tests.model_ops.uploads import Uploads


def test_held_revision_is_published_by_the_beginning_of_its_commit(
    manage: Callable[..., Said], make_uploads: Callable[..., Uploads]
) -> None:
    ada = make_uploads("ada")
    held = ada.commit({"a.txt": b"a", "LICENSE": b"Be good.\n"}).revision
    said = manage("publish_revision", "ada/model", held.commit[:7], "--licence", "LICENSE", "--json")
    answer: dict[str, Any] = {"model": "ada/model", "branch": "main", "commit": held.commit}
    assert (said.status, said.json) == (0, answer)
    assert main_revision(ada.model) == held


def test_held_revision_is_discarded(
    manage: Callable[..., Said], make_uploads: Callable[..., Uploads]
) -> None:
    ada = make_uploads("ada")
    held = ada.commit({"a.txt": b"a"}).revision
    said = manage("publish_revision", "ada/model", held.commit, "--discard")
    assert (said.status, said.out) == (0, f"Discarded: {held.commit}\n")
    assert not Revision.objects.filter(pk=held.pk).exists()


def test_what_names_no_held_revision_is_refused_with_what_is_held(
    manage: Callable[..., Said], make_uploads: Callable[..., Uploads]
) -> None:
    ada = make_uploads("ada")
    main, held = main_revision(ada.model), ada.commit({"a.txt": b"a"}).revision
    assert main is not None
    for commit in ("", held.commit[:6], main.commit, "0" * 40):
        said = manage("publish_revision", "ada/model", commit)
        sentence = f"ada/model holds no single revision {commit}: held are {held.commit[:8]}.\n"
        assert (said.status, said.err) == (1, sentence)
