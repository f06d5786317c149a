"""Robot-learning RL rollouts become datasets that vision-language-action trainers can trust.

import vla_data as vd

source = vd.open_source("rollouts")
steps = vd.recipes.ppo_sft(min_success_steps=6, pos_thresh=0.01, rot_thresh=0.06)
report = vd.run(source, steps, vd.open_sink("aligned", format="lerobot"))
print(report)
"""

import importlib
from typing import TYPE_CHECKING, Final

from vla_data import former_names
from vla_data._version import __version__

if TYPE_CHECKING:
    from vla_data import actions as actions
    from vla_data import advantages as advantages
    from vla_data import statistics as statistics
    from vla_data import steps
    from vla_data.advantages import annotate as annotate
    from vla_data.core import Encoded, Episode, EpisodeMeta, EpisodeRef, Feature, Published, Schema, Sink, Source
    from vla_data.core.base import BaseSink, BaseSource, WrappedSink, WrappedSource
    from vla_data.core.curate import Curated, Filter, Transform, curate
    from vla_data.core.ledger import Ledger, Record, Span
    from vla_data.core.traits import Traits
    from vla_data.errors import (
        DataError,
        LockedError,
        MachineError,
        MissingExtraError,
        NotFoundError,
        RecordError,
        RefusedError,
        TargetExistsError,
        UndeclaredError,
        UsageError,
        VerifyError,
        VlaDataError,
    )
    from vla_data.formats import open_sink, open_source
    from vla_data.formats.sidecar import open_ledger
    from vla_data.jobs.beam.engine import BeamEngine as BeamEngine
    from vla_data.jobs.pool import Limits
    from vla_data.jobs.progress import Progress
    from vla_data.jobs.report import Report
    from vla_data.jobs.run import run
    from vla_data.measuring.table import measure as quality  # noqa: F401
    from vla_data.media.frames import Frames
    from vla_data.media.video_settings import VideoCopy, VideoSettings
    from vla_data.mixtures import open_mixture as open_mixture
    from vla_data.recording import RolloutWriter, VectorRecorder
    from vla_data.report.inspect import survey as inspect  # noqa: F401
    from vla_data.selection.mapping import merged as merge  # noqa: F401
    from vla_data.selection.splits import split as split
    from vla_data.selection.subset import select as select
    from vla_data.steps import recipes
    from vla_data.verification.check import verify as verify
    from vla_data.verification.repair import repair as repair

__all__ = [
    "BaseSink",
    "BaseSource",
    "Curated",
    "DataError",
    "Encoded",
    "Episode",
    "EpisodeMeta",
    "EpisodeRef",
    "Feature",
    "Filter",
    "Frames",
    "Ledger",
    "Limits",
    "LockedError",
    "MachineError",
    "MissingExtraError",
    "NotFoundError",
    "Progress",
    "Published",
    "Record",
    "RecordError",
    "RefusedError",
    "Report",
    "RolloutWriter",
    "Schema",
    "Sink",
    "Source",
    "Span",
    "TargetExistsError",
    "Traits",
    "Transform",
    "UndeclaredError",
    "UsageError",
    "VectorRecorder",
    "VerifyError",
    "VideoCopy",
    "VideoSettings",
    "VlaDataError",
    "WrappedSink",
    "WrappedSource",
    "__version__",
    "curate",
    "open_ledger",
    "open_sink",
    "open_source",
    "recipes",
    "run",
    "steps",
]

_PLACES: Final = {
    "vla_data.advantages": ("annotate",),
    "vla_data.core": (
        *("Encoded", "Episode", "EpisodeMeta", "EpisodeRef", "Feature", "Published", "Schema", "Sink", "Source"),
    ),
    "vla_data.core.base": ("BaseSink", "BaseSource", "WrappedSink", "WrappedSource"),
    "vla_data.core.curate": ("Curated", "Filter", "Transform", "curate"),
    "vla_data.core.ledger": ("Ledger", "Record", "Span"),
    "vla_data.core.traits": ("Traits",),
    "vla_data.errors": tuple(name for name in __all__ if name.endswith("Error")),
    "vla_data.formats": ("open_sink", "open_source"),
    "vla_data.formats.sidecar": ("open_ledger",),
    "vla_data.jobs.beam.engine": ("BeamEngine",),
    "vla_data.jobs.pool": ("Limits",),
    "vla_data.jobs.progress": ("Progress",),
    "vla_data.jobs.report": ("Report",),
    "vla_data.jobs.run": ("run",),
    "vla_data.media.frames": ("Frames",),
    "vla_data.media.video_settings": ("VideoCopy", "VideoSettings"),
    "vla_data.mixtures": ("open_mixture",),
    "vla_data.recording": ("RolloutWriter", "VectorRecorder"),
    "vla_data.selection.splits": ("split",),
    "vla_data.selection.subset": ("select",),
    "vla_data.verification.check": ("verify",),
    "vla_data.verification.repair": ("repair",),
}
"""Module -> the public names that it has."""
_LAZY: Final = {
    **{name: f"{module}:{name}" for module, names in _PLACES.items() for name in names},
    "actions": "vla_data.actions",
    "advantages": "vla_data.advantages",
    "inspect": "vla_data.report.inspect:survey",
    "merge": "vla_data.selection.mapping:merged",
    "quality": "vla_data.measuring.table:measure",
    "recipes": "vla_data.steps.recipes",
    "statistics": "vla_data.statistics",
    "steps": "vla_data.steps",
}
"""Public name -> where it is. A name loads what it needs when it is used for the first time, so that a program
that asks for little starts at once. Names that load more than NumPy, or code that a run does not need, are not in
``__all__``, so that a star import loads none of it."""
_ROOMS: Final = ("core", "errors", "files", "formats", "jobs", "media", "names", "options", "recording", "safety")
"""Modules that are there without an import of their own, as ever."""


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return importlib.import_module(f"vla_data.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'vla_data' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    found = importlib.import_module(module)
    found = getattr(found, attribute) if attribute else found
    globals().setdefault(name, found)
    return found


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY})


former_names.install()
