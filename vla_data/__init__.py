"""Robot-learning RL rollouts become datasets that vision-language-action trainers can trust.

import vla_data as vd

source = vd.open_source("rollouts")
steps = vd.recipes.ppo_sft(min_success_steps=6, pos_thresh=0.01, rot_thresh=0.06)
report = vd.run(source, steps, vd.open_sink("aligned", format="lerobot"))
print(report)
"""

from vla_data import former_names, steps
from vla_data._version import __version__
from vla_data.core import Encoded, Episode, EpisodeRef, Feature, Published, Schema, Sink, Source
from vla_data.core.curate import Curated, Filter, Transform, curate
from vla_data.core.ledger import Ledger, Record, Span
from vla_data.errors import DataError, RecordError, UsageError, VlaDataError
from vla_data.formats import open_sink, open_source
from vla_data.formats.sidecar import open_ledger
from vla_data.jobs.pool import Limits
from vla_data.jobs.report import Report
from vla_data.jobs.run import run
from vla_data.media.frames import Frames
from vla_data.recording import RolloutWriter
from vla_data.steps import recipes

__all__ = [
    "Curated",
    "DataError",
    "Encoded",
    "Episode",
    "EpisodeRef",
    "Feature",
    "Filter",
    "Frames",
    "Ledger",
    "Limits",
    "Published",
    "Record",
    "RecordError",
    "Report",
    "RolloutWriter",
    "Schema",
    "Sink",
    "Source",
    "Span",
    "Transform",
    "UsageError",
    "VlaDataError",
    "__version__",
    "curate",
    "open_ledger",
    "open_sink",
    "open_source",
    "recipes",
    "run",
    "steps",
]

former_names.install()
del former_names
