"""`.bin` files: read as torch.load reads them, without its ability to run what they carry."""

import collections
import os
import pickle
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch.save writes the files")

from model_ops.recovery.errors import Refusal  # noqa: E402
from model_ops.recovery.torch_zip import read_torch_zip  # noqa: E402
from tests.model_ops.recovery.test_safetensors_format import fuzz, fuzz_rounds  # noqa: E402


def read_values(ref):
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}[
        ref.dtype
    ]
    with Path(ref.path).open("rb") as file:
        file.seek(ref.offset)
        return torch.frombuffer(bytearray(file.read(ref.nbytes)), dtype=dtype).view(ref.shape)


def make_state():
    shared = torch.randn(6, 4)
    state = collections.OrderedDict(
        a=torch.randn(3, 5), b=torch.randn(7).half(), c=torch.randn(2, 2, 2).bfloat16(), d=torch.arange(4),
        tied=shared, also_tied=shared, rows=shared[2:4], one=torch.tensor(3.5),
        parameter=torch.nn.Parameter(torch.randn(2)),
    )  # fmt: skip
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    return state


def test_every_tensor_lies_where_torch_load_finds_it(tmp_path):
    state = make_state()
    torch.save(state, tmp_path / "file.bin")
    found = read_torch_zip(tmp_path / "file.bin")
    assert list(found) == list(state)
    assert all(torch.equal(read_values(found[name]), state[name]) for name in state)
    assert found["tied"].offset == found["also_tied"].offset
    assert found["rows"].offset == found["tied"].offset + 2 * 4 * 4


def test_module_state_dict_is_read(tmp_path):
    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), tmp_path / "file.bin")
    assert set(read_torch_zip(tmp_path / "file.bin")) == {"weight", "bias"}


def refused(path):
    with pytest.raises(Refusal) as caught:
        read_torch_zip(path)
    return str(caught.value)


def rewrite(path, change, compression=zipfile.ZIP_STORED):
    """Write a torch file anew with `change(name, data) -> data or None` applied to its entries."""
    with zipfile.ZipFile(path) as source:
        entries = [(info.filename, source.read(info)) for info in source.infolist()]
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, data in entries:
            changed = change(name, data)
            if changed is not None:
                target.writestr(name, changed)


@pytest.fixture
def saved(tmp_path):
    torch.save({"a": torch.ones(8)}, tmp_path / "file.bin")
    return tmp_path / "file.bin"


def replace_pickle(path, data):
    rewrite(path, lambda name, old: data if name.endswith("data.pkl") else old)


class Attack:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    "attack",
    [
        Attack(os.system, "touch PWNED"), Attack(eval, "open('PWNED', 'w')"), Attack(torch.load, "PWNED"),
        Attack(getattr, "os", "system"), Attack(torch.storage._load_from_bytes, b"x"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("protocol", [2, 4])
def test_pickle_that_would_run_code_is_refused_and_runs_nothing(
    saved, tmp_path, monkeypatch, attack, protocol
):
    monkeypatch.chdir(tmp_path)
    replace_pickle(saved, pickle.dumps({"a": attack}, protocol=protocol))
    assert "so it is not read" in (sentence := refused(saved)) or "which could run code" in sentence
    assert not (tmp_path / "PWNED").exists()


PICKLES = {
    "memo of 4 billion": (b"\x80\x02}r\xff\xff\xff\x7f.", None),
    "stack underflow": (b"\x80\x02s.", "is damaged"),
    "endless nesting": (b"\x80\x02" + b"}(" * 100_000 + b".", "is damaged|not a dictionary|does not hold"),
    "doubling": (b"\x80\x02)" + b"q\x00h\x00\x86" * 10_000 + b".", "does not hold a dictionary"),
    "text of 4 GB": (b"\x80\x02X\xff\xff\xff\xff.", "is damaged"),
    "long of 2 GB": (b"\x80\x02\x8b\xff\xff\xff\x7f.", "is damaged"),
    "no stop": (b"\x80\x02}", "is damaged"),
    "empty": (b"", "is damaged"),
    "not a dictionary": (b"\x80\x02].", "does not hold a dictionary"),
    "a number": (pickle.dumps({"a": 1}, protocol=2), "holds 'a', which is not a tensor"),
    "number as a name": (pickle.dumps({1: {}}, protocol=2), "a key that is not a text"),
    "extension": (b"\x80\x02\x82\x01.", "uses the instruction EXT1|damaged"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickle_is_refused(saved, name):
    data, sentence = PICKLES[name]
    replace_pickle(saved, data)
    if sentence is None:
        assert read_torch_zip(saved) == {}
    else:
        with pytest.raises(Refusal, match=sentence):
            read_torch_zip(saved)


def test_compressed_entries_are_refused(saved):
    rewrite(saved, lambda name, data: data, zipfile.ZIP_DEFLATED)
    assert "holds compressed entries, which are not read" in refused(saved)


def test_big_endian_file_is_refused(saved):
    rewrite(saved, lambda name, data: b"big" if name.endswith("byteorder") else data)
    assert "was saved on a big-endian machine" in refused(saved)


def test_legacy_file_is_refused(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "file.bin", _use_new_zipfile_serialization=False)
    assert "saved before PyTorch 1.6 are not read" in refused(tmp_path / "file.bin")


def test_non_contiguous_tensor_is_refused(tmp_path):
    torch.save({"a": torch.ones(4, 3).t()}, tmp_path / "file.bin")
    assert "'a' in file.bin is not contiguous" in refused(tmp_path / "file.bin")


def test_missing_storage_is_refused(saved):
    rewrite(saved, lambda name, data: None if name.endswith("data/0") else data)
    assert "refers to a storage that is not in the file" in refused(saved)


def test_storage_of_another_size_is_refused(saved):
    rewrite(saved, lambda name, data: data[:-4] if name.endswith("data/0") else data)
    assert "lies in a storage of 28 bytes that claims 8 values" in refused(saved)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_doubled_entry_is_refused(saved):
    with zipfile.ZipFile(saved, "a") as file:
        file.writestr(file.infolist()[0].filename, b"x")
    assert "twice" in refused(saved)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 0.999])
def test_file_cut_short_is_refused(saved, share):
    raw = saved.read_bytes()
    saved.write_bytes(raw[: int(len(raw) * share)])
    assert refused(saved)


def test_fuzzed_files_are_read_or_refused(tmp_path):
    torch.save(make_state(), tmp_path / "file.bin")
    fuzz(tmp_path / "file.bin", fuzz_rounds(), read_torch_zip)
