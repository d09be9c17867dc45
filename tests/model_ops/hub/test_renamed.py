"""A former id redirects clients with their method, path and query, and reveals nothing about hidden models."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

from tests.model_ops.hub.conftest import Portal

OLD, NEW = "maker/first-name", "maker/second-name"
HIDDEN, HIDDEN_NOW = "maker/hidden-name", "maker/hidden-secret-name"


@pytest.fixture(scope="module")
def moved(portal: Portal) -> Portal:
    for old, new, listed in ((OLD, NEW, True), (HIDDEN, HIDDEN_NOW, False)):
        portal.order("model", repo_id=old, listed=listed)
        portal.order(
            "commit", repo_id=old, add={"config.json": "e30=", "a b/é?.txt": "QQ==", "model.bin": "AAAA"}
        )
        made = portal.order("person", name=f"holder-{listed}", repo_id=old, state="granted")
        portal.tokens[f"holder-{listed}"] = made["token"]
        portal.order("rename", repo_id=old, to=new)
    return portal


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/models/{}"),
        ("GET", "/api/models/{}?expand=sha&expand[]=siblings"),
        ("HEAD", "/api/models/{}/revision/main"),
        ("GET", "/api/models/{}/tree/main/a%20b%2Fc?recursive=true"),
        ("POST", "/api/models/{}/paths-info/main"),
        ("PUT", "/api/models/{}/settings"),
        ("GET", "/api/models/{}/user-access-request/pending?q=a%26b"),
        ("GET", "/{}/resolve/refs%2Fheads%2Fmain/a%20b/%C3%A9%3F.txt?download=true"),
        ("HEAD", "/{}/resolve/main/model.bin"),
        ("GET", "/{}/raw/main/config.json"),
    ],
)
def test_former_id_is_redirected_relative_with_path_and_query(moved: Portal, method: str, path: str) -> None:
    answer = moved.ask(method, path.format(OLD), body=b"" if method in {"POST", "PUT"} else None)
    assert (answer.status, answer.headers["location"]) == (307, path.format(NEW))
    assert answer.headers["x-hf-warning"] == f"renamed; {OLD} is called {NEW} now: use that name."
    other_case = path.format(OLD.upper())
    assert moved.ask(method, other_case).headers["location"] == path.format(NEW)


def test_client_goes_on_under_the_new_id_with_its_token(moved: Portal, tmp_path: Path) -> None:
    token = str(moved.tokens["holder-True"])
    api = HfApi(moved.url, token=token)
    assert api.model_info(OLD).id == NEW
    assert "model.bin" in api.list_repo_files(OLD)
    assert [item.path for item in api.get_paths_info(OLD, ["config.json"])] == ["config.json"]
    api.auth_check(OLD)
    options = {"endpoint": moved.url, "token": token, "cache_dir": tmp_path}
    assert Path(hf_hub_download(OLD, "a b/é?.txt", **options)).read_bytes() == b"A"
    assert (Path(snapshot_download(OLD, **options)) / "model.bin").read_bytes() == b"\0\0\0"


def test_former_id_of_a_hidden_model_leads_only_those_who_may_know_of_it(
    moved: Portal, tmp_path: Path
) -> None:
    paths = (f"/api/models/{HIDDEN}", f"/{HIDDEN}/resolve/main/config.json", f"/api/models/{HIDDEN}/nothing")
    for path in paths:
        assert HIDDEN_NOW in moved.get(path, "holder-False").headers["location"]
        for who in ("anonymous", "unknown", "stranger", "holder-True", "disabled"):
            answer = moved.get(path, who)
            assert (answer.status, answer.headers["x-error-code"]) == (404, "RepoNotFound")
            assert "secret" not in answer.text + str(answer.headers)
    with pytest.raises(RepositoryNotFoundError):
        HfApi(moved.url, token=moved.tokens["stranger"]).model_info(HIDDEN)
    api = HfApi(moved.url, token=moved.tokens["holder-False"])
    assert api.model_info(HIDDEN).id == HIDDEN_NOW


@pytest.mark.parametrize(
    "target",
    [
        f"http://evil.example/{OLD}/resolve/main/config.json",
        f"//{OLD}/resolve/main/config.json",
        f"/{OLD}//evil.example/resolve/main/config.json",
        f"/{OLD}/resolve/main//evil.example",
        f"/{OLD.replace('/', '%2F')}/resolve/main/config.json",
        f"/api/models/{OLD.replace('/', '%2f')}",
        f"/{OLD}/resolve/main/a%0D%0ALocation:%20http:%2F%2Fevil.example",
    ],
)
def test_no_odd_address_is_led_off_the_portal(moved: Portal, target: str) -> None:
    parts = urlsplit(moved.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.putrequest("GET", target)
    connection.endheaders()
    response = connection.getresponse()
    response.read()
    connection.close()
    location = response.getheader("Location", f"/{NEW}")
    assert location.startswith((f"/{NEW}", f"/api/models/{NEW}", f"/{OLD}"))
    assert response.status in {200, 302, 307, 400, 404}
