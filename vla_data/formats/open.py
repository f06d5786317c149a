"""Opens what an address names: a path or a URL, or ``FORMAT:`` and either of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from vla_data.core import Sink, Source
from vla_data.errors import UsageError
from vla_data.formats.tables import FORMATS, HDF5, ROLLOUT, load_module, load_part
from vla_data.remote.address import is_url, plain
from vla_data.safety.text import show


def parse_address(address: str | Path) -> tuple[str | None, Path]:
    """``FORMAT:PATH`` or a path -> (format or None, path).

    What a URL names is copied into this machine's cache, unless the copy there is as it is now.
    """
    name, where = _split(address)
    if is_url(where):
        remote = load_module("vla_data.remote.fetch", "remote")
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
    return load_module("vla_data.remote.storage", "remote").Storage(url)


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
    cls = load_part(name, "source")
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
    return place_sink(target, lambda path: load_part(format, "sink")(target=path, **options))


def place_sink(target: str | Path, make: Callable[[Path], Sink]) -> Sink:
    """The sink that ``make`` gives for a path; for a URL, one that uploads what it writes."""
    if not is_url(target):
        return make(Path(plain(target)))
    remote = load_module("vla_data.jobs.upload", "remote")
    storage, path = remote.upload_target(target)
    sink: Sink = remote.Uploaded(make(path), storage)
    return sink


def _flags(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names)) or "none"
