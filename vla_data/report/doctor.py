"""Which extras work on this machine, and why not: each package is looked up, and imported by a process of its
own.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from vla_data.core import Json
from vla_data.installed import install
from vla_data.safety.text import show

SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Package:
    """A package that an extra needs: its name, the module that is imported, and the earliest version."""

    name: str
    module: str
    least: str


@dataclass(frozen=True, slots=True)
class Extra:
    """What an extra is for, what it needs, and a statement that must succeed besides its imports."""

    use: str
    packages: tuple[Package, ...]
    statement: str = ""


_BEAM: Final = Package("apache-beam", "apache_beam", "2.65")
_FSSPEC: Final = Package("fsspec", "fsspec", "2024.6")
EXTRAS: Final[Mapping[str, Extra]] = {
    "array_record": Extra(
        "RLDS datasets in ArrayRecord files",
        (Package("array_record", "array_record.python.array_record_module", "0.8"),),
    ),
    "beam": Extra("--engine beam", (_BEAM,)),
    "dask": Extra("--engine beam on a Dask cluster", (_BEAM, Package("distributed", "distributed", "2024.8"))),
    "gs": Extra("gs:// addresses", (Package("gcsfs", "gcsfs", "2024.6"),)),
    "hdf5": Extra(
        "HDF5 files (LIBERO, robomimic, ManiSkill, ALOHA), --to robomimic and rdt",
        (Package("h5py", "h5py", "3.11"),),
    ),
    "hf": Extra("hf:// addresses", (Package("huggingface_hub", "huggingface_hub", "0.27"),)),
    "lerobot": Extra("--gate lerobot", (Package("lerobot", "lerobot.datasets.lerobot_dataset", "0.4.4"),)),
    "remote": Extra("other addresses with ://", (_FSSPEC,)),
    "s3": Extra("s3:// addresses", (Package("s3fs", "s3fs", "2024.6"),)),
    "tfds": Extra(
        "tfds build, --test, --gate tfds, openvla and octo",
        (
            Package("tensorflow", "tensorflow", "2.17"),
            Package("tensorflow-datasets", "tensorflow_datasets", "4.9.10"),
            _BEAM,
            Package("importlib_resources", "importlib_resources", "6.0"),
            Package("mlcroissant", "mlcroissant", "1.0.9"),
        ),
    ),
    "train": Extra(
        "vla-train",
        (
            Package("accelerate", "accelerate", "1.6"),
            Package("gymnasium", "gymnasium", "1.1"),
            Package("mujoco", "mujoco", "3.2"),
            Package("safetensors", "safetensors", "0.5"),
            Package("tokenizers", "tokenizers", "0.20"),
            Package("torch", "torch", "2.5"),
        ),
    ),
    "video": Extra(
        "LeRobot datasets with video",
        (Package("av", "av", "14.0"),),
        "from av.codec import Codec; [Codec(name, 'w') for name in ('libsvtav1', 'libx264')]",
    ),
    "zarr": Extra(
        "replay buffers in zarr (UMI, diffusion policy)",
        (Package("numcodecs", "numcodecs", "0.13.1"), Package("imagecodecs", "imagecodecs", "2024.9.22")),
    ),
}
"""Extra -> what it is. Sorted; a test compares it with the package's own metadata."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an extra works: ``problem`` says why not, or is empty; ``remedy`` is a command, where there is
    one.
    """

    extra: str
    use: str
    works: bool
    versions: Mapping[str, str]
    problem: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, Json]:
        """One JSON-ready object."""
        return asdict(self)


def examine(*, imports: bool = True, seconds: float = SECONDS) -> list[Health]:
    """The health of every extra.

    Args:
        imports: also import each package, in a process of its own; without it, versions are looked up alone.
        seconds: after which an import is given up.
    """
    tried: dict[str, str] = {}
    return [_health(name, extra, tried, imports, seconds) for name, extra in EXTRAS.items()]


def _health(name: str, extra: Extra, tried: dict[str, str], imports: bool, seconds: float) -> Health:
    versions: dict[str, str] = {}
    missing, old = [], []
    for package in extra.packages:
        try:
            versions[package.name] = importlib.metadata.version(package.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package.name)
            continue
        if _numbers(versions[package.name]) < _numbers(package.least):
            old.append(f"{package.name} {versions[package.name]} is older than {package.least}")
    remedy = install(name)
    if missing:
        return Health(name, extra.use, False, versions, f"not installed: {', '.join(missing)}", remedy)
    if old:
        return Health(name, extra.use, False, versions, "; ".join(old), f"{remedy} --upgrade")
    statements = [f"import {package.module}" for package in extra.packages] + [extra.statement] * bool(
        extra.statement
    )
    for statement in statements if imports else ():
        if statement not in tried:
            tried[statement] = _try(statement, seconds)
        if tried[statement]:
            return Health(name, extra.use, False, versions, f"`{statement}` fails: {tried[statement]}")
    return Health(name, extra.use, True, versions)


def _try(statement: str, seconds: float) -> str:
    """What a statement ends with in a new process; empty where it succeeds."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", statement],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it is not done after {seconds:g} s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return show(lines[-1])[:200] if lines else f"exit code {done.returncode}"


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version, as numbers that compare."""
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()
