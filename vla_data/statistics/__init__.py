"""Exact statistics of features, mergeable over episodes."""

from vla_data.statistics.images import ImageStats
from vla_data.statistics.vectors import QUANTILES, vector_stats

__all__ = ["QUANTILES", "ImageStats", "vector_stats"]
