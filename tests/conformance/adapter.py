"""The conftest of huggingface_hub's own tests when they run against a live Gatehouse.

Runs in a client's environment, so it imports nothing of ours. What it does:

- both servers that the tests know become HF_ENDPOINT, and looking up any other host's name is an error;
- what their setup code asks a server to create, our seeding process (`seeding.py`) creates, over two pipes:
  SEEDING has the numbers of the one to write to and the one to read from, a JSON object per line;
- with UPLOADS=1 commits are not seeded but uploaded with the client's own code (except file names with a
  backslash, which a portal never accepts; what clients do with those is tested all the same);
- the repositories that the tests expect to exist are created before the first test;
- tests of what a portal of gated models does not offer are left out (`SELECTED`, `WORDS_OUT`, `OUT`).
"""

import base64
import json
import os
import socket
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    RepoUrl,
    constants,
)

from . import testing_constants as known
from .testing_utils import repo_name

ENDPOINT = os.environ["HF_ENDPOINT"].rstrip("/")
UPLOADS = os.environ.get("UPLOADS") == "1"
assert constants.ENDPOINT == ENDPOINT, "HF_ENDPOINT must be set before Python starts"

# The classes to run in each file; the whole file if none is named.
SELECTED = {
    "test_file_download": {
        "TestStagingDownload",
        "TestCachedDownload",
        "TestHfHubDownloadToLocalDir",
        "TestFileDownloadDryRun",
        "TestStagingCachedDownloadOnAwfulFilenames",
        "TestHfHubDownloadRelativePaths",
    },
    "test_snapshot_download": set(),
    "test_cache_layout": set(),
    "test_cache_no_symlinks": {"TestCacheLayoutIfSymlinksNotSupported"},
    "test_hf_api": {
        "TestHfApiRepoFileExists",
        "TestHfApiEndpoints",
        "TestHfApiListRepoTree",
        "TestHfApiTagEndpoint",
        "TestHfApiPublicProduction",
        "TestHfApiPrivate",
        "TestListGitCommits",
        "TestAccessRequestAPI",
        "TestAccessRequestHiddenPII",
        "TestHfApiAuthCheck",
        "TestHfApiVerifyChecksums",
    },
    "test_hf_file_system": {"TestHfFileSystemRepositoryRO"},
}
# Data sets, spaces, pull requests, other services; deleting and moving by API; lists of hundreds of famous models.
WORDS_OUT = (
    "dataset", "space", "inference", "leaderboard", "widget", "xethash",
    "on_pr", "pr_revision", "with_revision", "delete_", "move_repo",
    "safetensors", "filter_models", "list_models_sort", "complex_query", "paths_info",
)  # fmt: skip
OUT = {
    "test_get_hf_file_metadata_from_a_lfs_file",
    "test_scan_and_delete_cache_no_symlinks",
    "test_list_tree_with_expand",
    "test_list_files_without_expand",
    "test_list_models",
    "test_list_models_apps",
    "test_list_models_author",
    "test_list_models_search",
    "test_list_models_num_parameters",
    "test_list_models_with_config",
    "test_model_info@TestHfApiPublicProduction",
    # Tags created through the API.
    "test_create_tag_on_commit_oid",
    "test_invalid_tag_name",
    "test_create_tag_on_missing_revision",
    "test_create_tag_twice",
    "test_create_and_delete_tag",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    kept = [item for item in items if _is_selected(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _is_selected(item: Any) -> bool:
    module, name = item.module.__name__.rpartition(".")[2], item.originalname
    group = item.cls.__name__ if item.cls else ""
    return (
        module in SELECTED
        and (not SELECTED[module] or group in SELECTED[module])
        and not any(word in name for word in WORDS_OUT)
        and name not in OUT
        and f"{name}@{group}" not in OUT
    )


# --- one server and no other ----------------------------------------------------------------------------

known.ENDPOINT_PRODUCTION = known.ENDPOINT_STAGING = ENDPOINT
known.ENDPOINT_PRODUCTION_URL_SCHEME = ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
HOSTS = (urlsplit(ENDPOINT).hostname, "localhost", "127.0.0.1", None)
look_up = socket.getaddrinfo


def guarded(host: Any, *rest: Any, **options: Any) -> Any:
    if host not in HOSTS:
        raise AssertionError(f"escaped to {host}")
    return look_up(host, *rest, **options)


socket.getaddrinfo = guarded

# --- what setup code asks for, seeded ------------------------------------------------------------------

to_seeding, from_seeding = (int(number) for number in os.environ["SEEDING"].split(","))
orders, answers = os.fdopen(to_seeding, "w"), os.fdopen(from_seeding)


def seed(op: str, **arguments: Any) -> dict[str, Any]:
    orders.write(json.dumps({"op": op, **arguments}) + "\n")
    orders.flush()
    answer = json.loads(answers.readline())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


def prefix(repo_type: str | None) -> str:
    return f"{ENDPOINT}/" if repo_type in (None, "model") else f"{ENDPOINT}/{repo_type}s/"


def create_repo(
    self: HfApi, repo_id: str, *, private: bool | None = None, repo_type: str | None = None, **rest: Any
) -> RepoUrl:
    if "/" not in repo_id:
        repo_id = f"{known.USER}/{repo_id}"
    if repo_type in (None, "model"):
        seed("create_repo", repo_id=repo_id, private=bool(private), author=known.USER)
    return RepoUrl(prefix(repo_type) + repo_id, endpoint=ENDPOINT)


upload_commit = HfApi.create_commit


def create_commit(
    self: HfApi,
    repo_id: str,
    operations: Any,
    *,
    commit_message: str = "",
    repo_type: str | None = None,
    revision: str | None = None,
    create_pr: bool | None = None,
    **rest: Any,
) -> CommitInfo:
    """Create a commit; one for a pull request, which a portal does not have, goes nowhere."""
    operations = list(operations)
    is_pull_request = create_pr or (revision or "").startswith("refs/pr/")
    odd = any("\\" in operation.path_in_repo for operation in operations)
    if UPLOADS and repo_type in (None, "model") and not is_pull_request and not odd:
        options = {"commit_message": commit_message, "revision": revision, **rest}
        return upload_commit(self, repo_id, operations, **options)
    added, deleted = {}, []
    for operation in operations:
        if isinstance(operation, CommitOperationAdd):
            with operation.as_file() as file:
                added[operation.path_in_repo] = base64.b64encode(file.read()).decode()
        elif isinstance(operation, CommitOperationDelete):
            deleted.append(operation.path_in_repo)
    commit = "0" * 40
    if repo_type in (None, "model") and not is_pull_request:
        commit = seed(
            "commit",
            repo_id=repo_id,
            revision=revision or "main",
            message=commit_message,
            add=added,
            delete=deleted,
            author=known.USER,
        )["commit"]
    at = prefix(repo_type) + repo_id
    return CommitInfo(
        commit_url=f"{at}/commit/{commit}",
        commit_message=commit_message,
        commit_description="",
        oid=commit,
        pr_url=f"{at}/discussions/1" if create_pr else None,
    )


def create_branch(
    self: HfApi,
    repo_id: str,
    *,
    branch: str,
    revision: str | None = None,
    repo_type: str | None = None,
    **rest: Any,
) -> None:
    if repo_type in (None, "model"):
        seed("branch", repo_id=repo_id, name=branch, source=revision or "main", tag=False)


def create_tag(
    self: HfApi,
    repo_id: str,
    *,
    tag: str,
    revision: str | None = None,
    repo_type: str | None = None,
    **rest: Any,
) -> None:
    if repo_type in (None, "model"):
        seed("branch", repo_id=repo_id, name=tag, source=revision or "main", tag=True)


def delete_repo(self: HfApi, repo_id: str, *, repo_type: str | None = None, **rest: Any) -> None:
    if repo_type in (None, "model"):
        seed("delete_repo", repo_id=repo_id)


def move_repo(self: HfApi, from_id: str, to_id: str, *, repo_type: str | None = None, **rest: Any) -> None:
    if repo_type in (None, "model"):
        seed("move", repo_id=from_id, to=to_id)


for method in (create_repo, create_commit, create_branch, create_tag, delete_repo, move_repo):
    setattr(HfApi, method.__name__, method)

# --- people, and the repositories that the tests expect to exist ----------------------------------------

known.TOKEN = seed("user", name=known.USER, full_name=known.FULL_NAME, org="valid_org_hub", org_name="Dummy Hub Org")["token"]  # fmt: skip
known.OTHER_TOKEN = seed("user", name=known.OTHER_USER, full_name="DV User")["token"]
OWNER = HfApi(endpoint=ENDPOINT, token=known.TOKEN)


def put(repo_id: str, files: dict[str, bytes], branch: str = "main") -> str:
    added = [CommitOperationAdd(path, content) for path, content in files.items()]
    return OWNER.create_commit(repo_id, added, commit_message="add", revision=branch).oid


def make_dummy() -> None:
    """Create a model whose config.json has another size in an older commit."""
    OWNER.create_repo(known.DUMMY_MODEL_ID)
    known.DUMMY_MODEL_ID_REVISION_ONE_SPECIFIC_COMMIT = put(
        known.DUMMY_MODEL_ID,
        {
            "config.json": b"{" + b" " * 849 + b"}",
            "README.md": b"---\nlicense: mit\n---\n# dummy\n",
            "merges.txt": b"a b\n",
            "vocab.json": b"{}",
            "flax_model.msgpack": b"f" * 100,
            "tf_model.h5": b"t" * 100,
            "pytorch_model.bin": b"p" * 65074,
        },
    )
    put(known.DUMMY_MODEL_ID, {"config.json": b"{" + b" " * 494 + b"}"})
    OWNER.create_branch(known.DUMMY_MODEL_ID, branch="refs/pr/1")


def make_cache_layout(repo_id: str) -> None:
    """Create a model with one more file in each of two branches."""
    OWNER.create_repo(repo_id)
    put(repo_id, {"file_0.txt": b"File 0\n", "file_1.txt": b"File 1\n"})
    for number in (2, 3):
        OWNER.create_branch(repo_id, branch=f"file-{number}")
        put(repo_id, {f"file_{number}.txt": b"File %d\n" % number}, f"file-{number}")


def make_renamed(old: str, new: str) -> None:
    OWNER.create_repo(old)
    put(old, {"config.json": b"{}"})
    OWNER.move_repo(old, new)


RENAMED = (known.DUMMY_RENAMED_OLD_MODEL_ID, "hf-internal-testing/dummy-renamed")
for made in (known.DUMMY_MODEL_ID, "hf-internal-testing/hfh-cache-layout", *RENAMED, "HuggingFaceH4/zephyr-7b-beta"):  # fmt: skip
    OWNER.delete_repo(made)
make_dummy()
make_cache_layout("hf-internal-testing/hfh-cache-layout")
make_renamed(*RENAMED)
OWNER.create_repo("HuggingFaceH4/zephyr-7b-beta")


# --- fixtures that the tests ask for --------------------------------------------------------------------


@pytest.fixture(autouse=True)
def isolated(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Isolate caches and tokens; do not look for coding tools; switch Xet off."""
    home = str(tmp_path_factory.mktemp("hf"))
    folders = {
        "HF_HOME": "", "HF_HUB_CACHE": "/hub", "HUGGINGFACE_HUB_CACHE": "/hub", "HF_XET_CACHE": "/xet",
        "HF_ASSETS_CACHE": "/assets", "HF_TOKEN_PATH": "/token", "HF_STORED_TOKENS_PATH": "/stored_tokens",
    }  # fmt: skip
    for name, folder in folders.items():
        monkeypatch.setattr(constants, name, home + folder)
    from huggingface_hub.utils import _detect_agent

    if hasattr(_detect_agent, "_EMPTY_REGISTRY"):
        monkeypatch.setattr(_detect_agent, "_registry", _detect_agent._EMPTY_REGISTRY)
    if request.node.get_closest_marker("xet"):
        pytest.skip("Xet is not offered by the portal")
    if request.node.get_closest_marker("no_xet"):
        pytest.skip("needs hf_xet not installed")


@pytest.fixture(scope="session")
def api() -> HfApi:
    return OWNER


@pytest.fixture(scope="session")
def api_prod() -> HfApi:
    return HfApi(endpoint=ENDPOINT)


class RepoFactory(Protocol):
    def __call__(self, repo_type: str = "model", **options: Any) -> RepoUrl: ...


@pytest.fixture
def repo_factory(api: HfApi) -> Any:
    made: list[tuple[str, str]] = []

    def make(repo_type: str = "model", repo_id: str | None = None, **options: Any) -> RepoUrl:
        url = api.create_repo(repo_id or repo_name(prefix=repo_type), repo_type=repo_type, **options)
        made.append((url.repo_id, repo_type))
        return url

    yield make
    for repo_id, repo_type in made:
        api.delete_repo(repo_id, repo_type=repo_type)
