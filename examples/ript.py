"""RIPT's leave-one-out advantages on three real episodes that are shipped: each is compared with the others.

python examples/ript.py               # vla-train ript trains a policy with them
"""

from __future__ import annotations

from pathlib import Path

import vla_data as vd
from vla_data import advantages as adv

ROLLOUTS = Path(__file__).parents[1] / "tests/data/rollouts"


def main() -> None:
    """Rollouts of one instruction are a group here; in training they also begin at the same start."""
    source = vd.open_source(ROLLOUTS)
    episodes = [source.read(ref) for ref in source.episodes()]
    rewards = [float(episode.arrays["next.success"].any()) for episode in episodes]
    found = adv.rloo(rewards, [episode.task for episode in episodes])
    for episode, reward, advantage in zip(episodes, rewards, found.advantages, strict=True):
        print(f"{episode.id}: reward {reward:.0f}, advantage {advantage:+.2f}")


if __name__ == "__main__":
    main()
