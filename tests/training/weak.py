"""A start for reinforcement learning: a clone of few demonstrations that solves a third of its episodes or so."""

from __future__ import annotations

from pathlib import Path

import torch

from training_adapters import checkpoints
from training_adapters.cloning import clone, new_policy
from training_adapters.demonstrations import Demonstrations, demonstrate
from training_adapters.envs.starts import SELECTION_SEED
from training_adapters.envs.table import Place
from training_adapters.evaluate import evaluate
from training_adapters.policies.tokens import TokenPolicy

UPDATES = (600, 750, 900, 1_050, 1_200, 1_500)
"""Of the optimiser, tried in this order: success comes abruptly, and at another number for each seed."""

DEMOS = (120, 180, 240, 320)
"""Episodes to clone; more of them where the clones of fewer solve next to nothing."""

BAND = (0.29, 0.50)
"""Success on 180 selection starts, which no result is of."""


def weak_start(folder: Path, *, seed: int) -> Path:
    """The checkpoint of the first clone within the band; each seed has its own demonstrations and parameters."""
    place, found = Place.of("tabletop"), []
    for demos in DEMOS:
        data = demonstrate(demos, seed=seed, horizon=place.row.horizon)
        for updates in UPDATES:
            policy = _cloned(data, place, updates, seed)
            rate = evaluate(policy, place, episodes=180, horizon=8, starts_seed=SELECTION_SEED).success.rate
            found.append(f"{demos} episodes, {updates}: {rate:.2f}")
            if BAND[0] <= rate <= BAND[1]:
                print(f"\nstart of seed {seed}: {found[-1]}")
                checkpoints.save(folder, policy, {"env": "tabletop", "program": "clone", "seed": seed})
                return folder
            if updates >= 900 and rate < BAND[0] / 2:
                break
    raise AssertionError(f"seed {seed}: no clone is within {BAND}: {', '.join(found)}")


def _cloned(data: Demonstrations, place: Place, updates: int, seed: int) -> TokenPolicy:
    torch.manual_seed(seed)
    policy = new_policy(data, slots=place.row.slots)
    clone(policy, data, updates=updates, seed=seed)
    return policy
