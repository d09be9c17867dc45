"""Payloads of OpenAssistant's tool compressed with gzip are decoded exactly, in order, and never trusted."""

import gzip
import json
import random

import pytest

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.execution.run import execute
from model_ops.recovery.formats.gzip_files import as_packed
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.planning.options import Options
from model_ops.recovery.planning.planner import make_plan
from tests.model_ops.recovery import plain

torch = plain.torch
XOR = Options(method="xor")
BIN = "pytorch_model.bin"


def exclusive_or(payload, base):
    base = base[: len(payload)].ljust(len(payload), b"\0")
    return (int.from_bytes(payload, "big") ^ int.from_bytes(base, "big")).to_bytes(len(payload), "big")


def save(folder, seed, vocab=300, dtype=torch.float16):
    """Save a .bin checkpoint with a configuration and a tokenizer."""
    shapes = {"model.embed_tokens.weight": (vocab, 64), "model.norm.weight": (64,)}
    plain.write_state(folder, plain.random_state(seed, shapes, [dtype]), kind="bin")
    (folder / "tokenizer.model").write_bytes(random.Random(seed).randbytes(2_000))
    return folder


def code(folder, tuned, base, compress=gzip.compress):
    """Write what xor_codec.py writes: every file that the base has too."""
    folder.mkdir()
    for path in tuned.iterdir():
        coded = exclusive_or(path.read_bytes(), (base / path.name).read_bytes())
        (folder / path.name).write_bytes(compress(coded))
    (folder / "added_tokens.json").write_text("{}")
    return folder


@pytest.fixture
def base(tmp_path):
    return save(tmp_path / "base", 1)


def test_compressed_payload_restores_every_file(base, tmp_path):
    tuned = save(tmp_path / "tuned", 2, vocab=301)
    payload = code(tmp_path / "payload", tuned, base)
    plan = make_plan(base, payload, XOR)
    assert f"note: {BIN} is compressed with gzip and is decoded." in plan.summary()
    assert plan.bytes_to_read < sum(path.stat().st_size for path in [*base.iterdir(), *payload.iterdir()]) + 1
    result = execute(plan, tmp_path / "out")
    made = plain.files_of(tmp_path / "out")
    del made["weights.manifest.json"]
    assert made == {**plain.files_of(tuned), "added_tokens.json": b"{}"}
    assert result.bytes_read == plan.bytes_to_read


def test_large_compressed_file_is_decoded_over_many_blocks(tmp_path):
    base, tuned = (save(tmp_path / name, seed, vocab=200_000) for seed, name in enumerate(("base", "tuned")))
    payload = code(tmp_path / "payload", tuned, base, lambda data: gzip.compress(data, 1))
    execute(make_plan(base, payload, XOR), tmp_path / "out", jobs=2)
    assert (tmp_path / "out" / BIN).read_bytes() == (tuned / BIN).read_bytes()


def test_long_run_of_zeros_is_decoded_in_bounded_pieces(tmp_path):
    """Zeros are decoded in bounded pieces, even if the decoder still holds output when its input ends."""
    base = save(tmp_path / "base", 1, vocab=200_000)
    payload = code(tmp_path / "payload", base, base)
    assert (payload / BIN).stat().st_size < 100_000
    execute(make_plan(base, payload, XOR), tmp_path / "out")
    assert (tmp_path / "out" / BIN).read_bytes() == (base / BIN).read_bytes()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda data: data[: len(data) // 2] + b"\xff" * 20 + data[len(data) // 2 + 20 :], "(damaged or cut short|ends after|holds more)"),
        (lambda data: data[:-8] + bytes(4) + data[-4:], "damaged or cut short"),
        (lambda data: data + gzip.compress(b""), "claim 0 bytes, fewer than .*several gzip files in one"),
        (lambda data: data + gzip.compress(bytes(90_000)), "ends after .*several gzip files in one"),
        (lambda data: data[:-5000] + data[-4:], "damaged or cut short"),
    ],
    ids=["bytes", "checksum", "empty member", "second member", "middle missing"],
)  # fmt: skip
def test_damaged_gzip_fails_with_a_sentence_and_leaves_nothing(base, tmp_path, spoil, sentence):
    payload = code(tmp_path / "payload", save(tmp_path / "tuned", 2), base)
    (payload / BIN).write_bytes(spoil((payload / BIN).read_bytes()))
    with pytest.raises(
        (Failure, Refusal), match=f"{BIN} is compressed with gzip,? and (its last bytes )?{sentence}"
    ):
        execute(make_plan(base, payload, XOR), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_size_that_the_end_claims_wrongly_fails_and_names_the_command(base, tmp_path):
    payload = code(tmp_path / "payload", save(tmp_path / "tuned", 2), base)
    data = (payload / BIN).read_bytes()
    for change, sentence in ((-100, "holds more than"), (100, "damaged")):
        size = int.from_bytes(data[-4:], "little") + change
        (payload / BIN).write_bytes(data[:-4] + size.to_bytes(4, "little"))
        with pytest.raises(Failure, match=sentence):
            execute(make_plan(base, payload, XOR), tmp_path / "out")


def reference(path, size=None):
    size = path.stat().st_size if size is None else size
    return TensorRef(path.name, str(path), 0, size, "U8", (size,))


def test_bomb_is_refused_by_its_size(tmp_path):
    (tmp_path / "base.h5").write_bytes(bytes(1000))
    (tmp_path / "bomb.h5").write_bytes(gzip.compress(bytes(100_000_000), 1))
    with pytest.raises(Refusal, match="claim 100000000 bytes, far more than the 1000 bytes of the base's"):
        as_packed(reference(tmp_path / "bomb.h5"), reference(tmp_path / "base.h5"))


def test_size_over_four_gib_is_the_one_nearest_to_the_base(tmp_path):
    (tmp_path / "base.h5").write_bytes(b"x")
    noise = random.Random(1).randbytes(13_000_000)
    (tmp_path / "payload.h5").write_bytes(gzip.compress(noise, 1))
    payload = reference(tmp_path / "payload.h5")
    for times in (0, 1, 3):
        for near in (-50_000, 0, 12_000_000, 26_000_000):
            base = reference(tmp_path / "base.h5", max(1, times * 2**32 + near))
            assert as_packed(payload, base).nbytes == times * 2**32 + 13_000_000
    (tmp_path / "small.h5").write_bytes(gzip.compress(b"small"))
    with pytest.raises(Refusal, match="more than 25 compressed bytes can hold"):
        as_packed(reference(tmp_path / "small.h5"), reference(tmp_path / "base.h5", 2**32))


def test_compressed_weights_without_a_namesake_are_refused(base, tmp_path):
    payload = code(tmp_path / "payload", save(tmp_path / "tuned", 2), base)
    (payload / "extra.bin").write_bytes((payload / BIN).read_bytes())
    with pytest.raises(
        Refusal, match=r"extra\.bin is compressed with gzip, and the base has no file of that name"
    ):
        make_plan(base, payload, XOR)


def padded(folder, length, value):
    """Write a safetensors file whose header has this length; return its bytes."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    folder.mkdir()
    data = length.to_bytes(8, "little") + header.ljust(length) + bytes([value] * 4)
    (folder / "model.safetensors").write_bytes(data)
    return data


def test_plain_payload_that_begins_like_gzip_stays_plain(tmp_path):
    base, tuned = padded(tmp_path / "base", 64, 1), padded(tmp_path / "tuned", 64 ^ 0x088B1F, 2)
    coded = exclusive_or(tuned, base)
    assert coded[:10] == b"\x1f\x8b\x08" + bytes(7)
    (tmp_path / "payload").mkdir()
    (tmp_path / "payload/model.safetensors").write_bytes(coded)
    execute(make_plan(tmp_path / "base", tmp_path / "payload", XOR), tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == tuned


def test_plain_tokenizer_that_begins_with_the_magic_bytes_stays_plain(base, tmp_path):
    tuned = save(tmp_path / "tuned", 2)
    start = exclusive_or(b"\x1f\x8b\x08\xff\0\0\0\0\0\0", (base / "tokenizer.model").read_bytes()[:10])
    (tuned / "tokenizer.model").write_bytes(start + bytes(90))
    payload = code(tmp_path / "payload", tuned, base, bytes)
    assert (payload / "tokenizer.model").read_bytes()[:3] == b"\x1f\x8b\x08"
    execute(make_plan(base, payload, XOR), tmp_path / "out")
    assert (tmp_path / "out/tokenizer.model").read_bytes() == (tuned / "tokenizer.model").read_bytes()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "other", [{"seed": 9}, {"seed": 1, "dtype": torch.bfloat16}], ids=["values", "dtype"]
)
def test_another_base_of_the_same_layout_fails(base, tmp_path, compress, other):
    payload = code(tmp_path / "payload", save(tmp_path / "tuned", 2), base, compress)
    wrong = save(tmp_path / "wrong", **other)
    assert "compare the base files with the checksums" in make_plan(wrong, payload, XOR).summary()
    with pytest.raises(
        Failure, match=r"not the very base.*use the base files that the diff's publisher names"
    ):
        execute(make_plan(wrong, payload, XOR), tmp_path / "out")
    assert not (tmp_path / "out").exists()
