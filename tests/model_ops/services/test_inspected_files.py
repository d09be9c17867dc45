"""Files to be published unchanged are inspected first, both by command and in the admin."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest

from access_requests.errors import Invalid
from access_requests.models import GatedModel
from model_ops.models import Recovery, WeightSource
from model_ops.panels import access_panel, case_panel, model_panel
from model_ops.queries import current_recovery
from model_ops.recovery.planning.manifest import build_manifest
from model_ops.services.recoveries.run import run_recovery
from model_ops.services.recoveries.weights import prepare_weights, want_recovery
from model_ops.services.sources.spec import resolve_source
from tests.model_ops.conftest import published_files
from tests.model_ops.recovery.sources import PAGE, POINTER

Build = Callable[[Path], object]
INDEX = "model.safetensors.index.json"


def put(name: str, content: str | bytes) -> Build:
    """Return a function that writes a file with this content."""

    def build(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return build


def index(**weight_map: str) -> Build:
    return put(INDEX, json.dumps({"weight_map": weight_map}))


def renamed(name: str) -> Build:
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])


def linked(folder: Path) -> None:
    blobs = folder.parent / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    (folder / "model.safetensors").rename(blobs / "0123")
    (folder / "model.safetensors").symlink_to(blobs / "0123")


PULL = "Run `git lfs pull` in that folder, then try again."
REFUSED: dict[str, tuple[Build, str]] = {
    "pointer": (put("model.safetensors", POINTER),
        f"The folder's model.safetensors is a Git LFS pointer, not the weights. {PULL}"),
    "pointer of a tokenizer": (put("tokenizer.model", POINTER),
        f"The folder's tokenizer.model is a Git LFS pointer, not the tokenizer. {PULL}"),
    "pointer in a folder": (put("onnx/model.onnx", POINTER),
        f"The folder's onnx/model.onnx is a Git LFS pointer, not the weights. {PULL}"),
    "pointer of a picture": (put("assets/logo.png", POINTER),
        f"The folder's assets/logo.png is a Git LFS pointer, not the file itself. {PULL}"),
    "page": (put("tokenizer.json", PAGE),
        "The folder's tokenizer.json is a web page, not the tokenizer: the server sent the page instead of the file. Download "
        "the file again, for instance with `hf download`; if the repository is gated, run `hf auth login` first."),
    "error": (put("config.json", '{"error": "Repository not found"}'),
        "The folder's config.json is a server's error message, not the configuration. Download the file again, for instance "
        "with `hf download`; if the repository is gated, run `hf auth login` first."),
    "aria2": (put("model.safetensors.aria2", b"\0"),
        "The folder's model.safetensors.aria2 belongs to an unfinished download (aria2). Run the same download command again "
        "until it ends, or delete the file."),
    "incomplete": (put("model-00002-of-00002.safetensors.incomplete", b"\0"),
        "The folder's model-00002-of-00002.safetensors.incomplete belongs to an unfinished download (the Hub's client). Run "
        "the same download command again until it ends, or delete the file."),
    "rsync": (put(".model.safetensors.Ab12Cd", b"\0"),
        "The folder's .model.safetensors.Ab12Cd belongs to an unfinished download (rsync). Run the same download command "
        "again until it ends, or delete the file."),
    "the Hub's client": (put(".cache/huggingface/download/x.incomplete", b"\0"),
        "The folder is an unfinished download: .cache/huggingface/download/x.incomplete lies in it. Run the same `hf download` "
        "command again until it ends, or delete .cache/huggingface/download if you have all files that you want."),
    "empty": (put("model.safetensors", b""),
        "The folder's model.safetensors is empty: the download did not finish, or the disk was full. Download it again, for "
        "instance with `hf download`, then try again."),
    "cut": (cut,
        "The folder's model.safetensors is an unfinished download: 77 of 80 bytes are there. Download it again, for instance "
        "with `hf download`, then try again."),
    "second copy": (put("model.safetensors.1", b"x"),
        "The folder's model.safetensors.1 looks like a second copy of model.safetensors. Delete one of them."),
    "stale index": (index(w="model-00001-of-00030.safetensors"),
        "The folder's model.safetensors.index.json belongs to other weights: it names 'model-00001-of-00030.safetensors', but the "
        "weights here are 'model.safetensors'. Download the index that belongs to them."),
    "index of other tensors": (index(other="model.safetensors"),
        "The folder's model.safetensors.index.json puts 'other' into model.safetensors, but it is not there. Download the index "
        "again together with the weights."),
    "index of a file too many": (index(w="model.safetensors", x="more.safetensors"),
        "The folder lacks 1 of the 2 files that its model.safetensors.index.json names: 'more.safetensors'. "
        "Download what is missing, for instance with `hf download`, then try again."),
    "index that is none": (put(INDEX, "[]"),
        "The folder's model.safetensors.index.json is not a valid index. Download it again, then try again."),
    "shard missing": (renamed("model-00001-of-00002.safetensors"),
        "The folder lacks 1 of 2 shards: model-00002-of-00002.safetensors. Download what is missing, for instance with `hf "
        "download`, then try again."),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_not_what_they_are_called_are_not_published(
    db: None, weights_root: Path, files_folder: Path, name: str
) -> None:
    build, sentence = REFUSED[name]
    build(files_folder)
    with pytest.raises(Invalid) as refused:
        prepare_weights(files=str(files_folder))
    assert refused.value.sentence == sentence
    assert Recovery.objects.count() == 0


def test_link_into_a_cache_is_refused_with_what_to_do(
    db: None, weights_root: Path, files_folder: Path
) -> None:
    linked(files_folder)
    with pytest.raises(Invalid) as refused:
        prepare_weights(files=str(files_folder))
    assert refused.value.sentence == (
        f"{files_folder}/model.safetensors is a link out of the folder, into the Hub's cache, which is not followed. Copy the "
        "folder with its contents and name the copy: `cp -rL FOLDER COPY`; or name the cache's own folder snapshots/COMMIT."
    )


@pytest.mark.parametrize(
    "build",
    [
        put("docs/index.html", PAGE),
        put("README.html", PAGE),
        put("training_args.bin", b"\x80\x02}."),
        put("optimizer.pt", b"PK\3\4"),
        put("runs/events.out.tfevents.1", b"x"),
        put("adapter_config.json", '{"peft_type": "LORA"}'),
        put("model.Q4_K_M.gguf", b"GGUF" + bytes(20)),
        put("errors.json", '{"error": "an example"}'),
        put("notes.tmp", b"x"),
        put("pytorch_model.bin.index.json", '{"weight_map": {"w": "pytorch_model-00001-of-00002.bin"}}'),
        put("empty.bin", b""),
        index(w="model.safetensors"),
    ],
)
def test_sound_files_of_any_kind_are_published(
    db: None, weights_root: Path, files_folder: Path, build: Build
) -> None:
    build(files_folder)
    assert len(prepare_weights(files=str(files_folder)).plan["files"]) == 5


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (put("model.safetensors", POINTER), f"The {{role}}'s model.safetensors is a Git LFS pointer, not the weights. {PULL}"),
        (renamed("delta/model.safetensors"), "The {role} folder holds no weights itself; they are in a folder below it. Name that one: '{folder}/delta'."),
        (renamed("adapter_model.bin"), "The {role} is a LoRA adapter, not {wanted}. Merge it into its base with `python -c \"from peft import AutoPeftModelForCausalLM as M; M.from_pretrained('ADAPTER').merge_and_unload().save_pretrained('MERGED')\"`."),
        (renamed("flax_model.msgpack"), "The {role} holds only Flax weights (flax_model.msgpack). Save them for PyTorch with transformers 4: `python -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('FOLDER', from_flax=True).save_pretrained('OUT')\"`."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("role", ["base", "diff"])
def test_base_and_diff_are_looked_at_by_the_same_rules(
    db: None, weights_root: Path, files_folder: Path, tmp_path: Path, role: str, build: Build, sentence: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes((files_folder / "model.safetensors").read_bytes())
    (files_folder / "delta").mkdir()
    build(files_folder)
    sources = {"base": str(other), "diff": str(other)} | {role: str(files_folder)}
    with pytest.raises(Invalid) as refused:
        prepare_weights(**sources)
    wanted = "a diff of all weights" if role == "diff" else "full weights"
    assert refused.value.sentence == sentence.format(role=role, folder=files_folder, wanted=wanted)


def test_hub_id_and_file_given_as_a_folder_are_refused_with_what_was_meant(
    db: None, files_folder: Path
) -> None:
    file = files_folder / "model.safetensors"
    for text, sentence in (
        (
            "meta-llama/Llama-2-7b-hf",
            "The weight source meta-llama/Llama-2-7b-hf is not an existing folder. If it is a repository on the Hub, write "
            "hf:meta-llama/Llama-2-7b-hf@main.",
        ),
        (str(file), f"The weight source {file} is a file. Name the folder that it is in: {files_folder}."),
    ):
        with pytest.raises(Invalid) as refused:
            resolve_source(text=text)
        assert refused.value.sentence == sentence
    assert WeightSource.objects.count() == 0


@pytest.fixture
def diff_folder(files_folder: Path) -> Path:
    """A diff as `make_diff` writes it, with the manifest that recipients need."""
    files = [{"path": "model.safetensors", "size": 80, "sha256": "0" * 64, "git_sha1": "0" * 40}]
    (files_folder / "weights.manifest.json").write_bytes(
        build_manifest({"action": "make_diff", "files": files})
    )
    return files_folder


NOTE = "note: This is a diff, not full weights: people who download it need the base to recover the weights."


def request_of(user: Any) -> HttpRequest:
    request = HttpRequest()
    request.user = user
    return request


def test_diff_is_published_with_its_manifest_and_said_to_be_one(
    add_files_model: Callable[..., Any],
    diff_folder: Path,
    make_person: Callable[..., Any],
    grant: Callable[..., Any],
    submit: Callable[..., Any],
) -> None:
    from access_requests.services.catalogue.roles import assign_role
    from access_requests.services.requests.submit import start_request

    model = add_files_model("ai/diff")
    recovery = current_recovery(model)
    assert recovery is not None
    assert recovery.plan["text"].splitlines()[-1] == NOTE
    reviewer = make_person("reviewer")
    assign_role(model=model, user=reviewer, role="reviewer")
    request = start_request(model=model, applicant=make_person("eve"))
    assert NOTE in case_panel(request, request_of(reviewer))

    want_recovery(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)
    published = published_files(model)
    manifest = diff_folder / "weights.manifest.json"
    assert published["weights.manifest.json"].read_bytes() == manifest.read_bytes()
    reader = grant(model, "ada").user
    for panel in (model_panel, access_panel):
        assert "This is a diff, not full weights." in panel(model, request_of(reader))


def test_recovered_weights_are_published_without_their_manifest_and_are_no_diff(
    add_files_model: Callable[..., Any], files_folder: Path, grant: Callable[..., Any]
) -> None:
    """The manifest does not cover the portal's card and licences, so verifying against it would fail."""
    manifest = build_manifest({"action": "recover", "files": []})
    (files_folder / "weights.manifest.json").write_bytes(manifest)
    model = add_files_model("ai/whole")
    recovery = current_recovery(model)
    assert recovery is not None
    want_recovery(recovery=recovery)
    run_recovery(recovery_id=recovery.pk)
    assert "weights.manifest.json" not in published_files(model)
    assert "This is a diff" not in model_panel(model, request_of(grant(model, "ada").user))


def test_admin_form_shows_the_sentence_and_adds_nothing(
    weights_root: Path,
    transactional_db: None,
    make_person: Callable[..., Any],
    client: Any,
    files_folder: Path,
    settings: Any,
) -> None:
    from tests.model_ops.admin.test_recoveries import typed

    settings.GATEHOUSE_DEMO = True
    settings.GATEHOUSE_SOURCES = [files_folder.parent]
    client.force_login(make_person("boss", is_superuser=True))
    put("tokenizer.model", POINTER)(files_folder)
    shown = client.post("/admin/access_requests/gatedmodel/add/", typed(files_folder))
    sentence = "tokenizer.model is a Git LFS pointer, not the tokenizer. Run `git lfs pull` in that folder, then try again."
    assert shown.status_code == 200
    assert sentence in shown.text
    assert GatedModel.objects.count() == 0
