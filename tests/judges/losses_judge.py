"""Every loss-side function on one library's arrays: ``losses_judge.py torch|jax`` prints the results as JSON.

It runs in an interpreter that has that library and need not have what the rest of this project imports.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":  # packages without their __init__, which would import more than is needed
    for name in ("vla_data", "vla_data.advantages"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(ROOT / name.replace(".", "/"))]

losses = importlib.import_module("vla_data.advantages.losses")
ValueBins = importlib.import_module("vla_data.advantages.numbers.bins").ValueBins

X = np.array([-2.0, -0.5, 0, 1, 4])
RLOO = np.array([2 / 3, -2 / 3, -2 / 3, 2 / 3])


def everything(array: Any) -> dict[str, Any]:
    """Every function on arrays that ``array`` makes of lists."""
    x, rloo = array(X.tolist()), array(RLOO.tolist())
    mask = array([True, True, False, True, True])
    old, new = array([[-1.0, -2, -0.5]]), array([[-0.8, -2.4, -0.5]])
    some = array([[True, True, False]])
    logits = array([[0.0, 1, 2, -1], [3, 0, 0, 0]])
    bins = ValueBins(count=4)
    out: dict[str, Any] = {}
    for method in losses.NORMALIZATIONS:
        for ddof in (0, 1):
            out[f"normalize {method} {ddof}"] = losses.normalize(x, method, ddof=ddof)
            out[f"normalize masked {method} {ddof}"] = losses.normalize(
                x,
                method,
                mask=mask,
                ddof=ddof,
            )
        out[f"rloo {method}"] = losses.normalize(rloo, method)
    for method in losses.CLIPS:
        out[f"clip {method}"] = losses.clip(x, method, limit=1.0, below=0.25)
    for method in losses.SIGNS:
        out[f"sign {method}"] = losses.treat_negative(x, method)
    out["invalid"] = losses.replace_invalid(array([float("nan"), float("inf"), float("-inf"), 0.5]))
    out["awr"] = losses.awr_weights(x, max_weight=5.0)
    for gain in (1.0, -1.0):
        for level in ("token", "chunk"):
            out[f"ppo {gain} {level}"] = losses.ppo_loss(new, old, array([gain]), level=level)
        out[f"ppo masked {gain}"] = losses.ppo_loss(new, old, array([gain]), level="token", mask=some)
    out["cfg"] = losses.cfg_losses(array([0.4, 0.8, 0.2]), array([0.5, 0.6, 0.3]), array([1.0, -1 / 3, -1 / 3]))
    out["cross-entropy"] = losses.bin_cross_entropy(logits, array(bins.two_hot([-0.3, -0.9]).tolist()))
    out["expected"] = losses.expected_values(logits, array(bins.centres.tolist()))
    deltas = array([-0.02, 0, 0.005, 0.02, 0.008, float("nan")])
    spread = float(np.std([-0.02, 0, 0.005, 0.02, 0.008]))
    out["progress"] = losses.progress_weights(deltas, mean=0.0026, deviation=spread)
    return {name: value.tolist() for name, value in out.items()}


def main(library: str) -> None:
    if library == "torch":
        import torch

        flag, number, make = torch.bool, torch.float64, torch.tensor
    else:
        import jax

        jax.config.update("jax_enable_x64", True)
        flag, number, make = jax.numpy.bool_, jax.numpy.float64, jax.numpy.asarray

    def array(values: Any) -> Any:
        return make(values, dtype=flag if np.array(values).dtype == bool else number)

    print("RESULT " + json.dumps(everything(array)))


if __name__ == "__main__":
    main(sys.argv[1])
