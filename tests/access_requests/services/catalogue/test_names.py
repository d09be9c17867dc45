"""Renaming: the old id leads to the model, and no other model can take it, until it is released."""

from __future__ import annotations

from typing import Any

import pytest

from access_requests.access.catalogue import find_model, find_renamed
from access_requests.errors import Conflict, Invalid, NotAllowed, NotFound
from access_requests.models import Event, FormerId, GatedModel, Namespace
from access_requests.services.catalogue.gated_models import add_model
from access_requests.services.catalogue.names import let_go_of_name, name_namespace, rename_model
from access_requests.services.catalogue.roles import assign_role

pytestmark = pytest.mark.django_db


def test_rename_keeps_the_old_id_for_this_model_whatever_its_case(make_model: Any, make_person: Any) -> None:
    model, owner = make_model("ai/tulu"), make_person("owner")
    rename_model(model=model, to="ai/tulu-2", actor=owner)
    assert find_model("AI/Tulu-2") == model
    assert find_model("ai/tulu") is None
    assert find_renamed("AI/TULU") == model
    event = Event.objects.latest("pk")
    assert (event.kind, event.actor) == ("model.renamed", owner)
    assert event.data == {"from": "ai/tulu", "to": "ai/tulu-2", "redirects": True}


def test_rename_twice_leaves_both_old_ids_leading_here(make_model: Any) -> None:
    model = make_model("ai/one")
    rename_model(model=model, to="ai/two")
    rename_model(model=model, to="ai/three")
    assert [find_renamed(name) for name in ("ai/one", "ai/two", "ai/three")] == [model, model, None]


def test_rename_back_takes_the_former_id_again(make_model: Any) -> None:
    model = make_model("ai/one")
    rename_model(model=model, to="ai/two")
    rename_model(model=model, to="ai/one")
    assert find_model("ai/one") == model
    assert [former.repo_id for former in FormerId.objects.all()] == ["ai/two"]


def test_rename_in_case_alone_leaves_no_former_id(make_model: Any) -> None:
    rename_model(model=make_model("ai/tulu"), to="AI/Tulu")
    assert not FormerId.objects.exists()
    assert str(find_model("ai/tulu")) == "AI/Tulu"


@pytest.mark.parametrize(
    ("to", "error", "words"),
    [
        ("ai/tulu", Conflict, "is already its name"),
        ("AI/Taken", Conflict, "is already in the catalogue"),
        ("ai/OLD-name", Conflict, "is a former name of ai/renamed"),
        ("admin/tulu", Invalid, "one of the portal's own addresses"),
        ("tulu", Invalid, "is not a repository id"),
        ("ai/tu\0lu", Invalid, "is not a repository id"),
        ("ai/tulu.git", Invalid, "cannot be used"),
    ],
)
def test_rename_to_an_id_that_cannot_be_had_changes_nothing(
    make_model: Any, to: str, error: type[Exception], words: str
) -> None:
    model = make_model("ai/tulu")
    make_model("ai/taken")
    rename_model(model=make_model("ai/old-name"), to="ai/renamed")
    events = Event.objects.count()
    with pytest.raises(error, match=words):
        rename_model(model=model, to=to)
    model.refresh_from_db()
    assert (model.repo_id, Event.objects.count()) == ("ai/tulu", events)


def test_a_former_id_is_refused_to_a_new_model_until_it_is_let_go(make_model: Any) -> None:
    model = make_model("ai/old")
    rename_model(model=model, to="ai/new")
    with pytest.raises(Conflict, match="is a former name of ai/new"):
        add_model(repo_id="AI/Old", card="# Another\n")
    assert let_go_of_name(repo_id="AI/OLD") == model
    assert Event.objects.latest("pk").data == {"name": "ai/old"}
    assert find_renamed("ai/old") is None
    assert add_model(repo_id="ai/old", card="# Another\n").pk != model.pk


def test_rename_without_redirect_leaves_the_old_id_free(make_model: Any) -> None:
    rename_model(model=make_model("ai/old"), to="ai/new", keep_old=False)
    assert find_renamed("ai/old") is None
    add_model(repo_id="ai/old", card="# Another\n")


@pytest.mark.parametrize("repo_id", ["ai/never", "ai/tulu", "\0"])
def test_let_go_of_what_is_no_former_id_is_refused(make_model: Any, repo_id: str) -> None:
    make_model("ai/tulu")
    with pytest.raises(NotFound, match="name a former id"):
        let_go_of_name(repo_id=repo_id)


def test_namespace_is_named_once_whatever_its_case() -> None:
    name_namespace(name="ai", full_name="The  Institute")
    name_namespace(name="AI", full_name="Another Institute")
    assert [(n.name, n.full_name) for n in Namespace.objects.all()] == [("ai", "Another Institute")]


@pytest.mark.parametrize("full_name", ["", "  ", "x" * 201, "a\0b"])
def test_namespace_with_a_name_that_cannot_be_shown_is_refused(full_name: str) -> None:
    with pytest.raises(Invalid):
        name_namespace(name="ai", full_name=full_name)


def test_renaming_tells_nobody_of_models_that_they_may_not_know_of(make_model: Any, make_person: Any) -> None:
    eve = make_person("eve")
    mine, beside, secret = make_model("eve/own"), make_model("lab/mine"), make_model("lab/secret")
    assign_role(model=mine, user=eve, role="owner")
    rename_model(model=secret, to="lab/secret-two")
    GatedModel.objects.filter(pk=secret.pk).update(listed=False)
    said = set()
    for name in ("secret-two", "secret", "none"):
        with pytest.raises(NotAllowed) as raised:
            rename_model(model=mine, to=f"lab/{name}", actor=eve)
        said.add(raised.value.sentence)
    assert said == {"You own no model of lab: ask an administrator to move it there."}
    assign_role(model=beside, user=eve, role="owner")
    for name in ("secret-two", "Secret"):
        with pytest.raises(Conflict) as raised:
            rename_model(model=mine, to=f"lab/{name}", actor=eve)
        assert raised.value.sentence == f"lab/{name} is taken: choose another name."
    assign_role(model=secret, user=eve, role="reviewer")
    with pytest.raises(Conflict, match="is a former name of lab/secret-two"):
        rename_model(model=mine, to="lab/secret", actor=eve)
