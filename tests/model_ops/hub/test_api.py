from __future__ import annotations

import json

import pytest
from huggingface_hub import HfApi

from model_ops.hub.fields import FIELDS
from tests.model_ops.hub.conftest import MODEL, Portal


def test_model_info_has_the_fields_of_every_client(portal: Portal) -> None:
    info = portal.get(f"/api/models/{MODEL}").json
    needed = [
        "_id",
        "id",
        "modelId",
        "sha",
        "siblings",
        "private",
        "gated",
        "downloads",
        "likes",
        "tags",
        "createdAt",
        "lastModified",
        "cardData",
        "author",
        "disabled",
    ]
    assert [name for name in needed if name not in info] == []
    assert (info["id"], info["sha"], info["gated"], info["private"]) == (
        MODEL,
        portal.commit,
        "manual",
        False,
    )
    assert info["createdAt"].endswith("Z")
    assert info["tags"] == ["transformers", "tiny", "text-generation", "license:other"]
    assert {"rfilename": "model.safetensors"} in info["siblings"]
    assert portal.get(f"/api/models/{MODEL}/revision/{portal.commit}").json == info


def test_expand_gives_those_fields_and_no_other(portal: Portal) -> None:
    for name in ("expand", "expand[]"):
        answer = portal.get(f"/api/models/{MODEL}?{name}=gated&{name}=cardData").json
        assert sorted(answer) == ["_id", "cardData", "gated", "id"]
    every = "&".join(f"expand={name}" for name in FIELDS)
    assert portal.get(f"/api/models/{MODEL}?{every}").status == 200
    assert portal.get(f"/api/models?{every}").status == 200
    for path in (f"/api/models/{MODEL}", "/api/models"):
        answer = portal.get(f"{path}?expand=foo")
        assert (answer.status, answer.headers["x-error-code"]) == (400, "BadRequest")
        assert "expand does not know 'foo'" in answer.json["error"]


def test_security_status_says_that_nothing_was_scanned(portal: Portal) -> None:
    info = portal.get(f"/api/models/{MODEL}?securityStatus=true").json
    assert info["securityRepoStatus"] == {"scansDone": False, "filesWithIssues": []}


def test_tree_lists_one_folder_or_all(portal: Portal) -> None:
    root = {
        item["path"]: item["type"] for item in portal.get(f"/api/models/{MODEL}/tree/main", "granted").json
    }
    assert (root["extra"], root["config.json"]) == ("directory", "file")
    assert "extra/notes.txt" not in root
    everything = portal.get(f"/api/models/{MODEL}/tree/main?recursive=True", "granted").json
    assert [item["path"] for item in everything] == sorted(item["path"] for item in everything)
    assert {"extra", "extra/deep", "extra/deep/head.bin", ".gitattributes"} <= {
        item["path"] for item in everything
    }
    for folder in ("extra/deep", "extra%2Fdeep", "extra/deep/"):
        inside = portal.get(f"/api/models/{MODEL}/tree/main/{folder}", "granted").json
        assert [item["path"] for item in inside] == ["extra/deep/head.bin"]
    answer = portal.get(f"/api/models/{MODEL}/tree/main/nothing", "granted")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "EntryNotFound")


def test_tree_is_paged_by_absolute_links_on_the_clients_own_origin(portal: Portal) -> None:
    whole = portal.get(f"/api/models/{MODEL}/tree/main?recursive=true").json
    found, address = [], f"/api/models/{MODEL}/tree/main?recursive=true&limit=3"
    while address:
        answer = portal.get(address)
        found += answer.json
        link = answer.headers.get("link", "")
        assert not link or link.startswith(f"<{portal.url}/api/models/{MODEL}/tree/main?")
        assert not link or link.endswith('>; rel="next"')
        address = link.partition(">")[0].removeprefix(f"<{portal.url}")
    assert found == whole
    answer = portal.get(f"/api/models/{MODEL}/tree/main?limit=1", host="other.example:81")
    assert answer.headers["link"].startswith("<http://other.example:81/api/")


def test_expanded_tree_names_the_commit_of_each_item(portal: Portal) -> None:
    portal.order("model", repo_id="maker/history")
    first = portal.order(
        "commit",
        repo_id="maker/history",
        add={"a/x.txt": "YQ==", "a/b/c/y.txt": "YQ==", "a.d/z.txt": "YQ==", "b.txt": "YQ=="},
        message="First",
    )["commit"]
    second = portal.order("commit", repo_id="maker/history", add={"a/x.txt": "Yg=="}, message="Second")[
        "commit"
    ]
    items = {
        item["path"]: item["lastCommit"]
        for item in portal.get("/api/models/maker/history/tree/main?expand=true&recursive=true").json
    }
    expected = {"a": second, "a/x.txt": second} | dict.fromkeys(["a/b", "a/b/c", "a.d", "b.txt"], first)
    assert {path: items[path]["id"] for path in expected} == expected
    assert items["a"]["title"] == "Second"


def test_history_follows_parents_and_not_other_branches(portal: Portal) -> None:
    repo_id = "maker/branched"
    portal.order("model", repo_id=repo_id, gate="none")
    one, two = "b25l", "dHdv"
    first = portal.order("commit", repo_id=repo_id, add={"a.txt": one, "b.txt": one}, message="first")
    portal.order("branch", repo_id=repo_id, name="side")
    portal.order("commit", repo_id=repo_id, add={"side.txt": one}, revision="side", message="aside")
    portal.order("commit", repo_id=repo_id, add={"a.txt": two}, message="changed")
    portal.order("commit", repo_id=repo_id, add={"a.txt": one}, message="changed back")

    def titles(revision: str) -> list[str]:
        answer = portal.get(f"/api/models/{repo_id}/commits/{revision}")
        return [commit["title"] for commit in answer.json]

    def last(revision: str) -> dict[str, str]:
        answer = portal.get(f"/api/models/{repo_id}/tree/{revision}?expand=true")
        return {
            i["path"]: i["lastCommit"]["title"]
            for i in answer.json
            if i["path"] in {"a.txt", "b.txt", "side.txt"}
        }

    begin = titles(first["commit"])
    assert begin[0] == "first"
    assert titles("main") == ["changed back", "changed", *begin]
    assert titles("side") == ["aside", *begin]
    assert last("main") == {"a.txt": "changed back", "b.txt": "first"}
    assert last("side") == {"a.txt": "first", "b.txt": "first", "side.txt": "aside"}


def test_paths_info_takes_forms_and_json(portal: Portal) -> None:
    url = f"/api/models/{MODEL}/paths-info/main"
    form = portal.ask(
        "POST",
        url,
        body=b"paths=extra&paths=config.json&paths=nope&expand=False",
        content_type="application/x-www-form-urlencoded",
    )
    assert [item["path"] for item in form.json] == ["extra", "config.json"]
    body = json.dumps({"paths": ["extra", "config.json", "nope"], "expand": False}).encode()
    assert portal.ask("POST", url, body=body, content_type="application/json").json == form.json
    for bad in (b"{", b"[1]", b'{"paths": [1]}', b'{"paths": "\\u0000"}', b"[" * 100_000):
        answer = portal.ask("POST", url, body=bad, content_type="application/json")
        assert (answer.status, answer.headers["x-error-code"]) == (400, "BadRequest"), bad[:20]
    answer = portal.ask("POST", url, body=b"{}".ljust(6_000_000))
    assert (answer.status, answer.headers["x-error-code"]) == (413, "TooLarge")
    assert "send less at once" in answer.json["error"]


@pytest.mark.parametrize("expand", [False, True])
def test_paths_info_takes_so_many_paths(portal: Portal, expand: bool) -> None:
    """Check the Hub's limit: clients that are not signed in send these requests too."""
    most = 1_000
    url = f"/api/models/{MODEL}/paths-info/main"
    for count, status in ((most, 200), (most + 1, 400)):
        body = json.dumps({"paths": ["a"] * (count - 1) + ["config.json"], "expand": expand}).encode()
        answer = portal.ask("POST", url, body=body, content_type="application/json")
        assert answer.status == status
        form = f"expand={expand}{'&paths=a' * (count - 1)}&paths=config.json".encode()
        as_form = portal.ask("POST", url, body=form, content_type="application/x-www-form-urlencoded")
        assert (as_form.status, "error" in as_form.json) == (status, status == 400)
    assert (answer.headers["x-error-code"], str(most) in answer.json["error"].replace(",", "")) == (
        "BadRequest",
        True,
    )


def test_refs_and_commits(portal: Portal) -> None:
    refs = portal.get(f"/api/models/{MODEL}/refs?include_prs=1").json
    assert {"name": "main", "ref": "refs/heads/main", "targetCommit": portal.commit} in refs["branches"]
    assert (refs["converts"], refs["pullRequests"]) == ([], [])
    commits = portal.get(f"/api/models/{MODEL}/commits/main?expand[]=formatted").json
    assert [commit["title"] for commit in commits] == ["Add files", "Add the card and licences"]
    assert (commits[0]["id"], commits[0]["authors"]) == (portal.commit, [{"user": "Gatehouse"}])
    assert commits[0]["formatted"] == {"title": "Add files", "message": ""}


def test_list_of_models_is_searched_filtered_and_paged(portal: Portal) -> None:
    for number in range(4):
        portal.order("model", repo_id=f"lister/open-{number}", gate="none")
    portal.order("model", repo_id="lister/closed", gate="auto")

    def ids(query: str) -> list[str]:
        return [item["id"] for item in portal.get(f"/api/models?{query}").json]

    assert ids("author=lister&sort=id") == ["lister/closed", *(f"lister/open-{n}" for n in range(4))]
    assert ids("search=LISTER/open&gated=False&sort=id") == [f"lister/open-{n}" for n in range(4)]
    assert ids("author=lister&gated=true") == ["lister/closed"]
    assert ids("author=lister&gated=auto") == ["lister/closed"]
    assert ids("author=lister&filter=tiny&filter=nope") == []
    assert ids("author=lister&filter=tiny&sort=createdAt&limit=1") == ["lister/closed"]
    answer = portal.get("/api/models?author=lister&sort=id&limit=2")
    assert 'rel="next"' in answer.headers["link"]
    assert "siblings" not in answer.json[0]
    full = portal.get("/api/models?author=lister&sort=id&full=True&cardData=True").json[0]
    assert {"rfilename": "README.md"} in full["siblings"]
    assert full["cardData"]["license"] == "other"
    for bad in ("limit=0", "limit=x", "cursor=-1", "limit=" + "9" * 30, "sort=nope"):
        answer = portal.get(f"/api/models?{bad}")
        assert (answer.status, answer.headers["x-error-code"]) == (400, "BadRequest"), bad
    found = HfApi(endpoint=portal.url).list_models(author="lister", limit=3, expand=["gated"])
    assert [model.gated for model in found].count(False) >= 2


def test_whoami_names_the_person_but_not_the_address(portal: Portal) -> None:
    answer = portal.get("/api/whoami-v2", "granted")
    assert (answer.json["name"], answer.json["type"], answer.json["orgs"]) == ("granted", "user", [])
    assert answer.json["auth"]["accessToken"]["displayName"] == "laptop"
    assert "@" not in answer.text
    for who in ("anonymous", "unknown", "disabled"):
        answer = portal.get("/api/whoami-v2", who)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json["error"].startswith("Invalid username or password. ")


def test_whoami_names_the_namespaces_of_a_persons_roles(portal: Portal) -> None:
    portal.order("namespace", name="maker", full_name="The Maker's Institute")
    maker = {"name": "maker", "fullname": "The Maker's Institute", "type": "org"}
    for who, role, in_org in (("owner", "write", "admin"), ("decider", "write", "read")):
        answer = portal.get("/api/whoami-v2", who).json
        assert [{key: org[key] for key in maker} for org in answer["orgs"]] == [maker]
        assert answer["orgs"][0]["roleInOrg"] == in_org
        assert answer["auth"]["accessToken"]["role"] == role
    assert portal.get("/api/whoami-v2", "granted").json["auth"]["accessToken"]["role"] == "read"


def test_auth_check_for_writing_is_for_owners_with_a_token_that_writes(portal: Portal) -> None:
    words = {
        "anonymous": (401, "is restricted"),
        "stranger": (403, "not in the authorized list"),
        "granted": (403, "make one of the kind 'reviewer' at"),
        "decider": (403, f"Only an owner of {MODEL} may do this"),
    }
    for who, (status, sentence) in words.items():
        answer = portal.get(f"/api/models/{MODEL}/auth-check/write", who)
        assert (answer.status, answer.headers["x-error-code"]) == (status, "GatedRepo"), who
        assert sentence in answer.json["error"]
    assert portal.get(f"/api/models/{MODEL}/auth-check/write", "owner").status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/agent-harnesses", 200),
        ("/robots.txt", 200),
        ("/api/datasets", 200),
        ("/api/telemetry/x/y", 200),
        ("/api/nothing", 404),
        ("/api", 404),
    ],
)
def test_side_calls_are_answered_quietly(portal: Portal, path: str, status: int) -> None:
    assert portal.get(path).status == status
    assert portal.head(path).status == status


def test_unserved_route_of_a_known_model_says_so(portal: Portal) -> None:
    answer = portal.ask("GET", f"/api/models/{MODEL}/discussions")
    assert (answer.status, answer.headers["x-error-code"]) == (404, "NotServed")
