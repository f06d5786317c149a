"""Exact statistics of features, mergeable over episodes, in each trainer's own form."""

from vla_data.statistics.images import ImageStats
from vla_data.statistics.mixture import Mixture
from vla_data.statistics.rules import RULES, denormalize, normalize
from vla_data.statistics.vectors import QUANTILES, VectorStats, vector_stats

__all__ = [
    "QUANTILES",
    "RULES",
    "ImageStats",
    "Mixture",
    "VectorStats",
    "denormalize",
    "normalize",
    "vector_stats",
]
