"""Models in the admin: services accept or refuse what is typed, and a refusal changes nothing."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from access_requests.access.access import access_of
from access_requests.enums import AccessCode
from access_requests.models import GatedModel, ModelRole
from access_requests.rendering.texts import RENDERER
from access_requests.services.grants import grant_access
from access_requests.services.requests.submit import gate_form
from tests.conftest import TULU_CARD

pytestmark = pytest.mark.django_db

MODELS = "/admin/access_requests/gatedmodel/"


def page(response: Any) -> str:
    return html.unescape(response.content.decode())


@pytest.fixture
def sources(tmp_path: Path, settings: Any) -> Path:
    """Return a folder of weights to be published unchanged, in a place that the admin may read."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(bytes(range(1, 200)))
    settings.GATEHOUSE_SOURCES = [tmp_path]
    return folder


def typed(sources: Path | str, **changes: Any) -> dict[str, Any]:
    data = {
        "repo_id": "ai/new",
        "card": TULU_CARD,
        "licence_language": "en",
        "gate": "manual",
        "grant_days": "30",
        "listed": "on",
        "files": str(sources),
        "dtype": "float32",
        "compat": "weight_diff",
        "resize_policy": "mean",
    }
    return {**data, **changes}


def change(model: GatedModel, **changes: Any) -> dict[str, Any]:
    roles = list(model.roles.select_related("user").order_by("pk"))
    data: dict[str, Any] = {
        "repo_id": model.repo_id,
        "card": model.card.replace("\n", "\r\n"),
        "gate": model.gate,
        "grant_days": model.grant_days,
        "approvals": model.approvals,
        "listed": "on" if model.listed else "",
        "roles-TOTAL_FORMS": len(roles) + 1,
        "roles-INITIAL_FORMS": len(roles),
        "licence_versions-TOTAL_FORMS": 0,
        "licence_versions-INITIAL_FORMS": 0,
    }
    for number, role in enumerate(roles):
        row = {"id": role.pk, "model": model.pk, "person": role.user.username, "role": role.role}
        data |= {f"roles-{number}-{name}": value for name, value in row.items()}
    return {**data, **changes}


def test_superuser_adds_a_model_with_licence_and_weights(desk: Any, sources: Path) -> None:
    assert desk.root_browser.get(f"{MODELS}add/").status_code == 200
    licence = SimpleUploadedFile("TERMS.txt", b"Sei brav.\r\n")
    sent = desk.root_browser.post(
        f"{MODELS}add/", typed(sources, licence_file=licence, licence_language="de")
    )
    assert sent.status_code == 302, page(sent)
    model = GatedModel.objects.get(repo_id="ai/new")
    version = model.licence_versions.get()
    assert (model.grant_days, version.name, version.language, version.text) == (
        30,
        "TERMS.txt",
        "de",
        "Sei brav.\r\n",
    )
    assert model.card == TULU_CARD
    assert ModelRole.objects.get(model=model).user == desk.root
    assert model.weights.count() == 1


def test_prompt_is_the_licence_where_no_file_was_given(desk: Any, sources: Path) -> None:
    desk.root_browser.post(f"{MODELS}add/", typed(sources))
    assert GatedModel.objects.get(repo_id="ai/new").licence_versions.get().text == "Read the licence first."


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"repo_id": "admin/x"}, "is one of the portal's own addresses"),
        ({"repo_id": "AI/Tulu"}, "is already in the catalogue"),
        ({"card": "---\nextra_gated_fields:\n  Name: textt\n---\n"}, "line 3"),
        ({"files": "/etc"}, "/etc"),
        ({"files": ""}, "Give either a base and a diff"),
        ({"grant_days": "0"}, "greater than or equal to 1"),
    ],
)
def test_refused_model_is_not_added_and_the_page_says_why(
    desk: Any, sources: Path, changes: dict[str, str], sentence: str
) -> None:
    response = desk.root_browser.post(f"{MODELS}add/", typed(sources, **changes))
    assert response.status_code == 200
    assert sentence.lower() in page(response).lower()
    assert GatedModel.objects.count() == 2


def test_owner_edits_card_and_settings(desk: Any) -> None:
    address = f"{MODELS}{desk.model.pk}/change/"
    assert desk.olga_browser.get(address).status_code == 200
    card = TULU_CARD.replace("A model.", "A better model.")
    sent = desk.olga_browser.post(address, change(desk.model, card=card, grant_days="7", listed=""))
    assert sent.status_code == 302, page(sent)
    desk.model.refresh_from_db()
    assert (desk.model.card, desk.model.grant_days, desk.model.listed) == (card, 7, False)


def test_owner_renames_within_the_namespace_and_the_old_page_leads_on(desk: Any) -> None:
    address = f"{MODELS}{desk.model.pk}/change/"
    sent = desk.olga_browser.post(address, change(desk.model, repo_id="ai/tulu-2"))
    assert sent.status_code == 302, page(sent)
    desk.model.refresh_from_db()
    assert desk.model.repo_id == "ai/tulu-2"
    assert desk.sam_browser.get("/ai/tulu?a=b")["Location"] == "/ai/tulu-2?a=b"
    assert desk.sam_browser.get("/AI/tulu/licences")["Location"] == "/ai/tulu-2/licences"
    assert desk.sam_browser.post("/ai/tulu/request", {}).status_code == 404


def test_owner_renames_and_changes_the_card_at_once(desk: Any) -> None:
    address = f"{MODELS}{desk.model.pk}/change/"
    card = TULU_CARD.replace("A model.", "See [the licence](LICENSE).")
    sent = desk.olga_browser.post(address, change(desk.model, repo_id="ai/tulu-2", card=card))
    assert sent.status_code == 302, page(sent)
    stored = GatedModel.objects.get(repo_id="ai/tulu-2").rendered_card
    assert 'href="/ai/tulu-2/resolve/main/LICENSE"' in stored.html
    assert stored.model.card_renderer == RENDERER


def test_card_is_read_before_names_are_locked_for_a_rename(desk: Any) -> None:
    """If the card and the new name are both refused, the page reports the card: it is checked first."""
    address = f"{MODELS}{desk.model.pk}/change/"
    other = GatedModel.objects.exclude(pk=desk.model.pk).earliest("pk")
    wrong = "---\nextra_gated_fields:\n  Name: textt\n---\n"
    response = desk.root_browser.post(address, change(desk.model, repo_id=other.repo_id, card=wrong))
    assert "line 3" in page(response).lower()
    assert "already in the catalogue" not in page(response)


def test_owner_cannot_rename_into_a_strangers_namespace(desk: Any) -> None:
    address = f"{MODELS}{desk.model.pk}/change/"
    refused = desk.olga_browser.post(address, change(desk.model, repo_id="meta/tulu"))
    assert "You own no model of meta" in page(refused)
    desk.model.refresh_from_db()
    assert desk.model.repo_id == "ai/tulu"
    assert desk.root_browser.post(address, change(desk.model, repo_id="meta/tulu")).status_code == 302


def test_a_renamed_hidden_model_is_not_found_under_either_id(desk: Any) -> None:
    desk.model.listed = False
    desk.model.save()
    desk.olga_browser.post(f"{MODELS}{desk.model.pk}/change/", change(desk.model, repo_id="ai/tulu-2"))
    assert [desk.sam_browser.get(path).status_code for path in ("/ai/tulu", "/ai/tulu-2")] == [404, 404]
    assert desk.olga_browser.get("/ai/tulu")["Location"] == "/ai/tulu-2"


def test_bad_card_keeps_the_last_good_form(desk: Any) -> None:
    form = desk.model.form_id
    bad = TULU_CARD.replace("Institution: text", "Institution: txt")
    response = desk.olga_browser.post(
        f"{MODELS}{desk.model.pk}/change/", change(desk.model, card=bad, grant_days="9")
    )
    assert response.status_code == 200
    assert "Institution: txt" in page(response)
    assert "txt" in page(response)
    desk.model.refresh_from_db()
    assert (desk.model.card, desk.model.form_id, desk.model.grant_days) == (TULU_CARD, form, 365)


def people_page(desk: Any) -> str:
    return f"{MODELS}{desk.model.pk}/people/"


def roles(desk: Any) -> set[tuple[str, str]]:
    return set(desk.model.roles.values_list("user__email", "role"))


def test_an_owner_adds_changes_and_removes_people(desk: Any) -> None:
    address = people_page(desk)
    add = {"add": "Add", "email": "SAM@example.org", "role": "auditor"}
    shown = page(desk.olga_browser.post(address, add, follow=True))
    assert "Added sam@example.org as auditor. They are informed by email." in shown
    shown = page(
        desk.olga_browser.post(address, {**add, "email": "New@Example.org", "role": "reviewer"}, follow=True)
    )
    assert "Added new@example.org as reviewer. They get an email with a link to set a password." in shown
    assert shown.count("none: cannot enter the admin") == 1
    change = {"change": "1", "person": str(desk.sam.pk), "role": "reviewer"}
    assert "Changed sam@example.org to reviewer." in page(
        desk.olga_browser.post(address, change, follow=True)
    )
    remove = {"remove": "1", "person": str(desk.rita.pk), "role": "reviewer"}
    shown = page(desk.olga_browser.post(address, remove, follow=True))
    assert "Removed rita@example.org." in shown
    assert roles(desk) == {
        ("olga@example.org", "owner"),
        ("sam@example.org", "reviewer"),
        ("new@example.org", "reviewer"),
    }
    assert desk.model.events.filter(kind="model.role_changed", actor=desk.olga).count() == 4


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"add": "Add", "email": "sam", "role": "reviewer"}, "is not an email address"),
        ({"add": "Add", "email": "sam@example.org", "role": "king"}, "Select a valid choice"),
        ({"add": "Add", "email": "", "role": "reviewer"}, "This field is required"),
        ({"remove": "1", "person": "nobody"}, "This person has no role any more."),
        ({"change": "1", "person": "9" * 40, "role": "owner"}, "This person has no role any more."),
        ({"change": "1", "person": "OLGA", "role": "king"}, "There is no role"),
        ({"change": "1", "person": "OLGA"}, "Choose a role"),
        ({"change": "1", "person": "OLGA", "role": "auditor"}, "is the only owner of ai/tulu"),
        ({"remove": "1", "person": "OLGA"}, "is the only owner of ai/tulu"),
        ({}, "This person has no role any more."),
    ],
)
def test_roles_that_cannot_be_given(desk: Any, fields: dict[str, str], sentence: str) -> None:
    before = roles(desk)
    sent = {name: value.replace("OLGA", str(desk.olga.pk)) for name, value in fields.items()}
    assert sentence in page(desk.olga_browser.post(people_page(desk), sent, follow=True))
    assert roles(desk) == before


def test_people_are_shown_to_everyone_with_a_role_and_changed_by_owners(desk: Any) -> None:
    address = people_page(desk)
    shown = page(desk.rita_browser.get(address))
    assert "olga@example.org" in shown
    assert "Add a person" not in shown
    before = roles(desk)
    for fields in (
        {"add": "Add", "email": "rita@example.org", "role": "owner"},
        {"remove": "1", "person": str(desk.olga.pk)},
    ):
        desk.rita_browser.post(address, fields)
        desk.sam_browser.post(address, fields)
    assert roles(desk) == before
    assert desk.sam_browser.get(address)["Location"] == "/admin/"
    desk.root_browser.post(address, {"remove": "1", "person": str(desk.olga.pk)})
    assert ("olga@example.org", "owner") not in roles(desk)


def test_reviewer_reads_and_stranger_does_not(desk: Any) -> None:
    address = f"{MODELS}{desk.model.pk}/change/"
    assert desk.rita_browser.get(address).status_code == 200
    assert desk.rita_browser.post(address, change(desk.model, grant_days="1")).status_code == 403
    for path in ("form", "licences", "weights"):
        assert desk.rita_browser.get(f"{MODELS}{desk.model.pk}/{path}/")["Location"] == "/admin/"
        assert desk.sam_browser.get(f"{MODELS}{desk.model.pk}/{path}/")["Location"] == "/admin/"
        assert desk.olga_browser.get(f"{MODELS}{desk.model.pk}/{path}/").status_code == 200
    assert desk.sam_browser.get(address)["Location"] == "/admin/"
    assert "ai/tulu" not in page(desk.sam_browser.get(MODELS))
    assert desk.olga_browser.get(f"{MODELS}add/").status_code == 403
    assert desk.root_browser.get(f"{MODELS}{desk.model.pk}/delete/").status_code == 403


def test_licences_are_added_renewed_and_retired(desk: Any) -> None:
    address = f"{MODELS}{desk.model.pk}/licences/"
    current = desk.model.licence_versions.filter(retired_at=None)
    old = current.get()
    desk.olga_browser.post(address, {"name": "licence.txt", "language": "en", "text": "Be better.\r\n"})
    assert current.get().text == "Be better.\n"
    upload = SimpleUploadedFile("LIZENZ.txt", b"Sei brav.")
    desk.olga_browser.post(address, {"language": "de", "file": upload})
    assert set(current.values_list("name", "language")) == {("licence.txt", "en"), ("LIZENZ.txt", "de")}
    old.refresh_from_db()
    assert old.retired_at is not None
    desk.olga_browser.post(address, {"retire": current.get(language="de").pk})
    assert current.get().name == "licence.txt"
    for bad in (
        {"language": "en", "text": "x"},
        {"name": "a/b", "language": "en", "text": "x"},
        {"retire": "x"},
    ):
        desk.olga_browser.post(address, bad)
    broken = SimpleUploadedFile("L.txt", b"\xff\xfe")
    assert "is not UTF-8 text" in page(desk.olga_browser.post(address, {"language": "en", "file": broken}))
    assert current.get().name == "licence.txt"


def test_a_translation_is_made_the_binding_text(desk: Any) -> None:
    address = f"{MODELS}{desk.model.pk}/licences/"
    current = desk.model.licence_versions.filter(retired_at=None)
    german = {"name": "licence.txt", "language": "de", "text": "Sei brav.\n"}
    desk.olga_browser.post(address, german)
    assert current.get(language="en").binding
    refused = page(desk.olga_browser.post(address, {"retire": current.get(language="en").pk}, follow=True))
    assert "make another language binding first" in refused
    refused = page(desk.olga_browser.post(address, {**german, "text": "Bitte.\n", "must_accept": "on"}))
    assert "is a translation" in refused
    shown = page(desk.olga_browser.post(address, {"bind": current.get(language="de").pk}, follow=True))
    assert "The text of licence.txt in de binds now." in shown
    assert current.get(language="de").binding
    french = {"name": "licence.txt", "language": "fr", "text": "Soyez sages.\n", "binding": "on"}
    desk.olga_browser.post(address, french)
    assert list(current.filter(binding=True).values_list("language", flat=True)) == ["fr"]
    for bad in ("x", "²", "9" * 30, current.get(language="fr").pk):
        assert desk.olga_browser.post(address, {"bind": bad}).status_code == 302


def test_licence_may_be_demanded_of_those_with_access(desk: Any) -> None:
    grant_access(model=desk.model, email=desk.ada.email, days=3)
    address = f"{MODELS}{desk.model.pk}/licences/"
    wishes = {"name": "licence.txt", "language": "en", "text": "Be better.\n", "must_accept": "on"}
    shown = page(desk.olga_browser.post(address, wishes, follow=True))
    assert "must now agree to it and got an email: 1." in shown
    assert "must accept it" in shown
    assert access_of(desk.ada, desk.model).code == AccessCode.LICENCE_OWED


def test_owner_says_how_fields_were_meant(desk: Any) -> None:
    address = f"{MODELS}{desk.model.pk}/form/"
    form = gate_form(desk.model)
    data: dict[str, str] = {}
    for field in form.fields:
        data[f"{field.key}-role"] = field.role
        if field.required:
            data[f"{field.key}-required"] = "on"
    swapped = {**data, "f1-role": "last_name", "f2-role": "first_name", "f6-required": "on"}
    assert desk.olga_browser.post(address, swapped).status_code == 302
    desk.model.refresh_from_db()
    now = gate_form(desk.model)
    assert [f.role for f in now.fields[:2]] == ["last_name", "first_name"]
    assert now.field("f6").required
    both = desk.olga_browser.post(address, {**data, "f1-role": "institution"})
    assert "cannot both be the institution" in page(both)
    free = {key: value for key, value in swapped.items() if key != "f7-required"}
    assert "is the licence agreement" in page(desk.olga_browser.post(address, free))
    desk.model.refresh_from_db()
    assert gate_form(desk.model) == now


def test_labels_are_inert(desk: Any) -> None:
    bad = TULU_CARD.replace("Institution: text", "'<script>alert(1)</script>': text")
    desk.olga_browser.post(f"{MODELS}{desk.model.pk}/change/", change(desk.model, card=bad))
    for path in ("change", "form"):
        assert b"<script>alert" not in desk.olga_browser.get(f"{MODELS}{desk.model.pk}/{path}/").content
