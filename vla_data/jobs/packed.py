"""An object on its way to a worker that may not be able to import the user's code."""

from __future__ import annotations

import io
import pickle
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from vla_data.errors import UsageError
from vla_data.jobs.code import Code
from vla_data.jobs.modules import Module, provide, provided
from vla_data.safety.text import show

_LOCK: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Packed:
    """Bytes, which any process can be sent.

    Attributes:
        modules: that the object needs, as they were when they were looked at.
        payload: the object. What is of a script or a notebook is in it by value.
    """

    modules: tuple[Module, ...]
    payload: bytes

    def open(self, *, mine: bool) -> Any:
        """The object again.

        Args:
            mine: whether this process does nothing else; then what its code imports later is of these modules too.

        Raises:
            UsageError: E021 when it can't be opened here.
        """
        try:
            if mine:
                provide(self.modules)
                return pickle.loads(self.payload)
            with provided(self.modules):
                return pickle.loads(self.payload)
        except Exception as error:  # of the user's modules, which may do anything when they are imported
            raise UsageError("E021", f"a worker can't load what it should run: {_told(error)}") from error


def pack(value: object, code: Code, parts: Sequence[object]) -> Packed:
    """An object as bytes.

    Args:
        value: the object.
        code: the user's own code that it is of.
        parts: what it consists of, one of which is named when it can't leave this process.

    Raises:
        UsageError: E021 when it can't.
    """
    try:
        return Packed(code.modules, _by_value(value, code.memory) if code else pickle.dumps(value))
    except Exception as error:  # whatever the objects of a user raise
        culprit = next((part for part in parts if not _can_leave(part, code)), value)
        what = show(type(culprit).__qualname__)
        raise UsageError("E021", f"{what} can't be sent to a worker: {_told(error)}") from error


def _by_value(value: object, memory: tuple[str, ...]) -> bytes:
    import cloudpickle  # only here: the steps of this library need no pickler but Python's

    modules = [sys.modules[name] for name in memory if name in sys.modules]
    with _LOCK:  # what is by value is the pickler's own state
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        try:
            buffer = io.BytesIO()
            cloudpickle.dump(value, buffer)
        finally:
            for module in modules:
                cloudpickle.unregister_pickle_by_value(module)
    return buffer.getvalue()


def _can_leave(part: object, code: Code) -> bool:
    try:
        _by_value(part, code.memory)
    except Exception:
        return False
    return True


def _told(error: Any) -> str:
    return show(f"{type(error).__name__}: {error}".splitlines()[0][:200])
