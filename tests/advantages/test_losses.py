"""What a loss does with advantages: the same numbers from NumPy, torch and JAX.

torch is taken from the interpreters with lerobot that ``scripts/test`` makes, or from ``LEROBOT_PYTHON``; JAX from
``JAX_PYTHON`` or this interpreter.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.judges.losses_judge import X, everything
from tests.paths import ROOT
from tests.stock_lerobot import JUDGES, PYTHONS, ask, said
from vla_data.advantages import losses

TORCH = PYTHONS[:1]
JAX = [p for p in os.environ.get("JAX_PYTHON", "").split(os.pathsep) if p and Path(p).exists()]
if importlib.util.find_spec("jax"):
    JAX.append(sys.executable)


def numbers() -> dict[str, Any]:
    return everything(lambda values: np.array(values))


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("normalize standard 1", [-1.118034, -0.447214, -0.223607, 0.223607, 1.565248]),
        ("normalize robust 1", [-2, -0.5, 0, 1, 4]),
        ("sign softplus", [0.126928, 0.474077, 0.693147, 1.313262, 4.01815]),
        ("sign abs", [2, 0.5, 0, 1, 4]),
        ("sign clamp", [0, 0, 0, 1, 4]),
        ("sign shift", [0.001, 1.501, 2.001, 3.001, 6.001]),
        ("rloo standard", [0.866025, -0.866025, -0.866025, 0.866025]),
        ("rloo robust", [1, -1, -1, 1]),  # the true median; with the lower one no negative was left
        ("clip asymmetric", [-0.25, -0.25, 0, 1, 1]),
        ("invalid", [0, 1, -1, 0.5]),
        ("ppo 1.0 token", -0.956773),
        ("ppo 1.0 chunk", -0.818731),
        ("ppo -1.0 token", 1.007134),
        ("ppo -1.0 chunk", 0.818731),
        ("cfg", [0.45, 0.06, 0.03]),
        ("progress", [0, 0.45029, 0.545867, 1, 0.603213, 1]),
    ],
)
def test_worked_numbers(name: str, want: Any) -> None:
    np.testing.assert_allclose(numbers()[name], want, rtol=0, atol=2e-6)


def test_symmetric_clip_after_normalising() -> None:
    found = losses.clip(losses.normalize(X, "standard"), "symmetric", limit=1.0)
    assert found.round(6).tolist() == [-1, -0.447214, -0.223607, 0.223607, 1]


def test_mean_of_the_cfg_losses() -> None:
    assert np.mean(numbers()["cfg"]) == pytest.approx(0.18)


def test_quantile_clip_is_numpys() -> None:
    low, high = np.quantile(X, [0.05, 0.95])
    np.testing.assert_allclose(numbers()["clip quantile"], np.clip(X, low, high))


def test_chunk_gae_normalised_as_upstream() -> None:
    found = losses.normalize(np.array([1.157819, 1.022668, 0.66525, 0.5]), "standard", ddof=0)
    np.testing.assert_allclose(found, [1.213717, 0.703315, -0.646481, -1.270551], atol=5e-6)


def test_equal_advantages_divide_by_one() -> None:
    assert losses.normalize(np.full(3, 2.0)).tolist() == [0, 0, 0]
    assert losses.normalize(np.full(3, 2.0), "min_max").tolist() == [0, 0, 0]
    assert losses.normalize(np.array([5.0]), "standard").tolist() == [0]


@pytest.mark.parametrize("level", ["token", "chunk"])
@given(
    gains=st.lists(st.floats(-3, 3), min_size=1, max_size=5),
    width=st.integers(1, 4),
    garbage=st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e30]),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_what_is_masked_has_no_part_in_the_ppo_loss(
    level: Any, gains: Any, width: Any, garbage: Any, data: Any
) -> None:
    """By hand from the values that count."""
    shape = (len(gains), width)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=shape[0] * width, max_size=shape[0] * width)))
    mask = mask.reshape(shape)
    random = np.random.default_rng(width)
    new, old = random.normal(-1, 0.3, shape), random.normal(-1, 0.3, shape)
    terms = []
    for row, gain in enumerate(gains):
        differences = (new - old)[row][mask[row]]
        ratios = np.exp(differences if level == "token" else [differences.sum()] if len(differences) else [])
        terms += [-min(ratio * gain, np.clip(ratio, 0.8, 1.2) * gain) for ratio in ratios]
    bad = np.where(mask, 0, garbage)
    lost = np.where(mask.any(axis=1), gains, garbage)
    with np.errstate(invalid="ignore"):  # infinity less itself, which is masked
        found = losses.ppo_loss(new + bad, old + bad, lost, level=level, mask=mask)
    np.testing.assert_allclose(found, np.mean(terms) if terms else 0, rtol=1e-12, atol=1e-12)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="did you mean 'standard'"):
        losses.normalize(X, "standart")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="asymmetric clipping needs below"):
        losses.clip(X, "asymmetric")
    with pytest.raises(TypeError, match="list is not an array"):
        losses.awr_weights([1.0])


GRADIENT = """
import importlib, sys, types
for name in ("vla_data", "vla_data.advantages"):  # without their __init__, which would import more than is there
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [sys.argv[1] + "/" + name.replace(".", "/")]
losses = importlib.import_module("vla_data.advantages.losses")
import torch
inf = float("inf")
for level in ("token", "chunk"):
    new = torch.tensor([[-1.0, -inf], [-1.0, -inf], [-inf, -inf]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, False], [True, False], [False, False]])
    gains = torch.tensor([1.0, 1.0, float("nan")], dtype=torch.float64)
    loss = losses.ppo_loss(new, new.detach(), gains, level=level, mask=mask)
    loss.backward()
    print(level, loss.item(), new.grad.tolist())
"""


@pytest.mark.skipif(not TORCH, reason="no interpreter with torch")
def test_what_is_masked_has_no_gradient_either() -> None:
    done = ask(TORCH[0], GRADIENT, str(ROOT))
    assert done.returncode == 0, done.stderr[-3000:]
    want = [[-0.5, 0.0], [-0.5, 0.0], [0.0, 0.0]]
    assert done.stdout.splitlines() == [f"token -1.0 {want}", f"chunk -1.0 {want}"]


def elsewhere(python: str, library: str) -> dict[str, Any]:
    """`everything` in another interpreter, in float64."""
    command = [python, str(ROOT / "tests/judges/losses_judge.py"), library]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return found


@pytest.mark.parametrize(("library", "pythons"), [("torch", TORCH), ("jax", JAX[:1])])
def test_same_numbers_elsewhere(library: str, pythons: list[str]) -> None:
    if not pythons:
        pytest.skip(f"no interpreter with {library}")
    if library == "torch":
        found = said(ask(pythons[0], JUDGES / "losses_judge.py", library), "RESULT ")
    else:
        found = elsewhere(pythons[0], library)
    want = numbers()
    assert found.keys() == want.keys()
    for name, values in want.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=1e-12, err_msg=name)
