"""The code of a user's own that takes part in a job: what identifies it, and its modules as they are now.

Code of this distribution counts by its version, that of installed packages (below ``site-packages``) by name and
version, the standard library not at all. Everything else counts by its content:

- a **module** that has a file: the file, and in turn every module that it imports anywhere in it, by ``import`` or
  by ``importlib.import_module("name")``, and the packages that it lies in;
- what no import finds, because it is of a **script, a notebook** or a function's inside: its bytecode, defaults
  and closure, and in turn every global that it uses: functions and classes by their code, other values by what
  they are.

So comments in a helper module count and those in a script don't. Not seen are modules whose names are computed,
and files that code opens by itself; an option that is a path to a file counts by the file's content.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import json
import pickle
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import PurePath
from typing import Any, Final

import numpy as np

from vla_data.core import Json
from vla_data.core.provenance import StandIn, attributes, to_json, type_name
from vla_data.jobs.modules import Kind, Module, Modules, kind_of, lookup

# Of a class: what Python, a pickler or a decorator makes of the rest of it, or says where it was written.
_MADE: Final = frozenset(
    {
        *("__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__slots__", "__slotnames__"),
        *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__match_args__"),
        *("__dataclass_fields__", "__dataclass_params__", "__parameters__", "__type_params__", "__orig_bases__"),
        *("__abstractmethods__", "_abc_impl", "__firstlineno__", "__static_attributes__", "__protocol_attrs__"),
        *("__non_callable_proto_members__", "_is_protocol", "_is_runtime_protocol"),
    }
)
_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SIMPLE: Final = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True)
class Code:
    """A user's own code.

    Attributes:
        sha256: of all that counts by its content; empty where nothing does.
        packages: distribution -> version, of what that imports.
        modules: what it needs that a worker may not be able to import.
        memory: modules that have no file.
    """

    sha256: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[Module, ...] = ()
    memory: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sha256 or self.packages)

    def to_json(self) -> Json:
        """What identifies it."""
        facts = {"sha256": self.sha256, "packages": dict(sorted(self.packages.items()))}
        return {name: value for name, value in facts.items() if value}


def code_of(*roots: object) -> Code:
    """The code that these objects are of, with all that it uses."""
    walk = _Walk()
    told = [walk.tell(root) for root in roots]
    files = sorted(walk.modules.facts())
    digest = _digest([told, sorted(set(walk.codes)), files]) if walk.codes or files else ""
    return Code(digest, walk.modules.packages, tuple(walk.modules.found.values()), tuple(sorted(walk.memory)))


class _Walk:
    """Everything that can be reached from some objects.

    Attributes:
        modules: that were met.
        codes: digest of each function and class that no import finds, and of each object that only a pickler
            knows.
        memory: modules without a file.
    """

    def __init__(self) -> None:
        self.modules = Modules()
        self.codes: list[str] = []
        self.memory: set[str] = set()
        self._seen: dict[int, tuple[int, object]] = {}  # the objects are kept, so that no other gets their ids
        self._seen_quietly: dict[int, tuple[int, object]] = {}
        self._quiet = False

    def tell(self, value: Any) -> Json:
        """What a value is, as JSON; functions and classes by their code."""
        if isinstance(value, _SIMPLE):
            return [type(value).__name__, repr(value)]
        seen = self._seen_quietly if self._quiet else self._seen
        if id(value) in seen:
            return ["again", seen[id(value)][0]]
        seen[id(value)] = (len(seen), value)
        if isinstance(value, types.ModuleType):
            self._module(value.__name__)
            return ["module", value.__name__]
        if isinstance(value, type | types.FunctionType):
            return self._named(value)
        parts = _parts(value)
        return self._object(value) if parts is None else [type(value).__name__, *map(self.tell, parts)]

    def _object(self, value: Any) -> Json:
        kind = self._module(type(value).__module__)
        name = [type_name(type(value)), self.tell(type(value))]
        if isinstance(value, np.ndarray | np.generic | PurePath | re.Pattern):
            return [*name, to_json(value)]
        if isinstance(value, StandIn):
            return self.tell(value.provenance)
        if is_dataclass(value):
            told = {f.name: self.tell(getattr(value, f.name)) for f in fields(value) if f.repr}
            for each in fields(value):
                if not each.repr:  # it says where data lie, or holds what has code: that is counted by itself
                    self._tell_quietly(getattr(value, each.name))
            return [*name, told]
        if kind in ("file", "memory", "none", "ours"):
            return [*name, {key: self.tell(item) for key, item in sorted(attributes(value).items())}]
        return [*name, self._opaque(value)]

    def _tell_quietly(self, value: object) -> None:
        """Look for code of the user's alone."""
        before, self._quiet = self._quiet, True
        self.tell(value)
        self._quiet = before

    def _opaque(self, value: object) -> Json:
        """An object of an installed package: what a pickler makes of it, for only its package knows more."""
        wrapped = inspect.unwrap(value) if callable(value) else value
        if wrapped is not value:
            return self.tell(wrapped)
        if self._quiet:
            return ""
        try:
            digest = hashlib.sha256(pickle.dumps(value)).hexdigest()
        except Exception:  # whatever an object that can't be pickled raises
            return to_json(value)
        self.codes.append(digest)
        return digest

    def _module(self, name: str) -> Kind:
        if self._quiet and kind_of(name) == "package":
            return "package"
        kind = self.modules.visit(name)
        if kind == "memory" and name not in self.memory and name != "__main__":
            self.memory.add(name)
            own = {key: value for key, value in vars(sys.modules[name]).items() if not key.startswith("__")}
            self.codes.append(_digest([name, self.tell(own)]))
        return kind

    def _named(self, value: Any) -> Json:
        kind = self._module(value.__module__ or "builtins")
        name = f"{value.__module__}:{value.__qualname__}"
        if kind in ("ours", "standard", "package") or (kind == "file" and lookup(value) is value):
            return name
        before, self._quiet = self._quiet, False
        made = self._class(value) if isinstance(value, type) else self._function(value)
        self._quiet = before
        self.codes.append(_digest([value.__qualname__, made]))
        return [name, self.codes[-1]]

    def _class(self, cls: type) -> Json:
        told: list[Json] = []
        hidden: set[str] = set()
        for each in fields(cls) if is_dataclass(cls) else ():
            if each.repr:
                told.append([each.name, str(each.type), self.tell(each.default), self.tell(each.default_factory)])
            else:
                hidden.add(each.name)
                self._tell_quietly((each.default, each.default_factory))
        own = {
            name: self.tell(value)
            for name, value in sorted(vars(cls).items())
            if name not in _MADE and name not in hidden and not _is_generated(value)
        }
        return [own, told, [self.tell(base) for base in cls.__bases__]]

    def _function(self, function: types.FunctionType) -> Json:
        code, names = function.__code__, function.__globals__
        used = {name: names[name] for name in sorted(_globals(code)) if name in names}
        for value in used.values():
            if isinstance(value, types.ModuleType):
                self._submodules(value, code)
        for name in _imports(code, names):
            self._module(name)
        held = [_cell(cell) for cell in function.__closure__ or ()]
        told = [held, function.__defaults__, function.__kwdefaults__, vars(function)]
        return [_code(code), {name: self.tell(value) for name, value in used.items()}, list(map(self.tell, told))]

    def _submodules(self, module: types.ModuleType, code: types.CodeType) -> None:
        """``package.module.function`` needs no import of its own where another place has imported it."""
        for name in _names(code):
            if f"{module.__name__}.{name}" in sys.modules:
                self._module(f"{module.__name__}.{name}")


def _parts(value: Any) -> Iterable[object] | None:
    """What a container holds, or what a method or the like is of; None for any other object."""
    if isinstance(value, Mapping):
        return [part for item in sorted(value.items(), key=lambda item: str(item[0])) for part in item]
    if isinstance(value, AbstractSet):
        return sorted(value, key=str)
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, staticmethod | classmethod):
        return (value.__func__,)
    if isinstance(value, types.MethodType):
        return (value.__func__, value.__self__)
    if isinstance(value, property):
        return (value.fget, value.fset, value.fdel)
    if isinstance(value, functools.cached_property):
        return (value.func,)
    if isinstance(value, functools.partial):
        return (value.func, value.args, value.keywords)
    if isinstance(value, types.BuiltinFunctionType | types.MemberDescriptorType | types.GetSetDescriptorType):
        return (value.__name__, sys.modules.get(str(getattr(value, "__module__", ""))))
    return None


def _is_generated(value: object) -> bool:
    """Whether a dataclass made this method, which its fields say all about; it holds defaults that don't count."""
    method = getattr(value, "__wrapped__", value)
    return isinstance(method, types.FunctionType) and method.__code__.co_qualname.startswith("__create_fn__.")


def _digest(facts: Json) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _code(code: types.CodeType) -> Json:
    constants = [_code(c) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts]
    return [
        *(code.co_name, code.co_code.hex(), code.co_exceptiontable.hex(), code.co_flags, constants),
        *(list(names) for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)),
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
    ]


def _constant(value: object) -> Json:
    if isinstance(value, frozenset):  # without an order of its own
        return ["frozenset", sorted(map(repr, value))]
    return [type(value).__name__, [_constant(v) for v in value] if isinstance(value, tuple) else repr(value)]


def _all_code(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_code(constant)


def _names(code: types.CodeType) -> set[str]:
    return {name for each in _all_code(code) for name in each.co_names}


def _globals(code: types.CodeType) -> set[str]:
    found = (step for each in _all_code(code) for step in dis.get_instructions(each))
    return {step.argval for step in found if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}


def _imports(code: types.CodeType, names: Mapping[str, Any]) -> Iterator[str]:
    """Modules that a function imports when it is called, and what it takes from them, which may be modules too."""
    package = str(names.get("__package__") or "")
    for each in _all_code(code):
        if {"import_module", "__import__"} & {*each.co_names}:
            yield from (text for text in each.co_consts if isinstance(text, str) and _MODULE.fullmatch(text))
        instructions = list(dis.get_instructions(each))
        for at, instruction in enumerate(instructions):
            if instruction.opname != "IMPORT_NAME":
                continue
            level, taken = (instructions[at - back].argval for back in (2, 1))
            above = package.rsplit(".", level - 1)[0] if level else ""
            name = ".".join(filter(None, (above, instruction.argval)))
            yield name
            yield from (f"{name}.{item}" for item in taken or () if item != "*")


def _cell(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
