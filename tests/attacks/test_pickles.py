"""Pickles that run code, refer to outside names, or blow up: our reader interprets the opcodes over plain values."""

import struct

import pytest

from tests.attacks.kit import (
    bin_entries,
    dictionary,
    naive,
    number,
    sound_tensors,
    state_pickle,
    storage,
    tensor,
    text,
    write_zip,
)

TOUCH = "open('PWNED', 'w').close()"
LOAD = "import pickle; pickle.loads(open('attack.pkl', 'rb').read())"
EXTENDED = f"import copyreg; copyreg.add_extension('builtins', 'exec', 1)\n{LOAD}"
AMONG_TENSORS = """
import io, pickle
class Reader(pickle.Unpickler):
    def persistent_load(self, key):
        return None
    def find_class(self, module, name):
        return (lambda *rest: None) if module.startswith("torch") else super().find_class(module, name)
Reader(io.BytesIO(open("attack.pkl", "rb").read())).load()
"""
CODE = text(TOUCH)
EXEC = b"cbuiltins\nexec\n"
SPACE = b"ctypes\nSimpleNamespace\n)R"

# Each runs code in a plain unpickler; the second value is what must exist beforehand (copyreg's table).
RUNS_CODE = {
    "REDUCE": (b"\x80\x02" + EXEC + CODE + b"\x85R.", LOAD),
    "REDUCE of a text": (b"cbuiltins\nexec\n(V" + TOUCH.encode() + b"\ntR.", LOAD),
    "INST": (b"(V" + TOUCH.encode() + b"\nibuiltins\nexec\n.", LOAD),
    "OBJ": (b"(" + EXEC + CODE + b"o.", LOAD),
    "STACK_GLOBAL": (b"\x80\x04" + text("builtins") + text("exec") + b"\x93" + CODE + b"\x85R.", LOAD),
    "STACK_GLOBAL of a dotted name": (
        b"\x80\x04" + text("pickle") + text("codecs.builtins.exec") + b"\x93" + CODE + b"\x85R.", LOAD,
    ),
    "NEWOBJ": (
        # A namespace gets exec as its __setstate__ and is then given a state: BUILD calls it.
        b"\x80\x02ctypes\nSimpleNamespace\n)\x81}" + text("__setstate__") + EXEC + b"sb" + CODE + b"b.", LOAD,
    ),
    "BUILD": (b"\x80\x02" + SPACE + b"}" + text("__setstate__") + EXEC + b"sb" + CODE + b"b.", LOAD),
    "memo": (b"\x80\x02" + EXEC + b"r\xff\x00\x00\x000" + CODE + b"q\x010j\xff\x00\x00\x00h\x01\x85R.", LOAD),
    "EXT1": (b"\x80\x02\x82\x01" + CODE + b"\x85R.", EXTENDED),
    "EXT2": (b"\x80\x02\x83\x01\x00" + CODE + b"\x85R.", EXTENDED),
    "EXT4": (b"\x80\x02\x84\x01\x00\x00\x00" + CODE + b"\x85R.", EXTENDED),
    "behind the tensors": (
        state_pickle(sound_tensors())[:-1] + b"0" + EXEC + CODE + b"\x85R.",
        AMONG_TENSORS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS_CODE)
def test_pickle_that_runs_code_runs_nothing(world, tmp_path, name):
    pickled, unpickle = RUNS_CODE[name]
    (tmp_path / "attack.pkl").write_bytes(pickled)
    naive(unpickle, tmp_path)
    assert (tmp_path / "PWNED").exists(), "this pickle is no attack"
    world.use_bin(world.diff, bin_entries(sound_tensors(), pickled))
    assert world.refused().startswith("The diff cannot be used: the pickle inside pytorch_model.bin ")


def test_pickle_of_the_base_is_no_more_trusted(world):
    world.use_bin(world.base, bin_entries(sound_tensors(), RUNS_CODE["REDUCE"][0]))
    assert world.refused() == (
        "The base cannot be used: the pickle inside pytorch_model.bin calls for 'builtins.exec', which could run code "
        "and has no place in a state dict of plain tensors; save model.state_dict() with torch.save."
    )


def test_code_beside_the_pickle_is_never_looked_at(world):
    entries = bin_entries(sound_tensors(0.5)) | {
        "archive/code/__torch__.py": TOUCH.encode(),
        "archive/constants.pkl": RUNS_CODE["REDUCE"][0],
    }
    world.use_bin(world.diff, entries)
    assert "PWNED" not in world.made()


def test_second_pickle_is_refused(world):
    world.use_bin(world.diff, {**bin_entries(sound_tensors()), "other/data.pkl": RUNS_CODE["REDUCE"][0]})
    assert "not one that torch.save wrote (no single data.pkl)" in world.refused()


# A persistent id is passed to the program unchanged: a program that opens the file it names opens any file.
ODD_IDS = {
    "key with a path": (storage("../../secret.safetensors", 8), "refers to a storage that is not in the file"),
    "absolute key": (storage("/etc/passwd", 8), "refers to a storage that is not in the file"),
    "a text": (text("../secret") + b"Q", "refers to something outside that is not a storage"),
    "a text opcode": (b"P../secret\n", "uses the instruction PERSID"),
    "none": (b"NQ", "refers to something outside that is not a storage"),
    "six parts": (b"(NNNNNNtQ", "refers to something outside that is not a storage"),
    "kind that is no storage": (
        b"(" + text("storage") + b"ccollections\nOrderedDict\n" + text("0") + text("cpu") + number(8) + b"tQ",
        "refers to a storage in an unknown way",
    ),
    "key of a number": (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + number(0) + text("cpu") + number(8) + b"tQ",
        "refers to a storage in an unknown way",
    ),
    "negative size": (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"J\xff\xff\xff\xfftQ",
        "refers to a storage without a size",
    ),
}  # fmt: skip


def test_persistent_id_reaches_out_of_the_folder_in_a_plain_reader(world):
    (world.root / "model/data").mkdir(parents=True)
    (world.root / "attack.pkl").write_bytes(b"P../../secret.safetensors\n.")
    code = (
        "import io, pickle\n"
        "class Reader(pickle.Unpickler):\n"
        "    def persistent_load(self, key): return open('model/data/' + key, 'rb').read()\n"
        "print(len(Reader(io.BytesIO(open('attack.pkl', 'rb').read())).load()))"
    )
    assert naive(code, world.root).stdout == f"{world.secret.stat().st_size}\n"


@pytest.mark.parametrize("name", ODD_IDS)
def test_persistent_id_that_is_odd_is_refused(world, name):
    place, sentence = ODD_IDS[name]
    pickled = dictionary({"model.norm.weight": tensor(place, 0, (8,), (1,))})
    world.use_bin(world.diff, bin_entries(sound_tensors(), pickled))
    assert sentence in world.refused()


def test_storage_of_two_dtypes_is_refused(world):
    half = tensor(storage("0", 16, "HalfStorage"), 0, (16,), (1,))
    pickled = dictionary({"a": tensor(storage("0", 8), 0, (8,), (1,)), "b": half})
    world.use_bin(world.diff, bin_entries({"a": ("F32", (8,), bytes(32))}, pickled))
    assert "describes one storage in two ways" in world.refused()


def test_doubling_is_refused_however_often(world):
    def doubling(times):
        return b"\x80\x02]q\x00" + b"h\x00h\x00\x86q\x00" * times + b"."

    (world.root / "attack.pkl").write_bytes(doubling(18))
    done = naive("import pickle; print(len(repr(pickle.load(open('attack.pkl', 'rb')))))", world.root)
    assert int(done.stdout) > 10_000 * len(doubling(18))
    world.use_bin(world.diff, bin_entries(sound_tensors(), doubling(10_000)))
    assert "does not hold a dictionary" in world.refused()


SELF = b"\x80\x02}q\x00" + text("a") + b"h\x00s."
BLOWS_UP = {
    "memo of 2 billion places": (
        b"\x80\x02}r\xff\xff\xff\x7f.", "pickle.loads(data)", "MemoryError", "holds no tensors",
    ),
    "nesting": (b"]" * 100_000 + b"a" * 99_999 + b".", "repr(pickle.loads(data))", "RecursionError", "does not hold a dictionary"),
    "nested dictionaries": (
        b"}" + (text("a") + b"}") * 100_000 + b"s" * 100_000 + b".", "repr(pickle.loads(data))", "RecursionError", "holds 'a', which is not a tensor but a dictionary",
    ),
    "a dictionary that holds itself": (
        SELF, "import json; json.dumps(pickle.loads(data))", "ValueError: Circular reference", "not a tensor but a dictionary",
    ),
    "a number of a million digits": (
        b"\x80\x02}" + text("a") + b"L" + b"9" * 1_000_000 + b"L\ns.", "pickle.loads(data)", "ValueError", "is damaged|uses the instruction LONG",
    ),
    "700,000 instructions": (b"]" * 700_000 + b".", "", None, "takes more than 600000 steps"),
    "17 MB": (b"\x80\x02}X" + struct.pack("<I", 17 << 20) + b"a" * (17 << 20) + b"0.", "", None, "17825802 bytes long; at most 16777216 are read"),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOWS_UP)
def test_pickle_that_blows_up_is_refused(world, name):
    pickled, reading, outcome, sentence = BLOWS_UP[name]
    if outcome is not None:
        (world.root / "attack.pkl").write_bytes(pickled)
        done = naive(
            f"import pickle; data = open('attack.pkl', 'rb').read(); {reading}", world.root, memory=1 << 30
        )
        assert outcome in done.stderr
    world.use_bin(world.diff, bin_entries(sound_tensors(), pickled))
    said = world.refused()
    assert any(part in said for part in sentence.split("|")), said


def test_pickle_that_goes_on_after_its_end_is_refused(world):
    pickled = state_pickle(sound_tensors()) + RUNS_CODE["REDUCE"][0]
    world.use_bin(world.diff, bin_entries(sound_tensors(), pickled))
    assert "goes on after its end" in world.refused()


def test_bare_pickle_is_refused(world):
    (world.diff / "model.safetensors").unlink()
    (world.diff / "pytorch_model.bin").write_bytes(RUNS_CODE["REDUCE"][0])
    assert "is not a zip file; checkpoints saved before PyTorch 1.6 are not read" in world.refused()


def test_sound_bin_is_read_so_the_refusals_mean_something(world):
    world.use_bin(world.diff, bin_entries(sound_tensors(0.5)))
    assert {"model.safetensors", "config.json"} <= set(world.made())


def test_our_bin_is_what_torch_reads(tmp_path):
    torch = pytest.importorskip("torch", reason="it is the other reader")
    path = write_zip(tmp_path / "file.bin", bin_entries(sound_tensors(0.5)))
    state = torch.load(path, weights_only=True)
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        name: shape for name, (_, shape, _) in sound_tensors().items()
    }
