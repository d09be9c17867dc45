"""A `.bin` file with bytes other than those torch.save wrote is detected during reading."""

import os
import zipfile
import zlib
from pathlib import Path

import pytest

from model_ops.recovery import cli
from model_ops.recovery.checkpoints.checkpoint import read_checkpoint
from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.execution.checksums import combine
from model_ops.recovery.execution.run import execute
from model_ops.recovery.formats.torch_zip import read_torch_zip
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_diff_plan, make_plan
from model_ops.recovery.system.control import Control
from tests.model_ops.recovery import models, plain
from tests.model_ops.recovery.execution.test_device_pool import LateDevice, made
from tests.model_ops.recovery.formats.test_torch_zip import rewrite

torch = plain.torch

BIN = "pytorch_model.bin"
EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
SHAPES = {HEAD: (40, 64), EMBEDDING: (40, 64), "model.layers.0.mlp.up_proj.weight": (96, 64), NORM: (64,)}


@pytest.fixture
def pair(tmp_path):
    """Return a base and a diff, each in one `.bin` file."""
    return [write(tmp_path / role, seed) for seed, role in enumerate(("base", "diff"), 1)]


def write(folder, seed, shapes=SHAPES):
    return plain.write_state(folder, plain.random_state(seed, shapes), kind="bin")


def flip(path, position):
    """Flip one bit of a file without changing how it looks from outside."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def damage(folder, name, at=0):
    """Flip a bit of a tensor; `at` counts bytes from its start or, if negative, from its end."""
    ref = read_checkpoint(folder, "base").tensors[name]
    flip(Path(ref.path), ref.offset + at % ref.nbytes)


def fails(base, first, out, run=plain.recover, **choices):
    """Return the sentence of a run that must fail and leave nothing visible."""
    with pytest.raises(Failure) as caught:
        run(base, first, out, **choices)
    assert not out.exists()
    return str(caught.value)


def sentence(role, name, file=BIN):
    return (
        f"The {role}'s {file} is damaged: the bytes of {name} do not match the checksum that torch.save stored with "
        "them. Download the file again, then run the same command."
    )


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("at", [0, 21, -1])
@pytest.mark.parametrize("role", ["base", "diff"])
def test_flipped_bit_is_found_by_recover(pair, tmp_path, role, name, at):
    damage(tmp_path / role, name, at)
    assert fails(*pair, tmp_path / "out") == sentence(role, name)


@pytest.mark.parametrize("role", ["base", "tuned"])
def test_flipped_bit_is_found_by_make_diff(pair, tmp_path, role):
    (tmp_path / "diff").rename(tmp_path / "tuned")
    folders = pair[0], tmp_path / "tuned"
    damage(tmp_path / role, NORM, -1)
    assert fails(*folders, tmp_path / "out", plain.make_diff) == sentence(role, NORM)


def test_command_ends_with_status_1_and_one_sentence(pair, tmp_path, capfd):
    damage(pair[0], EMBEDDING)
    paths = {"--path_raw": pair[0], "--path_diff": pair[1], "--path_tuned": tmp_path / "out"}
    assert cli.main(["recover", *(str(word) for each in paths.items() for word in each)]) == 1
    assert capfd.readouterr().err == sentence("base", EMBEDDING) + "\n"


@pytest.mark.parametrize("name", [EMBEDDING, NORM])
def test_flipped_bit_is_found_on_the_way_to_a_device(pair, tmp_path, name):
    damage(pair[1], name)
    with pytest.raises(Failure, match=f"the bytes of {name} do not match"):
        made(make_plan(*pair), tmp_path / "made", LateDevice())


@pytest.mark.parametrize("at", [0, 8 * 2**20, 8 * 2**20 + 5, -1])
def test_flipped_bit_in_any_block_of_a_large_tensor_is_found(tmp_path, at):
    large = {NORM: (3_000_001,)}
    base, diff = (write(tmp_path / role, seed, large) for seed, role in enumerate(("base", "diff")))
    damage(diff, NORM, at)
    assert fails(base, diff, tmp_path / "out") == sentence("diff", NORM)


def tied(folder, seed, rows=40):
    """Write tensors with both names in one storage."""
    state = plain.random_state(seed, {EMBEDDING: (rows, 64), NORM: (64,)})
    plain.write_state(folder, {**state, HEAD: state[EMBEDDING]}, kind="bin")
    (folder / "config.json").write_text('{"model_type": "llama", "tie_word_embeddings": true}')
    return folder


@pytest.mark.parametrize("role", ["base", "diff"])
def test_flipped_bit_of_a_tied_storage_is_found(tmp_path, role):
    base, diff = tied(tmp_path / "base", 1), tied(tmp_path / "diff", 2)
    plain.recover(base, diff, tmp_path / "good")
    damage(tmp_path / role, HEAD, -1)
    assert fails(base, diff, tmp_path / "out") == sentence(role, EMBEDDING)


@pytest.mark.parametrize("grown", [0, 3])
def test_tied_base_under_a_diff_with_two_embeddings_is_checked(tmp_path, grown):
    """The base's one storage is read once for each name, for separate tensors, and checked."""
    base = tied(tmp_path / "base", 1)
    shapes = {HEAD: (40 + grown, 64), EMBEDDING: (40 + grown, 64), NORM: (64,)}
    diff = write(tmp_path / "diff", 2, shapes)
    plain.recover(base, diff, tmp_path / "good", max_shard_size="11KB")
    damage(base, HEAD, -1)
    assert "The base's pytorch_model.bin is damaged" in fails(base, diff, tmp_path / "out")


def one_storage(folder, seed, *, reverse=False, spare=0):
    """Write all tensors as views of one storage, sorted or in reverse, with spare bytes at the end."""
    sizes = {name: torch.Size(shape).numel() for name, shape in SHAPES.items()}
    large = plain.random_state(seed, {"all": (sum(sizes.values()) + spare,)})["all"]
    state, position = {}, 0
    for name in sorted(SHAPES, reverse=reverse):
        state[name] = large[position : position + sizes[name]].view(SHAPES[name])
        position += sizes[name]
    return plain.write_state(folder, state, kind="bin")


def spoil_spare(folder):
    """Damage the last byte of the only storage."""
    with zipfile.ZipFile(folder / BIN) as file:
        entry = file.getinfo("pytorch_model/data/0")
    raw = (folder / BIN).read_bytes()
    header = entry.header_offset
    names = int.from_bytes(raw[header + 26 : header + 28], "little")
    extra = int.from_bytes(raw[header + 28 : header + 30], "little")
    flip(folder / BIN, header + 30 + names + extra + entry.file_size - 1)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("spare", [0, 2_000_000])
@pytest.mark.parametrize("size", ["5GB", "12KB"])
def test_one_storage_of_many_tensors_is_read_once_and_its_rest_at_the_end(
    tmp_path, pair, reverse, spare, size
):
    base = one_storage(tmp_path / "views", 1, reverse=reverse, spare=spare)
    plan = make_plan(base, pair[1], Options(max_shard_size=size))
    result = execute(plan, tmp_path / "out")
    assert result.bytes_read == plan.bytes_to_read + 4 * spare
    expected = {name: read_values(pair[1], name) + read_values(base, name) for name in SHAPES}
    assert all(torch.equal(plain.state_of(tmp_path / "out")[name], expected[name]) for name in SHAPES)
    spoil_spare(base)
    assert "The base's pytorch_model.bin is damaged" in fails(
        base, pair[1], tmp_path / "again", max_shard_size=size
    )


def read_values(folder, name):
    return torch.load(folder / BIN)[name]


@pytest.fixture
def sharded(tmp_path):
    """Return a base in several `.bin` files, and a diff in one."""
    model = models.make_model()
    base = models.save(model, tmp_path / "base", "F16", "bin", "40KB")
    return base, models.save(models.tune(model), tmp_path / "diff", "F32", "bin")


def test_flipped_bit_is_found_in_whichever_file_it_is(sharded, tmp_path):
    tensors = read_checkpoint(sharded[0], "base").tensors
    last = {Path(ref.path).name: name for name, ref in tensors.items()}
    assert len(last) > 3
    for file, name in last.items():
        damage(sharded[0], name, -1)
        assert fails(*sharded, tmp_path / "out") == sentence("base", name, file)
        damage(sharded[0], name, -1)
    plain.recover(*sharded, tmp_path / "out")


def test_file_made_alone_is_checked_and_others_are_not(sharded, tmp_path):
    plan = make_plan(*sharded, Options(max_shard_size="60KB"))
    first, last = plan.shards[0], plan.shards[-1]
    damage(sharded[0], last.tasks[-1].name)
    execute(plan, tmp_path / "out", only=[first.file])
    with pytest.raises(Failure, match=f"the bytes of {last.tasks[-1].name} do not match"):
        execute(plan, tmp_path / "out", only=[last.file])
    assert not (tmp_path / "out.partial" / f"{last.file}.done.json").exists()
    assert (tmp_path / "out.partial" / f"{first.file}.done.json").exists()


def test_resumed_run_finds_what_its_own_files_are_made_from(sharded, tmp_path):
    plan = make_plan(*sharded, Options(max_shard_size="60KB"))
    execute(plan, tmp_path / "out", only=[plan.shards[0].file], run_id="a")
    damage(sharded[1], plan.shards[-1].tasks[0].name)
    with pytest.raises(Failure, match=r"The diff's pytorch_model\.bin is damaged"):
        execute(plan, tmp_path / "out", run_id="a")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("run_id", ["", "a"])
def test_storage_that_several_runs_read_is_checked_by_the_last(tmp_path, pair, run_id):
    """The records say which parts each run has read, so only the rest is read at the end."""
    base = one_storage(tmp_path / "views", 1, reverse=True, spare=1000)
    plan = make_plan(base, pair[1], Options(max_shard_size="12KB"))
    for shard in plan.shards:
        execute(plan, tmp_path / "out", only=[shard.file], run_id=run_id)
    control = Control()
    execute(plan, tmp_path / "out", run_id=run_id, control=control)
    again = 0 if run_id else sum(shard.size for shard in plan.shards)
    assert control.bytes_read == 4000 + again + sum(file.size for file in plan.copies)


def test_storage_damaged_between_two_runs_is_found_by_the_last(tmp_path, pair):
    base = one_storage(tmp_path / "views", 1, spare=1000)
    plan = make_plan(base, pair[1], Options(max_shard_size="12KB"))
    execute(plan, tmp_path / "out", only=[plan.shards[0].file])
    damage(base, plan.shards[-1].tasks[-1].name)
    execute(plan, tmp_path / "out", only=[plan.shards[-1].file])
    with pytest.raises(Failure, match=r"The base's pytorch_model\.bin is damaged"):
        execute(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ranges_in_a_record_that_make_no_sense_are_read_again(tmp_path, pair):
    base = one_storage(tmp_path / "views", 1)
    plan = make_plan(base, pair[1], Options(max_shard_size="12KB"))
    execute(plan, tmp_path / "out", only=[plan.shards[0].file], run_id="a")
    done = tmp_path / "out.partial" / f"{plan.shards[0].file}.done.json"
    key = '"open_entries": {"base/pytorch_model.bin/'
    text = done.read_text()
    assert key in text
    start = text.index("[[", text.index(key))
    end = text.index("]]", start) + 2
    done.write_text(f"{text[:start]}[[0, {2**70}, 1], [4, 8, 0]]{text[end:]}")
    with pytest.raises(Failure, match="is damaged"):  # a range of 4 bytes that were never read
        execute(plan, tmp_path / "out", run_id="a")
    done.write_text(f"{text[:start]}[[0, {2**70}, 1]]{text[end:]}")
    execute(plan, tmp_path / "out", run_id="a")


@pytest.mark.parametrize("entry", ["data.pkl", "byteorder"])
def test_damaged_pickle_or_byte_order_is_refused_while_planning(pair, entry):
    path = pair[1] / BIN
    with zipfile.ZipFile(path) as file:
        data = file.read(f"pytorch_model/{entry}")
    flip(path, path.read_bytes().index(data) + len(data) // 2)
    with pytest.raises(Refusal) as caught:
        make_plan(*pair)
    assert str(caught.value) == (
        f"The diff cannot be used: {BIN} is damaged: pytorch_model/{entry} inside it does not match the checksum that "
        "torch.save stored; download the file again."
    )


class SavedWithout:
    """The two ways to make torch.save store no checksum for a storage."""

    @staticmethod
    def crc32_options(state, path):
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(state, path)
        finally:
            torch.serialization.set_crc32_options(True)

    @staticmethod
    def skip_data(state, path):
        with torch.serialization.skip_data():
            torch.save(state, path)
        for ref in read_torch_zip(path).values():
            with path.open("r+b") as file:
                file.seek(ref.offset)
                file.write(state[ref.name].numpy().tobytes())


@pytest.mark.skipif(not hasattr(torch.serialization, "skip_data"), reason="torch older than 2.6 cannot do it")
@pytest.mark.parametrize("way", ["crc32_options", "skip_data"])
def test_file_saved_without_checksums_is_read_as_it_is(pair, tmp_path, way):
    plain.recover(*pair, tmp_path / "known")
    getattr(SavedWithout, way)(plain.random_state(1, SHAPES), pair[0] / BIN)
    assert {ref.entry for ref in read_torch_zip(pair[0] / BIN).values()} == {None}
    plain.recover(*pair, tmp_path / "out")
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "known")


def test_checksum_of_0_in_the_directory_does_not_pass_for_none(pair):
    path = pair[0] / BIN
    raw = bytearray(path.read_bytes())
    position = raw.index(b"PK\1\2")
    while (position := raw.find(b"PK\1\2", position)) >= 0:
        raw[position + 16 : position + 20] = bytes(4)
        position += 4
    path.write_bytes(raw)
    with pytest.raises(Refusal, match=r"in pytorch_model\.bin does not match the zip directory"):
        make_plan(*pair)


def test_one_checksum_of_0_among_others_is_compared(pair, tmp_path):
    """A single checksum of 0 is compared: torch.save without checksums would leave out all of them."""
    path = pair[0] / BIN
    raw = bytearray(path.read_bytes())
    crc32 = zipfile.ZipFile(path).getinfo("pytorch_model/data/0").CRC.to_bytes(4, "little")
    assert raw.count(crc32) == 2
    path.write_bytes(raw.replace(crc32, bytes(4)))
    assert "The base's pytorch_model.bin is damaged" in fails(*pair, tmp_path / "out")


@pytest.mark.parametrize("entries", [True, False])
def test_file_rewritten_by_another_program_is_checked_too(pair, tmp_path, entries):
    """Python's zipfile puts checksums before the bytes, and PyTorch 1.6 wrote no byteorder."""
    plain.recover(*pair, tmp_path / "known")
    rewrite(pair[0] / BIN, lambda name, data: data if entries or not name.endswith("byteorder") else None)
    plain.recover(*pair, tmp_path / "out")
    assert models.weights_of(tmp_path / "out") == models.weights_of(tmp_path / "known")
    damage(pair[0], NORM)
    assert fails(*pair, tmp_path / "again") == sentence("base", NORM)


def test_empty_tensors_and_plans_are_left_alone(tmp_path):
    shapes = {**SHAPES, "model.layers.0.empty": (0, 3)}
    folders = [write(tmp_path / role, seed, shapes) for seed, role in enumerate(("base", "diff"))]
    plain.recover(*folders, tmp_path / "out")
    assert make_diff_plan(folders[0], tmp_path / "out", Options()).shards


@pytest.mark.parametrize("lengths", [(0, 0), (1, 0), (0, 1), (5, 3), (1000, 70_001), (65_536, 2**20)])
def test_combined_checksum_is_that_of_both_texts(lengths):
    first, second = (bytes(range(256)) * (size // 256 + 1) for size in lengths)
    first, second = first[: lengths[0]], second[: lengths[1]]
    assert combine(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)
