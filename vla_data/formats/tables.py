"""The tables of what can be read, written, built and trained on. One row a format, one row a trainer.

These strings are where this library names the packages above it (`vla_data.former_names` has the old ones).
Nothing is imported until it is used. Other distributions add rows by entry points of the groups
``vla_data.formats``, ``vla_data.trainers`` and ``vla_data.builders``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final, Literal

from vla_data.errors import UsageError
from vla_data.formats.files import load_class
from vla_data.formats.plugins import Table
from vla_data.formats.rows import Format, Trainer
from vla_data.installed import PACKAGES, hidden, missing
from vla_data.safety.text import show

FORMATS: Final = Table(
    "vla_data.formats",
    {
        "calvin": Format(source="converters.calvin.source:CalvinSource"),
        "hdf5": Format(
            source="converters.hdf5.source:Hdf5Source",
            masks="converters.hdf5.masks",
            suffixes=(".hdf5", ".h5", ".hdf"),
            extra="hdf5",
        ),
        "lerobot": Format(
            source="converters.lerobot.source:LerobotSource",
            sink="converters.lerobot.sink:LerobotSink",
            sidecar="meta/vla_data",
            audit="converters.lerobot.check:LerobotAudit",
        ),
        "plain_rollout": Format(
            sink="converters.rollouts.sink:PlainRolloutSink",
            sidecar=".",
            audit="converters.rollouts.check:RolloutAudit",
        ),
        "ppo_rollout": Format(source="converters.rollouts.source:PpoRolloutSource", suffixes=(".npz", ".npy")),
        "rdt": Format(
            sink="converters.rdt.sink:RdtSink",
            sidecar="vla_data/rdt",
            audit="converters.rdt.check:RdtAudit",
            extra="hdf5",
        ),
        "rdt2": Format(
            sink="converters.rdt2.sink:Rdt2Sink",
            sidecar="vla_data/rdt2",
            audit="converters.rdt2.check:Rdt2Audit",
        ),
        # A pickle may be anything: RLinf's are known by their names, and ript-vla's have none, so they have to be
        # called ript:PATH.
        "ript": Format(source="converters.ript.source:RiptSource"),
        "rlds": Format(
            source="converters.rlds.source:RldsSource",
            sink="converters.rlds.sink:RldsSink",
            sidecar="vla_data",
            audit="converters.rlds.check:RldsAudit",
        ),
        "rlinf": Format(source="converters.rlinf.source:RlinfSource"),
        "robomimic": Format(
            sink="converters.robomimic.sink:RobomimicSink",
            sidecar="vla_data/robomimic",
            audit="converters.robomimic.check:RobomimicAudit",
            extra="hdf5",
        ),
        "zarr": Format(source="converters.zarr.source:ZarrSource", extra="zarr"),
    },
)
"""Format -> its row. Sorted."""

TRAINERS: Final = Table(
    "vla_data.trainers",
    {
        "evo-rl": Trainer(advantages="training_adapters.evo_rl.advantages", needs_labels=True, copies=True),
        "frame-labels": Trainer(advantages="training_adapters.frame_labels.advantages", needs_labels=True),
        "gr00t": Trainer(
            reads="lerobot",
            gate="training_adapters.gr00t.gate",
            stats="training_adapters.gr00t.stats:Gr00t",
            prepare="training_adapters.gr00t.prepare",
        ),
        "lerobot": Trainer(
            reads="lerobot",
            gate="training_adapters.lerobot.gate",
            stats="training_adapters.lerobot.stats:Lerobot",
            prepare="training_adapters.lerobot.prepare",
            extra="lerobot",
        ),
        "lerobot-recap": Trainer(
            advantages="training_adapters.lerobot_recap.advantages", needs_labels=True, copies=True
        ),
        "octo": Trainer(
            reads="rlds",
            gate="training_adapters.octo.gate",
            stats="training_adapters.octo.stats:Octo",
            prepare="training_adapters.octo.prepare",
            extra="tfds",
        ),
        "openpi": Trainer(
            reads="lerobot",
            gate="training_adapters.openpi.gate",
            stats="training_adapters.openpi.stats:Openpi",
            prepare="training_adapters.openpi.prepare",
        ),
        "opentau": Trainer(
            advantages="training_adapters.opentau.advantages",
            mixture="training_adapters.opentau.mixture",
            prepare="training_adapters.opentau.prepare",
        ),
        "openvla": Trainer(
            reads="rlds",
            gate="training_adapters.openvla.gate",
            stats="training_adapters.openvla.stats:Openvla",
            prepare="training_adapters.openvla.prepare",
            extra="tfds",
        ),
        "rabc": Trainer(advantages="training_adapters.lerobot.advantages"),
        "rdt": Trainer(
            reads="rdt",
            gate="training_adapters.rdt.gate",
            stats="converters.rdt.stats:Rdt",
            judge="converters.rdt.judge",
            prepare="training_adapters.rdt.prepare",
            extra="hdf5",
        ),
        "rdt2": Trainer(
            reads="rdt2", gate="training_adapters.rdt2.gate", prepare="training_adapters.rdt2.prepare"
        ),
        "rlinf": Trainer(
            advantages="training_adapters.rlinf.advantages",
            needs_labels=True,
            prepare="training_adapters.rlinf.prepare",
        ),
        "sample-weights": Trainer(advantages="training_adapters.sample_weights.advantages"),
        "task-text": Trainer(advantages="training_adapters.task_text.advantages", needs_labels=True, copies=True),
        "tfds": Trainer(reads="rlds", gate="training_adapters.tfds.gate", extra="tfds"),
        "torchrl": Trainer(prepare="training_adapters.torchrl.prepare"),
    },
)
"""Trainer, library or way to train -> its row. Sorted."""

BUILDERS: Final = Table("vla_data.builders", {"ppo_sft_aligned": "builders.ppo_sft_aligned.definition"})
"""Dataset name -> module with its ``Definition``. Sorted."""

ENGINES: Final[Mapping[str, str]] = MappingProxyType({"beam": "vla_data.jobs.beam.engine:BeamEngine"})
"""Engines that are not part of this package, each with the extra of its name. Sorted."""

TOKENIZERS: Final[Mapping[str, str]] = MappingProxyType({"fast": "training_adapters.fast.fit"})
"""Tokens of actions that can be fitted on a dataset -> module. Sorted."""

TRAINING: Final = "training_adapters.cli"
"""Where the commands of ``vla-train`` are."""

FORMER: Final[Mapping[str, str]] = MappingProxyType({"zhhhming": "frame-labels"})
"""Names of trainers in version 0.1 -> the name of today."""

HDF5: Final = FORMATS["hdf5"].suffixes
ROLLOUT: Final = FORMATS["ppo_rollout"].suffixes
"""Endings of files, by which a folder's format is detected."""

SIDECARS: Final = tuple(sorted(row.sidecar for row in FORMATS.values() if row.sidecar and row.sidecar != "."))
"""Folders in which a dataset carries its ledger and manifest, by format."""

Role = Literal["gate", "stats", "advantages", "judge", "mixture", "prepare"]


def trainers(role: Role) -> list[str]:
    """Our trainers that have something for this."""
    return [name for name, row in TRAINERS.items() if _entry(row, role) is not None]


def foreign_trainers(role: Role) -> list[str]:
    """Those of other distributions; what can't be loaded is left out."""
    found = []
    for name in TRAINERS.names()[len(TRAINERS) :]:
        try:
            if _entry(TRAINERS[name], role) is not None:
                found.append(name)
        except UsageError:  # its own affair, until somebody names it
            continue
    return found


def trainer(name: str, role: Role) -> Trainer:
    """The row of a trainer that must have something for this.

    Raises:
        UsageError: E002, there is no such trainer, or it has nothing for this.
    """
    row = TRAINERS.row("trainer", FORMER.get(name, name))
    if _entry(row, role) is None:
        raise UsageError(
            "E002",
            f"{show(name)} has no {role}; these have: {', '.join((*trainers(role), *foreign_trainers(role)))}",
        )
    return row


def load_trainer(name: str, role: Role) -> Any:
    """The module, or for statistics the class, that a trainer has for this."""
    row = trainer(name, role)
    module, _, attribute = str(_entry(row, role)).partition(":")
    found = load_module(module, row.extra if role in ("gate", "judge") else None)
    return getattr(found, attribute) if attribute else found


def load_audit(sidecar: str, format: str | None = None) -> Any:
    """The class that examines datasets of a format, a `vla_data.verification.audit.Audit`; without one, of our
    format that has this sidecar.
    """
    if format is None:
        (format,) = (name for name, row in FORMATS.items() if row.sidecar == sidecar and row.audit)
    module, _, cls = str(FORMATS[format].audit).partition(":")
    return getattr(load_module(module, FORMATS[format].extra), cls)


def load_builder(name: str) -> Any:
    """The definition of a dataset, a `builders.rollout_dataset.RolloutDataset`.

    Args:
        name: of our table, ``module:Class`` or ``file.py:Class``, or a folder with a ``definition.py``.

    Raises:
        UsageError: E002, there is none; E006, it can't be loaded.
    """
    if name in BUILDERS:
        return load_module(BUILDERS[name], None).Definition
    for file in (Path(name), Path(name) / "definition.py"):
        if file.suffix == ".py" and file.is_file():
            return load_class(f"{file}:Definition")
    if ":" in name:
        return load_class(name)
    raise BUILDERS.missing("dataset", name, "a folder with a definition.py is one too")


def load_engine(name: str) -> Any:
    """The class of an engine by its name."""
    module, _, attribute = ENGINES[name].partition(":")
    return getattr(load_module(module, name), attribute)


def load_tokenizer(name: str) -> ModuleType:
    """The module that fits tokens of this name.

    Raises:
        MissingExtraError: E006, what it needs is not installed.
    """
    return load_module(TOKENIZERS[name], "train")


def load_part(name: str, role: Literal["source", "sink"]) -> Any:
    """The source or the sink class of a format."""
    if ":" in name:
        return load_class(name)
    row = FORMATS.row("format", name)
    attribute = row.source if role == "source" else row.sink
    if attribute is None:
        can = ", ".join(n for n, f in FORMATS.items() if (f.source if role == "source" else f.sink))
        raise UsageError("E002", f"format {name} has no {role}; these have: {can}")
    module, _, cls = attribute.partition(":")
    return getattr(load_module(module, row.extra), cls)


def load_module(module: str, extra: str | None) -> ModuleType:
    """A module, or which extra to install where what it needs is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = error.name or ""
        if (why := hidden(name)) is not None:
            raise UsageError("E023", show(why)) from None
        if extra is None or name.split(".")[0] in PACKAGES:
            raise
        raise missing(name, extra) from None


def _entry(row: Trainer, role: Role) -> str | None:
    return {
        "gate": row.gate,
        "stats": row.stats,
        "advantages": row.advantages,
        "judge": row.judge,
        "mixture": row.mixture,
        "prepare": row.prepare,
    }[role]
