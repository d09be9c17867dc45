"""`.bin` files are read as torch.load reads them, but the code they carry cannot run."""

import collections
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch.save writes the files")

from model_ops.recovery.errors import Refusal  # noqa: E402
from model_ops.recovery.formats.torch_zip import read_torch_zip  # noqa: E402
from tests.attacks import kit, zips  # noqa: E402


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
    """Rewrite a torch file, passing each entry through `change(name, data) -> data or None`."""
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


LAYOUTS = {
    "of PyTorch 1.6": ("archive", {"version": b"3\n"}),
    "named after the file": ("pytorch_model-00001-of-00002", {"version": b"3\n"}),
    "of PyTorch 2.1": ("pytorch_model", {"byteorder": b"little", "version": b"3\n", ".data/serialization_id": b"1" * 40}),
    "of PyTorch 2.7": (
        "archive",
        {".format_version": b"1", ".storage_alignment": b"64", "byteorder": b"little", "version": b"3\n", ".data/serialization_id": b"1" * 40},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("described_after", [False, True])
def test_layout_of_any_release_is_read(saved, name, described_after):
    """Layouts of every PyTorch release are read.

    PyTorch's own writer puts sizes after the bytes, others before them.
    """
    folder, beside = LAYOUTS[name]
    with zipfile.ZipFile(saved) as file:
        pickled = file.read(next(entry for entry in file.namelist() if entry.endswith("data.pkl")))
    entries = {"data.pkl": pickled, "data/0": torch.ones(8).numpy().tobytes(), **beside}
    with saved.open("wb") as raw, zipfile.ZipFile(Pipe(raw) if described_after else raw, "w") as file:
        for entry, data in entries.items():
            file.writestr(f"{folder}/{entry}", data)
    assert torch.equal(read_values(read_torch_zip(saved)["a"]), torch.ones(8))


class Pipe:
    """A file that cannot seek, so that a zip written to it has its sizes after the bytes."""

    def __init__(self, file):
        self.write, self.flush = file.write, file.flush


def test_file_over_4_gb_in_zip64_is_located(tmp_path):
    """The tensor of 5 GB is a hole, and none of it is read."""
    size = 5 * 2**30
    with zipfile.ZipFile(tmp_path / "sound.bin", "w") as file:
        file.writestr(
            "archive/data.pkl",
            kit.dictionary({"a": kit.tensor(kit.storage("0", size // 4), 0, (size // 4,), (1,))}),
        )
        file.writestr(zipfile.ZipInfo("archive/data/0"), b"")
    raw = (tmp_path / "sound.bin").read_bytes()
    start, directory = raw.index(b"PK\3\4", 4), raw.index(b"PK\1\2")
    second = raw.index(b"PK\1\2", directory + 4)
    extra = zips.zip64_extra(size, size)
    local = (
        raw[start : start + 18]
        + b"\xff" * 8
        + struct.pack("<2H", len("archive/data/0"), len(extra))
        + b"archive/data/0"
        + extra
    )
    central = (
        raw[second : second + 20]
        + b"\xff" * 8
        + struct.pack("<2H", 14, len(extra))
        + raw[second + 32 : second + 60]
        + extra
    )
    place = start + len(local) + size
    with (tmp_path / "file.bin").open("wb") as file:
        file.write(raw[:start] + local)
        file.seek(place)
        file.write(raw[directory:second] + central)
        length = second - directory + len(central)
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, length, place))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, place + length, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, length, 2**32 - 1, 0))
    assert zipfile.ZipFile(tmp_path / "file.bin").getinfo("archive/data/0").file_size == size
    found = read_torch_zip(tmp_path / "file.bin")["a"]
    assert (found.offset, found.nbytes) == (start + len(local), size)


def test_views_of_one_large_storage_are_read_where_they_begin(tmp_path):
    large = torch.arange(1000.0)
    state = {"head": large[:10], "middle": large[100:160].view(6, 10), "end": large[990:], "all": large}
    torch.save(state, tmp_path / "file.bin")
    found = read_torch_zip(tmp_path / "file.bin")
    assert {name: torch.equal(read_values(found[name]), state[name]) for name in state} == dict.fromkeys(
        state, True
    )
    assert found["middle"].offset - found["all"].offset == 400


@pytest.mark.parametrize(
    "view", [torch.arange(20.0)[::2], torch.ones(1, 4).expand(3, 4), torch.ones(4, 4)[:, 1:]]
)
def test_view_that_skips_or_repeats_is_refused(tmp_path, view):
    torch.save({"a": view}, tmp_path / "file.bin")
    assert refused(tmp_path / "file.bin") == (
        "Tensor 'a' in file.bin is not contiguous, which is not read; save it again after .contiguous()."
    )


@pytest.mark.parametrize("name", ["state_dict", "model"])
def test_state_dict_inside_a_dictionary_is_refused(tmp_path, name):
    torch.save({name: {"a": torch.ones(2)}, "epoch": 3}, tmp_path / "file.bin")
    assert refused(tmp_path / "file.bin") == (
        f'file.bin holds its tensors inside {name!r} and not by themselves. Save them alone: `python -c "import torch; '
        f"p = 'FILE'; torch.save(torch.load(p, map_location='cpu', weights_only=True)[{name!r}], p)\"`, with the file's path "
        "for FILE."
    )


def test_name_of_an_inner_dictionary_is_never_put_into_a_command(tmp_path):
    torch.save({"x'];evil()#": {"a": torch.ones(2)}}, tmp_path / "file.bin")
    assert refused(tmp_path / "file.bin") == (
        'The pickle inside file.bin holds "x\'];evil()#", which is not a tensor but a dictionary, so it is not read.'
    )


def test_number_beside_the_tensors_is_refused(tmp_path):
    torch.save({"a": torch.ones(2), "epoch": 3}, tmp_path / "file.bin")
    assert refused(tmp_path / "file.bin") == (
        "The pickle inside file.bin holds 'epoch', which is not a tensor, so it is not read."
    )


def test_whole_model_is_refused_with_what_to_save_instead(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "file.bin")
    assert refused(tmp_path / "file.bin") == (
        "The pickle inside file.bin calls for 'torch.nn.modules.linear.Linear', which could run code and has no place "
        "in a state dict of plain tensors; save model.state_dict() with torch.save."
    )


@pytest.mark.filterwarnings("ignore")
def test_compiled_model_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "file.bin")
    assert "file.bin holds compressed entries, which are not read" in refused(tmp_path / "file.bin")


def test_later_pickle_protocol_is_refused(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "file.bin", pickle_protocol=4)
    assert refused(tmp_path / "file.bin") == (
        "The pickle inside file.bin is of protocol 4 where torch.save writes 2, so it is not read."
    )


@pytest.mark.parametrize(
    "value",
    [torch.ones(2).to_sparse(), torch.ones(2).to(torch.float8_e4m3fn), torch.ones(2, dtype=torch.complex64),
     torch.ones(2, device="meta")],
)  # fmt: skip
def test_tensor_of_another_kind_is_refused(tmp_path, value):
    torch.save({"a": value}, tmp_path / "file.bin")
    assert refused(tmp_path / "file.bin").startswith("The pickle inside file.bin calls for 'torch.")


def test_counters_of_batch_norm_are_read_as_whole_numbers(tmp_path):
    """They are located, although the rules later refuse them by name because they cannot be added."""
    torch.save(torch.nn.BatchNorm1d(3).state_dict(), tmp_path / "file.bin")
    found = read_torch_zip(tmp_path / "file.bin")
    assert (found["num_batches_tracked"].dtype, found["num_batches_tracked"].shape) == ("I64", ())


def test_name_that_is_not_utf8_is_refused(saved):
    with zipfile.ZipFile(saved) as file:
        pickled = file.read(next(entry for entry in file.namelist() if entry.endswith("data.pkl")))
    replace_pickle(saved, pickled.replace(b"X\x01\x00\x00\x00a", b"X\x01\x00\x00\x00\xff"))
    assert refused(saved) == "The pickle inside file.bin is damaged."
