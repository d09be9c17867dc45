"""Weight sources: which are accepted, and the sentences for those that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from access_requests.enums import Gate
from access_requests.errors import Invalid
from model_ops.enums import RecoveryState, SourceKind
from model_ops.models import WeightSource
from model_ops.queries import published
from model_ops.services.catalogue.add_model import add_model_with_weights
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.recoveries.weights import PLANNED_LATER, prepare_weights, want_recovery
from model_ops.services.sources.spec import check_unchanged, hub_token, list_files, parse_hub, resolve_source
from tests.model_ops.conftest import published_files

HOW = "write a folder, hf:REPO_ID@REVISION, hf+https://HOST/REPO_ID@REVISION or gatehouse:REPO_ID@COMMIT"


def refusal(text: str, **options: Any) -> str:
    with pytest.raises(Invalid) as refused:
        resolve_source(text=text, **options)
    return refused.value.sentence


def test_folder_is_stored_once_while_it_does_not_change(db: None, files_folder: Path) -> None:
    first = resolve_source(text=str(files_folder))
    again = resolve_source(text=f" {files_folder}/ ")
    (files_folder / "config.json").write_text("{}")
    changed = resolve_source(text=str(files_folder))

    assert first == again
    assert (first.kind, first.spec) == (SourceKind.FOLDER, str(files_folder))
    assert changed.spec == first.spec
    assert changed.fingerprint != first.fingerprint
    assert check_unchanged(changed) == list_files(files_folder)
    with pytest.raises(Invalid, match="has changed since it was added"):
        check_unchanged(first)


def test_text_that_names_nothing_is_refused(db: None, tmp_path: Path) -> None:
    assert refusal("") == f"No weight source was given: {HOW}."
    assert refusal("/no/such") == f"The weight source /no/such is not an existing folder: {HOW}."
    assert refusal("a\0b") == f"The weight source 'a\\x00b' is not a folder's path: {HOW}."
    expected = "expected *.safetensors or *.bin in it."
    assert refusal(str(tmp_path)) == f"The folder {tmp_path} holds no weight file: {expected}"


def test_link_out_of_the_folder_is_refused(db: None, files_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (files_folder / "notes.txt").symlink_to(tmp_path / "secret")

    assert refusal(str(files_folder)) == (
        f"{files_folder}/notes.txt is a link to {tmp_path}/secret, outside the model's folder: "
        "put the file in its place."
    )
    (tmp_path / "secret").unlink()
    assert "is a broken link or not a regular file" in refusal(str(files_folder))


def test_the_portals_own_store_is_refused(db: None, settings: Any, files_folder: Path) -> None:
    settings.WEIGHTS_ROOT = files_folder.parent

    assert "belongs to the portal's own store" in refusal(str(files_folder))


def test_in_the_admin_only_listed_folders_and_the_own_hub_are_taken(
    db: None, settings: Any, files_folder: Path, tmp_path: Path, make_person: Callable[..., Any]
) -> None:
    admin = {"in_admin": True, "actor": make_person("boss", is_superuser=True)}
    settings.GATEHOUSE_SOURCES = [tmp_path / "elsewhere"]
    assert "is not below GATEHOUSE_SOURCES" in refusal(str(files_folder), **admin)
    assert "is not below GATEHOUSE_SOURCES" in refusal("/etc/no-such", **admin)
    assert "only be named on the command line" in refusal("hf+https://example.org/a/b@main", **admin)

    settings.GATEHOUSE_SOURCES = [tmp_path]
    assert resolve_source(text=str(files_folder), **admin).spec == str(files_folder)
    settings.WEIGHTS_ROOT = files_folder / "weights"
    assert "belongs to the portal's own store" in refusal(str(files_folder), **admin)
    assert "No folder is assigned to this namespace" in refusal(str(files_folder), in_admin=True)


@pytest.mark.parametrize(
    "text",
    ["hf:a/b", "hf:a/b@", "hf:@main", "hf:a/b/c@main", "hf:../b@main", "hf+http://h/a/b@main",
     "hf+https://user@h/a/b@main", "hf+https://../a/b@main", "hf+https://h@main", "hf+ftp://h/a@m"],
)  # fmt: skip
def test_hub_text_with_a_mistake_is_one_sentence(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_hub(text)
    assert refused.value.sentence.startswith(f"The weight source {text!r} ")
    assert refused.value.sentence.endswith(".")


def test_hub_text_is_read(settings: Any) -> None:
    settings.GATEHOUSE_HUB_ENDPOINT = "https://hub.example.org"

    own, other = parse_hub("hf:a/b@v1.0"), parse_hub("hf+https://h.example:8443/a/b@main")

    assert (own.endpoint, own.repo_id, own.revision) == ("https://hub.example.org", "a/b", "v1.0")
    assert (other.endpoint, other.repo_id, other.revision) == ("https://h.example:8443", "a/b", "main")


def test_token_goes_to_the_own_endpoint_only(settings: Any) -> None:
    settings.GATEHOUSE_HUB_ENDPOINT, settings.GATEHOUSE_HUB_TOKEN = "https://hub.example.org", "secret"

    assert hub_token("https://hub.example.org") == "secret"
    assert hub_token("https://other.example.org") is False
    settings.GATEHOUSE_HUB_TOKEN = ""
    assert hub_token("https://hub.example.org") is False


def test_unreachable_hub_is_one_sentence(db: None, settings: Any) -> None:
    settings.GATEHOUSE_HUB_ENDPOINT = "http://127.0.0.1:9"

    sentence = refusal("hf:a/b@main")

    assert sentence.startswith("a/b at http://127.0.0.1:9 could not be asked (")
    assert sentence.endswith("): check the address and the network, then try again.")


@pytest.fixture
def hub(add_files_model: Callable[..., Any], live_server: Any, settings: Any) -> Any:
    """This portal as a Hub that others fetch from: an open model and a gated one."""
    settings.GATEHOUSE_HUB_ENDPOINT = settings.GATEHOUSE_URL = live_server.url
    for repo_id, gate in [("hub/open", Gate.NONE), ("hub/gated", Gate.MANUAL)]:
        recovery = add_files_model(repo_id, gate=gate).weights.get().recovery
        want_recovery(recovery=recovery)
        run_recovery(recovery_id=recovery.pk)
    return live_server


def test_hub_repository_is_resolved_to_its_commit_and_fetched(
    hub: Any, files_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files come from the endpoint in the settings, whatever HF_ENDPOINT says."""
    from access_requests.access.catalogue import find_model

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    origin = published(find_model("hub/open"))
    assert origin is not None
    prepared = prepare_weights(files="hf:hub/open@main")
    card = (files_folder / "README.md").read_text()
    model, weights = add_model_with_weights(repo_id="ai/mirror", prepared=prepared, card=card)

    source = WeightSource.objects.get(kind=SourceKind.HUB)
    assert (source.spec, source.commit) == (f"hf:hub/open@{origin.commit}", origin.commit)
    assert prepared.plan == {"text": PLANNED_LATER, "fetch": [source.spec]}
    want_recovery(recovery=weights.recovery)
    run_recovery(recovery_id=weights.recovery.pk)

    weights.recovery.refresh_from_db()
    assert (weights.recovery.state, weights.recovery.error) == (RecoveryState.READY, "")
    assert set(weights.recovery.plan["files"]) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "tiny_license.txt",
    }
    assert (
        published_files(model)["model.safetensors"]
        == published_files(find_model("hub/open"))["model.safetensors"]
    )


def test_hub_says_what_is_wrong(hub: Any) -> None:
    assert refusal("hf:hub/gated@main").endswith("give GATEHOUSE_HUB_TOKEN a token that has it.")
    assert refusal("hf:hub/open@v9") == f"hub/open at {hub.url} has no revision v9: check its name."
    assert f"hub/none at {hub.url} was not found" in refusal("hf:hub/none@main")
