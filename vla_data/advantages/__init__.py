"""Advantages: computed over whole datasets, written beside them, exchanged with other projects.

from vla_data import advantages

done = advantages.annotate("aligned", tag="v1", values="values.parquet", labels=advantages.Labels(share=0.3))
print(done)                                          # OpenTau's percentile table, thresholds, ties
advantages.read("aligned", "opentau").coverage       # what a file of another project covers

The numbers alone, on flat arrays: `Recap`, `n_step`, `monte_carlo`, `discounted_returns`, `gae`, `chunk_gae`,
`rloo`, `ValueBins`, `threshold`; what a loss does with them, for NumPy, torch and JAX:
`vla_data.advantages.losses`. Importing this loads nothing but NumPy; files need pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vla_data.advantages import losses
from vla_data.advantages.numbers.bins import ValueBins
from vla_data.advantages.numbers.chunks import chunk_gae, chunk_rewards
from vla_data.advantages.numbers.flat import Episodes
from vla_data.advantages.numbers.groups import Rloo, group_label, rloo
from vla_data.advantages.numbers.recap import Recap, resolve_success
from vla_data.advantages.numbers.returns import discounted_returns, gae, monte_carlo, n_step
from vla_data.advantages.numbers.thresholds import Threshold, label, percentiles, task_thresholds, threshold

if TYPE_CHECKING:
    from vla_data.advantages.job import annotate as annotate
    from vla_data.advantages.job import read as read
    from vla_data.advantages.labels import Labels as Labels
    from vla_data.advantages.values import FunctionValues as FunctionValues

__all__ = [
    "Episodes",
    "Recap",
    "Rloo",
    "Threshold",
    "ValueBins",
    "chunk_gae",
    "chunk_rewards",
    "discounted_returns",
    "gae",
    "group_label",
    "label",
    "losses",
    "monte_carlo",
    "n_step",
    "percentiles",
    "resolve_success",
    "rloo",
    "task_thresholds",
    "threshold",
]


def __getattr__(name: str) -> Any:
    if name not in ("FunctionValues", "Labels", "annotate", "read"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vla_data.advantages import job  # loads pyarrow, which the numbers need not

    return getattr(job, name)
