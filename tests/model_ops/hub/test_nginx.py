"""The configuration in docker/nginx in front of a live portal."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from huggingface_hub import HfFileSystem, snapshot_download

from tests.certificates import write_certificate
from tests.model_ops.hub.conftest import MODEL, Behind, Portal
from tests.model_ops.hub.ways import behind_nginx, slow_download
from tests.nginx import RENDER, main_options, nginx_environment, require_nginx, running_nginx
from tests.waiting import wait_until

OF_THE_SERVER = {"server", "date", "connection"}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_configuration_is_clean(tmp_path: Path, scheme: str) -> None:
    require_nginx()
    environment = nginx_environment(
        tmp_path, port=8080, portal="127.0.0.1:8000", store=tmp_path, scheme=scheme
    )
    make_certificate(tmp_path / "certificates")
    run = subprocess.run(
        [RENDER, "-t", "-g", main_options()], env=environment, capture_output=True, text=True, check=False
    )
    lines = [
        line for line in run.stderr.splitlines() if "syntax is ok" not in line and "successful" not in line
    ]
    assert (run.returncode, lines) == (0, [])


def test_snapshot_through_nginx_is_the_repository(behind: Behind, tmp_path: Path) -> None:
    folder = snapshot_download(
        MODEL, endpoint=behind.portal.url, token=behind.portal.tokens["granted"], cache_dir=tmp_path
    )
    found = {
        str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }
    assert Path(folder).name == behind.portal.commit
    assert {path: found[path] for path in behind.portal.files} == behind.portal.files


def test_file_system_reads_through_nginx(behind: Behind) -> None:
    files = HfFileSystem(endpoint=behind.portal.url, token=behind.portal.tokens["granted"])
    content = behind.portal.files["model.safetensors"]
    with files.open(f"{MODEL}/model.safetensors", "rb", revision=behind.portal.commit) as stream:
        stream.seek(100_000)
        assert stream.read(50_000) == content[100_000:150_000]


@pytest.mark.parametrize(
    ("method", "name", "headers"),
    [
        ("HEAD", "model.safetensors", {}),
        ("GET", "model.safetensors", {}),
        ("GET", "model.safetensors", {"range": "bytes=1000-1999"}),
        ("GET", "model.safetensors", {"range": "bytes=-7"}),
        ("GET", "model.safetensors", {"range": "bytes=0-1,5-6"}),
        ("GET", "model.safetensors", {"range": "bytes=999999999-"}),
        ("GET", "config.json", {"range": "bytes=0-1", "if_range": '"other"'}),
        ("GET", "extra/empty.txt", {}),
        ("GET", "what%3F%20100%25%3A%20a%2Cb%20%C3%A9.json", {}),
        ("GET", "absent.json", {}),
    ],
)
@pytest.mark.parametrize("who", ["granted", "ends_soon", "pending", "revoked", "anonymous"])
def test_answer_through_nginx_is_the_portals_own(
    behind: Behind, who: str, method: str, name: str, headers: dict[str, str]
) -> None:
    """Status, body and every header are the same, whether nginx or the portal sends the bytes."""
    path, token = f"/{MODEL}/resolve/{behind.portal.commit}/{name}", behind.portal.tokens[who]
    headers |= {"x_amzn_trace_id": "the-same"}
    through = behind.portal.ask(method, path, token=token, **headers)
    straight = behind.straight.ask(method, path, token=token, **headers)
    assert (through.status, through.body) == (straight.status, straight.body)
    assert {name: value for name, value in through.headers.items() if name not in OF_THE_SERVER} == {
        name: value for name, value in straight.headers.items() if name not in OF_THE_SERVER
    }


def test_pages_through_nginx_show_nothing_of_the_way(behind: Behind) -> None:
    for path in ("/", f"/{MODEL}", f"/api/models/{MODEL}", f"/{MODEL}/resolve/main/config.json"):
        answer = behind.portal.get(path, "granted")
        assert answer.status in {200, 307}
        assert [name for name in answer.headers if name.startswith(("x-gatehouse", "x-accel"))] == []


def test_store_is_not_readable_without_the_portal(behind: Behind) -> None:
    content = behind.portal.files["model.safetensors"]
    blob = next(
        path
        for path in (Path(behind.portal.environment["GATEHOUSE_STATE"]) / "weights" / "blobs").rglob("*")
        if path.is_file() and path.read_bytes() == content
    )
    place = f"blobs/{blob.parent.name}/{blob.name}"
    for path in (
        f"/gatehouse-store/{place}",
        f"/gatehouse%2Dstore/{place}",
        f"//gatehouse-store/{place}",
        f"/x/../gatehouse-store/{place}",
        f"/gatehouse-store/../gatehouse-store/{place}",
        f"/{place}",
    ):
        answer = behind.portal.get(path, "granted", x_accel_redirect=f"/gatehouse-store/{place}")
        assert answer.status in {400, 404}, path
        assert content[:1000] not in answer.body


def test_mark_of_the_front_counts_for_nothing_through_nginx(behind: Behind) -> None:
    """A client that names another front end still gets the file; on gunicorn itself, the header opens nothing."""
    path = f"/{MODEL}/resolve/{behind.portal.commit}/config.json"
    answer = behind.portal.get(path, "granted", x_gatehouse_front="none")
    assert (answer.status, answer.body) == (200, behind.portal.files["config.json"])
    straight = behind.straight.get(path, "pending", x_gatehouse_front="nginx")
    assert (straight.status, straight.headers.get("x-accel-redirect")) == (403, None)


def test_addresses_that_clients_write_are_not_believed(behind: Behind) -> None:
    token = behind.portal.order("person", name="forger", repo_id=MODEL, state="granted")["token"]
    path = f"/{MODEL}/resolve/{behind.portal.commit}/config.json"
    assert behind.portal.ask("GET", path, token=token, x_forwarded_for="203.0.113.9").status == 200
    row = wait_until(lambda: [row for row in _joined(behind.portal) if row["user"] == "forger"])[0]
    assert row["address"] == "127.0.0.1"


def _joined(portal: Portal) -> list[dict[str, object]]:
    portal.order("move_downloads")
    return [row for row in portal.order("downloads", repo_id=MODEL) if row["state"] != "waiting"]


def test_download_log_has_what_nginx_sent(behind: Behind) -> None:
    token = behind.portal.order("person", name="counted", repo_id=MODEL, state="granted")["token"]
    path = f"/{MODEL}/resolve/{behind.portal.commit}/model.safetensors"
    size = len(behind.portal.files["model.safetensors"])
    behind.portal.ask("GET", path, token=token)
    behind.portal.ask("GET", path, token=token, range="bytes=10-109")
    behind.portal.ask("HEAD", path, token=token)

    def rows() -> list[tuple[object, ...]]:
        mine = [row for row in _joined(behind.portal) if row["user"] == "counted"]
        return [
            tuple(row[n] for n in ("mode", "status", "first_byte", "bytes_asked", "bytes_sent"))
            for row in mine
        ]

    assert wait_until(lambda: len(found := rows()) == 2 and found) == [
        ("nginx", 200, 0, size, size),
        ("nginx", 206, 10, 100, 100),
    ]


def test_lines_of_the_log_are_json(behind: Behind) -> None:
    path = f"/{MODEL}/resolve/{behind.portal.commit}/config.json"
    behind.portal.get(path, "granted")
    log = Path(behind.portal.environment["GATEHOUSE_NGINX_LOG"])
    lines = wait_until(lambda: log.exists() and log.read_text().splitlines())
    line = json.loads(lines[-1])
    assert set(line) == {"time", "id", "status", "bytes", "seconds", "complete"}
    assert (len(line["id"]), line["complete"]) == (32, "OK")


def test_person_has_so_many_large_bodies_at_once(
    behind: Behind, large: tuple[str, bytes], tmp_path: Path
) -> None:
    path, _ = large
    token = behind.portal.order("person", name="greedy", repo_id="maker/large", state="granted")["token"]
    other = behind.portal.order("person", name="modest", repo_id="maker/large", state="granted")["token"]
    with ExitStack() as stack:
        asked = [
            stack.enter_context(slow_download(behind.portal, path, token)) for _ in range(behind.each + 1)
        ]
        assert [response.status for response in asked] == [200] * behind.each + [429]
        assert (asked[-1].headers["Retry-After"], asked[-1].headers["X-Error-Code"]) == (
            "30",
            "TooManyDownloads",
        )
        assert stack.enter_context(slow_download(behind.portal, path, other)).status == 200
        small = path.replace("large.bin", "small.json")
        assert behind.portal.ask("GET", small, token=token).body == b"{}"


def test_front_before_nginx_says_the_address_and_all_have_so_many_bodies(
    portal: Portal, large: tuple[str, bytes], tmp_path: Path
) -> None:
    """Behind another proxy each client keeps its own address; addresses sent by the client itself are not believed."""
    require_nginx()
    path, _ = large
    names = ("first-of-all", "last-of-all")
    tokens = [portal.order("person", name=n, repo_id="maker/large", state="granted")["token"] for n in names]
    with ExitStack() as stack:
        networks = "192.0.2.0/24,127.0.0.0/8"
        through, _ = stack.enter_context(behind_nginx(portal, tmp_path, most=1, before=networks))
        forwarded = "198.51.100.1, 203.0.113.9, 192.0.2.8"
        small = path.replace("large.bin", "small.json")
        assert through.ask("GET", small, token=tokens[0], x_forwarded_for=forwarded).body == b"{}"
        assert stack.enter_context(slow_download(through, path, tokens[0])).status == 200
        refused = stack.enter_context(slow_download(through, path, tokens[1]))
        assert (refused.status, refused.headers["Retry-After"]) == (429, "30")
        assert through.ask("GET", small, token=tokens[1]).body == b"{}"

        def addresses() -> list[object]:
            through.order("move_downloads")
            rows = through.order("downloads", repo_id="maker/large")
            return [
                row["address"]
                for row in rows
                if row["user"] == names[0] and row["path"].endswith("small.json")
            ]

        assert wait_until(addresses) == ["203.0.113.9"]


def test_portal_that_is_away_is_said_in_a_sentence(tmp_path: Path) -> None:
    require_nginx()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as away:
        away.bind(("127.0.0.1", 0))  # and accepts no connections
        environment = nginx_environment(
            tmp_path,
            port=listening.getsockname()[1],
            portal=f"127.0.0.1:{away.getsockname()[1]}",
            store=tmp_path,
        )
        with running_nginx(environment, listening=listening) as nginx, pytest.raises(HTTPError) as refused:
            urlopen(f"{nginx.url}/api/models/ai/tulu")
    with refused.value as answer:
        assert answer.code == 502
        assert (
            answer.headers["X-Error-Message"] == "The portal does not answer just now: try again in a minute."
        )
        assert answer.read().decode().strip() == answer.headers["X-Error-Message"]


def test_file_through_nginx_over_tls(portal: Portal, tmp_path: Path) -> None:
    require_nginx()
    make_certificate(tmp_path / "certificates")
    with behind_nginx(portal, tmp_path, scheme="https") as (through, _):
        context = ssl.create_default_context(cafile=tmp_path / "certificates" / "fullchain.pem")
        connection = http.client.HTTPSConnection(
            "127.0.0.1", urlsplit(through.url).port, context=context, timeout=60
        )
        headers = {"Authorization": f"Bearer {portal.tokens['granted']}"}
        connection.request("GET", f"/{MODEL}/resolve/{portal.commit}/config.json", headers=headers)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, portal.files["config.json"])
        connection.request("GET", "/api/models?limit=1", headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert (answer.headers["Link"] or "").startswith(f"<{through.url}/api/models")
        connection.close()


def test_uploads_are_not_kept_back_by_nginx(behind: Behind) -> None:
    """Bodies above the page limit reach the portal on upload routes; elsewhere nginx refuses them."""
    headers = {
        "Content-Length": str(17 * 2**20)
    }  # and none of the body: clients that read early get the answer first
    connection = http.client.HTTPConnection(urlsplit(behind.portal.url).netloc, timeout=60)
    connection.request("POST", "/accounts/login/", headers=headers)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["X-Error-Code"]) == (413, "TooLarge")
    connection.close()
    answer = behind.portal.ask("PUT", "/api/uploads/not-signed", body=bytes(17 * 2**20))
    assert answer.headers["x-error-code"] not in {"TooLarge", "PortalAway"}


def make_certificate(folder: Path) -> None:
    """Write a self-signed certificate for 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)
    write_certificate(folder / "fullchain.pem", folder / "privkey.pem")
