"""openpi's running statistics, by its description: 5,000 bins an element between the bounds seen so far.

Written anew for comparison, with openpi's order of work and the same calls of NumPy; `--openpi FILE` of the
benchmarks takes the class from openpi's own `src/openpi/shared/normalize.py` instead.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np

BINS = 5000


class RunningStats:
    def __init__(self) -> None:
        self.count = 0

    def update(self, batch: Any) -> None:
        rows = batch.reshape(-1, batch.shape[-1])
        low, high = rows.min(axis=0), rows.max(axis=0)
        mean, squares = rows.mean(axis=0), (rows**2).mean(axis=0)
        if self.count == 0:
            self.low, self.high, self.mean, self.squares = low, high, mean, squares
            self.edges = [np.linspace(a - 1e-10, b + 1e-10, BINS + 1) for a, b in zip(low, high, strict=True)]
            self.bins = [np.zeros(BINS) for _ in self.edges]
        elif (low < self.low).any() or (high > self.high).any():
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
            for i, old in enumerate(self.edges):
                self.edges[i] = np.linspace(self.low[i], self.high[i], BINS + 1)
                self.bins[i] = np.histogram(old[:-1], bins=self.edges[i], weights=self.bins[i])[0]
        self.count += len(rows)
        share = len(rows) / self.count
        self.mean = self.mean + (mean - self.mean) * share
        self.squares = self.squares + (squares - self.squares) * share
        for i, edges in enumerate(self.edges):
            self.bins[i] = self.bins[i] + np.histogram(rows[:, i], bins=edges)[0]

    def get_statistics(self) -> dict[str, Any]:
        out = {"mean": self.mean, "std": np.sqrt(np.maximum(0, self.squares - self.mean**2))}
        for name, q in (("q01", 0.01), ("q99", 0.99)):
            places = [np.searchsorted(np.cumsum(bins), q * self.count) for bins in self.bins]
            out[name] = np.array([edges[i] for edges, i in zip(self.edges, places, strict=True)])
        return out


def running_stats(file: str | None) -> Any:
    """The class of openpi's own file, or ours."""
    if file is None:
        return RunningStats
    spec = importlib.util.spec_from_file_location("openpi_normalize", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["openpi_normalize"] = module
    spec.loader.exec_module(module)
    return module.RunningStats
