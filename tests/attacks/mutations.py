"""Ways to damage files: byte by byte, or by structure (JSON, the entries of a zip, the opcodes of a pickle)."""

from __future__ import annotations

import dataclasses
import json
import pickletools
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

from tests.attacks.kit import number, text
from tests.attacks.zips import End, Entry, pack, zip64_extra

NUMBERS = (
    0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 100, 127, 128, 255, 256, 1000, 4095, 4096, 2**15, 2**16 - 1, 2**16,
    2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1, 2**64, -1, -8, -2**31, -2**63,
)  # fmt: skip
NAMES = (
    "", "a", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "\x1b[2J", "a\nb", "\u202e", "\ud800", "é", "a" * 600,
    "__metadata__", "weight_map", "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight", "mean", "zero", "add",
    "model.rotary_emb.inv_freq", "F32", "F16", "BF16", "F64", "I64", "BOOL", "U8", "model.safetensors", "pytorch_model.bin",
    "model-00001-of-00002.safetensors", "\ud800.safetensors", "../x.safetensors", "a\0.bin", "a" * 300 + ".bin", "config.json", "archive/data.pkl", "archive/data/0", "archive/byteorder", "big",
)  # fmt: skip


class Raw:
    """JSON text that is written unchanged."""

    def __init__(self, raw: str) -> None:
        self.raw = raw


VALUES: tuple[Any, ...] = (
    *NUMBERS, *NAMES, None, True, False, 1.0, 0.5, -0.0, [], {}, [0], [[]], {"a": 1}, ["F32"], Raw("1e999"), Raw("-Infinity"),
    Raw("NaN"), Raw("9" * 5000), Raw("[" * 3000 + "]" * 3000), Raw('{"a":' * 3000 + "1" + "}" * 3000), Raw("01"), Raw("'a'"), Raw(""),
)  # fmt: skip


def dumps(value: Any) -> str:
    """Return JSON, with raw parts, and with repeated names where a dictionary holds them (see `Twice`)."""
    if isinstance(value, Raw):
        return value.raw
    if isinstance(value, dict):
        items = [*value.items(), *getattr(value, "more", ())]
        return "{" + ",".join(f"{json.dumps(name)}:{dumps(part)}" for name, part in items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value)


class Twice(dict[str, Any]):
    """A dictionary in which some names occur twice."""

    more: tuple[tuple[str, Any], ...] = ()


def spoil_bytes(chance: Random, raw: bytes) -> bytes:
    """Change bytes in one to four places, mostly near the beginning or the end, where the structure is."""
    data = bytearray(raw)
    for _ in range(chance.randint(1, 4)):
        _BYTE_CHANGES[chance.randrange(len(_BYTE_CHANGES))](chance, data)
    return bytes(data)


def _place(chance: Random, data: bytearray) -> int:
    near = min(len(data), 300)
    if not near:
        return 0
    how = chance.randrange(3)
    if how == 0:
        return chance.randrange(near)
    return len(data) - 1 - chance.randrange(near) if how == 1 else chance.randrange(len(data))


def _flip(chance: Random, data: bytearray) -> None:
    if data:
        data[_place(chance, data)] ^= 1 << chance.randrange(8)


def _set(chance: Random, data: bytearray) -> None:
    if data:
        data[_place(chance, data)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, ord("P"), ord("."), ord('"')))


def _set_number(chance: Random, data: bytearray) -> None:
    width = chance.choice((2, 4, 8))
    place = _place(chance, data)
    value = chance.choice(NUMBERS) % 2 ** (8 * width)
    data[place : place + width] = value.to_bytes(width, chance.choice(("little", "big")))


def _delete(chance: Random, data: bytearray) -> None:
    place = _place(chance, data)
    del data[place : place + chance.choice((1, 2, 4, 8, 30, 100))]


def _repeat(chance: Random, data: bytearray) -> None:
    place = _place(chance, data)
    part = bytes(data[place : place + chance.choice((1, 4, 16, 46, 200))])
    data[place:place] = part * chance.choice((1, 2, 10))


def _move(chance: Random, data: bytearray) -> None:
    place, other = _place(chance, data), _place(chance, data)
    part = bytes(data[place : place + chance.choice((4, 16, 64))])
    data[other : other + len(part)] = part


def _cut(chance: Random, data: bytearray) -> None:
    del data[_place(chance, data) :]


def _append(chance: Random, data: bytearray) -> None:
    data += chance.choice((b"\0", b" ", b"PK\5\6" + bytes(18), bytes(64), b"}", b"."))


_BYTE_CHANGES: tuple[Callable[[Random, bytearray], None], ...] = (
    _flip, _flip, _set, _set_number, _set_number, _delete, _repeat, _move, _cut, _append,
)  # fmt: skip


def spoil_json(chance: Random, value: Any) -> Any:
    """Make one to three changes somewhere in the value."""
    for _ in range(chance.randint(1, 3)):
        value = _spoil_one(chance, value)
    return value


def _spoil_one(chance: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.85:
        return _spoil_table(chance, value)
    if isinstance(value, list) and value and chance.random() < 0.7:
        result, place = list(value), chance.randrange(len(value))
        how = chance.randrange(4)
        if how == 0:
            del result[place]
        elif how == 1:
            result.append(result[place])
        elif how == 2:
            result.reverse()
        else:
            result[place] = _spoil_one(chance, result[place])
        return result
    if type(value) is int and chance.random() < 0.5:
        return value + chance.choice((-64, -4, -1, 1, 4, 64))
    return VALUES[chance.randrange(len(VALUES))]


def _spoil_table(chance: Random, value: dict[str, Any]) -> Any:
    names = list(value)
    name, other = names[chance.randrange(len(names))], names[chance.randrange(len(names))]
    result, how = Twice(value), chance.randrange(11)
    result.more = getattr(value, "more", ())
    if how == 0:
        del result[name]
    elif how == 1:
        result.more = (*result.more, (name, value[other]))
    elif how == 2:
        result[name], result[other] = value[other], value[name]
    elif how == 3:
        result[NAMES[chance.randrange(len(NAMES))]] = result.pop(name)
    elif how == 5:
        result[name] = value[other]
    elif how == 4:
        result[NAMES[chance.randrange(len(NAMES))]] = VALUES[chance.randrange(len(VALUES))]
    else:
        result[name] = _spoil_one(chance, value[name])
    return result


def spoil_zip(chance: Random, entries: dict[str, bytes]) -> bytes:
    """Return a zip whose entries or end records contain false values."""
    listed = [Entry(name.encode(), data) for name, data in entries.items()]
    end = End()
    for _ in range(chance.randint(1, 3)):
        if chance.random() < 0.25:
            end = _spoil_end(chance, end)
        elif listed:
            place = chance.randrange(len(listed))
            listed[place : place + 1] = _spoil_entry(chance, listed[place])
    return pack(listed, end, prefix=chance.choice((b"", b"", b"", b"#!", bytes(30))))


def _unsigned(chance: Random, bits: int) -> int:
    return chance.choice(NUMBERS) % 2**bits


def _spoil_end(chance: Random, end: End) -> End:
    field = chance.choice(("count", "size", "offset", "disk", "comment", "zip64", "where", "after_directory"))
    value: Any = _unsigned(chance, 16 if field in {"count", "disk"} else 32)
    if field == "zip64":
        value = tuple(_unsigned(chance, 64) for _ in range(3))
    elif field == "where":
        value = _unsigned(chance, 64)
    elif field in {"comment", "after_directory"}:
        value = chance.choice((b"x", bytes(20), b"PK\5\6" + bytes(18), b"PK\6\7" + bytes(16)))
    return dataclasses.replace(end, **{field: value})


def _spoil_entry(chance: Random, entry: Entry) -> list[Entry]:
    """Return the entries that replace this one."""
    how = chance.randrange(12)
    if how == 0:
        return []
    if how == 1:
        return [entry, entry]
    names = ("name", "local_name")
    if how in {2, 3}:
        name = chance.choice(NAMES).encode("utf-8", "surrogatepass")[:100]
        return [dataclasses.replace(entry, **{names[how - 2]: name})]
    if how == 4:
        return [dataclasses.replace(entry, data=spoil_bytes(chance, entry.data))]
    if how == 5:
        values = [_unsigned(chance, 64) for _ in range(chance.randint(0, 3))]
        return [dataclasses.replace(entry, extra=zip64_extra(*values), size=0xFFFFFFFF)]
    if how == 6:
        return [
            dataclasses.replace(
                entry, gap=bytes(chance.choice((1, 12, 16, 24, 25))), listed=chance.random() < 0.7
            )
        ]
    field = chance.choice(("header", "size", "local_size", "method", "local_method", "flags", "local_flags"))
    bits = 32 if "size" in field or field == "header" else 16
    return [dataclasses.replace(entry, **{field: _unsigned(chance, bits)})]


_CODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
_SNIPPETS = (
    b"N", b"}", b"]", b")", b"(", b"0", b"2", b"1", b"R", b"b", b"Q", b"s", b"u", b"t", b"\x85", b"\x86", b"\x87", b"q\x00", b"h\x00",
    b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f", b"cos\nsystem\n", b"cbuiltins\nexec\n", b"ctorch\nFloatStorage\n",
    b"ctorch\nHalfStorage\n", b"ctorch\nLongStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n",
    b"ccollections\nOrderedDict\n", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"\x8b\xff\xff\xff\x7f", b"X\xff\xff\xff\xff",
    b"I99999999999999999999\n", b"F1e999\n", b"S'a'\n", b"V\\ud800\n", b"X\x03\x00\x00\x00\xed\xa0\x80", b"\x95" + b"\xff" * 8, b".",
)  # fmt: skip


def spoil_pickle(chance: Random, raw: bytes) -> bytes:
    """Remove, repeat, swap or insert opcodes, or change their arguments."""
    places = [place for _, _, place in pickletools.genops(raw)] + [len(raw)]
    parts = [raw[start:stop] for start, stop in pairwise(places)]
    for _ in range(chance.randint(1, 4)):
        _spoil_instruction(chance, parts)
    return b"".join(parts)


def _spoil_instruction(chance: Random, parts: list[bytes]) -> None:
    if not parts:
        return
    place, how = chance.randrange(len(parts)), chance.randrange(7)
    if how == 0:
        del parts[place]
    elif how == 1:
        parts.insert(place, parts[place])
    elif how == 2:
        other = chance.randrange(len(parts))
        parts[place], parts[other] = parts[other], parts[place]
    elif how == 3:
        parts.insert(place, _SNIPPETS[chance.randrange(len(_SNIPPETS))])
    elif how == 4:
        parts.insert(place, _CODES[chance.randrange(len(_CODES))])
    else:
        parts[place] = _other_argument(chance, parts[place])


def _other_argument(chance: Random, part: bytes) -> bytes:
    if part[:1] == b"X":
        return text(NAMES[chance.randrange(len(NAMES))])
    if part[:1] in {b"J", b"K", b"M", b"\x8a"}:
        return number(abs(NUMBERS[chance.randrange(len(NUMBERS))]))
    if part[:1] == b"c":
        return chance.choice([snippet for snippet in _SNIPPETS if snippet[:1] == b"c"])
    return part[:1] + spoil_bytes(chance, part[1:])
