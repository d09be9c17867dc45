"""Held uploads in the admin: only owners see, publish and discard them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from access_requests.services.catalogue.gated_models import LicenceText, replace_licences
from access_requests.services.catalogue.roles import assign_role
from model_ops.models import Revision, UploadRule
from model_ops.queries import main_revision
from model_ops.services.revisions.publish import publish_revision
from model_ops.services.uploads.rules import publishes_uploads, set_upload_rule
from tests.model_ops.uploads import WEIGHTS, Uploads

LIST = "/admin/model_ops/revision/"


@pytest.fixture
def staff(settings: Any) -> None:
    """Let staff sign in without a second factor, as in the demo, since it is not tested here."""
    settings.GATEHOUSE_DEMO = True


@pytest.fixture
def uploaded(staff: None, make_uploads: Callable[..., Uploads]) -> tuple[Uploads, Revision]:
    uploads = make_uploads("ada")
    replace_licences(model=uploads.model, licences=[LicenceText("LICENSE", "en", "Be good.\n")])
    publish_revision(model=uploads.model)
    card = b"---\nextra_gated_fields:\n  Why <b>: text\n---\n# <script>alert(1)</script>\n"
    files = {"README.md": card, "LICENSE": b"Be better.\n", "model.safetensors": WEIGHTS}
    return uploads, uploads.commit(files).revision


def test_owner_sees_what_would_change_and_publishes(uploaded: tuple[Uploads, Revision], client: Any) -> None:
    uploads, revision = uploaded
    client.force_login(uploads.owner)
    page = client.get(f"{LIST}{revision.pk}/change/").text
    assert "Publish on main" in page
    assert "model.safetensors" in page
    assert "+Why &lt;b&gt;: text" in page
    assert "<script>alert(1)" not in page
    source = f"gatehouse:ada/model@{revision.commit}"
    assert f"/weights/?diff={quote(source)}" in page
    form = client.get(f"/admin/access_requests/gatedmodel/{uploads.model.pk}/weights/?diff={source}").text
    assert f'value="{source}"' in form

    done = client.post(f"{LIST}{revision.pk}/publish/", {"licence": "LICENSE"})
    assert (done.status_code, main_revision(uploads.model)) == (302, revision)
    assert uploads.content(revision)["LICENSE"] == b"Be better.\n"
    assert "Publish on main" not in client.get(f"{LIST}{revision.pk}/change/").text


def test_page_of_an_upload_that_main_has_outrun_offers_to_discard_it_alone(
    uploaded: tuple[Uploads, Revision], client: Any
) -> None:
    uploads, revision = uploaded
    set_upload_rule(model=uploads.model, publish_uploads=True)
    uploads.commit({"other.txt": b"newer"})
    client.force_login(uploads.owner)
    page = client.get(f"{LIST}{revision.pk}/change/").text
    assert f"The files on main have changed since {revision.commit[:8]} was uploaded" in page
    assert ("Publish on main" in page, "Discard" in page) == (False, True)


def test_reviewer_and_strangers_do_not_see_what_is_held(
    uploaded: tuple[Uploads, Revision], client: Any, make_person: Callable[..., Any]
) -> None:
    uploads, revision = uploaded
    for name, role in (("reviewer", "reviewer"), ("other", "")):
        person = make_person(name)
        if role:
            assign_role(model=uploads.model, user=person, role=role)
        client.force_login(person)
        assert revision.commit not in client.get(LIST).text
        assert client.get(f"{LIST}{revision.pk}/change/").status_code in {302, 403}
        for action in ("publish", "discard"):
            refused = client.post(f"{LIST}{revision.pk}/{action}/")
            assert refused.status_code in {403, 404} or refused["Location"].startswith("/admin/login/")
    revision.refresh_from_db()
    assert revision.held_at is not None


def test_owner_discards(uploaded: tuple[Uploads, Revision], client: Any) -> None:
    uploads, revision = uploaded
    client.force_login(uploads.owner)
    assert client.get(f"{LIST}{revision.pk}/discard/").status_code == 405
    page = client.post(f"{LIST}{revision.pk}/discard/", follow=True).text
    assert f"Discarded: {revision.commit[:8]}." in page
    assert not Revision.objects.filter(pk=revision.pk).exists()


def test_refusal_is_shown_on_the_page(uploaded: tuple[Uploads, Revision], client: Any) -> None:
    uploads, revision = uploaded
    client.force_login(uploads.owner)
    page = client.post(f"{LIST}{revision.pk}/publish/", {"licence": "absent"}, follow=True).text
    assert "is not a licence text that this upload changes" in page


def test_owner_sets_the_rule_for_own_models_alone(
    uploaded: tuple[Uploads, Revision], make_uploads: Callable[..., Uploads], client: Any
) -> None:
    uploads, _ = uploaded
    other = make_uploads("eve")
    UploadRule.objects.all().delete()
    client.force_login(uploads.owner)
    add = "/admin/model_ops/uploadrule/add/"
    page = client.get(add).text
    assert ("ada/model" in page, "eve/model" in page) == (True, False)
    assert client.post(add, {"model": other.model.pk, "publish_uploads": "on"}).status_code == 200
    assert client.post(add, {"model": uploads.model.pk, "publish_uploads": "on"}).status_code == 302
    assert (publishes_uploads(uploads.model), publishes_uploads(other.model)) == (True, False)
    rule = UploadRule.objects.get(model=uploads.model)
    change = f"/admin/model_ops/uploadrule/{rule.pk}/change/"
    assert client.post(change, {}).status_code == 302
    assert not publishes_uploads(uploads.model)
