"""Chunk PPO's numbers on three real episodes that are shipped: rewards of chunks, their advantages and returns.

python examples/chunk_ppo.py          # circle.sh trains a policy with them
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import vla_data as vd
from vla_data import advantages as adv

ROLLOUTS = Path(__file__).parents[1] / "tests/data/rollouts"
HORIZON, GAMMA, LAMBDA = 8, 0.99, 0.95


def main() -> None:
    """Eight steps are one action; it is rewarded with 1 if the carrot came onto the plate in it."""
    source = vd.open_source(ROLLOUTS)
    for ref in source.episodes():
        episode = source.read(ref)
        solved = np.maximum.accumulate(episode.arrays["next.success"].ravel())
        steps = np.diff(solved.astype(float), prepend=0.0)
        chunks = adv.Episodes(np.diff([*range(0, len(episode), HORIZON), len(episode)]))
        rewards, discounts = adv.chunk_rewards(steps, chunks, gamma=GAMMA, convention="semi_mdp")
        values = np.full(len(chunks), 0.5)  # a critic's, in training
        ends = np.arange(len(chunks)) == len(chunks) - 1
        found, _ = adv.chunk_gae(
            rewards, values, adv.Episodes([len(chunks)]), lam=LAMBDA, discounts=discounts, terminated=ends
        )
        print(f"{episode.id}: rewards {rewards.round(2)}, advantages {found.round(2)}")


if __name__ == "__main__":
    main()
