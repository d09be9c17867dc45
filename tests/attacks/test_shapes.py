"""Dtypes and shapes that do not match the number of bytes, in a header and in the pickle of a `.bin`."""

import struct

import pytest

from tests.attacks.kit import (
    bin_entries,
    contiguous,
    dictionary,
    floats,
    header_of,
    naive,
    product,
    sound_tensors,
    storage,
    tensor,
    write_safetensors,
    write_tensors,
)

NORM = "model.norm.weight"  # 8 float32, 32 bytes
ENTRIES = {
    "more than is there": ({"shape": [9]}, "do not make its 32 bytes"),
    "less than is there": ({"shape": [7]}, "do not make its 32 bytes"),
    "another dtype": ({"dtype": "F16"}, "do not make its 32 bytes"),
    "a product that wraps round 2**64 to 8": (
        {"shape": [2**61 + 1, 2**3 * 2**61]}, "a shape that is not a short list of sizes",
    ),
    "a product that wraps round 2**64 in two steps": ({"shape": [2**32, 2**32, 8]}, "do not make its 32 bytes"),
    "bytes that wrap round 2**64": ({"shape": [2**62 + 8]}, "do not make its 32 bytes"),
    "two negatives": ({"shape": [-2, -4]}, "a shape that is not a short list of sizes"),
    "a size to be guessed": ({"shape": [-1]}, "a shape that is not a short list of sizes"),
    "a fraction": ({"shape": [8.0]}, "a shape that is not a short list of sizes"),
    "1e999": ({"shape": [float("inf")]}, "a shape that is not a short list of sizes"),
    "NaN": ({"shape": [float("nan")]}, "a shape that is not a short list of sizes"),
    "true": ({"shape": [True, 8]}, "a shape that is not a short list of sizes"),
    "a text": ({"shape": "8"}, "a shape that is not a short list of sizes"),
    "a number": ({"shape": 8}, "a shape that is not a short list of sizes"),
    "a table": ({"shape": {"0": 8}}, "a shape that is not a short list of sizes"),
    "nested": ({"shape": [[8]]}, "a shape that is not a short list of sizes"),
    "a thousand dimensions": ({"shape": [8] + [1] * 1000}, "a shape that is not a short list of sizes"),
    "a number of 4000 digits": ({"shape": [10**4000]}, "a shape that is not a short list of sizes"),
    "nothing times 2**62": ({"shape": [0, 2**62]}, "do not make its 32 bytes"),
    "an unknown dtype": ({"dtype": "F33"}, "the unknown dtype 'F33'"),
    "a dtype of numpy": ({"dtype": "<f4"}, "the unknown dtype '<f4'"),
    "a dtype of objects": ({"dtype": "O"}, "the unknown dtype 'O'"),
    "a dtype in lower case": ({"dtype": "f32"}, "the unknown dtype 'f32'"),
    "a dtype with a NUL": ({"dtype": "F32\0"}, "the unknown dtype 'F32\\x00'"),
    "a dtype of 10 MB": ({"dtype": "F" * 10_000_000}, "the unknown dtype 'FFFF"),
    "a dtype that is a list": ({"dtype": ["F32"]}, "the unknown dtype"),
    "no dtype": ({"dtype": None}, "the unknown dtype"),
    "more than is known": ({"strides": [1]}, "must be described by exactly dtype, shape and data_offsets"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENTRIES)
def test_header_whose_shape_does_not_fit_is_refused(world, name):
    change, sentence = ENTRIES[name]
    tensors = sound_tensors(0.5)
    header = header_of(tensors)
    header[NORM].update(change)
    write_safetensors(world.weights, header, b"".join(data for _, _, data in tensors.values()))
    assert sentence in world.refused()


def test_products_wrap_round_where_numbers_have_64_bits():
    """A reader with 64-bit numbers accepts the sizes above: they were chosen to overflow."""
    wrapped = {name: change["shape"] for name, (change, _) in ENTRIES.items() if "wrap" in name}
    for shape in wrapped.values():
        assert (product(tuple(shape)) * 4) % 2**64 in {0, 32}


def window(offset=0, shape=(8,), strides=None, elements=8):
    return tensor(storage("3", elements), offset, shape, contiguous(shape) if strides is None else strides)


NEGATIVE = b"J" + struct.pack("<i", -4)
PICKLED = {
    "beyond the storage": (window(offset=1), "reaches beyond the end of its storage"),
    "far beyond the storage": (window(offset=2**62), "reaches beyond the end of its storage"),
    "more than the storage": (window(shape=(9,)), "reaches beyond the end of its storage"),
    "a product that wraps round 2**64": (window(shape=(2**32, 2**32, 8)), "reaches beyond the end of its storage"),
    "a storage that claims more": (window(elements=9), "lies in a storage of 32 bytes that claims 9 values"),
    "a storage that claims 2**62": (window(elements=2**62), "lies in a storage of 32 bytes that claims"),
    "strides of nothing": (window(shape=(1000, 8), strides=(0, 1)), "is not contiguous"),
    "strides that skip": (window(shape=(4,), strides=(2,)), "is not contiguous"),
    "transposed": (window(shape=(4, 2), strides=(1, 4)), "is not contiguous"),
    "huge strides": (window(shape=(2, 4), strides=(2**62, 1)), "is not contiguous"),
    "fewer strides than sizes": (window(shape=(4, 2), strides=(1,)), "describes a tensor's shape in an unknown way"),
    "17 dimensions": (window(shape=(1,) * 17), "describes a tensor's shape in an unknown way"),
    "a size of 2**63": (window(shape=(2**63,), strides=(1,)), "describes a tensor's shape in an unknown way"),
    "a negative size": (
        window(shape=(4, 2)).replace(b"J\x04\0\0\0", NEGATIVE, 1), "describes a tensor's shape in an unknown way",
    ),
    "a negative offset": (window(offset=4).replace(b"J\x04\0\0\0", NEGATIVE, 1), "describes a tensor in an unknown way"),
    "a size of true": (window(shape=(1, 8)).replace(b"J\x01\0\0\0", b"\x88", 1), "describes a tensor's shape in an unknown way"),
    "sizes in a list": (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage("3", 8) + b"J\0\0\0\0]]\x89}tR", "describes a tensor's shape in an unknown way",
    ),
    "no storage": (b"ctorch._utils\n_rebuild_tensor_v2\n(NJ\0\0\0\0))\x89}tR", "describes a tensor in an unknown way"),
    "too little said": (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "describes a tensor in an unknown way"),
    "a parameter of nothing": (b"ctorch._utils\n_rebuild_parameter\n(N\x89}tR", "describes a parameter in an unknown way"),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLED)
def test_pickle_whose_window_does_not_fit_is_refused(world, name):
    window, sentence = PICKLED[name]
    tensors = sound_tensors()
    world.use_bin(world.diff, bin_entries(tensors, dictionary({NORM: window})))
    assert sentence in world.refused()


def test_view_beyond_its_storage_reads_other_memory_in_a_plain_reader(world):
    """A view that trusts offset and size reads memory next to its own: this is what the checks above prevent."""
    code = (
        "data = bytearray(b'weights!' + b'secret')\n"
        "storage_size, offset, size = 8, 8, 6\n"
        "print(bytes(memoryview(data)[offset:offset + size]))"
    )
    assert naive(code, world.root).stdout == "b'secret'\n"


def test_number_formats_that_cannot_be_added_are_refused_by_name(world):
    for folder in (world.base, world.diff):
        tensors = {**sound_tensors(), "model.layers.0.flag": ("BOOL", (), bytes(1))}
        write_tensors(folder / "model.safetensors", tensors)
    assert world.refused() == (
        "Tensor model.layers.0.flag has dtype BOOL; only float32, float16, bfloat16, float64, and whole numbers of one"
        " dtype, can be added."
    )


@pytest.mark.parametrize("shape", [(8, 1), (1, 8), (2, 4), (), (1,), (8, 1, 1)])
def test_shape_that_a_plain_addition_would_broadcast_is_refused(world, shape):
    """Without a comparison of shapes, adding [8] and [8, 1] gives [8, 8]."""
    tensors = {**sound_tensors(), NORM: ("F32", shape, floats(product(shape)))}
    write_tensors(world.weights, tensors)
    sentence = world.refused()
    assert sentence.startswith(f"{NORM} has shape {list(shape)} in the diff but [8] in the base")


@pytest.mark.parametrize("rows", [(0, 8), (6, 0), (7, 0)])
def test_embedding_of_nothing_is_refused_or_copied_but_never_grown(world, rows):
    tensors = {**sound_tensors(), "lm_head.weight": ("F32", rows, b"")}
    write_tensors(world.weights, tensors)
    write_tensors(
        world.base / "model.safetensors", {**sound_tensors(), "lm_head.weight": ("F32", (6, 0), b"")}
    )
    outcome = world.run()
    assert outcome.status == (0 if rows == (6, 0) else 2), outcome.stderr
