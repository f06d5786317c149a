"""A symbolic unpickler: reads the pickles that rollout collectors write and executes nothing.

It is an interpreter of the few pickle opcodes that ``np.save`` of dictionaries, lists, arrays, NumPy
scalars and PIL images needs (https://docs.python.org/3/library/pickletools.html). No class is ever looked
up: a name on the list below becomes one of *our* stand-ins, any other name ends the file with E101. Arrays
are built here from checked dtype strings and byte lengths, images are kept as bytes. Large byte strings
are views of the input, so that reading costs no copy.

Lengths are compared with the bytes that are left before anything is allocated, so a file can't make the
reader allocate more than a small multiple of its own size.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError
from vla_data.safety.text import show

MAX_OPCODES: Final = 1_000_000
MAX_NODES: Final = 200_000
MAX_DEPTH: Final = 16
MAX_INT_BYTES: Final = 16
MAX_BYTES: Final = 2 << 30
"""Of all arrays, images and strings together; one that stands in several places counts each time."""

_DTYPE = re.compile(r"^(\?|b1|[iu][1248]|f[248]|O8?|[SU]\d{1,6})$")


@dataclass(frozen=True, slots=True)
class Image:
    """A pickled PIL image: ``data`` holds ``height * width * bands`` bytes, row by row."""

    mode: str
    width: int
    height: int
    data: memoryview
    palette: bytes | None = None


class _Global:
    """Stand-in for one name on the allow-list; compared by identity, never called."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


_RECONSTRUCT = _Global("numpy._core.multiarray._reconstruct")
_SCALAR = _Global("numpy._core.multiarray.scalar")
_NDARRAY = _Global("numpy.ndarray")
_DTYPE_CLASS = _Global("numpy.dtype")
_IMAGE = _Global("PIL.Image.Image")
_SET = _Global("builtins.set")
_ENCODE = _Global("_codecs.encode")

# numpy renamed its core package in 2.0 and Python its builtins in 3.0; both spellings mean the same thing.
ALLOWED: Final[dict[tuple[str, str], _Global]] = {
    ("PIL.Image", "Image"): _IMAGE,
    ("PIL.JpegImagePlugin", "JpegImageFile"): _IMAGE,
    ("PIL.PngImagePlugin", "PngImageFile"): _IMAGE,
    ("__builtin__", "set"): _SET,
    ("_codecs", "encode"): _ENCODE,
    ("builtins", "set"): _SET,
    ("numpy", "dtype"): _DTYPE_CLASS,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
}

_HINTS: Final = {
    "torch": "call .cpu().numpy() when collecting",
    "dill": "re-save with np.savez of plain arrays",
    "cloudpickle": "re-save with np.savez of plain arrays",
    "joblib": "re-save with np.savez of plain arrays",
    "copyreg": "re-save with pickle protocol 2 or newer",
    "copy_reg": "re-save with pickle protocol 2 or newer",
}

_BANDS: Final = {"L": 1, "P": 1, "RGB": 3, "RGBA": 4}


class _DType:
    """A dtype under construction: its code from REDUCE, its byte order from BUILD."""

    __slots__ = ("byteorder", "code")

    def __init__(self, code: str) -> None:
        if not _DTYPE.match(code):
            raise DataError("E104", f"dtype {code[:40]!r} is not a plain one")
        self.code = code
        self.byteorder = "|"

    def build(self, state: Any) -> None:
        # (version, byte order, subdtype, names, fields, item size, alignment, flags)
        if not (type(state) is tuple and len(state) == 8 and state[0] == 3 and state[1] in ("<", ">", "=", "|")):
            raise DataError("E104", "the state of a dtype is malformed")
        # A plain dtype has no parts. Forged ones read foreign memory in NumPy.
        if any(part is not None for part in state[2:5]):
            raise DataError("E104", "structured dtypes are not allowed")
        expected = np.dtype(self.code).__reduce__()[2]
        if (state[5], state[7]) != (expected[5], expected[7]):
            raise DataError("E104", "the state of a dtype does not fit its type")
        self.byteorder = state[1]

    @property
    def is_object(self) -> bool:
        return self.code.startswith("O")

    def numpy(self) -> np.dtype[Any]:
        order = "" if self.byteorder == "|" else self.byteorder
        return np.dtype(order + self.code)


class _Array:
    """An ndarray under construction; ``value`` is set by BUILD."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def build(self, state: Any) -> None:
        if not (type(state) is tuple and len(state) == 5):
            raise DataError("E104", "the state of an array is malformed")
        version, shape, dtype, fortran, data = state
        if version != 1 or type(dtype) is not _DType or type(fortran) not in (bool, int):
            raise DataError("E104", "the state of an array is malformed")
        self.value = _array(_shape(shape), dtype, data, fortran=bool(fortran))


class _ImageState:
    """A PIL image under construction."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Image | None = None

    def build(self, state: Any) -> None:
        # Image.__getstate__ is [info, mode, size, palette, data]; image files append what their version
        # of Pillow knows (file name, layers), which nothing here needs.
        if type(state) is tuple and len(state) == 2 and state[0] is None:
            state = state[1]
        if not (type(state) is list and 5 <= len(state) <= 12):
            raise DataError("E104", "the state of an image is malformed")
        _, mode, size, palette, data = state[:5]
        if type(mode) is not str or mode not in _BANDS:
            raise DataError("E104", f"image mode {str(mode)[:20]!r} is not one of {', '.join(_BANDS)}")
        if type(size) not in (tuple, list) or len(size) != 2 or any(type(n) is not int for n in size):
            raise DataError("E104", "the size of an image is malformed")
        width, height = size
        length = len(data) if isinstance(data, bytes | memoryview) else -1
        if min(width, height) < 1 or length != width * height * _BANDS[mode]:
            raise DataError("E104", f"an image of {width}x{height} {mode} has {max(length, 0):,} bytes")
        colours = None
        if mode == "P":
            if type(palette) is not list or len(palette) > 768 or any(type(n) is not int for n in palette):
                raise DataError("E104", "the palette of an image is malformed")
            if any(not 0 <= n <= 255 for n in palette):
                raise DataError("E104", "the palette of an image is malformed")
            colours = bytes(palette)
        self.value = Image(mode, width, height, memoryview(data), colours)


def _shape(shape: Any) -> tuple[int, ...]:
    if type(shape) is not tuple or len(shape) > 8 or any(type(n) is not int or n < 0 for n in shape):
        raise DataError("E104", "the shape of an array is malformed")
    return shape


def _array(shape: tuple[int, ...], dtype: _DType, data: Any, *, fortran: bool) -> NDArray[Any]:
    count = 1
    for n in shape:
        count *= n
    order: Any = "F" if fortran else "C"
    if dtype.is_object:
        if type(data) is not list or len(data) != count:
            raise DataError("E104", "an object array does not hold as many items as its shape says")
        out = np.empty(count, dtype=object)
        for i, item in enumerate(data):
            out[i] = _final(item)
        return _reshaped(out, shape, order)
    kind = dtype.numpy()
    if isinstance(data, str):  # protocol <= 2 stores bytes as latin-1 text
        try:
            data = data.encode("latin-1")
        except UnicodeEncodeError:
            raise DataError("E104", "the bytes of an array are malformed") from None
    if not isinstance(data, bytes | memoryview) or len(data) != count * kind.itemsize:
        raise DataError("E104", f"an array of {count:,} x {kind} does not have that many bytes")
    return _reshaped(plain_array(data, kind, count), shape, order)


def plain_array(data: bytes | memoryview, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """``count`` items of a plain dtype from exactly their bytes, without a copy.

    Raises:
        DataError: E104 for text beyond Unicode, of which NumPy makes strings that break Python.
    """
    if not len(data):
        return np.empty(count, dtype=dtype)
    flat = np.frombuffer(data, dtype=dtype)
    if dtype.kind == "U" and (flat.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder)) > 0x10FFFF).any():
        raise DataError("E104", "text beyond Unicode")
    return flat


def _reshaped(flat: NDArray[Any], shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    try:
        return flat.reshape(shape, order=order)
    except (ValueError, OverflowError):  # a zero-sized shape whose other sides are beyond NumPy's limit
        raise DataError("E104", "the shape of an array is malformed") from None


def _final(item: Any) -> Any:
    """What a stand-in stands for, once it is complete."""
    kind = type(item)
    if kind is _Array or kind is _ImageState:
        if item.value is None:
            raise DataError("E104", "an array or image has no content")
        return item.value
    if kind is _DType or kind is _Global:
        raise DataError("E104", "a class or dtype where data should be")
    return item


def _hashable(key: Any) -> Any:
    if type(key) not in (str, int, bool, float, bytes, tuple, type(None)) or (
        type(key) is tuple and any(type(k) not in (str, int) for k in key)
    ):
        raise DataError("E104", f"a {type(key).__name__} as dictionary key")
    return key


_MARK: Final = object()


class _Machine:
    """One run over one pickle. ``view`` is the input, ``at`` the position of the next opcode."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.nodes = 0

    # -- reading ------------------------------------------------------------------------------------

    def take(self, n: int) -> memoryview:
        end = self.at + n
        if end > len(self.view):
            raise DataError("E105", f"the pickle claims {n:,} bytes where {len(self.view) - self.at:,} are left")
        out = self.view[self.at : end]
        self.at = end
        return out

    def integer(self, fmt: str) -> int:
        (value,) = struct.unpack(fmt, self.take(struct.calcsize(fmt)))
        return int(value)

    def line(self) -> str:
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
        try:
            return str(self.take(n), "utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise DataError("E104", "a string of the pickle is not UTF-8") from None

    def blob(self, n: int) -> bytes | memoryview:
        piece = self.take(n)
        return bytes(piece) if n < 256 else piece  # small ones may be keys; large ones stay views

    # -- the stack ----------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise DataError("E106", f"more than {MAX_NODES:,} objects in one file")
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise DataError("E104", "the pickle takes more from its stack than is there")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise DataError("E104", "the pickle takes more from its stack than is there")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise DataError("E104", "the pickle has no mark to go back to")

    def recall(self, key: int) -> None:
        try:
            self.push(self.memo[key])
        except KeyError:
            raise DataError("E104", f"the pickle recalls item {key}, which it never stored") from None

    # -- objects ------------------------------------------------------------------------------------

    def look_up(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise DataError("E104", "a class name that is not text")
        try:
            self.push(ALLOWED[module, name])
        except KeyError:
            hint = _HINTS.get(module.split(".")[0])
            raise DataError(
                "E101",
                f"class {show(f'{module}.{name}'[:120])} is not allowed" + (f"; {hint}" if hint else ""),
            ) from None

    def reduce(self) -> None:
        args, func = self.pop(), self.pop()
        if type(args) is not tuple:
            raise DataError("E104", "a call without a tuple of arguments")
        if func is _RECONSTRUCT:
            if len(args) != 3 or args[0] is not _NDARRAY:
                raise DataError("E104", "an array that is not numpy.ndarray")
            self.push(_Array())
        elif func is _DTYPE_CLASS:
            if not args or type(args[0]) is not str:
                raise DataError("E104", "a dtype that is not given as text")
            self.push(_DType(args[0]))
        elif func is _SCALAR:
            self.push(self._scalar(args))
        elif func is _SET:
            if len(args) != 1 or type(args[0]) is not list:
                raise DataError("E104", "a set that is not made from a list")
            self.push({_hashable(item) for item in args[0]})
        elif func is _ENCODE:
            if len(args) != 2 or type(args[0]) is not str or args[1] != "latin1":
                raise DataError("E104", "bytes that are not latin-1 text")
            try:
                self.push(args[0].encode("latin-1"))
            except UnicodeEncodeError:
                raise DataError("E104", "bytes that are not latin-1 text") from None
        else:
            raise DataError("E103", f"a call of {func.name if type(func) is _Global else 'something'}")

    def _scalar(self, args: tuple[Any, ...]) -> Any:
        # One argument, or an object dtype, makes NumPy itself crash.
        if len(args) != 2 or type(args[0]) is not _DType or args[0].is_object:
            raise DataError("E104", "a NumPy scalar is malformed")
        return _array((), args[0], args[1], fortran=False)[()]

    def new_object(self) -> None:
        args, cls = self.pop(), self.pop()
        if cls is not _IMAGE or args != ():
            raise DataError("E103", "an object that is not an image")
        self.push(_ImageState())

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if type(target) not in (_Array, _DType, _ImageState):
            raise DataError("E104", f"a state for a {type(target).__name__}")
        target.build(state)

    def append(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise DataError("E104", f"items appended to a {type(target).__name__}")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not dict or len(items) % 2:
            raise DataError("E104", f"keys set on a {type(target).__name__}")
        for i in range(0, len(items), 2):
            target[_hashable(items[i])] = items[i + 1]

    def add_items(self) -> None:
        items, target = self.since_mark(), self.top()
        if type(target) is not set:
            raise DataError("E104", f"set items added to a {type(target).__name__}")
        target.update(_hashable(item) for item in items)

    def long(self, n: int) -> None:
        if not 0 <= n <= MAX_INT_BYTES:
            raise DataError("E106", f"an integer of {n:,} bytes")
        self.push(int.from_bytes(self.take(n), "little", signed=True))

    def decimal(self) -> None:
        line = self.line().removesuffix("L")
        if line in ("00", "01"):
            self.push(line == "01")
        elif re.fullmatch(r"-?\d{1,19}", line):
            self.push(int(line))
        else:
            raise DataError("E104", f"{line[:30]!r} is not a number")

    def tuple_of(self, n: int) -> None:
        items = [self.pop() for _ in range(n)]
        self.push(tuple(reversed(items)))


def _ascii_float(m: _Machine) -> None:
    line = m.line()
    try:
        m.push(float(line))
    except ValueError:
        raise DataError("E104", f"{line[:30]!r} is not a number") from None


def _proto(m: _Machine) -> None:
    version = m.take(1)[0]
    if version > 5:
        raise DataError("E103", f"pickle protocol {version}")


def _pop_mark(m: _Machine) -> None:
    m.since_mark()


def _pop(m: _Machine) -> None:
    if not m.stack:
        raise DataError("E104", "the pickle takes more from its stack than is there")
    m.stack.pop()


def _global(m: _Machine) -> None:
    module = m.line()
    m.look_up(module, m.line())


def _stack_global(m: _Machine) -> None:
    name = m.pop()
    m.look_up(m.pop(), name)


def _store(m: _Machine, key: int) -> None:
    m.memo[key] = m.top()


def _float(m: _Machine) -> None:
    m.push(struct.unpack(">d", m.take(8))[0])


def _dict(m: _Machine) -> None:
    items = m.since_mark()
    m.push({})
    m.set_items(items)


def _set_item(m: _Machine) -> None:
    value = m.pop()
    m.set_items([m.pop(), value])


# The closed table: what is not here is E103. Text-mode strings (STRING, UNICODE) of protocol 0 are not
# needed by any collector.
_OPCODES: Final[dict[int, Callable[[_Machine], None]]] = {
    ord("("): lambda m: m.stack.append(_MARK),
    ord("0"): _pop,
    ord("1"): _pop_mark,
    ord("2"): lambda m: m.push(m.top()),
    ord("F"): _ascii_float,
    ord("I"): lambda m: m.decimal(),
    ord("L"): lambda m: m.decimal(),
    ord("J"): lambda m: m.push(m.integer("<i")),
    ord("K"): lambda m: m.push(m.integer("<B")),
    ord("M"): lambda m: m.push(m.integer("<H")),
    ord("N"): lambda m: m.push(None),
    ord("G"): _float,
    ord("X"): lambda m: m.push(m.text(m.integer("<I"))),
    0x8C: lambda m: m.push(m.text(m.integer("<B"))),
    0x8D: lambda m: m.push(m.text(m.integer("<Q"))),
    ord("B"): lambda m: m.push(m.blob(m.integer("<I"))),
    ord("C"): lambda m: m.push(m.blob(m.integer("<B"))),
    0x8E: lambda m: m.push(m.blob(m.integer("<Q"))),
    ord("a"): lambda m: m.append([m.pop()]),
    ord("e"): lambda m: m.append(m.since_mark()),
    ord("]"): lambda m: m.push([]),
    ord("l"): lambda m: m.push(m.since_mark()),
    ord("}"): lambda m: m.push({}),
    ord("d"): _dict,
    ord("s"): _set_item,
    ord("u"): lambda m: m.set_items(m.since_mark()),
    0x8F: lambda m: m.push(set()),
    0x90: lambda m: m.add_items(),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    0x8A: lambda m: m.long(m.integer("<B")),
    0x8B: lambda m: m.long(m.integer("<i")),
    ord("g"): lambda m: m.recall(_memo_key(m)),
    ord("h"): lambda m: m.recall(m.integer("<B")),
    ord("j"): lambda m: m.recall(m.integer("<I")),
    ord("p"): lambda m: _store(m, _memo_key(m)),
    ord("q"): lambda m: _store(m, m.integer("<B")),
    ord("r"): lambda m: _store(m, m.integer("<I")),
    0x94: lambda m: _store(m, len(m.memo)),
    0x95: lambda m: _frame(m),
    0x80: _proto,
    ord("c"): _global,
    0x93: _stack_global,
    ord("R"): lambda m: m.reduce(),
    0x81: lambda m: m.new_object(),
    ord("b"): lambda m: m.build(),
}
_STOP: Final = ord(".")


def _memo_key(m: _Machine) -> int:
    line = m.line()
    if not re.fullmatch(r"\d{1,9}", line):
        raise DataError("E104", f"{line[:30]!r} is not a memo key")
    return int(line)


def _frame(m: _Machine) -> None:
    n = m.integer("<Q")
    if n > len(m.view) - m.at:
        raise DataError("E105", f"the pickle claims {n:,} bytes where {len(m.view) - m.at:,} are left")


def loads(data: bytes | memoryview) -> Any:
    """The plain Python value in a pickle: dict, list, tuple, set, str, bytes, numbers, arrays, `Image`.

    Byte strings of 256 bytes or more come back as read-only views of ``data``.

    Raises:
        DataError: E101 for any class that is not on the list, E103 for an opcode no collector needs, E104
            for a malformed state, E105 where the data ends early, E106 for too many or too deep objects.
    """
    machine = _Machine(memoryview(data).toreadonly())
    view, table = machine.view, _OPCODES
    for _ in range(MAX_OPCODES):
        if machine.at >= len(view):
            raise DataError("E105", "the pickle ends without a STOP")
        code = view[machine.at]
        machine.at += 1
        if code == _STOP:
            value = machine.pop()
            if machine.stack:
                raise DataError("E104", "the pickle leaves items on its stack")
            return _settle(value)
        action = table.get(code)
        if action is None:
            raise DataError("E103", f"pickle opcode {code:#04x} is not allowed")
        action(machine)
    raise DataError("E106", f"more than {MAX_OPCODES:,} opcodes in one file")


def _settle(root: Any) -> Any:
    """Replace the stand-ins in ``root`` by what they stand for; count and measure on the way.

    An explicit stack of work instead of recursion: depth is the file's choice, not ours. Containers that
    stand in several places count each time, because whoever walks the result pays each time.
    """
    holder = [root]
    work: list[tuple[Any, int]] = [(holder, 0)]
    seen = size = 0
    while work:
        container, depth = work.pop()
        if depth > MAX_DEPTH:
            raise DataError("E106", f"objects nested more than {MAX_DEPTH} deep")
        kind = type(container)
        if kind is dict:
            items = container.items()
        elif kind is list:
            items = enumerate(container)
        else:
            items = enumerate(container.flat if kind is np.ndarray else container)
        for key, item in items:
            seen += 1
            if seen > MAX_NODES:
                raise DataError("E106", f"more than {MAX_NODES:,} objects in one file")
            final = _final(item)
            size += _size(final)
            if size > MAX_BYTES:
                raise DataError("E107", f"the objects of one file have more than {MAX_BYTES:,} bytes")
            if final is not item:
                if kind is tuple or kind is np.ndarray:
                    raise DataError("E104", "an array or image inside a tuple")
                container[key] = final
            if type(final) in (dict, list, tuple) or (type(final) is np.ndarray and final.dtype.hasobject):
                work.append((final, depth + 1))
    return holder[0]


def _size(value: Any) -> int:
    if type(value) is Image:
        return len(value.data)
    if type(value) is np.ndarray:
        return value.nbytes
    return len(value) if type(value) in (bytes, memoryview, str) else 0
