"""Every false safetensors header is refused with one sentence.

Headers that we write are like the library's.
"""

import json

import pytest

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.safetensors import build_header, read_safetensors


def file_with(path, header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def entry(begin=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
ATTACKS = {
    "empty": (b"", b"", None, "not valid JSON"),
    "length of 2**63": (b"{}", b"", 2**63, "claims a header of 9223372036854775808 bytes; at most"),
    "length beyond the file": (b"{}", b"", 100, "claims a header of 100 bytes but is only 10 bytes long"),
    "not JSON": (b"{", b"", None, "not valid JSON"),
    "not UTF-8": (b'{"\xff":1}', b"", None, "not valid JSON"),
    "nested": (DEEP, b"", None, "cannot be used|exactly dtype, shape and data_offsets"),
    "a list": (b"[]", b"", None, "not a JSON object"),
    "doubled name": (
        b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
        b"", None, "the name 'a' is in it twice",
    ),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", None, "not a table of texts"),
    "missing key": ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8), None, "exactly dtype, shape and data_offsets"),
    "additional key": ({"a": {**entry(), "x": 1}}, bytes(8), None, "exactly dtype, shape and data_offsets"),
    "unknown dtype": ({"a": entry(dtype="F3")}, bytes(8), None, "unknown dtype 'F3'"),
    "dtype of a list": ({"a": entry(dtype=["F32"])}, bytes(8), None, "unknown dtype"),
    "negative size": ({"a": entry(shape=(-2, -1))}, bytes(8), None, "not a short list of sizes"),
    "true as a size": ({"a": entry(shape=(True, 2))}, bytes(8), None, "not a short list of sizes"),
    "huge size": ({"a": entry(shape=(2**62, 2**62))}, bytes(8), None, "do not make its 8 bytes"),
    "size over 2**63": ({"a": entry(shape=(2**63,))}, bytes(8), None, "not a short list of sizes"),
    "many dimensions": ({"a": entry(shape=(1,) * 1000)}, bytes(8), None, "not a short list of sizes"),
    "wrong shape": ({"a": entry(shape=(3,))}, bytes(8), None, "do not make its 8 bytes"),
    "end before begin": ({"a": entry(8, 0)}, bytes(8), None, "lies at bytes 8 to 0, outside"),
    "beyond the end": ({"a": entry(0, 16, (4,))}, bytes(8), None, "is an unfinished download: 78 of 86 bytes are there"),
    "offset of 2**64": ({"a": entry(2**64, 2**64 + 8)}, bytes(8), None, "not two positions"),
    "overlap": ({"a": entry(), "b": entry(4, 12)}, bytes(12), None, "'b' in file overlaps 'a'"),
    "gap": ({"a": entry(), "b": entry(12, 20)}, bytes(20), None, "'b' in file leaves a gap after 'a'"),
    "rest": ({"a": entry()}, bytes(9), None, "but its header describes"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_header_that_lies_is_refused(tmp_path, name):
    header, data, length, sentence = ATTACKS[name]
    path = file_with(tmp_path / "file", header, data, length)
    with pytest.raises(Refusal, match=sentence):
        read_safetensors(path)


def test_offsets_in_another_order_than_the_names_are_read(tmp_path):
    path = file_with(tmp_path / "file", {"a": entry(8, 16), "b": entry(0, 8)}, bytes(16))
    start = path.stat().st_size - 16
    assert {name: ref.offset - start for name, ref in read_safetensors(path).items()} == {"a": 8, "b": 0}


def test_build_header_writes_what_the_library_writes(tmp_path):
    save_file = pytest.importorskip("safetensors.torch", reason="it is the oracle").save_file
    torch = pytest.importorskip("torch", reason="the library saves its tensors")
    state = {"b.weight": torch.zeros(3, 2), "a": torch.zeros(5), 'é"': torch.zeros(1, 1, 1)}
    save_file(state, tmp_path / "file", metadata={"format": "pt"})
    tensors = [(name, "F32", tuple(state[name].shape), state[name].nbytes) for name in sorted(state)]
    header = build_header(tensors)
    assert (tmp_path / "file").read_bytes()[: len(header)] == header
