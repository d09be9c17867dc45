"""huggingface_hub's own tests, prepared to run against a portal.

They are part of its source package, which pip fetches by SHA-256 when the tests run; our repository keeps no
copy. The package leaves out their conftest, so ours takes its place (`adapter.py`). Two tests use a data set
although any repository would do; there we make it a model, which is all that a portal holds.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
from pathlib import Path

from tests.clients.environments import CACHE, built_once, pip

HERE = Path(__file__).resolve().parent
ADAPTER = HERE / "adapter.py"
FILES = (
    "test_file_download.py", "test_snapshot_download.py", "test_cache_layout.py", "test_cache_no_symlinks.py",
    "test_hf_api.py", "test_hf_file_system.py",
)  # fmt: skip
# File, class, and the replacements in that class.
MODELS_ONLY = (
    ("test_hf_file_system.py", "TestHfFileSystemRepositoryRO", r'repo_type="dataset"', 'repo_type="model"'),
    ("test_hf_file_system.py", "TestHfFileSystemRepositoryRO", r'hf_path = f"datasets/\{repo_id\}"', "hf_path = repo_id"),
    ("test_hf_api.py", "TestHfApiAuthCheck", r'repo_factory\("dataset"\)', 'repo_factory("model")'),
)  # fmt: skip
INI = """[pytest]
addopts = -q --tb=short -p no:cacheprovider
timeout = 200
"""


def upstream_tests(version: str, work: Path) -> Path:
    """Create a folder in `work` for that version's tests, with our adapter as conftest and a pytest.ini."""
    work.mkdir(parents=True)
    tests = work / "t"
    tests.mkdir()
    for file in _source(version).glob("*.py"):
        shutil.copy(file, tests)
    shutil.copy(ADAPTER, tests / "conftest.py")
    (tests / "__init__.py").touch()
    (work / "pytest.ini").write_text(INI)
    for name, group, old, new in MODELS_ONLY:
        _replace_in_class(tests / name, group, old, new)
    return work


def _source(version: str) -> Path:
    """Return the `tests` folder of that version's source package, fetched once."""
    pinned = HERE / f"source-{version}.txt"
    folder = CACHE / f"source-{version}-{hashlib.sha256(pinned.read_bytes()).hexdigest()[:12]}"
    with built_once(folder) as is_built:
        if not is_built:
            folder.mkdir()
            pip("download", "--no-deps", "--no-binary", ":all:", "-d", str(folder), "-r", str(pinned))
            archive = next(folder.glob("*.tar.gz"))
            with tarfile.open(archive) as package:
                package.extractall(folder, filter="data")
    return next(folder.glob("*/tests"))


def _replace_in_class(file: Path, group: str, old: str, new: str) -> None:
    """Replace text within one class; no match means that the tests have changed."""
    text = file.read_text()
    body = re.search(rf"^class {group}\b.*?(?=^class |\Z)", text, re.MULTILINE | re.DOTALL)
    assert body, f"{file.name} has no class {group}"
    changed, count = re.subn(old, new, body[0])
    assert count, f"{group} of {file.name} does not hold {old}"
    file.write_text(text[: body.start()] + changed + text[body.end() :])
