"""The tables of what can be read, written and built: names, modules, and the extra that each one needs.

Nothing is imported until it is asked for. An address is a path or a URL, or ``FORMAT:`` and either of them.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final

from vla_data.core import Sink, Source
from vla_data.errors import UsageError
from vla_data.remote.address import is_url, plain
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
        "hdf5": Format(source="converters.hdf5_source:Hdf5Source", extra="hdf5"),
        "lerobot": Format(source="converters.lerobot_source:LerobotSource", sink="converters.lerobot:LerobotSink"),
        "plain_rollout": Format(sink="converters.plain_rollout:PlainRolloutSink"),
        "ppo_rollout": Format(source="converters.ppo_rollout:PpoRolloutSource"),
        "rdt": Format(sink="converters.rdt:RdtSink", extra="hdf5"),
        "rlds": Format(source="converters.rlds_source:RldsSource", sink="converters.rlds:RldsSink"),
        "robomimic": Format(sink="converters.robomimic:RobomimicSink", extra="hdf5"),
    }
)
"""Format name -> where it is. Sorted."""

BUILDERS: Final[Mapping[str, str]] = MappingProxyType({"ppo_sft_aligned": "builders.ppo_sft_aligned.definition"})
"""Dataset name -> module of its definition. Sorted."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A reader that judges datasets.

    Attributes:
        module: has a ``read_back(folder)`` that opens a dataset as that reader does.
        format: that it reads.
        extra: what to install for it, or None.
    """

    module: str
    format: str
    extra: str | None = None


GATES: Final[Mapping[str, Gate]] = MappingProxyType(
    {
        "lerobot": Gate("converters.gates.lerobot", "lerobot", "lerobot"),
        "octo": Gate("converters.gates.octo", "rlds", "tfds"),
        "openpi": Gate("converters.gates.openpi", "lerobot"),
        "openvla": Gate("converters.gates.openvla", "rlds", "tfds"),
        "rdt": Gate("converters.gates.rdt", "rdt", "hdf5"),
        "tfds": Gate("converters.gates.tfds", "rlds", "tfds"),
    }
)
"""Name of a trainer or library -> its reader. Sorted."""

HDF5: Final = (".hdf5", ".h5", ".hdf")
ROLLOUT: Final = (".npz", ".npy")
"""Endings of files, by which a folder's format is detected."""

ENGINES: Final[Mapping[str, str]] = MappingProxyType({"beam": "vla_data.jobs.beam:BeamEngine"})
"""Engines that are not part of this package, each with the extra of its name. Sorted."""

JUDGES: Final[Mapping[str, tuple[str, str | None]]] = MappingProxyType({"rdt": ("converters.rdt_read", "hdf5")})
"""Trainer -> (module with ``judge(path, source=...)``, which names known mistakes in its data, extra). Sorted."""

CHECKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".": "converters.plain_rollout_check",
        "meta/vla_data": "converters.lerobot_check",
        "vla_data": "converters.rlds_check",
        "vla_data/rdt": "converters.rdt_check",
        "vla_data/robomimic": "converters.robomimic_check",
    }
)
"""Sidecar folder -> module with ``examine(root, ledger, schema, blame)``, which knows the format. Sorted."""


def parse_address(address: str | Path) -> tuple[str | None, Path]:
    """``FORMAT:PATH`` or a path -> (format or None, path).

    What a URL names is copied into this machine's cache, unless the copy there is as it is now.
    """
    name, where = _split(address)
    if is_url(where):
        remote = _load("vla_data.remote.fetch", "remote")
        fetched: Path = remote.fetch(storage_of(where))
        return name, fetched
    return name, Path(where)


def locate(address: str | Path) -> Any:
    """Where the rollouts or the dataset of an address are: a `Path`, or the `Storage` of rollouts at a URL, which
    are read one by one where they lie.
    """
    name, where = _split(address)
    if is_url(where) and (name or _detect(where)) == "ppo_rollout":
        return storage_of(where)
    return parse_address(address)[1]


def _split(address: str | Path) -> tuple[str | None, str]:
    name, colon, rest = str(address).partition(":")
    if colon and name in FORMATS and not Path(str(address)).exists():
        return name, plain(rest)
    return None, plain(address)


def storage_of(where: str) -> Any:
    """The `vla_data.remote.storage.Storage` at a URL, or at a folder of this machine."""
    url = where if is_url(where) else f"file://{Path(plain(where)).absolute()}"  # fsspec knows no escapes
    return _load("vla_data.remote.storage", "remote").Storage(url)


def _detect(url: str) -> str | None:
    """The format of what lies at a URL, if it is one that need not be copied here."""
    storage = storage_of(url)
    if storage.is_file():
        return "ppo_rollout" if url.lower().endswith(ROLLOUT) else None
    names = storage.files()
    others = any(name.lower().endswith((*HDF5, "features.json")) or name == "meta/info.json" for name in names)
    return "ppo_rollout" if not others and any(name.lower().endswith(ROLLOUT) for name in names) else None


def detect(path: Path) -> str:
    """The format of what lies at ``path``.

    By ``meta/info.json`` (lerobot), ``dataset_info.json`` with ``features.json``, also in the only version folder
    below (rlds), HDF5 files (hdf5), or rollout files (ppo_rollout), in this order.

    Raises:
        UsageError: E003 when there is nothing, E002 when it is none of these.
    """
    if not path.exists():
        raise UsageError("E003", f"{show(path)} is not there")
    if (path / "meta/info.json").is_file():
        return "lerobot"
    if len(versions(path)) == 1:
        return "rlds"
    for name, suffixes in (("hdf5", HDF5), ("ppo_rollout", ROLLOUT)):
        if path.is_file() and path.name.lower().endswith(suffixes):
            return name
        if path.is_dir() and any(p.name.lower().endswith(suffixes) for p in path.rglob("*")):
            return name
    raise UsageError("E002", f"{show(path)} is none of lerobot, rlds, hdf5, ppo_rollout")


def versions(path: Path) -> list[Path]:
    """The TFDS version folders at ``path`` or up to three levels below: ``DATA_DIR/<name>/<config>/<version>``."""
    found = [path] if (path / "features.json").is_file() else []
    for depth in ("*", "*/*", "*/*/*"):
        found = found or sorted(file.parent for file in path.glob(f"{depth}/features.json"))
    return [folder for folder in found if (folder / "dataset_info.json").is_file()]


def open_source(address: str | Path, **options: Any) -> Source:
    """The source for an address; its format is detected when the address does not name it.

    Args:
        address: a path or URL, or ``FORMAT:`` and either.
        **options: of the format's source class.
    """
    name = _split(address)[0]
    path = locate(address)
    name = name or (detect(path) if isinstance(path, Path) else "ppo_rollout")
    cls = _part(name, "source")
    known = {field.name for field in fields(cls)} - {"root"}
    for option in options:
        if option not in known:
            flag = option.replace("_", "-")
            raise UsageError("E001", f"--{flag} is no option of format {name}; it has {_flags(known)}")
    try:
        source: Source = cls(root=path, **options)
    except ValueError as error:
        raise UsageError("E001", show(error)) from None
    return source


def open_sink(target: str | Path, *, format: str = "lerobot", **options: Any) -> Sink:
    """The sink that writes a dataset of ``format`` at ``target``, a path or a URL; options are that class's."""
    if format == "rlds":
        options = {"val_fraction": 0, **options}  # only `vla-data build` draws a split unasked
    return place_sink(target, lambda path: _part(format, "sink")(target=path, **options))


def place_sink(target: str | Path, make: Callable[[Path], Sink]) -> Sink:
    """The sink that ``make`` gives for a path; for a URL, one that uploads what it writes."""
    if not is_url(target):
        return make(Path(plain(target)))
    remote = _load("vla_data.remote.sink", "remote")
    storage, path = remote.upload_target(target)
    sink: Sink = remote.Uploaded(make(path), storage)
    return sink


def load_builder(name: str) -> ModuleType:
    """The definition of a dataset by its name."""
    if name not in BUILDERS:
        raise UsageError("E002", f"there is no dataset {show(name)!r}{_nearest(name, BUILDERS)}")
    return _load(BUILDERS[name], None)


def load_judge(name: str) -> ModuleType:
    """The module that knows the usual mistakes in a trainer's data."""
    return _load(*JUDGES[name])


def load_engine(name: str) -> Any:
    """The class of an engine by its name."""
    module, _, attribute = ENGINES[name].partition(":")
    return getattr(_load(module, name), attribute)


def load_gate(name: str) -> ModuleType:
    """The module of a reader that judges datasets."""
    return _load(GATES[name].module, GATES[name].extra)


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


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names)) or "none"


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
