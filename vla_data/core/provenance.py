"""Provenance as data: what a dataset was made with, as JSON that is equal for equal options.

A source, step or sink becomes ``{"type": <class>, <option>: <value>, ...}``: the name of the class, and every
field of its dataclass but those with ``repr=False``, which say where data lie and not what becomes of them.
Sequences and sets become arrays (sets in order), so nothing here tells a tuple from a list. Classes that are not
of this distribution are named ``module:Class``. An option called ``type`` gets an underscore.

What JSON has no form for becomes an object with a ``type`` too: bytes, numbers that are not finite, arrays of
NumPy (by dtype, shape and SHA-256), functions (by name; their code is `vla_data.jobs.code`'s affair), and paths: a
file by its name and SHA-256, so that other content is another option, anything else as it is written.
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from vla_data._version import PACKAGES
from vla_data.core.episode import Json

_PLAIN: Final = (bool, int, str, type(None))
_DEEPEST: Final = 64


@runtime_checkable
class StandIn(Protocol):
    """An object whose provenance is that of another, such as a sink that uploads what another writes."""

    @property
    def provenance(self) -> object:
        """The other."""
        ...


def type_name(cls: type) -> str:
    """The name of a class: short for those of this distribution, else ``module:Class``."""
    if cls.__module__.partition(".")[0] in PACKAGES or cls.__module__ == "builtins":
        return cls.__qualname__
    return f"{cls.__module__}:{cls.__qualname__}"


def to_json(value: object) -> Json:
    """Any option, or a whole source, step or sink, as JSON."""
    return _json(value, 0)


def typed(facts: Json) -> Iterable[Mapping[str, Json]]:
    """Every object with a ``type`` in a provenance, however deep."""
    if isinstance(facts, Mapping):
        if "type" in facts:
            yield facts
        facts = list(facts.values())
    if isinstance(facts, Sequence) and not isinstance(facts, str):
        for item in facts:
            yield from typed(item)


def agrees(known: Json, found: Json) -> bool:
    """Whether ``found`` has everything that ``known`` has; options that came later are not in old manifests."""
    if isinstance(known, Mapping) and isinstance(found, Mapping):
        return all(name in found and agrees(value, found[name]) for name, value in known.items())
    if isinstance(known, list) and isinstance(found, list):
        return len(known) == len(found) and all(map(agrees, known, found))
    return bool(known == found)


def _json(value: object, depth: int) -> Json:
    if isinstance(value, _PLAIN) and not isinstance(value, enum.Enum):
        return value
    if depth > _DEEPEST:  # as a rule one that holds itself
        return {"type": "..."}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"type": "float", "value": repr(value)}
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, AbstractSet):
        return sorted((_json(item, depth + 1) for item in value), key=_text)
    if isinstance(value, list | tuple):
        return [_json(item, depth + 1) for item in value]
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
        return {"type": "module", "name": value.__name__} if isinstance(value, types.ModuleType) else _named(value)
    if isinstance(value, types.MethodType):
        return {**_named(value.__func__), "self": _json(value.__self__, depth + 1)}
    if isinstance(value, StandIn):
        return _json(value.provenance, depth + 1)
    return _leaf(value) or _state(value, depth)


def _leaf(value: object) -> Json:
    """What is no container, or None for anything else."""
    if isinstance(value, enum.Enum):
        return {"type": type_name(type(value)), "name": value.name}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"type": "bytes", "sha256": hashlib.sha256(value).hexdigest(), "size": len(value)}
    if isinstance(value, np.generic):
        return {"type": "numpy", "dtype": str(value.dtype), "value": repr(value.item())}
    if isinstance(value, np.ndarray):
        data = _text(value.tolist()) if value.dtype.hasobject else value.tobytes()
        facts = {"dtype": str(value.dtype), "shape": list(value.shape), "sha256": hashlib.sha256(data).hexdigest()}
        return {"type": "ndarray", **facts}
    if isinstance(value, re.Pattern):
        return {"type": "Pattern", "pattern": _json(value.pattern, 0), "flags": value.flags}
    return _path(value) if isinstance(value, PurePath) else None


def _path(path: PurePath) -> Json:
    if not Path(path).is_file():
        return {"type": "Path", "path": str(path)}
    with open(path, "rb") as file:
        return {"type": "Path", "name": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _mapping(value: Mapping[Any, object], depth: int) -> Json:
    if all(isinstance(key, str) for key in value) and "type" not in value:
        return {key: _json(value[key], depth + 1) for key in sorted(value)}
    items = [[_json(key, depth + 1), _json(item, depth + 1)] for key, item in value.items()]
    return {"type": "dict", "items": sorted(items, key=_text)}


def _named(value: Any) -> Json:
    kind = "class" if isinstance(value, type) else "function"
    return {"type": kind, "name": f"{value.__module__}:{value.__qualname__}"}


def _state(value: object, depth: int) -> Json:
    """A dataclass by its fields, an object with a ``__repr__`` of its own by that, another by its attributes."""
    cls = type(value)
    if is_dataclass(value):
        state = {field.name: getattr(value, field.name) for field in fields(value) if field.repr}
    elif cls.__repr__ is not object.__repr__ and " at 0x" not in repr(value):
        return {"type": type_name(cls), "repr": repr(value)}
    else:
        state = attributes(value)
    options = {_option(name): _json(item, depth + 1) for name, item in state.items()}
    return {"type": type_name(cls), **options}


def attributes(value: object) -> dict[str, object]:
    """The attributes of an object, those in slots too."""
    names = [name for cls in type(value).__mro__ for name in _slots(cls)]
    state = {name: getattr(value, name) for name in names if hasattr(value, name)}
    return state | (dict(vars(value)) if hasattr(value, "__dict__") else {})


def _slots(cls: type) -> Sequence[str]:
    names = cls.__dict__.get("__slots__", ())
    return [name for name in ((names,) if isinstance(names, str) else names) if not name.startswith("__")]


def _option(name: str) -> str:
    return f"{name}_" if name.rstrip("_") == "type" else name


def _text(value: Json) -> Any:
    return json.dumps(value, sort_keys=True, default=repr).encode()
