"""Rendered cards and forms are stored; pages only read them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations import RunPython
from django.test import Client

from access_requests.models import FormVersion, GatedModel, RenderedCard
from access_requests.rendering.process import SHORT
from access_requests.rendering.texts import RENDERER
from access_requests.services.catalogue.edit import FieldChoice, change_fields
from access_requests.services.catalogue.gated_models import update_card
from access_requests.services.catalogue.names import rename_model
from access_requests.services.catalogue.rendered_texts import outdated_cards, outdated_forms, render_outdated
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.locks import lock_names
from access_requests.tasks import render_outdated as task
from tests.plans import explained

pytestmark = pytest.mark.django_db
CARD = """---
extra_gated_heading: "The *tiny* form"
extra_gated_prompt: "Read **this** first"
extra_gated_description: "Then [that](https://example.org/)"
extra_gated_fields:
  Your *name*: {type: text, description: "As in `passports`"}
---
# Tiny

A *tiny* model. See [the licence](LICENSE).

## Chat format

```
<|user|>
```
"""


@pytest.fixture
def tiny(make_model: Callable[..., GatedModel]) -> GatedModel:
    return make_model("ns/tiny", card=CARD)


def test_card_is_rendered_when_it_is_saved(tiny: GatedModel) -> None:
    stored = tiny.rendered_card
    assert 'A <em>tiny</em> model. See <a href="/ns/tiny/resolve/main/LICENSE"' in stored.html
    assert (stored.summary, stored.chat_format) == ("A tiny model. See the licence.", "<|user|>\n")
    assert (stored.problem, stored.model.card_renderer) == ("", RENDERER)
    update_card(model=tiny, card=CARD.replace("# Tiny", "# Not so tiny"))
    assert "<h2>Not so tiny</h2>" in RenderedCard.objects.get(model=tiny).html


def test_form_is_rendered_when_it_is_saved(tiny: GatedModel) -> None:
    texts = tiny.form.texts
    assert (texts["heading"], texts["words"]) == ("The tiny form", {"f1": "Your name"})
    assert texts["prompt"] == "<p>Read <strong>this</strong> first</p>\n"
    assert texts["labels"] == {"f1": "Your <em>name</em>"}
    assert texts["helps"] == {"f1": "As in <code>passports</code>"}
    assert tiny.form.renderer == RENDERER


def test_pages_show_what_is_stored_and_render_nothing(
    tiny: GatedModel, client: Client, make_person: Callable[..., Any]
) -> None:
    """Each rendered text is replaced by a different one; a page that rendered would show the card's."""
    RenderedCard.objects.update(
        html="<p>planted card</p>", summary="planted summary", chat_format="planted format"
    )
    texts = tiny.form.texts | {
        "heading": "planted heading", "prompt": "<p>planted prompt</p>", "description": "<p>planted words</p>",
        "labels": {"f1": "planted label"}, "helps": {"f1": "planted help"},
    }  # fmt: skip
    FormVersion.objects.update(texts=texts)
    page = client.get("/ns/tiny").content.decode()
    assert "<p>planted card</p>" in page
    assert "planted summary" in page
    assert "planted format" in page
    assert "tiny</em> model" not in page
    assert "planted summary" in client.get("/").content.decode()
    client.force_login(make_person("ada"))
    form = client.get("/ns/tiny/request").content.decode()
    for planted in ("heading", "prompt", "words", "label", "help"):
        assert f"planted {planted}" in form
    assert "passports" not in form


def test_what_is_not_rendered_yet_is_shown_as_it_was_written(
    tiny: GatedModel, client: Client, make_person: Callable[..., Any]
) -> None:
    RenderedCard.objects.all().delete()
    FormVersion.objects.update(texts={}, renderer=0)
    assert "<pre># Tiny\n\nA *tiny* model." in client.get("/ns/tiny").content.decode()
    client.force_login(make_person("ada"))
    form = client.get("/ns/tiny/request").content.decode()
    assert "<pre>Read **this** first</pre>" in form
    assert "Your *name*" in form


def test_owners_reading_of_the_form_keeps_its_texts_and_renders_nothing(tiny: GatedModel) -> None:
    """The new version is stored under the model's lock, where rendering would make others wait."""
    FormVersion.objects.update(texts=tiny.form.texts | {"prompt": "<p>planted prompt</p>"})
    (field,) = tiny.form.schema["fields"]
    choice = FieldChoice(role="", required=not field["required"])
    version = change_fields(model=tiny, choices={"f1": choice})
    assert version != FormVersion.objects.earliest("pk")
    assert (version.texts["prompt"], version.renderer) == ("<p>planted prompt</p>", RENDERER)


def test_rename_renders_links_to_the_new_name(tiny: GatedModel) -> None:
    rename_model(model=tiny, to="ns/small")
    assert 'href="/ns/small/resolve/main/LICENSE"' in RenderedCard.objects.get(model=tiny).html


def test_card_of_a_model_renamed_in_the_meantime_is_rendered_again(tiny: GatedModel) -> None:
    before = GatedModel.objects.get(pk=tiny.pk)
    rename_model(model=tiny, to="ns/small")
    update_card(model=before, card=CARD.replace("# Tiny", "# Other"))
    assert list(outdated_cards()) == [tiny]
    render_outdated()
    stored = RenderedCard.objects.get(model=tiny)
    assert "<h2>Other</h2>" in stored.html
    assert 'href="/ns/small/resolve/main/LICENSE"' in stored.html


@pytest.mark.django_db(transaction=True)
def test_rename_of_a_model_whose_card_changes_in_the_meantime_is_rendered_again(tiny: GatedModel) -> None:
    """The rename has already rendered the card when it waits for the names, which the test has locked."""
    with ThreadPoolExecutor() as pool, transaction.atomic():
        lock_names()
        renaming = pool.submit(_renamed, tiny, "ns/small")
        _wait_for_a_waiting_lock()
        update_card(model=tiny, card=CARD.replace("# Tiny", "# Other"))
        transaction.on_commit(lambda: renaming.result(60))
    assert list(outdated_cards()) == [tiny]
    render_outdated()
    stored = RenderedCard.objects.get(model=tiny)
    assert "<h2>Other</h2>" in stored.html
    assert 'href="/ns/small/resolve/main/LICENSE"' in stored.html


def _renamed(model: GatedModel, to: str) -> None:
    try:
        rename_model(model=GatedModel.objects.get(pk=model.pk), to=to)
    finally:
        connection.close()


def _wait_for_a_waiting_lock() -> None:
    for _ in range(600):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            if cursor.fetchone()[0]:
                return
        time.sleep(0.1)
    pytest.fail("nothing waited for the names")


def test_outdated_texts_are_made_again(tiny: GatedModel) -> None:
    RenderedCard.objects.update(html="old")
    GatedModel.objects.update(card_renderer=RENDERER + 1)
    FormVersion.objects.update(texts={"prompt": "old"}, renderer=0)
    assert (outdated_cards().count(), outdated_forms().count()) == (1, 1)
    task()
    assert "A <em>tiny</em> model" in RenderedCard.objects.get().html
    assert FormVersion.objects.get().texts["heading"] == "The tiny form"
    assert render_outdated() == (0, 0)


def test_what_is_still_to_be_rendered_is_found_by_an_index(tiny: GatedModel) -> None:
    with explained(bitmaps=True) as plans:
        assert render_outdated() == (0, 0)
    for plan, index in zip(plans, ["gated_model_card_renderer", "form_version_renderer"], strict=True):
        assert plan.count(index) == 2
        assert "Seq Scan" not in plan


def test_command_renders_everything_again(tiny: GatedModel) -> None:
    RenderedCard.objects.update(html="old")
    out = StringIO()
    call_command("render_texts", stdout=out)
    assert "cards: 0, forms: 0" in out.getvalue()
    call_command("render_texts", "--all", stdout=out)
    assert "cards: 1, forms: 1" in out.getvalue()
    assert "A <em>tiny</em> model" in RenderedCard.objects.get().html


def test_migration_renders_nothing() -> None:
    """Rendering there would lock tables, and a later renderer would change what an old migration does."""
    migration = import_module("access_requests.migrations.0014_rendered_texts").Migration
    assert not [one for one in migration.operations if isinstance(one, RunPython)]


def test_worker_renders_a_little_at_a_time(tiny: GatedModel) -> None:
    GatedModel.objects.update(card_renderer=0)
    RenderedCard.objects.all().delete()
    FormVersion.objects.update(texts={}, renderer=0)
    assert render_outdated(seconds=0) == (0, 0)
    assert render_outdated(seconds=600) == (1, 1)
    assert "A <em>tiny</em> model" in RenderedCard.objects.get().html


def test_owner_is_told_of_a_card_that_reaches_a_limit(
    tiny: GatedModel, client: Client, make_person: Callable[..., Any]
) -> None:
    """References expand 60 kB into more HTML than can be stored, however fast the machine is."""
    body = f"[a]: /{'x' * SHORT}\n\n" + "[a] " * 15_000
    read = update_card(model=tiny, card=f"---\nlicense: mit\n---\n{body}")
    (warning,) = [text for text in read.warnings if "Rendering the Markdown of the card" in text]
    stored = RenderedCard.objects.get(model=tiny)
    assert (stored.problem, stored.model.card_renderer) == (warning, RENDERER)
    assert stored.html.startswith("<pre>[a]: /xxx")
    assert warning not in client.get("/ns/tiny").content.decode()
    owner = make_person("owner")
    assign_role(model=tiny, user=owner, role="owner")
    client.force_login(owner)
    assert warning in client.get("/ns/tiny").content.decode()
