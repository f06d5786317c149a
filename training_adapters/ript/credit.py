"""What each chunk of a rollout is worth beside its group: the advantage of the rollout, or of what was still open.

A rollout that is solved ends, and those that fail go on to the time limit: within a group the advantages of
rollouts add up to 0, those of their chunks are more often below it, and the last chunks of a failure are blamed
for what was lost before them. ``running`` compares a chunk with the rollouts of the group that had not ended
before it. What these came to is an estimate of what could still be had, from the same start and after as many
chunks. The gradient stays unbiased, as with any baseline that follows from what was before the chunk and from
other rollouts (R. J. Williams, 1992, Mach. Learn. 8, 229-256).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training_adapters.ript.groups import Outcome
from vla_data.advantages.numbers.groups import rloo

CREDITS: Final = ("rollout", "running")


def running(outcomes: Sequence[Outcome], chunks: Sequence[int]) -> list[NDArray[np.float64]]:
    """The advantage of each chunk: ``A_it = R_i - mean R_j`` over the others of its group with a chunk ``t``.

    Args:
        outcomes: N rollouts.
        chunks: how many each of them has.

    Returns:
        N arrays ``(n_i,)``; 0 where no other rollout of the group had gone on so long.
    """
    worth = [np.zeros(count) for count in chunks]
    for place in range(max(chunks, default=0)):
        there = [number for number, count in enumerate(chunks) if count > place]
        found = rloo(
            [outcomes[number].reward for number in there],
            [outcomes[number].label for number in there],
            single="zero",
        )
        for number, advantage in zip(there, found.advantages, strict=True):
            worth[number][place] = advantage
    return worth
