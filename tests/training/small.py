"""A small policy of the table-top scene, for tests that need any."""

from __future__ import annotations

import functools

import torch

from training_adapters.cloning import clone, new_policy
from training_adapters.demonstrations import Demonstrations, demonstrate
from training_adapters.policies.tokens import TokenPolicy

SLOTS = (6, 3, 4)


@functools.cache
def demonstrations() -> Demonstrations:
    return demonstrate(9, seed=0, horizon=8)


def policy(seed: int = 0, updates: int = 0) -> TokenPolicy:
    torch.manual_seed(seed)
    made = new_policy(demonstrations(), slots=SLOTS)
    if updates:
        clone(made, demonstrations(), updates=updates, seed=seed)
    return made
