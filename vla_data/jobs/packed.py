"""A job on its way to a worker that may not be able to import the user's code."""

from __future__ import annotations

import io
import pickle
import sys
import threading
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
        modules: that the job's objects are of, as they were when it was made.
        payload: the job. What is of a script or a notebook is in it by value.
    """

    modules: tuple[Module, ...]
    payload: bytes

    def open(self, *, mine: bool) -> Any:
        """The `vla_data.jobs.job.Job` again.

        Args:
            mine: whether this process does nothing else; then what its code imports later is of the job's modules,
                too.

        Raises:
            UsageError: E021 when it can't be opened here.
        """
        try:
            if mine:
                provide(self.modules)
                return self._load()
            with provided(self.modules):
                return self._load()
        except Exception as error:  # of the user's modules, which may do anything when they are imported
            raise UsageError("E021", f"a worker can't load what it should run: {_told(error)}") from error

    def _load(self) -> Any:
        return pickle.loads(self.payload)


def pack(job: object, code: Code) -> Packed:
    """See `vla_data.jobs.job.Job.pack`."""
    try:
        return Packed(code.modules, _by_value(job, code.memory) if code else pickle.dumps(job))
    except Exception as error:  # whatever the objects of a user raise
        raise UsageError("E021", f"{_culprit(job)} can't be sent to a worker: {_told(error)}") from error


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


def _culprit(job: Any) -> str:
    """Which of a job's objects it is."""
    for part in (job.source, *job.steps, job.sink):
        try:
            _by_value(part, job.code.memory)
        except Exception:
            return show(type(part).__qualname__)
    return "the job"


def _told(error: Any) -> str:
    return show(f"{type(error).__name__}: {error}".splitlines()[0][:200])
