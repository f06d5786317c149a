"""Modules by the names that they had in version 0.1: importing one gives what it became, with a warning.

Names that are a package now (``vla_data.core``, ``converters.lerobot``) are not here; they re-export what they
had.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any, Final

NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "converters.example": "converters.rlds.example",
        "converters.gates": "training_adapters",
        "converters.gates.lerobot": "training_adapters.lerobot.gate",
        "converters.gates.octo": "training_adapters.octo.gate",
        "converters.gates.openpi": "training_adapters.openpi.gate",
        "converters.gates.openvla": "training_adapters.openvla.gate",
        "converters.gates.quiet_tensorflow": "training_adapters.quiet_tensorflow",
        "converters.gates.rdt": "training_adapters.rdt.gate",
        "converters.gates.tfds": "training_adapters.tfds.gate",
        "converters.gates.trajectories": "training_adapters.rlds_trajectories",
        "converters.hdf5_aloha": "converters.hdf5.dialects.aloha",
        "converters.hdf5_conventions": "converters.hdf5.conventions",
        "converters.hdf5_episode": "converters.hdf5.episode",
        "converters.hdf5_files": "converters.hdf5.files",
        "converters.hdf5_images": "converters.hdf5.images",
        "converters.hdf5_layout": "converters.hdf5.dialects.base",
        "converters.hdf5_libero": "converters.hdf5.dialects.libero",
        "converters.hdf5_list": "converters.hdf5.listing",
        "converters.hdf5_maniskill": "converters.hdf5.dialects.maniskill",
        "converters.hdf5_robomimic": "converters.hdf5.dialects.robomimic",
        "converters.hdf5_source": "converters.hdf5.source",
        "converters.lerobot_check": "converters.lerobot.check",
        "converters.lerobot_check_info": "converters.lerobot.check_info",
        "converters.lerobot_columns": "converters.lerobot.columns",
        "converters.lerobot_extra": "converters.lerobot.extra",
        "converters.lerobot_files": "converters.lerobot.files",
        "converters.lerobot_layout": "converters.lerobot.layout",
        "converters.lerobot_meta": "converters.lerobot.meta",
        "converters.lerobot_rows": "converters.lerobot.rows",
        "converters.lerobot_source": "converters.lerobot.source",
        "converters.lerobot_stats": "converters.lerobot.stats",
        "converters.lerobot_tasks": "converters.lerobot.tasks",
        "converters.lerobot_video": "converters.lerobot.video",
        "converters.masks": "converters.hdf5.masks",
        "converters.plain_rollout": "converters.rollouts.sink",
        "converters.plain_rollout_check": "converters.rollouts.check",
        "converters.ppo_rollout": "converters.rollouts.source",
        "converters.rdt_bugs": "converters.rdt.bugs",
        "converters.rdt_cameras": "converters.rdt.cameras",
        "converters.rdt_check": "converters.rdt.check",
        "converters.rdt_config": "converters.rdt.config",
        "converters.rdt_file": "converters.rdt.file",
        "converters.rdt_read": "converters.rdt.judge",
        "converters.rdt_sample": "converters.rdt.sample",
        "converters.rdt_slots": "converters.rdt.slots",
        "converters.rdt_vectors": "converters.rdt.vectors",
        "converters.rlds_check": "converters.rlds.check",
        "converters.rlds_features": "converters.rlds.features",
        "converters.rlds_fields": "converters.rlds.fields",
        "converters.rlds_files": "converters.rlds.files",
        "converters.rlds_images": "converters.rlds.images",
        "converters.rlds_names": "converters.rlds.names",
        "converters.rlds_own": "converters.rlds.own",
        "converters.rlds_source": "converters.rlds.source",
        "converters.rlds_values": "converters.rlds.values",
        "converters.robomimic_check": "converters.robomimic.check",
        "converters.robomimic_env": "converters.robomimic.env",
        "converters.robomimic_file": "converters.robomimic.file",
        "converters.robomimic_names": "converters.robomimic.names",
        "converters.rollout_fields": "converters.rollouts.fields",
        "converters.rollout_files": "converters.rollouts.files",
        "converters.rollout_images": "converters.rollouts.images",
        "converters.tfds_files": "converters.rlds.tfds_json",
        "converters.tfrecord": "converters.rlds.tfrecord",
        "training_adapters.batches": "training_adapters.torch_batches",
        "training_adapters.rlds_batches": "training_adapters.tf_batches",
        "vla_data.actions.dynamics": "vla_data.dynamics.check",
        "vla_data.actions.dynamics_fit": "vla_data.dynamics.fit",
        "vla_data.actions.dynamics_report": "vla_data.dynamics.report",
        "vla_data.actions.dynamics_task": "vla_data.dynamics.task",
        "vla_data.advantages.bins": "vla_data.advantages.numbers.bins",
        "vla_data.advantages.chunks": "vla_data.advantages.numbers.chunks",
        "vla_data.advantages.flat": "vla_data.advantages.numbers.flat",
        "vla_data.advantages.groups": "vla_data.advantages.numbers.groups",
        "vla_data.advantages.layouts": "vla_data.formats.tables",
        "vla_data.advantages.layouts.base": "vla_data.advantages.format",
        "vla_data.advantages.layouts.evo_rl": "training_adapters.evo_rl.advantages",
        "vla_data.advantages.layouts.opentau": "training_adapters.opentau.advantages",
        "vla_data.advantages.layouts.rabc": "training_adapters.lerobot.advantages",
        "vla_data.advantages.layouts.rlinf": "training_adapters.rlinf.advantages",
        "vla_data.advantages.layouts.zhhhming": "training_adapters.frame_labels.advantages",
        "vla_data.advantages.recap": "vla_data.advantages.numbers.recap",
        "vla_data.advantages.returns": "vla_data.advantages.numbers.returns",
        "vla_data.advantages.scan": "vla_data.advantages.numbers.scan",
        "vla_data.advantages.thresholds": "vla_data.advantages.numbers.thresholds",
        "vla_data.against": "vla_data.verification.compare",
        "vla_data.checks": "vla_data.options",
        "vla_data.codec": "vla_data.media.video_settings",
        "vla_data.curate": "vla_data.core.curate",
        "vla_data.digest": "vla_data.core.content",
        "vla_data.frames": "vla_data.media.frames",
        "vla_data.images": "vla_data.media.images",
        "vla_data.jobs.apart": "vla_data.jobs.beam.process",
        "vla_data.jobs.depot": "vla_data.jobs.beam.part_store",
        "vla_data.jobs.io": "vla_data.files.write",
        "vla_data.jobs.sidecar": "vla_data.jobs.manifest",
        "vla_data.jobs.tables": "vla_data.files.tables",
        "vla_data.ledger": "vla_data.core.ledger",
        "vla_data.locate": "vla_data.formats.sidecar",
        "vla_data.loss": "vla_data.verification.lossy",
        "vla_data.mapping": "vla_data.selection.mapping",
        "vla_data.merged": "vla_data.selection.merged",
        "vla_data.mixtures.located": "vla_data.media.located",
        "vla_data.mixtures.parquet_images": "converters.lerobot.located_images",
        "vla_data.mixtures.recap": "training_adapters.opentau.mixture",
        "vla_data.pipeline": "vla_data.jobs.run",
        "vla_data.plain_npz": "vla_data.recording.npz",
        "vla_data.provenance": "vla_data.verification.provenance",
        "vla_data.recipes": "vla_data.steps.recipes",
        "vla_data.recorder": "vla_data.recording",
        "vla_data.remote.sink": "vla_data.jobs.upload",
        "vla_data.repair": "vla_data.verification.repair",
        "vla_data.seal": "vla_data.files.sums",
        "vla_data.selections": "vla_data.selection.exports",
        "vla_data.sorting": "vla_data.names",
        "vla_data.splits": "vla_data.selection.splits",
        "vla_data.statistics.gr00t": "training_adapters.gr00t.stats",
        "vla_data.statistics.lerobot": "training_adapters.lerobot.stats",
        "vla_data.statistics.octo": "training_adapters.octo.stats",
        "vla_data.statistics.openpi": "training_adapters.openpi.stats",
        "vla_data.statistics.openvla": "training_adapters.openvla.stats",
        "vla_data.statistics.rdt": "converters.rdt.stats",
        "vla_data.survey": "vla_data.report.inspect",
        "vla_data.verdict": "vla_data.verification.report",
        "vla_data.verify": "vla_data.verification.check",
        "vla_data.video": "vla_data.media.video",
    }
)
"""Former name -> the name of today. Sorted."""


MEMBERS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "converters.lerobot": {"LerobotSink": "converters.lerobot.sink"},
        "converters.rdt": {"RdtSink": "converters.rdt.sink"},
        "converters.rlds": {"RldsSink": "converters.rlds.sink"},
        "converters.robomimic": {"RobomimicSink": "converters.robomimic.sink"},
        "vla_data.actions": {
            "Dimension": "vla_data.dynamics.report",
            "DynamicsReport": "vla_data.dynamics.report",
            "Finding": "vla_data.core.findings",
            "check_dynamics": "vla_data.dynamics.check",
        },
        "vla_data.jobs.beam": {
            "BeamEngine": "vla_data.jobs.beam.engine",
            "MakeParts": "vla_data.jobs.beam.engine",
        },
        "vla_data.report": {"Report": "vla_data.jobs.report"},
        "vla_data.selection": {"Selection": "vla_data.selection.subset"},
    }
)
"""Package -> what can still be imported from it -> the module that has it. Sorted."""


RENAMED: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "vla_data.jobs.sidecar": {
            "recipe_digest": "vla_data.core.manifest:recipe_sha256",
            "source_digest": "vla_data.jobs.manifest:sources_sha256",
        },
        "vla_data.repair": {"recipe_digest": "vla_data.core.manifest:recipe_sha256"},
        "vla_data.verify": {"recipe_digest": "vla_data.core.manifest:recipe_sha256"},
    }
)
"""Former module -> what it had under another name -> where that is. Sorted."""


def member(package: str, name: str) -> Any:
    """What ``package.name`` is, for a package's ``__getattr__``; it loads what that needs."""
    module = MEMBERS[package].get(name)
    if module is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


class _View(ModuleType):
    """A module by its former name.

    Importing ``vla_data.verify`` hides the function of that name behind the module, so it can be called as well.
    """

    def __call__(self, *args: Any, **options: Any) -> Any:
        return vars(self)[self.__name__.rpartition(".")[2]](*args, **options)


class _Finder:
    """Finds the modules of `NAMES`, and loads them. To derive from classes of `importlib.abc` loads too much."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        loader: Any = self
        return importlib.machinery.ModuleSpec(fullname, loader) if fullname in NAMES else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        now = NAMES[spec.name]
        warnings.warn(f"{spec.name} is {now} now", DeprecationWarning, stacklevel=2)
        found = _View(spec.name)
        found.__dict__.update(
            {name: value for name, value in vars(importlib.import_module(now)).items() if name[:2] != "__"}
        )
        for name, address in RENAMED.get(spec.name, {}).items():
            module, _, attribute = address.partition(":")
            vars(found)[name] = getattr(importlib.import_module(module), attribute)
        if any(name.startswith(f"{spec.name}.") for name in NAMES):
            found.__path__ = []  # it was a package: what is below it is looked for here too
        return found

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: the module is a view of one that was executed."""


def install() -> None:
    """Let former names be imported; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
