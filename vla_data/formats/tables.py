"""The tables of what can be read, written, built and trained on: names, modules, and the extra that each needs.

These strings are the only place where this library names the packages above it. Nothing is imported until it is
asked for.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any, Final

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
        "hdf5": Format(source="converters.hdf5.source:Hdf5Source", extra="hdf5"),
        "lerobot": Format(
            source="converters.lerobot.source:LerobotSource", sink="converters.lerobot.sink:LerobotSink"
        ),
        "plain_rollout": Format(sink="converters.rollouts.sink:PlainRolloutSink"),
        "ppo_rollout": Format(source="converters.rollouts.source:PpoRolloutSource"),
        "rdt": Format(sink="converters.rdt.sink:RdtSink", extra="hdf5"),
        "rlds": Format(source="converters.rlds.source:RldsSource", sink="converters.rlds.sink:RldsSink"),
        "robomimic": Format(sink="converters.robomimic.sink:RobomimicSink", extra="hdf5"),
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
        "lerobot": Gate("training_adapters.lerobot.gate", "lerobot", "lerobot"),
        "octo": Gate("training_adapters.octo.gate", "rlds", "tfds"),
        "openpi": Gate("training_adapters.openpi.gate", "lerobot"),
        "openvla": Gate("training_adapters.openvla.gate", "rlds", "tfds"),
        "rdt": Gate("training_adapters.rdt.gate", "rdt", "hdf5"),
        "tfds": Gate("training_adapters.tfds.gate", "rlds", "tfds"),
    }
)
"""Name of a trainer or library -> its reader. Sorted."""

HDF5: Final = (".hdf5", ".h5", ".hdf")
ROLLOUT: Final = (".npz", ".npy")
"""Endings of files, by which a folder's format is detected."""

MIXTURES: Final[Mapping[str, str]] = MappingProxyType({"opentau": "training_adapters.opentau.mixture"})
"""Trainer -> module with ``parse(facts)``, which reads its configuration of a mixture. Sorted."""

LAYOUTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "evo-rl": "training_adapters.evo_rl.advantages",
        "opentau": "training_adapters.opentau.advantages",
        "rabc": "training_adapters.lerobot.advantages",
        "rlinf": "training_adapters.rlinf.advantages",
        "zhhhming": "training_adapters.frame_labels.advantages",
    }
)
"""Layout -> module. Sorted. All have ``read(table, tag)``; all but ``evo-rl``, which makes a copy, ``write``."""

NEED_LABELS: Final = frozenset({"evo-rl", "rlinf", "zhhhming"})
"""Layouts that store what is positive, and not only how much."""

ENGINES: Final[Mapping[str, str]] = MappingProxyType({"beam": "vla_data.jobs.beam.engine:BeamEngine"})
"""Engines that are not part of this package, each with the extra of its name. Sorted."""

JUDGES: Final[Mapping[str, tuple[str, str | None]]] = MappingProxyType({"rdt": ("converters.rdt.judge", "hdf5")})
"""Trainer -> (module with ``judge(path, source=...)``, which names known mistakes in its data, extra). Sorted."""

CHECKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".": "converters.rollouts.check",
        "meta/vla_data": "converters.lerobot.check",
        "vla_data": "converters.rlds.check",
        "vla_data/rdt": "converters.rdt.check",
        "vla_data/robomimic": "converters.robomimic.check",
    }
)
"""Sidecar folder -> module with ``examine(root, ledger, schema, blame)``, which knows the format. Sorted."""


def load_builder(name: str) -> ModuleType:
    """The definition of a dataset by its name."""
    if name not in BUILDERS:
        raise UsageError("E002", f"there is no dataset {show(name)!r}{_nearest(name, BUILDERS)}")
    return load_module(BUILDERS[name], None)


def load_judge(name: str) -> ModuleType:
    """The module that knows the usual mistakes in a trainer's data."""
    return load_module(*JUDGES[name])


def load_engine(name: str) -> Any:
    """The class of an engine by its name."""
    module, _, attribute = ENGINES[name].partition(":")
    return getattr(load_module(module, name), attribute)


def load_gate(name: str) -> ModuleType:
    """The module of a reader that judges datasets."""
    return load_module(GATES[name].module, GATES[name].extra)


def load_part(name: str, role: str) -> Any:
    """The source or the sink class of a format."""
    if name not in FORMATS:
        raise UsageError("E002", f"there is no format {show(name)!r}{_nearest(name, FORMATS)}")
    entry = FORMATS[name]
    attribute = getattr(entry, role)
    if attribute is None:
        can = ", ".join(n for n, f in FORMATS.items() if getattr(f, role))
        raise UsageError("E002", f"format {name} has no {role}; these have: {can}")
    module, _, name = str(attribute).rpartition(":")
    return getattr(load_module(module, entry.extra), name)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there is {', '.join(known)}"


def load_module(module: str, extra: str | None) -> ModuleType:
    """A module, or which extra to install where what it needs is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").split(".")[0] in ("vla_data", "converters", "builders"):
            raise
        hint = f"pip install 'vla-data[{extra}]'"
        raise UsageError("E006", f"{error.name} is not installed: {hint}") from None
