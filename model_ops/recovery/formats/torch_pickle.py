"""Read the pickle of a PyTorch checkpoint without being able to run anything.

No unpickler is used: this module interprets the few opcodes that `torch.save` writes for a state dict, on
plain values, and the only callables it knows are the names in `_CALLS`. Anything else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.dtypes import TORCH_STORAGES

MAX_PICKLE = 16 * 1024 * 1024  # bytes; 700 tensors need about 80 KB
MAX_STEPS = 600_000  # instructions, 30 per tensor; interpreted in under a second
_PROTOCOL = 2
# Where tools that save more than a state dict put it. Only these names are repeated in a suggested command.
_WRAPPERS = frozenset(
    ("state_dict", "model", "model_state_dict", "module", "net", "network", "params", "weights", "ema")
)
_MARK = object()


@dataclass(frozen=True)
class Global:
    """A name that the pickle mentions; it is never imported."""

    name: str


@dataclass(frozen=True)
class Storage:
    """The values in the zip entry `data/KEY`."""

    key: str
    dtype: str
    elements: int


@dataclass(frozen=True)
class StoredTensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _pickle_refusal(why: str) -> Refusal:
    return Refusal(f"The pickle inside {{file}} {why}, so it is not read.")


def _is_sizes(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(v) is int and 0 <= v < 2**63 for v in value)


def _rebuild_tensor(*args: Any) -> StoredTensor:
    if len(args) < 4 or not isinstance(args[0], Storage) or not _is_sizes((args[1],)):
        raise _pickle_refusal("describes a tensor in an unknown way")
    if not _is_sizes(args[2]) or not _is_sizes(args[3]) or len(args[2]) != len(args[3]) or len(args[2]) > 16:
        raise _pickle_refusal("describes a tensor's shape in an unknown way")
    return StoredTensor(args[0], args[1], args[2], args[3])


def _rebuild_parameter(*args: Any) -> StoredTensor:
    if len(args) != 3 or not isinstance(args[0], StoredTensor):
        raise _pickle_refusal("describes a parameter in an unknown way")
    return args[0]


def _empty_dict(*args: Any) -> dict[str, Any]:
    if args:
        raise _pickle_refusal("builds a dictionary in an unknown way")
    return {}


_CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _empty_dict,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
}
_STORAGES = {f"torch {name}": dtype for name, dtype in TORCH_STORAGES.items()}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """A stack, a memo, and a method for each opcode that has an effect."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def check_protocol(self, number: int) -> None:
        if number != _PROTOCOL:
            raise _pickle_refusal(f"is of protocol {number} where torch.save writes {_PROTOCOL}")

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _pickle_refusal("is damaged")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        values: list[Any] = []
        while self.stack and self.stack[-1] is not _MARK:
            values.append(self.stack.pop())
        if not self.stack:
            raise _pickle_refusal("is damaged")
        self.stack.pop()
        return values[::-1]

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _pickle_refusal("is damaged")
        return self.stack[-1]

    def set_items(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, dict) or len(values) % 2:
            raise _pickle_refusal("fills something that is not a dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str):
                raise _pickle_refusal("uses a key that is not a text")
            if key in target:
                raise _pickle_refusal(f"names {key[:200]!r} twice")
            target[key] = value

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise _pickle_refusal("appends to something that is not a list")
        target.extend(values)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if (
            not isinstance(function, Global)
            or function.name not in _CALLS
            or not isinstance(arguments, tuple)
        ):
            raise _pickle_refusal("calls something other than PyTorch's tensor builders")
        self.stack.append(_CALLS[function.name](*arguments))

    def build(self) -> None:
        """Drop `_metadata`, which `state_dict()` attaches to the dictionary this way."""
        state, target = self.pop(), self.top()
        if not isinstance(target, dict) or not isinstance(state, dict):
            raise _pickle_refusal("sets the state of something that is not a dictionary")

    def find(self, name: str) -> None:
        if name not in _CALLS and name not in _STORAGES:
            raise Refusal(
                f"The pickle inside {{file}} calls for {name.replace(' ', '.')[:200]!r}, which could run code and has "
                "no place in a state dict of plain tensors; save model.state_dict() with torch.save."
            )
        self.stack.append(Global(name))

    def persistent(self) -> None:
        value = self.pop()
        if not isinstance(value, tuple) or len(value) != 5 or value[0] != "storage":
            raise _pickle_refusal("refers to something outside that is not a storage")
        _, kind, key, _, elements = value
        if not isinstance(kind, Global) or kind.name not in _STORAGES or not isinstance(key, str):
            raise _pickle_refusal("refers to a storage in an unknown way")
        if not _is_sizes((elements,)):
            raise _pickle_refusal("refers to a storage without a size")
        storage = Storage(key, _STORAGES[kind.name], elements)
        if self.storages.setdefault(key, storage) != storage:
            raise _pickle_refusal("describes one storage in two ways")
        self.stack.append(storage)

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise _pickle_refusal("is damaged")
        self.stack.append(self.memo[index])


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda m, arg: m.check_protocol(arg),
    "MARK": lambda m, arg: m.stack.append(_MARK),
    "EMPTY_DICT": lambda m, arg: m.stack.append({}),
    "EMPTY_LIST": lambda m, arg: m.stack.append([]),
    "TUPLE": lambda m, arg: m.stack.append(tuple(m.pop_to_mark())),
    "BINPUT": lambda m, arg: m.memo.__setitem__(arg, m.top()),
    "LONG_BINPUT": lambda m, arg: m.memo.__setitem__(arg, m.top()),
    "BINGET": lambda m, arg: m.recall(arg),
    "LONG_BINGET": lambda m, arg: m.recall(arg),
    "GLOBAL": lambda m, arg: m.find(arg),
    "BINPERSID": lambda m, arg: m.persistent(),
    "REDUCE": lambda m, arg: m.reduce(),
    "BUILD": lambda m, arg: m.build(),
    "SETITEM": lambda m, arg: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, arg: m.set_items(m.pop_to_mark()),
    "APPEND": lambda m, arg: m.append([m.pop()]),
    "APPENDS": lambda m, arg: m.append(m.pop_to_mark()),
}


def _run_opcode(machine: _Machine, name: str, argument: Any) -> None:
    if name in _LITERALS:
        machine.stack.append(argument)
    elif name in _CONSTANTS:
        machine.stack.append(_CONSTANTS[name])
    elif name in _TUPLES:
        machine.stack.append(tuple([machine.pop() for _ in range(_TUPLES[name])][::-1]))
    elif name in _ACTIONS:
        _ACTIONS[name](machine, argument)
    else:
        raise _pickle_refusal(f"uses the instruction {name}")


def read_state_dict(data: bytes, file_name: str) -> dict[str, StoredTensor]:
    """Return name -> tensor of a pickled state dict, in the pickle's order."""
    try:
        if len(data) > MAX_PICKLE:
            raise _pickle_refusal(f"is {len(data)} bytes long, more than the {MAX_PICKLE} allowed")
        machine = _Machine()
        for number, (opcode, argument, position) in enumerate(pickletools.genops(data)):
            if number == MAX_STEPS:
                raise _pickle_refusal(f"takes more than {MAX_STEPS} steps")
            if opcode.name == "STOP":
                if position != len(data) - 1:
                    raise _pickle_refusal("goes on after its end")
                break
            _run_opcode(machine, opcode.name, argument)
        result = machine.pop()
        if not isinstance(result, dict) or machine.stack:
            raise _pickle_refusal("does not hold a dictionary of tensors")
        _check_values(result)
    except Refusal as refusal:
        raise Refusal(str(refusal).replace("{file}", file_name)) from None
    except (ValueError, IndexError, OverflowError, UnicodeError) as error:
        raise Refusal(f"The pickle inside {file_name} is damaged.") from error
    return result


def _check_values(result: dict[str, Any]) -> None:
    """Refuse values that are not tensors. If tensors are one dictionary deeper, say how to unpack them."""
    for name, value in result.items():
        if (
            isinstance(value, dict)
            and name in _WRAPPERS
            and any(isinstance(inner, StoredTensor) for inner in value.values())
        ):
            raise Refusal(
                f'{{file}} holds its tensors inside {name!r} and not by themselves. Save them alone: `python -c "import torch; '
                f"p = 'FILE'; torch.save(torch.load(p, map_location='cpu', weights_only=True)[{name!r}], p)\"`, with the file's path for FILE."
            )
        if isinstance(value, dict):
            raise _pickle_refusal(f"holds {name[:200]!r}, which is not a tensor but a dictionary")
        if not isinstance(value, StoredTensor):
            raise _pickle_refusal(f"holds {name[:200]!r}, which is not a tensor")
