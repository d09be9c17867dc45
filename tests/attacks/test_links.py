"""Links out of the folder: links are followed only inside the folder, or from a Hub snapshot into the cache's blobs."""

import contextlib
import os
import shutil

import pytest

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.formats.folder import open_folder, open_regular, pin_folder
from model_ops.recovery.formats.reading import Reader
from model_ops.recovery.planning.identity import identify
from model_ops.recovery.system.control import Control
from tests.attacks.kit import naive, sound_tensors, write_index

BESIDE = ("config.json", "tokenizer_config.json", "tokenizer.model", "LICENSE", "weights.manifest.json")


def test_weights_that_are_a_link_out_of_the_folder_are_refused(world):
    world.weights.unlink()
    world.weights.symlink_to("../secret.safetensors")
    read = naive("print(len(open('diff/model.safetensors', 'rb').read()))", world.root)
    assert read.stdout == f"{world.secret.stat().st_size}\n"
    assert "'model.safetensors' in diff is a link out of the folder, which is not followed" in world.refused()


@pytest.mark.parametrize("name", BESIDE)
def test_file_beside_the_weights_that_is_a_link_out_is_refused(world, name):
    """Otherwise a diff could make the portal publish files of the server."""
    (world.diff / name).unlink(missing_ok=True)
    (world.diff / name).symlink_to("/etc/passwd")
    assert f"'{name}' in diff is a link out of the folder" in world.refused()


def test_chain_of_links_that_ends_outside_is_refused(world):
    world.weights.unlink()
    world.weights.symlink_to("one.safetensors")
    (world.diff / "one.safetensors").symlink_to("two.safetensors")
    (world.diff / "two.safetensors").symlink_to(world.secret)
    assert "is a link out of the folder" in world.refused()


def test_link_over_a_folder_that_is_a_link_out_is_refused(world):
    (world.root / "elsewhere").mkdir()
    world.weights.rename(world.root / "elsewhere/model.safetensors")
    (world.diff / "inside").symlink_to(world.root / "elsewhere")
    world.weights.symlink_to("inside/model.safetensors")
    assert "is a link out of the folder" in world.refused()


def test_link_into_a_folder_of_the_folder_is_refused(world):
    (world.diff / "deep").mkdir()
    world.weights.rename(world.diff / "deep/model.safetensors")
    world.weights.symlink_to("deep/model.safetensors")
    assert "is a link out of the folder" in world.refused()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model.safetensors.index.json", "config.json", "tokenizer.model"]
)
@pytest.mark.parametrize(
    "target", ["itself", "each other", "nothing", "/proc/self/fd/0", "/dev/zero", "/dev/stdin"]
)
def test_link_that_leads_round_nowhere_or_to_a_device_is_refused(world, name, target):
    path = world.diff / name
    path.unlink(missing_ok=True)
    if name.endswith(".index.json"):
        world.weights.rename(world.diff / "part.safetensors")
    if target == "each other":
        (world.diff / "other").symlink_to(name)
    path.symlink_to({"itself": name, "each other": "other", "nothing": "gone"}.get(target, target))
    if name == "config.json" and target == "nothing":
        assert "'config.json' is missing in diff or cannot be read" in world.refused()
    else:
        world.refused()


def test_folder_of_links_to_itself_is_refused(world):
    loop = world.root / "loop"
    loop.symlink_to("loop")
    world.diff = loop
    assert f"{str(loop)!r} does not exist or cannot be read" in world.refused()
    world.diff, world.base = world.root / "diff", loop
    assert f"{str(loop)!r} does not exist or cannot be read" in world.refused()


def test_folder_that_the_person_names_may_be_a_link(world):
    (world.root / "linked").symlink_to("diff")
    world.diff = world.root / "linked"
    assert "model.safetensors" in world.made()


def test_folder_beside_the_weights_is_not_entered(world):
    (world.diff / "etc").symlink_to("/etc")
    (world.diff / "checkpoint-1").mkdir()
    (world.diff / "checkpoint-1/evil.py").write_text("evil")
    assert set(world.made()) == {
        "model.safetensors",
        "config.json",
        "tokenizer_config.json",
        "weights.manifest.json",
    }


def test_link_inside_the_folder_is_followed(world):
    world.weights.rename(world.diff / "real.safetensors")
    world.weights.symlink_to("real.safetensors")
    assert "model.safetensors" in world.made()


@pytest.fixture
def cached(world):
    """Turn the diff into a snapshot in a Hub cache, with links into `blobs`."""
    repo = world.root / "hub/models--ai--diff"
    snapshot = repo / "snapshots/0123abc"
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for number, path in enumerate(sorted(world.diff.iterdir())):
        path.rename(repo / f"blobs/{number}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    world.diff = snapshot
    return world


def test_snapshot_of_a_hub_cache_is_read(cached):
    assert {"model.safetensors", "config.json"} <= set(cached.made())


def relink(world, name, target):
    (world.diff / name).unlink()
    (world.diff / name).symlink_to(target)


@pytest.mark.parametrize(
    "target", ["../../blobs/../../../secret.safetensors", "../../../../secret.safetensors", "../../refs/main"]
)
def test_snapshot_that_links_past_its_blobs_is_refused(cached, target):
    (cached.diff.parent.parent / "refs").mkdir()
    (cached.diff.parent.parent / "refs/main").write_text("0123abc")
    relink(cached, "model.safetensors", target)
    assert "is a link out of the folder" in cached.refused()


def test_snapshot_that_links_into_another_models_blobs_is_refused(cached):
    other = cached.root / "hub/models--other--private/blobs"
    other.mkdir(parents=True)
    shutil.copy(cached.secret, other / "1")
    relink(cached, "model.safetensors", "../../../models--other--private/blobs/1")
    assert "is a link out of the folder" in cached.refused()


def test_snapshot_whose_blob_is_a_link_out_is_refused(cached):
    (cached.diff.parent.parent / "blobs/9").symlink_to(cached.secret)
    relink(cached, "model.safetensors", "../../blobs/9")
    assert "is a link out of the folder" in cached.refused()


def test_snapshot_whose_blobs_are_a_link_out_is_refused(cached):
    repo = cached.diff.parent.parent
    (repo / "blobs").rename(cached.root / "elsewhere")
    (repo / "blobs").symlink_to(cached.root / "elsewhere")
    assert "is a link out of the folder" in cached.refused()


def test_folder_that_is_only_called_like_a_snapshot_gains_nothing(world):
    """Only files inside a `blobs` folder two levels up may be linked to."""
    snapshot = world.root / "snapshots/x"
    snapshot.parent.mkdir()
    world.diff.rename(snapshot)
    world.diff = snapshot
    (world.root / "blobs").symlink_to("/etc")
    relink(world, "tokenizer_config.json", "../../blobs/passwd")
    assert "is a link out of the folder" in world.refused()


def test_hard_link_is_the_file_itself(world):
    """A hard link looks like any file, and only users who can write next to the secret can create one."""
    world.weights.unlink()
    os.link(world.secret, world.weights)
    assert "model.safetensors" in world.made()
    assert world.secret.stat().st_size > 0


def test_link_planted_for_a_sharded_diff_is_refused(world):
    world.weights.unlink()
    write_index(world.diff, dict.fromkeys(sound_tensors(), "model-00001-of-00001.safetensors"))
    (world.diff / "model-00001-of-00001.safetensors").symlink_to(world.secret)
    assert "'model-00001-of-00001.safetensors' in diff is a link out of the folder" in world.refused()


def test_link_that_is_put_in_a_folders_place_after_it_was_opened_is_refused(world):
    """A file opened by its path must be in the folder that was checked, wherever the path leads now."""
    hidden = world.root / "hidden"
    shutil.copytree(world.diff, hidden)
    folder = open_folder(world.diff, "diff")
    world.diff.rename(world.root / "aside")
    world.diff.symlink_to(hidden)
    read = naive("print(len(open('diff/model.safetensors', 'rb').read()))", world.root)
    assert int(read.stdout) > 0
    with pytest.raises(Refusal, match="is a link out of the folder, which is not followed"):
        open_regular(folder / "model.safetensors")
    with pytest.raises(Refusal, match="is a link out of the folder, which is not followed"):
        identify(folder, ["model.safetensors"])
    with (
        contextlib.closing(Reader(Control())) as reader,
        pytest.raises(Failure, match="is a link out of the folder, which is not followed"),
    ):
        reader.read_into(str(folder / "model.safetensors"), 0, memoryview(bytearray(8)))


def test_folder_that_must_be_no_link_is_refused_behind_one(world):
    (world.root / "linked").symlink_to(world.root)
    for name in ("linked/base", "linked/linked/base"):
        pin_folder(world.root / name)
        with pytest.raises(Refusal, match="is, or lies behind, a link, which is not followed"):
            open_folder(world.root / name, "base")
    pin_folder(world.base)
    assert open_folder(world.base, "base") == world.base
