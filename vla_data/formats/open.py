"""Opens what an address names: a path or a URL, or ``FORMAT:`` and either of them.

A source of a user's own is ``module:Class:PATH`` or ``file.py:Class:PATH``.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from vla_data.core import Sink, Source
from vla_data.core.parts import check_sink, check_source
from vla_data.errors import UsageError
from vla_data.formats.detection import HDF5, ROLLOUT, detect
from vla_data.formats.tables import FORMATS, load_module, load_part
from vla_data.remote.address import is_url, plain
from vla_data.safety.text import show

_OWN: Final = re.compile(r"((?:[\w.]+|.+\.py):[A-Za-z_]\w*):(.*)", re.DOTALL)
"""``module:Class:PATH`` and ``file.py:Class:PATH``: a source of a user's own, and where it reads."""


def parse_address(address: str | Path) -> tuple[str | None, Path]:
    """``FORMAT:PATH`` or a path -> (format or None, path).

    What a URL names is copied into this machine's cache, unless the copy there is as it is now.
    """
    name, where = split(address)
    if is_url(where):
        remote = load_module("vla_data.remote.fetch", "remote")
        fetched: Path = remote.fetch(storage_of(where))
        return name, fetched
    return name, Path(where)


def locate(address: str | Path) -> Any:
    """Where the rollouts or the dataset of an address are: a `Path`, or the `Storage` of rollouts at a URL, which
    are read one by one where they lie.
    """
    name, where = split(address)
    if is_url(where) and (name or _detect(where)) == "ppo_rollout":
        return storage_of(where)
    return parse_address(address)[1]


def find(address: str | Path) -> tuple[str, Any]:
    """The format of what an address names, and where it lies: see `locate`."""
    name, place = split(address)[0], locate(address)
    return name or (detect(place) if isinstance(place, Path) else "ppo_rollout"), place


def split(address: str | Path) -> tuple[str | None, str]:
    """``FORMAT:PLACE`` or a place -> (format or None, place), whatever lies there."""
    text = str(address)
    name, colon, rest = text.partition(":")
    if colon and not Path(text).exists():
        if name in FORMATS:
            return name, plain(rest)
        if own := _OWN.fullmatch(text):
            return own[1], plain(own[2])
        close = difflib.get_close_matches(name, FORMATS.names(), n=1, cutoff=0.75)
        if close and rest and not is_url(text) and Path(rest).exists():
            raise UsageError("E002", f"there is no format {show(name)!r}; did you mean {close[0]}:{show(rest)}?")
    return None, plain(address)


def names_code(address: str | Path) -> bool:
    """Whether an address is that of a source of a user's own, whose module is imported to open it."""
    return ":" in (split(address)[0] or "")


def storage_of(where: str) -> Any:
    """The `vla_data.remote.storage.Storage` at a URL, or at a folder of this machine."""
    url = where if is_url(where) else f"file://{Path(plain(where)).absolute()}"  # fsspec knows no escapes
    return load_module("vla_data.remote.storage", "remote").Storage(url)


def _detect(url: str) -> str | None:
    """The format of what lies at a URL, if it is one that need not be copied here."""
    storage = storage_of(url)
    if storage.is_file():
        return "ppo_rollout" if url.lower().endswith(ROLLOUT) else None
    names = storage.files()
    others = any(name.lower().endswith((*HDF5, "features.json")) or name == "meta/info.json" for name in names)
    return "ppo_rollout" if not others and any(name.lower().endswith(ROLLOUT) for name in names) else None


def open_source(address: str | Path, **options: Any) -> Source:
    """The source for an address; its format is detected when the address does not name it.

    Args:
        address: a path or URL, or ``FORMAT:`` and either.
        **options: of the format's source class.

    Raises:
        UsageError: E001 for options that the format does not have or that can't be so, E002 for a format that is
            not read, E003 where nothing is, E006 where a package is missing.
    """
    name, path = find(address)
    source: Source = _make(load_part(name, "source"), f"format {name}", "root", path, options)
    check_source(source)
    return source


def open_sink(target: str | Path, *, format: str = "lerobot", **options: Any) -> Sink:
    """The sink that writes a dataset of ``format`` at ``target``, a path or a URL.

    Args:
        target: where the dataset will be.
        format: a name in `vla_data.formats.FORMATS` or of another distribution, or ``module:Class``.
        **options: of the format's sink class.

    Raises:
        UsageError: E001 for options that the format does not have, needs, or that can't be so, E002 for a format
            that is not written, E006 where a package is missing.
    """
    cls = load_part(format, "sink")
    if format == "rlds":
        # A dataset is called as its folder, and only `vla-data build` draws a split unasked.
        options = {"name": _name_of(target), "val_fraction": 0, **options}

    def make(path: Path) -> Sink:
        sink: Sink = _make(cls, f"writing {format}", "target", path, options)
        check_sink(sink)
        return sink

    return place_sink(target, make)


def _make(cls: Any, what: str, place: str, path: Any, options: Mapping[str, Any]) -> Any:
    """An object of a source's or a sink's class, with options that a user gave."""
    try:
        parameters = inspect.signature(cls).parameters
    except (ValueError, TypeError):  # of a type that is built in, or no class at all
        raise UsageError("E001", f"{what}: this is no class of sources or sinks") from None
    if place not in parameters and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        raise UsageError("E001", f"{what}: {show(cls.__qualname__)} takes no {place!r}, which would say where")
    known = {n for n, p in parameters.items() if n != place and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    if is_dataclass(cls):  # what is not shown is not chosen by users, but is set by other code of ours
        known = {field.name for field in fields(cls) if field.init} - {place}
    shown = sorted(known - _hidden(cls))
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, shown, n=1)
            hint = (
                f"did you mean {_flag(close[0])}?" if close else f"it has {', '.join(map(_flag, shown)) or 'none'}"
            )
            raise UsageError("E001", f"{_flag(option)} is not an option of {what}; {hint}")
    needed = [n for n in shown if parameters[n].default is inspect.Parameter.empty and n not in options]
    if needed:
        raise UsageError("E001", f"{what} needs {', '.join(map(_flag, needed))}")
    try:
        return cls(**{place: path}, **options)
    except (ValueError, TypeError) as error:
        raise UsageError("E001", show(error, escaped=True)) from None


def _name_of(target: str | Path) -> str:
    """The name of the dataset at ``.../<name>/default/1.0.0`` or ``.../<name>``."""
    parts = [part for part in str(target).split("/") if part not in ("", "default")]
    named = [part for part in parts if not re.fullmatch(r"\d+\.\d+\.\d+", part)]
    return named[-1] if named else "dataset"


def _hidden(cls: Any) -> set[str]:
    return {field.name for field in fields(cls) if not field.repr} if is_dataclass(cls) else set()


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def place_sink(target: str | Path, make: Callable[[Path], Sink]) -> Sink:
    """The sink that ``make`` gives for a path; for a URL, one that uploads what it writes."""
    if not is_url(target):
        return make(Path(plain(target)))
    remote = load_module("vla_data.jobs.upload", "remote")
    storage, path = remote.upload_target(target)
    sink: Sink = remote.Uploaded(make(path), storage)
    return sink
