"""Uploads to be published or used as a source are inspected: pointers, HTML pages, first bytes, indexes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from access_requests.errors import Invalid
from model_ops.models import Revision
from model_ops.queries import main_revision
from model_ops.services.recoveries.weights import prepare_weights
from model_ops.services.uploads.errors import NotTheFile
from model_ops.services.uploads.holding import publish_upload
from model_ops.services.uploads.rules import set_upload_rule
from tests.model_ops.recovery.sources import PAGE, POINTER
from tests.model_ops.uploads import WEIGHTS, Uploads

pytestmark = pytest.mark.django_db(transaction=True)

INDEX = "model.safetensors.index.json"
HEADER = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
WHOLE = len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)
PULL = "Run `git lfs pull` in the folder that you upload, then upload again."
AGAIN = "Download it again, for instance with `hf download`, then try again."


def index(**weight_map: str) -> bytes:
    return json.dumps({"weight_map": weight_map}).encode()


REFUSED: dict[str, tuple[dict[str, bytes], str]] = {
    "pointer": ({"model.safetensors": POINTER.encode()},
        f"The upload's model.safetensors is a Git LFS pointer, not the weights. {PULL}"),
    "pointer as a small file": ({"config.json": POINTER.encode()},
        f"The upload's config.json is a Git LFS pointer, not the configuration. {PULL}"),
    "page": ({"pytorch_model.bin": PAGE.encode()},
        "The upload's pytorch_model.bin is a web page, not the weights: the server sent the page instead of the file. Download the "
        "file again, for instance with `hf download`; if the repository is gated, run `hf auth login` first."),
    "empty": ({"model.safetensors": b""},
        f"The upload's model.safetensors is empty: the download did not finish, or the disk was full. {AGAIN}"),
    "cut": ({"deep/model.safetensors": WHOLE[:-3]},
        f"The upload's deep/model.safetensors is an unfinished download: {len(WHOLE) - 3} of {len(WHOLE)} bytes are there. {AGAIN}"),
    "aria2": ({"model.safetensors": WHOLE, "model.safetensors.aria2": b"\0"},
        "The upload's model.safetensors.aria2 belongs to an unfinished download (aria2). Run the same download command again "
        "until it ends, or delete the file."),
    "stale index": ({"model-00001-of-00002.safetensors": WHOLE, INDEX: index(w="model-00001-of-00030.safetensors")},
        "The upload's model.safetensors.index.json belongs to other weights: it names 'model-00001-of-00030.safetensors', but the "
        "weights here are 'model-00001-of-00002.safetensors'. Download the index that belongs to them."),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_commit_that_would_be_published_is_refused_and_changes_nothing(at_once: Uploads, name: str) -> None:
    files, sentence = REFUSED[name]
    before = main_revision(at_once.model)
    with pytest.raises(NotTheFile) as refused:
        at_once.commit(files)
    assert (refused.value.sentence, refused.value.code, refused.value.status) == (sentence, "NotTheFile", 422)
    assert main_revision(at_once.model) == before


@pytest.mark.parametrize("name", REFUSED)
def test_held_upload_is_refused_when_it_is_published(held: Uploads, name: str) -> None:
    files, sentence = REFUSED[name]
    revision = held.commit(files).revision
    with pytest.raises(NotTheFile) as refused:
        publish_upload(revision=revision)
    assert refused.value.sentence == sentence
    assert Revision.objects.get(pk=revision.pk).held_at is not None


def test_upload_of_many_commits_may_bring_its_index_first(at_once: Uploads) -> None:
    """`upload_large_folder` does this; missing files may come with the next commit."""
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    at_once.commit({INDEX: index(w=first, x=second)})
    at_once.commit({first: WHOLE})
    revision = at_once.commit({second: WHOLE.replace(b'"w"', b'"x"')}).revision
    assert set(at_once.content(revision)) >= {INDEX, first, second}


def test_held_upload_without_all_files_of_its_index_is_refused_when_it_is_published(held: Uploads) -> None:
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    revision = held.commit({INDEX: index(w=first, x=second), first: WHOLE}).revision
    with pytest.raises(NotTheFile) as refused:
        publish_upload(revision=revision)
    assert refused.value.sentence == (
        f"The upload lacks 1 of the 2 files that its {INDEX} names: '{second}'. Download what is missing, for "
        "instance with `hf download`, then try again."
    )
    publish_upload(revision=held.commit({second: WHOLE.replace(b'"w"', b'"x"')}).revision)


def test_what_is_published_already_is_not_looked_at_again(held: Uploads) -> None:
    """A branch that already contains a wrong file can be corrected in any order."""
    set_upload_rule(model=held.model, publish_uploads=False)
    broken = held.commit(
        {"model.safetensors": POINTER.encode(), "tokenizer.model": POINTER.encode()}
    ).revision
    publish_upload(revision=broken, looked_at=True)
    revision = held.commit({"model.safetensors": WEIGHTS}).revision
    assert publish_upload(revision=revision).files.filter(path="tokenizer.model").exists()


def test_index_of_other_weights_from_before_does_not_stop_other_commits(held: Uploads) -> None:
    broken, _ = REFUSED["stale index"]
    publish_upload(revision=held.commit(broken).revision, looked_at=True)
    set_upload_rule(model=held.model, publish_uploads=True)
    revision = held.commit({"notes.txt": b"x"}).revision
    assert "notes.txt" in held.content(revision)
    with pytest.raises(NotTheFile):
        held.commit({"model-00002-of-00002.safetensors": WHOLE})
    assert INDEX not in held.content(held.commit(delete=(INDEX,)).revision)


@pytest.mark.parametrize(
    "files",
    [
        {"index.html": PAGE.encode()},
        {"docs/page.md": PAGE.encode()},
        {"training_args.bin": b"\x80\x02}."},
        {"optimizer.pt": b""},
        {"rng_state.pth": b"PK\3\4"},
        {"events.out.tfevents.1": b"x"},
        {"m.bin": b"weights"},
        {"model.safetensors": b"w"},
        {"errors.json": b'{"error": "an example"}'},
    ],
)
def test_other_files_are_taken_as_ever(at_once: Uploads, files: dict[str, bytes]) -> None:
    revision = at_once.commit(files).revision
    assert set(files) <= set(at_once.content(revision))


def test_upload_as_a_source_is_looked_at(held: Uploads, weights_root: Path) -> None:
    revision = held.commit({"model.safetensors": POINTER.encode()}).revision
    text = f"gatehouse:{held.model.repo_id}@{revision.commit}"
    with pytest.raises(Invalid) as refused:
        prepare_weights(files=text)
    assert (
        refused.value.sentence
        == f"The upload's model.safetensors is a Git LFS pointer, not the weights. {PULL}"
    )
    sound = held.commit({"model.safetensors": WHOLE}, branch="main").revision
    other = f"gatehouse:{held.model.repo_id}@{sound.commit}"
    with pytest.raises(Invalid) as refused:
        prepare_weights(base=other, diff=text)
    assert refused.value.sentence == (
        "The diff's model.safetensors is a Git LFS pointer, not the weights. Run `git lfs pull` in that folder, then try again."
    )
