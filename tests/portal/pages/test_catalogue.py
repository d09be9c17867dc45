"""The home page: what each visitor sees of the catalogue."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access_requests.models import GatedModel
from access_requests.rendering.markdown import plain_text
from access_requests.rendering.texts import LONGEST_SUMMARY, chat_format, cut, first_paragraph
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access

pytestmark = pytest.mark.django_db


def summary_of(body: str) -> str:
    return cut(plain_text(first_paragraph(body)))


def page(browser: Client, address: str = "/") -> str:
    response = browser.get(address)
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def test_empty_catalogue_tells_an_operator_what_to_do(
    client: Client, make_person: Callable[..., Any]
) -> None:
    assert "There are no models here yet" in page(client)
    client.force_login(make_person("root", is_superuser=True))
    assert "./dev.py manage add_model" in page(client)
    assert "/admin/access_requests/gatedmodel/add/" in page(client)


def test_models_show_summary_facts_and_where_i_stand(
    client: Client, make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any
) -> None:
    ada = make_person("ada")
    make_model("ai/tulu")
    assert "A model." in page(client)
    assert "apache-2.0" in page(client)
    submit(ada, make_model("ai/asked"))
    grant_access(model=make_model("ai/mine"), email=ada.email, days=1)
    client.force_login(ada)
    shown = page(client)
    assert "your request is waiting" in shown
    assert "you have access" in shown


def test_hidden_model_is_listed_for_those_who_know_it(
    client: Client, make_person: Callable[..., Any], make_model: Callable[..., Any]
) -> None:
    ada, rita = make_person("ada"), make_person("rita")
    assign_role(model=make_model("ai/hidden", listed=False), user=rita, role="reviewer")
    make_model("ai/seen")
    assert "ai/hidden" not in page(client)
    client.force_login(ada)
    assert "ai/hidden" not in page(client)
    assert "ai/hidden" not in page(client, "/?q=hidden").replace("“hidden”", "")
    client.force_login(rita)
    assert "ai/hidden" in page(client)


@pytest.mark.parametrize("words", ["tulu", "TULU model", "a"])
def test_search_finds_names_and_cards(client: Client, make_model: Callable[..., Any], words: str) -> None:
    make_model("ai/tulu")
    assert 'href="/ai/tulu"' in page(client, f"/?q={words}")


@pytest.mark.parametrize("words", ["nowhere", "%25", "<script>", "\0"])
def test_search_that_finds_nothing_says_so(
    client: Client, make_model: Callable[..., Any], words: str
) -> None:
    make_model("ai/tulu")
    response = client.get("/", {"q": words})
    assert response.status_code == 200
    assert b"<script>" not in response.content.replace(b'<script src="', b"")


def test_queries_do_not_grow_with_the_list(
    client: Client, make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any
) -> None:
    ada = make_person("ada")
    client.force_login(ada)
    counts = []
    for number in range(5):
        submit(ada, make_model(f"ai/m{number}"))
        page(client)
        with CaptureQueriesContext(connection) as seen:
            page(client)
        counts.append(len(seen))
    assert counts[0] == counts[-1]


@pytest.mark.parametrize("number", ["0", "99", "x", "-1"])
def test_any_page_number_is_answered(client: Client, make_model: Callable[..., Any], number: str) -> None:
    make_model("ai/tulu")
    assert "ai/tulu" in page(client, f"/?page={number}")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("# Title\n\nA **small** [model](x).\n\nMore.", "A small model."),
        ("<img src=x>\n\n- list\n\n> quote\n\n| t |\n\nText", "Text"),
        ("", ""),
        ("# Only a title", ""),
    ],
)
def test_summary_is_the_first_running_text(body: str, text: str) -> None:
    assert summary_of(body) == text


def test_summary_is_cut_at_a_word() -> None:
    text = summary_of("word " * 200)
    assert len(text) <= LONGEST_SUMMARY
    assert text.endswith("word…")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            "## Input Format\n\nText\n\n```\n<|user|>\nHi\n<|assistant|>\n\n```\n",
            "<|user|>\nHi\n<|assistant|>\n\n",
        ),
        ("## Chat template\n~~~text\na\n~~~", "a\n"),
        ("## Chat format\n\nNo block.\n\n## Next\n\n```\nx\n```", ""),
        ("# Model in chat format\n\n## Chat format\n\n```\na\n```", "a\n"),
        ("## Training\n\n```\nx\n```", ""),
        ("## Prompt format\n\n```\nnever closed", ""),
    ],
)
def test_chat_format_is_the_block_under_its_heading(body: str, text: str) -> None:
    assert chat_format(body) == text


def test_short_word_of_another_script_is_found_in_a_card(
    client: Client, make_model: Callable[..., Any]
) -> None:
    model = make_model("ai/tulu")
    GatedModel.objects.filter(pk=model.pk).update(card=f"{model.card}\n\nMade by 王伟.")
    assert 'href="/ai/tulu"' in page(client, "/?q=王伟")
    assert 'href="/ai/tulu"' not in page(client, "/?q=王五")
