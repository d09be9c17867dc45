"""What an inspection accepts: notes, ignored files, payloads. How it shows paths, and what `verify` gets."""

import json

import pytest

from model_ops.recovery.checkpoints.checkpoint import read_checkpoint
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats import file_names
from model_ops.recovery.inspection.listing import judge_listing
from model_ops.recovery.planning.planner import make_diff_plan
from tests.attacks.kit import World, bin_entries, run, sound_tensors, write_tensors, write_zip
from tests.model_ops.recovery import sources as s


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def notes(world):
    """Return the notes of a plan, which must not be refused."""
    outcome = world.plan("--json")
    assert outcome.status == 0, outcome.stderr
    return json.loads(outcome.stdout)["notes"]


NO_INDEX = (
    "The diff has no model.safetensors.index.json; its tensors were read from the headers of all 2 shards."
)


def test_all_shards_without_an_index_are_recovered_as_with_one(world, tmp_path):
    s.shards(world)
    assert notes(world) == []
    with_index = world.made()["model.safetensors"]
    (world.diff / "model.safetensors.index.json").unlink()
    world.out = tmp_path / "world/out.partial"
    assert notes(world) == [NO_INDEX]
    world.out = tmp_path / "again"
    assert (
        run("recover", "--path_raw", world.base, "--path_diff", world.diff, "--path_tuned", world.out).status
        == 0
    )
    assert (world.out / "model.safetensors").read_bytes() == with_index


def test_bin_shards_counted_from_zero_and_without_an_index_are_read(world):
    (world.diff / s.WEIGHTS).unlink()
    sound = sound_tensors()
    names = list(sound)
    for number, part in enumerate((names[:1], names[1:])):
        entries = bin_entries({name: sound[name] for name in part})
        write_zip(world.diff / f"pytorch_model-0000{number}-of-00002.bin", entries)
    assert set(read_checkpoint(world.diff, "diff").tensors) == set(sound)


@pytest.mark.parametrize(
    ("build", "note"),
    [
        (s.text("pytorch_model.bin", s.POINTER, "base"),
         "The base's pytorch_model.bin is a Git LFS pointer, not the weights; nothing is made from it."),
        (s.text("tokenizer.model", s.POINTER, "base"),
         "The base's tokenizer.model is a Git LFS pointer, not the tokenizer; nothing is made from it."),
        (s.beside("model (1).safetensors"),
         "The diff's model (1).safetensors looks like a second copy of model.safetensors and is not read."),
        (s.text("adapter_config.json", "{}"),
         "The diff's weights have an adapter beside them (adapter_config.json), which is left out of the result."),
        (s.text("adapter_config.json", "{}", "base"),
         "The base's weights have an adapter beside them (adapter_config.json), which is not applied."),
        (s.text("config.json", '{"model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes"}}'),
         'config.json of the diff has a quantization_config ("bitsandbytes"), but its weights are not quantised; take it out of '
         "the result's config.json unless you want loaders to quantise them."),
        (lambda world: (world.diff / "config.json").unlink(),
         "The diff has no config.json, so transformers cannot load the result until you copy the base's into it."),
        (lambda world: (s.text("tokenizer.model", b"\n\1", "base")(world), s.text("merges.txt", "a b\n", "base")(world)),
         "The diff has no tokenizer, so transformers cannot load the result until you copy the base's into it: merges.txt, "
         "tokenizer.model."),
    ],
)  # fmt: skip
def test_what_an_owner_should_know_is_a_note(world, build, note):
    build(world)
    assert [
        line for line in notes(world) if not line.startswith("The diff has no tokenizer") or line == note
    ] == [note]
    assert "model.safetensors" in world.made()


def test_part_that_was_never_written_is_a_note(world):
    tensors = {**sound_tensors(), "lm_head.weight": ("F32", (6, 2**18), bytes(6 * 2**20))}
    for folder in (world.base, world.diff):
        write_tensors(folder / s.WEIGHTS, tensors)
    data = world.weights.read_bytes()
    with world.weights.open("wb") as file:
        file.write(data[:1000])
        file.seek(len(data) - 1000)
        file.write(data[-1000:])
    assert notes(world) == [
        "The diff's model.safetensors has parts that were never written and read as zeros; if its download broke off, download "
        "it again."
    ]


JUNK = (
    "training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state_0.pth", "trainer_state.json", "latest",
    "events.out.tfevents.1700000000.host.1.0", "zero_to_fp32.py", "train.log", "Thumbs.db", "desktop.ini", ".DS_Store",
    "._config.json", "model.gguf", "tf_model.h5", "flax_model.msgpack", "other.safetensors.part", "model.safetensors.1",
    "model.safetensors.sha256", "adapter_model.safetensors", "weights.torrent",
)  # fmt: skip


def test_what_trainers_systems_and_downloads_leave_is_neither_read_nor_copied(world):
    for name in JUNK:
        s.beside(name)(world)
    for name in ("checkpoint-500", "runs", "__MACOSX", "original", ".cache", ".git"):
        (world.diff / name).mkdir()
        (world.diff / name / s.WEIGHTS).write_text(s.POINTER)
    s.text("pytorch_model.bin", s.POINTER)(world)
    assert set(world.made()) == {
        "config.json", "model.safetensors", "tokenizer_config.json", "weights.manifest.json"
    }  # fmt: skip


def test_model_with_lora_tensors_of_its_own_is_read(world):
    name = "model.layers.0.mlp.down_proj.lora_A.speech.weight"
    for folder in (world.base, world.diff):
        write_tensors(folder / s.WEIGHTS, {**sound_tensors(), name: ("F32", (1, 2), bytes(8))})
    assert name in read_checkpoint(world.diff, "diff").tensors


@pytest.mark.parametrize("length", [0x088B1F, 0x685A42])
def test_header_whose_length_reads_like_an_archive_is_read(world, length):
    """A safetensors file whose header length looks like the first bytes of gzip or bzip2 is read."""
    raw = world.weights.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    world.weights.write_bytes(length.to_bytes(8, "little") + raw[8:end].ljust(length) + raw[end:])
    assert set(read_checkpoint(world.diff, "diff").tensors) == set(sound_tensors())


def test_smaller_first_bytes_of_a_link_out_are_not_read(world):
    """An error about a link that leads out of the folder shows nothing of that file's content."""
    (world.root / "secret.txt").write_text("the secret is 42")
    world.weights.unlink()
    world.weights.symlink_to("../secret.txt")
    assert "42" not in world.refused()
    (world.diff / "weights.manifest.json").unlink(missing_ok=True)
    assert "42" not in run("verify", world.diff).stderr


class TestPayload:
    """Files that are combined byte by byte may hold any bytes."""

    @pytest.fixture
    def payload(self, world):
        for folder in (world.base, world.diff):
            (folder / "tokenizer_config.json").write_bytes(b'{"model_max_length": 32}\n')
        return world

    @pytest.mark.parametrize(
        "content", [bytes(1032), b"\x1f\x8b\x08" + bytes(1029), b"GGUF" * 258, b"PK\3\4" * 258]
    )
    def test_bytes_are_not_judged(self, payload, content):
        payload.weights.write_bytes(content)
        assert payload.plan("--method", "xor").status == 0

    @pytest.mark.parametrize(
        ("build", "sentence"),
        [
            (s.text(s.WEIGHTS, s.POINTER),
             "The diff's model.safetensors is a Git LFS pointer, not the weights. Run `git lfs pull` in that folder, then try again."),
            (s.text(s.WEIGHTS, s.POINTER, "base"),
             "The base's model.safetensors is a Git LFS pointer, not the weights. Run `git lfs pull` in that folder, then try again."),
            (s.beside("model.safetensors.aria2"),
             "The diff's model.safetensors is an unfinished download: model.safetensors.aria2, which aria2 removes at the end, lies "
             "beside it. Run the same download command again until it is gone."),
            (s.beside("model-00002-of-00002.bin.part"),
             "The diff is an unfinished download: 'model-00002-of-00002.bin.part' is there instead of 'model-00002-of-00002.bin'. "
             "Run the same download command again until it ends."),
        ],
    )  # fmt: skip
    def test_what_is_no_payload_is_refused(self, payload, build, sentence):
        build(payload)
        assert payload.refused("--method", "xor") == sentence


def test_pointer_of_a_base_that_the_payload_does_not_use_is_no_matter(world):
    s.text("pytorch_model.bin", s.POINTER, "base")(world)
    assert world.plan("--method", "xor").status == 0


MISSING = "does not exist or cannot be read."


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("meta-llama/Llama-2-7b-hf",
         f"The base folder 'meta-llama/Llama-2-7b-hf' {MISSING} If it is a repository on the Hugging Face Hub, download it first: "
         "`hf download meta-llama/Llama-2-7b-hf --local-dir Llama-2-7b-hf`, then name that folder."),
        ("https://huggingface.co/allenai/tulu-7b/tree/main",
         f"The base folder 'https://huggingface.co/allenai/tulu-7b/tree/main' {MISSING} If it is a repository on the Hugging Face "
         "Hub, download it first: `hf download allenai/tulu-7b --local-dir tulu-7b`, then name that folder."),
        ("{root}/world/base/model.safetensors",
         "The base '{root}/world/base/model.safetensors' is a file. Name the folder that it is in: '{root}/world/base'."),
        ("{root}/world/delta.zip",
         "The base '{root}/world/delta.zip' is a packed file. Unpack it, then name the folder that the weights are in."),
        ("{root}/world/Base", f"The base folder '{{root}}/world/Base' {MISSING} There is 'base' beside it; check the name."),
        ("{root}/world/nothing", f"The base folder '{{root}}/world/nothing' {MISSING}"),
    ],
)  # fmt: skip
def test_path_that_is_no_folder_is_refused_with_what_was_meant(world, tmp_path, path, sentence):
    (world.root / "delta.zip").write_bytes(b"PK")
    world.base = path.replace("{root}", str(tmp_path))
    assert world.refused() == sentence.replace("{root}", str(tmp_path))


def test_make_diff_looks_at_both_folders_too(world):
    s.text("tokenizer.model", s.POINTER)(world)
    with pytest.raises(Refusal) as caught:
        make_diff_plan(world.base, world.diff)
    assert str(caught.value) == (
        "The tuned model's tokenizer.model is a Git LFS pointer, not the tokenizer. Run `git lfs pull` in that folder, then try "
        "again."
    )


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (s.text(s.WEIGHTS, s.POINTER),
         "The folder's model.safetensors is a Git LFS pointer, not the weights. Run `git lfs pull` in that folder, then try again."),
        (s.text("weights.manifest.json", s.PAGE),
         "The folder's weights.manifest.json is a web page, not the manifest: the server sent the page instead of the file. "
         "Download the file again, for instance with `hf download`; if the repository is gated, run `hf auth login` first."),
        (s.sharded(keep=s.SHARDS[:1]),
         "The folder lacks 1 of the 2 files that its model.safetensors.index.json names: "
         "'model-00002-of-00002.safetensors'. Download what is missing, for instance with `hf download`, then try again."),
    ],
)  # fmt: skip
def test_verify_of_a_folder_without_a_manifest_says_what_is_wrong_with_it(world, build, sentence):
    build(world)
    outcome = run("verify", world.diff)
    assert (outcome.status, outcome.sentence) == (1, sentence)


def test_verify_says_what_a_file_is_instead(world):
    world.made()
    (world.out / "model.safetensors").write_text(s.POINTER)
    (world.out / "tokenizer_config.json").write_bytes(b"")
    outcome = run("verify", world.out, "--json")
    assert json.loads(outcome.stdout)["problems"] == [
        "model.safetensors is a Git LFS pointer, not the weights. Run `git lfs pull` in that folder, then try again.",
        "tokenizer_config.json is empty: the download did not finish, or the disk was full. Download it again, for instance "
        "with `hf download`, then try again.",
    ]


def test_licence_that_a_release_adds_is_no_stranger_to_verify(world):
    world.made()
    (world.out / "LICENSE.txt").write_text("Be good.\n")
    (world.out / "more.txt").write_text("x")
    assert run("verify", world.out).sentence == "more.txt is not in weights.manifest.json."


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("model.safetensors.aria2", "model.safetensors"),
        ("model.safetensors.0123456789abcdef.incomplete", "model.safetensors"),
        (".model.safetensors.aB3dEf", "model.safetensors"),
        ("model.bin.!qB", "model.bin"),
        ("Unconfirmed 12.crdownload", ""),
        (".config.json.backup", None),
        ("model.safetensors", None),
        ("part", None),
        ("a.parts", None),
    ],
)
def test_name_of_an_unfinished_download(name, target):
    found = file_names.unfinished(name)
    assert (found.target if found else None) == target


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("model.safetensors.1", "model.safetensors"),
        ("config (2).json", "config.json"),
        ("model - Copy.safetensors", "model.safetensors"),
        ("model copy 2.safetensors", "model.safetensors"),
        ("model-00001-of-00002 (1).safetensors", "model-00001-of-00002.safetensors"),
        ("consolidated.00.pth", ""),
        ("model.safetensors", ""),
        ("v1.1", ""),
    ],
)
def test_name_of_a_second_copy(name, first):
    assert file_names.second_copy(name) == first


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        (["config.json", "model.safetensors"], ""),
        (["model.safetensors.index.json", "model-00001-of-00002.safetensors"], ""),
        (["pytorch_model.bin", "original/consolidated.00.pth"], ""),
        (["consolidated.00.pth", "params.json"],
         "The base is in Meta's original format (consolidated.00.pth). Convert it with transformers 4: `python -m transformers.models"
         ".llama.convert_llama_weights_to_hf --input_dir FOLDER --model_size 7B --output_dir OUT`, or download the repository whose "
         "name ends in -hf."),
        (["adapter_config.json", "adapter_model.bin"],
         "The base is a LoRA adapter, not full weights. Merge it into its base with `python -c \"from peft import AutoPeftModelFor"
         "CausalLM as M; M.from_pretrained('ADAPTER').merge_and_unload().save_pretrained('MERGED')\"`."),
        (["README.md", "delta/model.safetensors"],
         "The base has its weights in the folder 'delta' of the repository, and only the top folder is read. Download it with "
         "`hf download`, then name that folder."),
        (["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"],
         "The base lacks 1 of 3 shards: model-00002-of-00003.safetensors. Download what is missing, for instance with `hf download`, "
         "then try again."),
        (["README.md"], ""),
    ],
)  # fmt: skip
def test_list_of_a_repository_is_judged_by_its_names(paths, sentence):
    assert judge_listing(paths, "base") == sentence
