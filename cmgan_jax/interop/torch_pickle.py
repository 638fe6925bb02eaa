"""A restricted interpreter for the pickle in a PyTorch checkpoint, limited to tensors and plain containers.

`pickle` executes whatever a file asks for, so it is not used: `pickletools` decodes the opcodes, and a small stack
machine implements the few that describe a state dict. A name that the file asks for is only compared with the admitted
ones, never imported.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Never

import ml_dtypes
import numpy as np

STORAGES: dict[str, np.dtype] = {
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
}
"""Torch's storage classes that a checkpoint may name, and their dtypes."""

ORDERED_DICT = "collections.OrderedDict"
TENSOR = "torch._utils._rebuild_tensor_v2"
PARAMETER = "torch._utils._rebuild_parameter"
ADMITTED = frozenset({ORDERED_DICT, TENSOR, PARAMETER, *STORAGES})
"""Every global that a checkpoint may name."""

Load = Callable[[np.dtype, str, int], np.ndarray]
"""Loads a 1-D array from a dtype, a storage's key and its number of elements."""

_MAX_DEPTH = 32  # maximum nesting of containers; an optimiser's state has five levels
_MAX_DIMENSIONS = 32  # NumPy 1's own limit; the product of a million sizes would take hours
_MAX_EXPANSION = 16  # bytes of arrays per byte of file: allows tied weights, not bombs of expanded views


class Refused(Exception):
    """The file is damaged or asks for something that is not admitted; the message says what."""


def run(program: bytes, load: Load, file_size: int) -> Any:
    """Evaluate a checkpoint's `data.pkl`.

    Args:
        program: the pickle.
        load: loads the numbers of a storage.
        file_size: bytes of the whole checkpoint, which limit the size of the arrays.

    Returns:
        Dicts, lists and tuples of arrays, strings, numbers, booleans and None.

    Raises:
        Refused: the program is damaged, asks for anything else, or is inconsistent.
    """
    content = _Machine(load, _MAX_EXPANSION * file_size).run(program)
    _check_plain(content, len(program))
    return content


@dataclass(frozen=True)
class _Global:
    """A name that the file asks for."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """The numbers of one storage, before a tensor gives them a shape."""

    array: np.ndarray


class _Machine:
    """The stack machine for one file: it turns opcodes into arrays and plain containers."""

    def __init__(self, load: Load, budget: int) -> None:
        self.load = load
        self.budget = budget
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        try:
            for opcode, argument, _ in pickletools.genops(program):
                if opcode.name == "STOP":
                    break
                if opcode.name in _PUSHES:
                    self.stack.append(argument)
                elif opcode.name in _ACTIONS:
                    _ACTIONS[opcode.name](self, argument)
                elif opcode.name not in _IGNORED:
                    raise Refused(f"its pickle uses {opcode.name}, which no state dict needs")
            (content,) = self.stack
        except (IndexError, KeyError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise Refused(f"its pickle is damaged ({reason}); fetch or save it again") from error
        return content

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def put(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def last_of(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise Refused(f"its pickle fills a {type(self.stack[-1]).__name__} as if it were a {kind.__name__}")
        return self.stack[-1]

    def set_items(self, items: list[Any]) -> None:
        target = self.last_of(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise Refused(f"a dict has a {type(key).__name__} for a key")
            target[key] = value

    def append_items(self, items: list[Any]) -> None:
        self.last_of(list).extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def append_item(self, _: Any) -> None:
        self.append_items([self.stack.pop()])

    def tuple_of_marked(self, _: Any) -> None:
        items = tuple(self.pop_mark())
        self.stack.append(items)

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise Refused("its pickle is damaged (too few items for a tuple)")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(items)

    def global_name(self, name: str) -> None:
        """Admit or refuse a name, which GLOBAL gives as "module name", before anything is made from it."""
        name = name.replace(" ", ".", 1)
        if name not in ADMITTED:
            _refuse_global(name)
        self.stack.append(_Global(name))

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise Refused("its pickle asks for a global whose name is no text")
        self.global_name(f"{module} {name}")

    def persistent(self, _: Any) -> None:
        match self.stack.pop():
            # The sixth element occurs in the legacy format only: None, for a storage that is not a view of another.
            case ("storage", _Global(name=name), str(key), str(), count) | (
                "storage",
                _Global(name=name),
                str(key),
                str(),
                count,
                None,
            ) if name in STORAGES and _is_size(count):
                self.stack.append(_Storage(self.load(STORAGES[name], key, count)))
            case _:
                raise Refused("its pickle refers to something outside it that is not a storage")

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        match function, arguments:
            case _Global(name=name), () if name == ORDERED_DICT:
                self.stack.append({})
            case _Global(name=name), tuple() if name == TENSOR:
                self.stack.append(self.tensor(arguments))
            case _Global(name=name), (np.ndarray() as array, bool(), {}) if name == PARAMETER:
                self.stack.append(array)
            case _:
                called = function.name if isinstance(function, _Global) else f"a {type(function).__name__}"
                raise Refused(f"its pickle calls {called} with arguments that torch.save never writes")

    def build(self, _: Any) -> None:
        """Drop the version metadata that torch attaches to a state dict; nothing else may set an attribute."""
        state = self.stack.pop()
        self.last_of(dict)
        if not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise Refused("its pickle sets attributes of an object; save model.state_dict()")

    def tensor(self, arguments: tuple[Any, ...]) -> np.ndarray:
        """Evaluate `_rebuild_tensor_v2`: a strided view of a storage, which is copied after its bounds are checked."""
        if len(arguments) not in (6, 7) or (len(arguments) == 7 and arguments[6]):
            raise Refused("a tensor is described with arguments of another PyTorch version")
        source, offset, shape, strides = arguments[:4]
        if not (
            isinstance(source, _Storage)
            and _is_size(offset)
            and isinstance(shape, tuple)
            and isinstance(strides, tuple)
            and all(map(_is_size, shape + strides))
            and len(shape) == len(strides) <= _MAX_DIMENSIONS
        ):
            raise Refused("a tensor's offset, shape or strides are not sizes")
        storage = source.array
        dtype = np.dtype(np.float32) if storage.dtype == ml_dtypes.bfloat16 else storage.dtype
        count = math.prod(shape)
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if (last >= storage.size) if count else (offset > storage.size):
            raise Refused(
                f"a tensor of shape {list(shape)}, strides {list(strides)} and offset {offset} reaches "
                f"beyond its storage of {storage.size} elements"
            )
        self.budget -= count * storage.itemsize
        if self.budget < 0:
            raise Refused(
                f"its tensors (up to one of shape {list(shape)}) are over {_MAX_EXPANSION} times as large as "
                "the file: expanded tensors; save them with .contiguous()"
            )
        if count == 0:
            return np.empty(shape, dtype)  # NumPy raises an error if the other dimensions are too large
        # A dimension of size one may have any stride, even one that NumPy cannot represent.
        steps = [stride * storage.itemsize if n > 1 else 0 for n, stride in zip(shape, strides, strict=True)]
        view = np.ndarray(shape, storage.dtype, storage, offset * storage.itemsize, steps)
        return np.array(view, dtype=dtype, order="C")


def _refuse_global(name: str) -> Never:
    raise Refused(
        f"it asks for {name[:200]!r}, and only tensors and plain containers are admitted (nothing from the "
        "file was executed); save only the state dict: torch.save(model.state_dict(), NEW)"
    )


def _check_plain(content: Any, limit: int) -> None:
    """Refuse content with other values than tensors and plain ones, or that is too deep, cyclic, or a vast tree.

    Each node of a legitimate tree takes at least one byte of `data.pkl`, which gives the limit.
    """
    level, depth, visited = [content], 0, 0
    while level:
        visited += len(level)
        if depth > _MAX_DEPTH or visited > limit:
            raise Refused("its containers are nested too deeply or refer to themselves")
        below: list[Any] = []
        for item in level:
            if isinstance(item, _Global | _Storage):
                raise Refused("it holds a bare storage or class; save tensors")
            if isinstance(item, dict | list | tuple):
                below.extend(item.values() if isinstance(item, dict) else item)
                if len(below) > limit:
                    raise Refused("its containers refer to each other too often")
        level, depth = below, depth + 1


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


_IGNORED = {"PROTO", "FRAME"}
_PUSHES = {
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
}  # fmt: skip
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": _Machine.tuple_of_marked,
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "APPENDS": lambda machine, _: machine.append_items(machine.pop_mark()),
    "SETITEM": _Machine.set_item,
    "APPEND": _Machine.append_item,
    "MARK": _Machine.mark,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.global_name,
    "STACK_GLOBAL": _Machine.stack_global,
    "INST": lambda _, name: _refuse_global(name.replace(" ", ".", 1)),  # never written by torch: refused with the name
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
