"""The tables of what can be read, written and built: names, modules, and the extra that each one needs.

Nothing is imported until it is asked for. An address is a path, or ``FORMAT:PATH``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final

from vla_data.core import Sink, Source
from vla_data.errors import UsageError
from vla_data.safety.text import show


@dataclass(frozen=True, slots=True)
class Format:
    """Where a format's code is, as ``module:Class``; a module is imported when its class is used.

    Attributes:
        source: its source class, or None.
        sink: its sink class, or None.
        extra: what to install for it, or None.
    """

    source: str | None = None
    sink: str | None = None
    extra: str | None = None


FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "lerobot": Format(source="converters.lerobot_source:LerobotSource", sink="converters.lerobot:LerobotSink"),
        "plain_rollout": Format(sink="converters.plain_rollout:PlainRolloutSink"),
        "ppo_rollout": Format(source="converters.ppo_rollout:PpoRolloutSource"),
        "rlds": Format(sink="converters.rlds:RldsSink"),
    }
)
"""Format name -> where it is. Sorted."""

BUILDERS: Final[Mapping[str, str]] = MappingProxyType({"ppo_sft_aligned": "builders.ppo_sft_aligned.definition"})
"""Dataset name -> module of its definition. Sorted."""

GATES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({"tfds": ("converters.tfds_gate", "tfds")})
"""Reader -> (module with a ``read_back(folder)`` that opens a dataset as that reader does, extra). Sorted."""

CHECKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".": "converters.plain_rollout_check",
        "meta/vla_data": "converters.lerobot_check",
        "vla_data": "converters.rlds_check",
    }
)
"""Sidecar folder -> module with ``examine(root, ledger, schema, blame)``, which knows the format. Sorted."""


def parse_address(address: str | Path) -> tuple[str | None, Path]:
    """``FORMAT:PATH`` or a path -> (format or None, path)."""
    name, colon, rest = str(address).partition(":")
    if colon and name in FORMATS and not Path(str(address)).exists():
        return name, Path(rest)
    return None, Path(address)


def detect(path: Path) -> str:
    """The format of what lies at ``path``.

    By ``meta/info.json`` (lerobot), ``dataset_info.json`` with ``features.json`` (rlds), or rollout files
    (ppo_rollout), in this order.

    Raises:
        UsageError: E003 when there is nothing, E002 when it is none of these.
    """
    if not path.exists():
        raise UsageError("E003", f"{show(path)} is not there")
    if (path / "meta/info.json").is_file():
        return "lerobot"
    if (path / "dataset_info.json").is_file() and (path / "features.json").is_file():
        return "rlds"
    suffixes = (".npz", ".npy")
    if path.is_file() and path.name.lower().endswith(suffixes):
        return "ppo_rollout"
    if path.is_dir() and any(p.name.lower().endswith(suffixes) for p in path.rglob("*")):
        return "ppo_rollout"
    raise UsageError("E002", f"{show(path)} is none of lerobot, rlds, ppo_rollout")


def open_source(address: str | Path, **options: Any) -> Source:
    """The source for an address; its format is detected when the address does not name it.

    Args:
        address: a path, or ``FORMAT:PATH``.
        **options: of the format's source class.
    """
    name, path = parse_address(address)
    name = name or detect(path)
    source: Source = _part(name, "source")(root=path, **options)
    return source


def open_sink(target: str | Path, *, format: str = "lerobot", **options: Any) -> Sink:
    """The sink that writes a dataset of ``format`` at ``target``, with that sink class's options."""
    sink: Sink = _part(format, "sink")(target=Path(target), **options)
    return sink


def load_builder(name: str) -> ModuleType:
    """The definition of a dataset by its name."""
    if name not in BUILDERS:
        raise UsageError("E002", f"there is no dataset {show(name)!r}{_nearest(name, BUILDERS)}")
    return _load(BUILDERS[name], None)


def load_gate(name: str) -> ModuleType:
    """The module of a reader that judges datasets."""
    return _load(*GATES[name])


def _part(name: str, role: str) -> Any:
    if name not in FORMATS:
        raise UsageError("E002", f"there is no format {show(name)!r}{_nearest(name, FORMATS)}")
    entry = FORMATS[name]
    attribute = getattr(entry, role)
    if attribute is None:
        can = ", ".join(n for n, f in FORMATS.items() if getattr(f, role))
        raise UsageError("E002", f"format {name} has no {role}; these have: {can}")
    module, _, name = str(attribute).rpartition(":")
    return getattr(_load(module, entry.extra), name)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there is {', '.join(known)}"


def _load(module: str, extra: str | None) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").split(".")[0] in ("vla_data", "converters", "builders"):
            raise
        hint = f"pip install 'vla-data[{extra}]'"
        raise UsageError("E006", f"{error.name} is not installed: {hint}") from None
