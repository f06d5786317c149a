"""Several datasets of unlike schemas as one stream of batches: see ``docs/mixtures.md``.

loader = Loader(open_mixture("mixture.toml"), batch_size=32)
"""

from vla_data.core.findings import Finding
from vla_data.mixtures.config import Config, Entry, load, parse
from vla_data.mixtures.contract import Contract
from vla_data.mixtures.effective import Effective
from vla_data.mixtures.loader import Loader
from vla_data.mixtures.mixture import Batch, Mixture, open_mixture
from vla_data.mixtures.sampling import Plan, Sampling
from vla_data.mixtures.transforms import BatchTransform, Normalize, Prompt, StateDim

__all__ = [
    "Batch",
    "BatchTransform",
    "Config",
    "Contract",
    "Effective",
    "Entry",
    "Finding",
    "Loader",
    "Mixture",
    "Normalize",
    "Plan",
    "Prompt",
    "Sampling",
    "StateDim",
    "load",
    "open_mixture",
    "parse",
]
