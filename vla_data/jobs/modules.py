"""Modules of a user's own: which they are, what their files say, and a way to import them elsewhere.

A worker need not have the folders on its path that the user's process has, and files may be edited while a job
runs; so workers import these modules from what was read when the job was made.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

from vla_data._version import PACKAGES
from vla_data.formats.tables import BUILDERS

Kind = Literal["ours", "standard", "package", "file", "memory", "none"]
_TOP: Final = re.compile(r"^([\w-]+)(?=/|\.[\w.-]+,)", re.MULTILINE)
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_HERE: Final = Path(__file__).parents[2]
_STANDARD: Final = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


@dataclass(frozen=True, slots=True)
class Module:
    """One module that has a file, or a package without one.

    Attributes:
        name: by which it is imported.
        file: where it lies on the machine that read it, or empty.
        folders: of a package, where its other files lie; None for a module.
        source: what the file holds, as bytes; an extension module's is only looked at.
    """

    name: str
    file: str
    folders: tuple[str, ...] | None
    source: bytes

    @property
    def is_source(self) -> bool:
        """Whether it can be imported from its ``source``."""
        return self.file.endswith(".py") or not self.file


class Modules:
    """Modules that were looked at.

    Attributes:
        found: name -> module, of those that count by their content.
        packages: distribution -> version, of those that are installed.
    """

    def __init__(self) -> None:
        self.found: dict[str, Module] = {}
        self.packages: dict[str, str] = {}
        self._kinds: dict[str, Kind] = {}

    def facts(self) -> Iterator[str]:
        """A line for each module; where a file lies is not in it."""
        for module in self.found.values():
            yield f"module {module.name} {hashlib.sha256(module.source).hexdigest()}"

    def visit(self, name: str) -> Kind:
        """Look at a module, at all that it imports and at the packages that it is in; what kind it is."""
        if name in self._kinds:
            return self._kinds[name]
        kind = self._kinds[name] = kind_of(name)
        if kind == "package":
            self._add_package(name)
        elif kind == "file":
            module = self.found[name] = _read(name)
            if "." in name:
                self.visit(name.rpartition(".")[0])
            for other in _imports(module):
                self.visit(other)
        return kind

    def _add_package(self, name: str) -> None:
        top = name.partition(".")[0]
        for distribution in _owners(top):
            if distribution not in self.packages:
                self.packages[distribution] = metadata.version(distribution)


def kind_of(name: str) -> Kind:
    """Where a module of this name comes from; "none" for a name that nothing has."""
    top, _, rest = name.partition(".")
    if top in PACKAGES and _is_ours(top, rest):
        return "ours"
    if top == "__main__":
        return "memory"
    if top in sys.builtin_module_names or top == "builtins":
        return "standard"
    # Of what is below an installed or a standard package only the top is looked for, since finding more of it
    # would import it.
    first = _kind(top)
    return first if first in ("standard", "package", "none") or top == name else _kind(name)


def _is_ours(top: str, rest: str) -> bool:
    """Whether a package is not somebody's folder of the same name, nor a dataset that was put beside ours."""
    file, folders = _place(top)
    here = {Path(place) for place in (*(folders or ()), str(Path(file or "").parent))}
    own = {row.partition(".")[2].partition(".")[0] for row in BUILDERS.values()}
    return _HERE / top in here and (top != "builders" or not rest or rest.partition(".")[0] in own)


def lookup(value: Any) -> Any:
    """What its module has by the name of a class or function: itself, unless it is of a function's inside."""
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found


def _kind(name: str) -> Kind:
    file, folders = _place(name)
    if file is None and folders is None:
        return "memory" if name in sys.modules else "none"
    path = Path(file or next(iter(folders or ()), ""))
    if _INSTALLED & set(path.parts):
        return "package" if _owners(name.partition(".")[0]) else "file"
    real = path.resolve()
    if file in ("built-in", "frozen") or any(real.is_relative_to(folder) for folder in _STANDARD):
        return "standard"
    return "file" if file is None or real.is_file() else "memory"


def _place(name: str) -> tuple[str | None, tuple[str, ...] | None]:
    """The file of a module and the folders of a package."""
    module = sys.modules.get(name)
    if module is not None:
        spec = getattr(module, "__spec__", None)
        folders = getattr(module, "__path__", None)
        file = getattr(module, "__file__", None) or (getattr(spec, "origin", None) if folders is None else None)
    else:
        spec = _find(name)
        if spec is None:
            return None, None
        file, folders = spec.origin, spec.submodule_search_locations
    return file, None if folders is None else tuple(map(str, folders))


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module would come from; nothing is imported, not even the packages that it is in."""
    parent = name.rpartition(".")[0]
    folders = _place(parent)[1] if parent else None
    if parent:
        return importlib.machinery.PathFinder.find_spec(name, folders) if folders is not None else None
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # of a module that was put together by hand
        return None


def _read(name: str) -> Module:
    file, folders = _place(name)
    return Module(name, str(file or ""), folders, Path(file).read_bytes() if file else b"")


def _imports(module: Module) -> Iterator[str]:
    """Names that a module imports; those that it takes from a package may be modules, and are named too."""
    if not module.is_source:
        return
    package = module.name if module.folders is not None else module.name.rpartition(".")[0]
    for node in ast.walk(_tree(module.source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            name = ".".join(filter(None, (above, node.module)))
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Call) and len(node.args) == 1 and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


@functools.lru_cache(256)
def _tree(source: bytes) -> ast.AST:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):  # whoever imports it is told
        return ast.Module([], [])


def _owners(top: str) -> Sequence[str]:
    """The distributions that a package is of."""
    return sorted(_owned().get(top, ()))


@functools.cache
def _owned() -> Mapping[str, set[str]]:
    """Top-level package -> the distributions that have files of it.

    As `importlib.metadata.packages_distributions`, which parses every line of every list of files.
    """
    found: dict[str, set[str]] = {}
    for each in metadata.distributions():
        text = each.read_text("RECORD") or each.read_text("SOURCES.txt") or ""
        for top in set(_TOP.findall(text)):
            found.setdefault(top, set()).add(each.name)
    return found


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from what was read, and its other files from where they lie."""

    def __init__(self, module: Module) -> None:
        super().__init__(module.name, module.file)
        self._module = module

    def get_code(self, fullname: str) -> types.CodeType:
        """Never from a cache of bytecode, which is of the file as it is now."""
        return compile(self._module.source, self._module.file or "<namespace>", "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, modules: Sequence[Module]) -> None:
        self._modules = {module.name: module for module in modules if module.is_source}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        module = self._modules.get(fullname)
        if module is None:
            return None
        spec = importlib.machinery.ModuleSpec(
            fullname, _Loader(module), origin=module.file, is_package=module.folders is not None
        )
        spec.has_location = bool(module.file)
        if module.folders is not None:
            spec.submodule_search_locations = list(module.folders)
        return spec


def provide(modules: Sequence[Module]) -> None:
    """Have this process import these modules from what was read, from now on."""
    sys.meta_path.insert(0, _Finder(modules))


@contextmanager
def provided(modules: Sequence[Module]) -> Iterator[None]:
    """The same for a while, for processes that do other things too."""
    finder = _Finder(modules)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
