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
from typing import Any, Final

import numpy as np

from vla_data.errors import DataError
from vla_data.safety.pickle_machine import MARK, MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_OPCODES, Machine
from vla_data.safety.stand_ins import (
    Image,
    final,
)


def _ascii_float(m: Machine) -> None:
    line = m.line()
    try:
        m.push(float(line))
    except ValueError:
        raise DataError("E104", f"{line[:30]!r} is not a number") from None


def _proto(m: Machine) -> None:
    version = m.take(1)[0]
    if version > 5:
        raise DataError("E103", f"pickle protocol {version}")


def _pop_mark(m: Machine) -> None:
    m.since_mark()


def _pop(m: Machine) -> None:
    if not m.stack:
        raise DataError("E104", "the pickle takes more from its stack than is there")
    m.stack.pop()


def _global(m: Machine) -> None:
    module = m.line()
    m.look_up(module, m.line())


def _stack_global(m: Machine) -> None:
    name = m.pop()
    m.look_up(m.pop(), name)


def _store(m: Machine, key: int) -> None:
    m.memo[key] = m.top()


def _float(m: Machine) -> None:
    m.push(struct.unpack(">d", m.take(8))[0])


def _dict(m: Machine) -> None:
    items = m.since_mark()
    m.push({})
    m.set_items(items)


def _set_item(m: Machine) -> None:
    value = m.pop()
    m.set_items([m.pop(), value])


# The closed table: what is not here is E103. Text-mode strings (STRING, UNICODE) of protocol 0 are not
# needed by any collector.
_OPCODES: Final[dict[int, Callable[[Machine], None]]] = {
    ord("("): lambda m: m.stack.append(MARK),
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


def _memo_key(m: Machine) -> int:
    line = m.line()
    if not re.fullmatch(r"\d{1,9}", line):
        raise DataError("E104", f"{line[:30]!r} is not a memo key")
    return int(line)


def _frame(m: Machine) -> None:
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
    machine = Machine(memoryview(data).toreadonly())
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
            settled = final(item)
            size += _size(settled)
            if size > MAX_BYTES:
                raise DataError("E107", f"the objects of one file have more than {MAX_BYTES:,} bytes")
            if settled is not item:
                if kind is tuple or kind is np.ndarray:
                    raise DataError("E104", "the pickle has an array or image inside a tuple, which is not read")
                container[key] = settled
            if type(settled) in (dict, list, tuple) or (type(settled) is np.ndarray and settled.dtype.hasobject):
                work.append((settled, depth + 1))
    return holder[0]


def _size(value: Any) -> int:
    if type(value) is Image:
        return len(value.data)
    if type(value) is np.ndarray:
        return value.nbytes
    return len(value) if type(value) in (bytes, memoryview, str) else 0
