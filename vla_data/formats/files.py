"""Classes of a user's own, by ``module:Class`` or ``file.py:Class``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from vla_data._version import PACKAGES
from vla_data.errors import UsageError
from vla_data.safety.text import show

_LOADED: Final[set[str]] = set()
"""Names of modules that were loaded from files here; such a one makes way for another file of its name."""

_TAKEN: Final = frozenset({*sys.stdlib_module_names, *PACKAGES})


def load_class(address: str) -> Any:
    """The class that ``module:Class`` or ``file.py:Class`` names.

    Raises:
        UsageError: E002, there is none; E003, there is no such file; E006, its module can't be loaded; E001, a
            module of its name is loaded already.
    """
    where, _, name = address.rpartition(":")
    if where.endswith(".py"):
        module = load_file(Path(where))
    else:
        try:
            module = importlib.import_module(where)
        except Exception as error:  # whatever a user's module raises when it is imported
            raise UsageError("E006", f"{show(where)} can't be loaded: {_told(error)}{_near(where)}") from None
    try:
        return getattr(module, name)
    except AttributeError:
        raise UsageError("E002", f"{show(where)} has no {show(name)}") from None


def load_file(path: Path) -> ModuleType:
    """The module in a file that a user named; it is loaded once, under a name that follows from its place.

    A ``definition.py`` is a module of its folder's package, as TFDS imports it, so that what it has can be sent to
    workers and the modules beside it can be imported.

    Raises:
        UsageError: E003, there is no such file; E006, it can't be loaded; E001, another module has its name.
    """
    place = path.resolve()
    if not place.is_file():
        raise UsageError("E003", f"{show(path)} is not there")
    name = place.stem.replace(".", "_")
    if place.stem == "definition":
        name = f"{place.parent.name}.definition"
        _load(place.parent.name, place.parent / "__init__.py", path, folder=place.parent)
    return _load(name, place, path)


def _load(name: str, place: Path, told: Path, *, folder: Path | None = None) -> ModuleType:
    """The module ``name`` of the file ``place``, or the package of ``folder``, which may do without a file."""
    known = sys.modules.get(name)
    if known is not None and _is(known, place, folder):
        return known
    if (known is not None and name not in _LOADED) or name in _TAKEN:
        what = "folder" if folder else "file"
        raise UsageError("E001", f"{show(told)}: there is a module {show(name)}; give the {what} another name")
    if known is not None:
        for other in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
            del sys.modules[other]
    module = _module(name, place, [str(folder)] if folder else None)
    sys.modules[name] = module
    _LOADED.add(name)
    parent, _, child = name.rpartition(".")
    try:
        if module.__spec__ is not None and module.__spec__.loader is not None and place.is_file():
            module.__spec__.loader.exec_module(module)
    except Exception as error:  # whatever a user's module raises when it is imported
        del sys.modules[name]
        raise UsageError("E006", f"{show(told)} can't be loaded: {_told(error)}") from None
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


def _module(name: str, place: Path, folders: Sequence[str] | None) -> ModuleType:
    if folders and not place.is_file():
        module = ModuleType(name)
        module.__path__ = list(folders)
        return module
    where = list(folders) if folders else None
    spec = importlib.util.spec_from_file_location(name, place, submodule_search_locations=where)
    if spec is None:
        raise UsageError("E006", f"{show(place)} can't be loaded: it is no Python file")
    return importlib.util.module_from_spec(spec)


def _is(module: ModuleType, place: Path, folder: Path | None) -> bool:
    """Whether a module is that of a file, or a package is that of a folder."""
    if folder is None:
        return getattr(module, "__file__", None) == str(place)
    return any(Path(each).resolve() == folder for each in getattr(module, "__path__", ()))


def _near(where: str) -> str:
    """What a person may have meant who named a module that is a file here."""
    file = Path(f"{where.replace('.', '/')}.py")
    return f"; did you mean {show(file)}:...?" if file.is_file() else ""


def _told(error: BaseException) -> str:
    """What a user's module raised, on one line."""
    return f"{type(error).__name__}: {show(error)}"
