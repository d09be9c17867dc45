"""Headers of shards and facts from config.json are content: gated, bounded, and refused when malformed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError

from tests.model_ops.hub.conftest import MODEL, Portal

REPO = "maker/sharded"
SECRET = "hidden_projection.weight"
INDEX = "model.safetensors.index.json"
PATH = f"/api/models/{REPO}/safetensors-metadata"


def safetensors(name: str, metadata: dict[str, str] | None = None) -> bytes:
    header: dict[str, Any] = {name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    if metadata:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


def index(**shards: str) -> bytes:
    return json.dumps({"metadata": {"total_size": 32}, "weight_map": shards}).encode()


FILES = {
    "model-00001-of-00002.safetensors": safetensors("a.weight", {"format": "pt"}),
    "model-00002-of-00002.safetensors": safetensors(SECRET),
    INDEX: json.dumps(
        {
            "metadata": {"total_size": 32},
            "weight_map": {
                "a.weight": "model-00001-of-00002.safetensors",
                SECRET: "model-00002-of-00002.safetensors",
            },
        }
    ).encode(),
    "sub/one.safetensors": safetensors("b"),
    "sub/one.index.json": index(b="one.safetensors"),
    "config.json": b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 77}',
}
ODD = {
    "empty.safetensors": b"",
    "short.safetensors": b"1234567",
    "long.safetensors": (2**63).to_bytes(8, "little") + b"{}",
    "zero.safetensors": bytes(8) + b"{}",
    "text.safetensors": (4).to_bytes(8, "little") + b"nope",
    "list.safetensors": (2).to_bytes(8, "little") + b"[]",
    "nan.safetensors": (10).to_bytes(8, "little") + b'{"a": NaN}',
    "deep.safetensors": (90_000).to_bytes(8, "little") + b'{"a":' + b"[" * 89_995,
    "no-map.json": b"{}",
    "odd-map.json": b'{"weight_map": {"a": 1}}',
    "many.json": index(**{f"t{n}": f"{n}.safetensors" for n in range(1001)}),
    "pickle.bin": b"\x80\x04",
}


@pytest.fixture(scope="module")
def sharded(portal: Portal) -> Portal:
    portal.order("model", repo_id=REPO)
    added = {path: base64.b64encode(content).decode() for path, content in (FILES | ODD).items()}
    portal.order("commit", repo_id=REPO, add=added)
    for state in ("granted", "pending"):
        made = portal.order("person", name=f"sharded-{state}", repo_id=REPO, state=state)
        portal.tokens[f"sharded-{state}"] = made["token"]
    return portal


def test_client_reads_every_shards_header_in_one_request(sharded: Portal) -> None:
    api = HfApi(sharded.url, token=sharded.tokens["sharded-granted"])
    found = api.get_sharded_safetensors_metadata(REPO)
    assert found.metadata == {"total_size": 32}
    assert found.weight_map == json.loads(FILES[INDEX])["weight_map"]
    assert {name: file.metadata for name, file in found.files_metadata.items()} == {
        "model-00001-of-00002.safetensors": {"format": "pt"},
        "model-00002-of-00002.safetensors": {},
    }
    assert found.parameter_count == {"F32": 8}
    with pytest.raises(GatedRepoError):
        HfApi(sharded.url, token=sharded.tokens["sharded-pending"]).get_sharded_safetensors_metadata(REPO)


def test_header_of_one_file_and_of_an_index_in_a_folder(sharded: Portal) -> None:
    one = sharded.get(f"{PATH}/sub/one.safetensors", "sharded-granted").json
    assert one["index"] == {"metadata": {}, "weight_map": {"b": "sub/one.safetensors"}}
    assert one["headers"]["sub/one.safetensors"]["b"]["shape"] == [2, 2]
    for path in ("sub/one.index.json", "sub%2Fone.index.json"):
        answer = sharded.get(f"{PATH}/{path}", "sharded-granted")
        assert list(answer.json["headers"]) == ["one.safetensors"]


def test_numbers_are_counted_by_dtype_for_those_who_may_read_the_weights(sharded: Portal) -> None:
    for _ in range(2):  # the second time from the cache
        api = HfApi(sharded.url, token=sharded.tokens["sharded-granted"])
        found = api.model_info(REPO, expand=["safetensors"]).safetensors
        assert found is not None
        assert (found.parameters, found.total) == ({"F32": 8}, 8)
    for who in ("anonymous", "sharded-pending"):
        assert "safetensors" not in sharded.get(f"/api/models/{REPO}?expand=safetensors", who).json


WRONG = {
    "dtype": {"a": {"dtype": 7, "shape": [1]}},
    "shape": {"a": {"dtype": "F32", "shape": "no"}},
    "minus": {"a": {"dtype": "F32", "shape": [-1]}},
    "truth": {"a": {"dtype": "F32", "shape": [True]}},
    "list": {"a": [1]},
}


def test_numbers_of_one_file_and_of_what_cannot_be_counted(sharded: Portal) -> None:
    repo_id = "maker/counted"
    sharded.order("model", repo_id=repo_id, gate="none")
    path = f"/api/models/{repo_id}?expand=safetensors"

    def count(**files: bytes) -> object:
        added = {
            name.replace("_", "."): base64.b64encode(content).decode() for name, content in files.items()
        }
        sharded.order("commit", repo_id=repo_id, add=added)
        return sharded.get(path).json.get("safetensors")

    assert count(a_txt=b"") is None
    assert count(model_safetensors_index_json=index(a="gone.safetensors")) is None
    for header in WRONG.values():
        text = json.dumps(header).encode()
        assert count(model_safetensors=len(text).to_bytes(8, "little") + text) is None, header
    assert count(model_safetensors=b"short") is None
    mixed = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "BF16", "shape": [3, 4], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
        "c": {"dtype": "I8", "shape": [0, 9], "data_offsets": [26, 26]},
    }
    text = json.dumps(mixed).encode()
    assert count(model_safetensors=len(text).to_bytes(8, "little") + text + bytes(26)) == {
        "parameters": {"BF16": 13, "I8": 0},
        "total": 13,
    }


@pytest.mark.parametrize("name", ODD)
def test_odd_content_is_a_bad_request_with_a_sentence(sharded: Portal, name: str) -> None:
    answer = sharded.get(f"{PATH}/{name}", "sharded-granted")
    assert (answer.status, answer.headers["x-error-code"]) == (400, "BadRequest")
    assert name in answer.json["error"]


@pytest.mark.parametrize(
    "place", ["gone.safetensors", "../../etc/passwd", "/etc/passwd", "sub/../../x", "", "a\0b", "\ud800"]
)
def test_index_that_names_a_file_that_is_not_there_is_an_absent_entry(sharded: Portal, place: str) -> None:
    repo_id = "maker/astray"
    if not sharded.order("known", repo_id=repo_id)["known"]:
        sharded.order("model", repo_id=repo_id)
        sharded.tokens["astray"] = sharded.order("person", name="astray", repo_id=repo_id, state="granted")[
            "token"
        ]
    content = base64.b64encode(index(a=place)).decode()
    sharded.order("commit", repo_id=repo_id, add={"a.index.json": content})
    answer = sharded.get(f"/api/models/{repo_id}/safetensors-metadata/a.index.json", "astray")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "EntryNotFound")


def test_headers_of_one_answer_are_bounded_in_sum(sharded: Portal) -> None:
    """A few bytes of an upload can name one large header many times."""
    large = (
        json.dumps({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode().ljust(9 * 2**20)
    )
    content = len(large).to_bytes(8, "little") + large
    added = {"l/large.safetensors": content} | {
        f"l/{count}.json": index(**{f"t{n}": "./" * n + "large.safetensors" for n in range(count)})
        for count in (3, 4)
    }
    repo_id = "maker/heavy"
    sharded.order("model", repo_id=repo_id)
    sharded.order(
        "commit", repo_id=repo_id, add={path: base64.b64encode(text).decode() for path, text in added.items()}
    )
    token = sharded.order("person", name="heavy", repo_id=repo_id, state="granted")["token"]
    url = f"/api/models/{repo_id}/safetensors-metadata"
    most = sharded.ask("GET", f"{url}/l/3.json", token=token)
    assert (most.status, {tuple(header) for header in most.json["headers"].values()}) == (200, {("a",)})
    over = sharded.ask("GET", f"{url}/l/4.json", token=token)
    assert (over.status, over.headers["x-error-code"]) == (400, "BadRequest")
    assert "read them one by one" in over.json["error"]
    assert sharded.ask("GET", f"{url}/l/large.safetensors", token=token).status == 200


@pytest.mark.parametrize("who", ["anonymous", "stranger", "sharded-pending"])
def test_no_tensor_name_or_config_reaches_the_refused(sharded: Portal, who: str) -> None:
    paths = [f"{PATH}/{INDEX}", f"{PATH}/model-00002-of-00002.safetensors", f"{PATH}/gone.safetensors"]
    assert SECRET in sharded.get(paths[0], "sharded-granted").text  # now in the cache
    for path in paths:
        answer = sharded.get(path, who)
        assert answer.headers["x-error-code"] == "GatedRepo"
        assert SECRET not in answer.text
    info = sharded.get(f"/api/models/{REPO}", who)
    listed = sharded.get("/api/models?search=sharded&config=true", who)
    assert (info.json["config"], listed.json[0]["config"]) == ({}, {})


def test_config_facts_are_shown_to_those_who_may_read_the_file(sharded: Portal) -> None:
    facts = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    for who in ("sharded-granted", "sharded-granted"):
        assert sharded.get(f"/api/models/{REPO}", who).json["config"] == facts
        assert sharded.get(f"/api/models/{REPO}?expand=config", who).json["config"] == facts
        assert sharded.get("/api/models?search=sharded&config=true", who).json[0]["config"] == facts
    # A token for another model's grant can read neither this model's config nor its files.
    elsewhere = sharded.get(f"/api/models?search={MODEL.partition('/')[2]}&config=true", "out_of_scope")
    assert [one["config"] for one in elsewhere.json if one["id"] == MODEL] == [{}]
    assert [
        one["config"]["model_type"]
        for one in sharded.get("/api/models?search=tiny&config=true", "granted").json
        if one["id"] == MODEL
    ] == ["llama"]
