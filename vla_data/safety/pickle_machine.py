"""The machine of the symbolic unpickler: bytes, stack, memo and budgets. See `vla_data.safety.unpickle`."""

from __future__ import annotations

import re
import struct
from typing import Any, Final

from vla_data.errors import DataError
from vla_data.safety.stand_ins import (
    ALLOWED,
    DTYPE,
    ENCODE,
    IMAGE,
    NDARRAY,
    RECONSTRUCT,
    SCALAR,
    SET,
    ArrayState,
    DTypeState,
    Global,
    ImageState,
    hashable,
    make_array,
)
from vla_data.safety.tensors import LOAD, ORDERED, REBUILD, storage, tensor
from vla_data.safety.tensors import NAMES as TENSOR_NAMES
from vla_data.safety.text import show

MAX_OPCODES: Final = 1_000_000
MAX_NODES: Final = 200_000
MAX_DEPTH: Final = 16
MAX_INT_BYTES: Final = 16
MAX_BYTES: Final = 2 << 30
"""Of all arrays, images and strings together; one that stands in several places counts each time."""

_HINTS: Final = {
    "torch": "call .cpu().numpy() when collecting",
    "dill": "re-save with np.savez of plain arrays",
    "cloudpickle": "re-save with np.savez of plain arrays",
    "joblib": "re-save with np.savez of plain arrays",
    "copyreg": "re-save with pickle protocol 2 or newer",
    "copy_reg": "re-save with pickle protocol 2 or newer",
    "tensordict": "record with vla_data.RolloutWriter, or pickle a dictionary of arrays",
    "verl": "such a batch has tokens and preprocessed images, but no actions; record with vla_data.RolloutWriter",
}

MARK: Final = object()


class Machine:
    """One run over one pickle. ``view`` is the input, ``at`` the position of the next opcode.

    Args:
        view: the pickle.
        tensors: whether PyTorch's tensors are read, as arrays.
    """

    def __init__(self, view: memoryview, *, tensors: bool = False) -> None:
        self.view = view
        self._names = {**ALLOWED, **TENSOR_NAMES} if tensors else ALLOWED
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.nodes = 0

    # -- reading ------------------------------------------------------------------------------------

    def take(self, n: int) -> memoryview:
        """The next ``n`` bytes, as a view."""
        end = self.at + n
        if end > len(self.view):
            raise DataError("E105", f"the pickle claims {n:,} bytes where {len(self.view) - self.at:,} are left")
        out = self.view[self.at : end]
        self.at = end
        return out

    def integer(self, fmt: str) -> int:
        """The next number, in a form of `struct`."""
        (value,) = struct.unpack(fmt, self.take(struct.calcsize(fmt)))
        return int(value)

    def line(self) -> str:
        """The text up to the end of the line."""
        window = bytes(self.view[self.at : self.at + 4096])
        end = window.find(b"\n")
        if end < 0:
            raise DataError("E105", "a line of the pickle does not end")
        self.at += end + 1
        try:
            return window[:end].decode("utf-8")
        except UnicodeDecodeError:
            raise DataError("E104", "a line of the pickle is not text") from None

    def text(self, n: int) -> str:
        """The next ``n`` bytes as text."""
        try:
            return str(self.take(n), "utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise DataError("E104", "a string of the pickle is not UTF-8") from None

    def blob(self, n: int) -> bytes | memoryview:
        """The next ``n`` bytes."""
        piece = self.take(n)
        return bytes(piece) if n < 256 else piece  # small ones may be keys; large ones stay views

    # -- the stack ----------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise DataError("E106", f"more than {MAX_NODES:,} objects in one file")
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the value on top of the stack."""
        if not self.stack or self.stack[-1] is MARK:
            raise DataError("E104", "the pickle takes more from its stack than is there")
        return self.stack.pop()

    def top(self) -> Any:
        """The value on top of the stack."""
        if not self.stack or self.stack[-1] is MARK:
            raise DataError("E104", "the pickle takes more from its stack than is there")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        """Take everything above the last mark, and the mark."""
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise DataError("E104", "the pickle has no mark to go back to")

    def recall(self, key: int) -> None:
        """Push what the memo has."""
        try:
            self.push(self.memo[key])
        except KeyError:
            raise DataError("E104", f"the pickle recalls item {key}, which it never stored") from None

    # -- objects ------------------------------------------------------------------------------------

    def look_up(self, module: Any, name: Any) -> None:
        """Push our stand-in for a class or function; any name that has none ends the file."""
        if type(module) is not str or type(name) is not str:
            raise DataError("E104", "the pickle has a class name that is not text")
        try:
            self.push(self._names[module, name])
        except KeyError:
            hint = _HINTS.get(module.split(".")[0])
            raise DataError(
                "E101",
                f"class {show(f'{module}.{name}'[:120])} is not allowed" + (f"; {hint}" if hint else ""),
            ) from None

    def reduce(self) -> None:
        """Push what a stand-in makes of its arguments."""
        args, func = self.pop(), self.pop()
        if type(args) is not tuple:
            raise DataError("E104", "the pickle has a call without a tuple of arguments")
        if func is RECONSTRUCT:
            if len(args) != 3 or args[0] is not NDARRAY:
                raise DataError("E104", "an array that is not numpy.ndarray")
            self.push(ArrayState())
        elif func is DTYPE:
            if not args or type(args[0]) is not str:
                raise DataError("E104", "a dtype that is not given as text")
            self.push(DTypeState(args[0]))
        elif func is SCALAR:
            self.push(self._scalar(args))
        elif func is LOAD:
            self.push(storage(args[0] if len(args) == 1 else None))
        elif func is REBUILD:
            self.push(tensor(args))
        elif func is ORDERED:
            if args:
                raise DataError("E104", "an ordered dictionary that is not empty")
            self.push({})
        elif func is SET:
            if len(args) != 1 or type(args[0]) is not list:
                raise DataError("E104", "a set that is not made from a list")
            self.push({hashable(item) for item in args[0]})
        elif func is ENCODE:
            if len(args) != 2 or type(args[0]) is not str or args[1] != "latin1":
                raise DataError("E104", "bytes that are not latin-1 text")
            try:
                self.push(args[0].encode("latin-1"))
            except UnicodeEncodeError:
                raise DataError("E104", "bytes that are not latin-1 text") from None
        else:
            raise DataError("E103", f"a call of {func.name if type(func) is Global else 'something'}")

    def _scalar(self, args: tuple[Any, ...]) -> Any:
        # One argument, or an object dtype, makes NumPy itself crash.
        if len(args) != 2 or type(args[0]) is not DTypeState or args[0].is_object:
            raise DataError("E104", "a NumPy scalar is malformed")
        return make_array((), args[0], args[1], fortran=False)[()]

    def new_object(self) -> None:
        """Push an empty image, the one class whose objects are made without arguments."""
        args, cls = self.pop(), self.pop()
        if cls is not IMAGE or args != ():
            raise DataError("E103", "the pickle makes an object that is not an image")
        self.push(ImageState())

    def build(self) -> None:
        """Give a stand-in its state."""
        state, target = self.pop(), self.top()
        if type(target) not in (ArrayState, DTypeState, ImageState):
            raise DataError("E104", f"a state for a {type(target).__name__}")
        target.build(state)

    def append(self, items: list[Any]) -> None:
        """Add items to the list on top."""
        target = self.top()
        if type(target) is not list:
            raise DataError("E104", f"items appended to a {type(target).__name__}")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values, in turn, to the dictionary on top."""
        target = self.top()
        if type(target) is not dict or len(items) % 2:
            raise DataError("E104", f"keys set on a {type(target).__name__}")
        for i in range(0, len(items), 2):
            target[hashable(items[i])] = items[i + 1]

    def add_items(self) -> None:
        """Add what is above the mark to the set below it."""
        items, target = self.since_mark(), self.top()
        if type(target) is not set:
            raise DataError("E104", f"set items added to a {type(target).__name__}")
        target.update(hashable(item) for item in items)

    def long(self, n: int) -> None:
        """Push an integer of ``n`` bytes."""
        if not 0 <= n <= MAX_INT_BYTES:
            raise DataError("E106", f"an integer of {n:,} bytes")
        self.push(int.from_bytes(self.take(n), "little", signed=True))

    def decimal(self) -> None:
        """Push an integer, or a flag, in decimal digits."""
        line = self.line().removesuffix("L")
        if line in ("00", "01"):
            self.push(line == "01")
        elif re.fullmatch(r"-?\d{1,19}", line):
            self.push(int(line))
        else:
            raise DataError("E104", f"{line[:30]!r} is not a number")

    def tuple_of(self, n: int) -> None:
        """Push a tuple of the ``n`` values on top."""
        items = [self.pop() for _ in range(n)]
        self.push(tuple(reversed(items)))
