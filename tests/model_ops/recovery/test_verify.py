"""Folders are checked against their manifest, which anyone could have written."""

import json
import os
import resource
import threading

import pytest

from model_ops.recovery import MANIFEST
from model_ops.recovery.errors import Failure
from model_ops.recovery.formats.git_ids import pointer_id
from model_ops.recovery.planning.manifest import build_manifest
from model_ops.recovery.planning.plan import human
from model_ops.recovery.system.control import Control
from model_ops.recovery.verify import verify_folder
from model_ops.recovery.workdir.output import write_small
from tests.model_ops.recovery.models import run_cli

SIZE = 5_000_000  # more than a block


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three files and their manifest, as a run leaves them."""
    out = tmp_path / "out"
    out.mkdir()
    contents = {"config.json": b"{}\n", "empty.txt": b"", "model.safetensors": os.urandom(SIZE)}
    lines = [write_small(out / name, content) for name, content in contents.items()]
    write_small(out / MANIFEST, build_manifest({"files": lines}))
    return out


def change_manifest(folder, change):
    """Rewrite the manifest after calling `change` on its files."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"] = change(manifest["files"]) or manifest["files"]
    (folder / MANIFEST).write_text(json.dumps(manifest))


def problems(folder):
    return list(verify_folder(folder).problems)


def test_folder_as_it_was_written_is_well(folder):
    control = Control()
    found = verify_folder(folder, control)
    assert (found.ok, found.files, found.bytes, found.problems) == (True, 3, SIZE + 3, ())
    assert (control.bytes_done, control.bytes_total, control.bytes_read) == (SIZE + 3, SIZE + 3, SIZE + 3)


def test_card_and_hidden_files_of_a_release_are_no_problem(folder):
    (folder / "README.md").write_text("# The card")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    assert problems(folder) == []


def test_every_problem_is_found_and_is_one_sentence(folder):
    (folder / "config.json").write_bytes(b"[]\n")
    (folder / "empty.txt").unlink()
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")
    (folder / "model.safetensors").chmod(0o666)
    (folder / "more").mkdir()
    (folder / "line\nbreak").touch()
    assert problems(folder) == [
        "config.json is not the file that was written: its hash differs.",
        "'empty.txt' is missing in out or cannot be read.",
        "model.safetensors may be changed by everyone (mode 0666): chmod 644 it.",
        f"model.safetensors is {SIZE + 1} bytes long instead of {SIZE}.",
        "'line\\nbreak' is not in weights.manifest.json.",
        "more is not in weights.manifest.json.",
    ]


def test_modes_of_a_copy_are_no_problem_unless_they_hurt(folder):
    for mode, sentences in (
        (0o600, []),
        (0o664, []),
        (0o000, ["config.json may not be read by its owner (mode 0000): chmod 644 it."]),
    ):
        (folder / "config.json").chmod(mode)
        assert problems(folder)[:1] == sentences


def test_a_change_in_the_last_byte_of_a_large_file_is_found(folder):
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    assert problems(folder) == ["model.safetensors is not the file that was written: its hash differs."]


def test_git_id_of_a_weight_file_is_that_of_its_pointer(folder):
    entry = json.loads((folder / MANIFEST).read_bytes())["files"][2]
    assert entry["git_sha1"] == pointer_id(entry["sha256"], SIZE)
    change_manifest(folder, lambda files: files[2].update(git_sha1="0" * 40))
    assert problems(folder) == [
        "model.safetensors is as it was written, but weights.manifest.json gives it another git id."
    ]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("../secret.txt", "out names the file '../secret.txt', which is not a plain file name."),
        ("/etc/passwd", "out names the file '/etc/passwd', which is not a plain file name."),
        ("a/../config.json", "out names the file 'a/../config.json', which is not a plain file name."),
        ("..", "out names the file '..', which is not a plain file name."),
        ("", "out names the file '', which is not a plain file name."),
        ("a\0b", "out names the file 'a\\x00b', which is not a plain file name."),
        ("\ud800", "out names the file '\\ud800', which is not a plain file name."),
        ("x" * 5000, f"out names the file '{'x' * 200}', which is not a plain file name."),
        ("out.link", "'out.link' in out is a link out of the folder, which is not followed."),
        ("pipe", "'pipe' in out is not a regular file."),
    ],
)
def test_names_of_a_hostile_manifest_lead_nowhere(folder, name, sentence):
    (folder.parent / "secret.txt").write_bytes(b"{}\n")
    (folder / "out.link").symlink_to(folder.parent / "secret.txt")
    os.mkfifo(folder / "pipe")
    change_manifest(folder, lambda files: files[0].update(path=name))
    assert problems(folder)[0] == sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"path": None}, "weights.manifest.json has an entry without a file name."),
        ({"path": ["config.json"]}, "weights.manifest.json has an entry without a file name."),
        ({"size": None}, "weights.manifest.json gives config.json no size that a file can have."),
        ({"size": -1}, "weights.manifest.json gives config.json no size that a file can have."),
        ({"size": True}, "weights.manifest.json gives config.json no size that a file can have."),
        ({"size": 10**4000}, "weights.manifest.json gives config.json no size that a file can have."),
        ({"size": 2**62}, f"config.json is 3 bytes long instead of {2**62}."),
        ({"sha256": "A" * 64}, "weights.manifest.json gives config.json no SHA-256."),
        ({"sha256": None}, "weights.manifest.json gives config.json no SHA-256."),
        ({"git_sha1": "0" * 39}, "weights.manifest.json gives config.json no git id."),
    ],
)
def test_entry_that_says_too_little_is_a_problem(folder, change, sentence):
    change_manifest(folder, lambda files: files[0].update(change))
    assert problems(folder)[0] == sentence


def test_entries_that_are_no_objects_or_twice_are_problems(folder):
    change_manifest(folder, lambda files: [*files, 7, None, [], {}, dict(files[0])])
    nameless = "weights.manifest.json has an entry without a file name."
    assert problems(folder) == [*[nameless] * 4, "weights.manifest.json names config.json more than once."]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"engine": "\xff"}', "weights.manifest.json is not valid JSON."),
        (b"[" * 100_000, "weights.manifest.json is not valid JSON."),
        (b'{"engine": ' + b"9" * 5000 + b"}", "weights.manifest.json is not valid JSON."),
        (b"[]", "weights.manifest.json does not hold a JSON object."),
        (b"{}", "weights.manifest.json in out was not written by this engine."),
        (
            b'{"engine": "gatehouse-recovery", "files": {}}',
            "weights.manifest.json in out was not written by this engine.",
        ),
    ],
)
def test_manifest_that_is_none_is_a_failure(folder, content, sentence):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(Failure) as caught:
        verify_folder(folder)
    assert str(caught.value) == sentence


def test_no_folder_and_no_manifest_are_failures(tmp_path, folder):
    (folder / MANIFEST).unlink()
    for path, sentence in (
        (tmp_path / "no", f"The result folder '{tmp_path}/no' does not exist or cannot be read."),
        (folder, f"'{folder}' holds no weights.manifest.json, so there is nothing to verify it against."),
    ):
        with pytest.raises(Failure) as caught:
            verify_folder(path)
        assert str(caught.value) == sentence


def test_many_files_are_checked_with_few_descriptors(folder):
    lines = [write_small(folder / f"{number}.txt", b"x") for number in range(300)]
    change_manifest(folder, lambda files: [*files, *lines])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        assert problems(folder) == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_cancelled_check_ends_at_the_next_block(folder):
    control = Control()
    control.cancel()
    with pytest.raises(Failure, match=r"^The check was cancelled\.$"):
        verify_folder(folder, control)
    assert [thread.name for thread in threading.enumerate() if "ThreadPool" in thread.name] == []


def test_verify_says_the_first_problem_and_json_all(folder):
    done = run_cli("verify", folder)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"3 files, {human(SIZE + 3)}: all as the manifest says.\n",
        "",
    )
    for name in ("config.json", "empty.txt"):
        (folder / name).unlink()
    done = run_cli("verify", folder)
    first = "'config.json' is missing in out or cannot be read."
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{first[:-1]}, and 1 more problem: --json lists all.\n"
    done = run_cli("verify", folder, "--json")
    assert (done.returncode, done.stderr) == (1, f"{first}\n")
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "ok": False,
        "files": 3,
        "bytes": SIZE,
        "problems": [first, "'empty.txt' is missing in out or cannot be read."],
    }
