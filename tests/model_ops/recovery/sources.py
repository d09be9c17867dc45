"""Turn sound pairs into the folders people really have. Each builder changes a `World` of tests/attacks."""

import gzip
import io
import json
import struct
import tarfile
import zipfile

from tests.attacks.kit import bin_entries, dictionary, sound_tensors, write_index, write_tensors, write_zip

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
POINTER = (
    f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4665cdbd5ffe8b6c' * 4}\nsize 9976578928\n"
)
PAGE = "<!doctype html>\n<html><head><title>Hugging Face</title></head><body>Sign in</body></html>\n"
DENIED = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
WEIGHTS = "model.safetensors"


def text(name, content, role="diff"):
    """Write a file with this content, replacing any existing one."""

    def build(world):
        data = content if isinstance(content, bytes) else content.encode()
        (world.root / role / name).write_bytes(data)

    return build


def beside(name, role="diff", content=b"\0\1"):
    """Add a file next to sound weights."""
    return text(name, content, role)


def instead(name, role="diff", content=None):
    """Rename the weights, or replace them with another file."""

    def build(world):
        path = world.root / role / WEIGHTS
        data = path.read_bytes() if content is None else content
        path.unlink()
        target = path.parent / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    return build


def packed(pack, name=WEIGHTS, role="diff"):
    """Pack the weights, under their own name."""

    def build(world):
        path = world.root / role / WEIGHTS
        data = pack(path.read_bytes())
        path.unlink()
        path.with_name(name).write_bytes(data)

    return build


def in_a_tar(data):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        entry = tarfile.TarInfo("model.safetensors")
        entry.size = len(data)
        file.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def in_a_zip(data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("delta/model.safetensors", data)
    return out.getvalue()


def half(data):
    return data[: len(data) // 2 + 100]


def shards(world, *, keep=SHARDS, index=True, weight_map=None, role="diff", extra=None):
    """Split the weights into two files, keeping only some."""
    folder = world.root / role
    (folder / WEIGHTS).unlink()
    names = list(sound_tensors())
    parts = dict(zip(SHARDS, (names[:2], names[2:]), strict=True))
    for file, part in parts.items():
        if file in keep:
            tensors = {name: sound_tensors(0.5)[name] for name in part}
            write_tensors(folder / file, {**tensors, **(extra or {})} if file == SHARDS[0] else tensors)
    if index:
        write_index(folder, weight_map or {name: file for file, part in parts.items() for name in part})


def sharded(**choices):
    return lambda world: shards(world, **choices)


def tensors(change, role="diff"):
    """Write other tensors to the same file."""

    def build(world):
        path = world.root / role / WEIGHTS
        write_tensors(path, change(sound_tensors(0.5)))

    return build


def quantised(*suffixes, dtype="I32", role="base"):
    """Replace one matrix with integers and the tensors that belong to them."""

    def change(sound):
        name = "model.layers.0.mlp.up_proj"
        sound.pop(f"{name}.weight")
        size = {"I32": 4, "U8": 1, "I8": 1, "F8_E4M3": 1, "I16": 2}[dtype]
        made = {f"{name}.{suffix}": ("F32", (1, 2), bytes(8)) for suffix in suffixes[1:]}
        return {**sound, f"{name}.{suffixes[0]}": (dtype, (2, 2), bytes(4 * size)), **made}

    return tensors(change, role)


def moved(target, role="diff"):
    """Move all files of a folder into a folder below it."""

    def build(world):
        folder = world.root / role
        files = list(folder.iterdir())
        (folder / target).mkdir(parents=True)
        for path in files:
            path.rename(folder / target / path.name)

    return build


def folder_of(*names, role="base"):
    """Make a folder with only these files; names that end in a slash are folders."""

    def build(world):
        folder = world.root / role
        for path in list(folder.iterdir()):
            path.unlink()
        for name in names:
            if name.endswith("/"):
                (folder / name).mkdir(parents=True)
            else:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(b"\1\2\3\4" * 8)

    return build


def adapter(kind="LORA", role="diff"):
    def build(world):
        folder_of("adapter_model.safetensors", role=role)(world)
        (world.root / role / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))

    return build


def wrapped(world):
    """Wrap tensors as `{"state_dict": {...}, "epoch": ...}`, as training frameworks save them."""
    from tests.attacks.kit import number, state_pickle

    inner = state_pickle(sound_tensors())[2:-1]
    pickled = dictionary({"state_dict": inner, "epoch": number(3), "lr": b"G" + struct.pack(">d", 1e-5)})
    world.use_bin(world.diff, bin_entries(sound_tensors(), pickled))


def linked_to_a_cache(world, *, is_there=True, role="base"):
    blobs = world.root / "cache/models--huggyllama--llama-7b/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted((world.root / role).iterdir())):
        path.rename(blobs / f"{number:040x}")
        path.symlink_to(f"../cache/models--huggyllama--llama-7b/blobs/{number if is_there else 99:040x}")


def cache_root(world, *, snapshots=("8416d3fe",)):
    """Name the base by its repository's folder in the Hub's cache."""
    moved("blobs", "base")(world)
    for snapshot in snapshots:
        (world.base / "snapshots" / snapshot).mkdir(parents=True)
        for path in (world.base / "blobs").iterdir():
            (world.base / "snapshots" / snapshot / path.name).symlink_to(f"../../blobs/{path.name}")


def annexed(world, *, is_there=False):
    key = ".git/annex/objects/x1/y2/SHA256E-s10--ab.safetensors/SHA256E-s10--ab.safetensors"
    path = world.diff / WEIGHTS
    if is_there:
        (world.diff / key).parent.mkdir(parents=True)
        path.rename(world.diff / key)
    else:
        path.unlink()
    path.symlink_to(key)


def legacy(world):
    (world.base / WEIGHTS).unlink()
    magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    (world.base / "pytorch_model.bin").write_bytes(magic + b"\x80\x02M\xe9\x03.\x80\x02}q\x00.")


def cut_bin(world):
    path = world.use_bin(world.diff)
    path.write_bytes(path.read_bytes()[:-100])


def real_bin(world):
    return write_zip(world.diff / WEIGHTS, bin_entries(sound_tensors()))


def compressed(data):
    return gzip.compress(data, mtime=0)


def without_data(world):
    raw = world.weights.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["lm_head.bias"] = {"dtype": "", "shape": [], "data_offsets": [0, 0]}
    made = json.dumps(header).encode()
    world.weights.write_bytes(len(made).to_bytes(8, "little") + made + raw[8 + size :])


def snapshot_without_weights(world):
    """Make a snapshot in the Hub's cache of which only the configuration was downloaded."""
    cache_root(world)
    target = world.root / "models--huggyllama--llama-7b"
    world.base.rename(target)
    world.base = target / "snapshots/8416d3fe"
    (world.base / WEIGHTS).unlink()
