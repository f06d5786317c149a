"""States and action chunks of rows of an episode, as the contract wants them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_data.mixtures import times, track
from vla_data.mixtures.contract import Contract
from vla_data.mixtures.times import At, Rows
from vla_data.mixtures.track import Track


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Where the observations and actions of ``n`` rows of an episode lie.

    Attributes:
        rows: (n,).
        behind: (n, H): its observations; one where the contract has no history.
        ahead: (n, chunk): its actions.
    """

    rows: Rows
    behind: At
    ahead: At

    @classmethod
    def of(cls, contract: Contract, made: Track, rows: Rows, fps: float) -> Window:
        """The window of rows of a track of ``fps`` rows a second."""
        history = contract.history or 1
        target = contract.action_freq if contract.resample == "rows" else None
        ratio = times.ratio_of(fps, target)
        behind = (np.arange(history, dtype=np.int64) - history + 1) * contract.history_interval
        ahead = np.arange(contract.chunk, dtype=np.int64)
        return cls(
            rows,
            times.places(rows, behind, length=made.length, ratio=ratio),
            times.places(rows, ahead, length=made.length, ratio=ratio),
        )

    def states(self, contract: Contract, made: Track) -> NDArray[np.float64]:
        """(n, H, S)."""
        return self.behind.take(made.arrays[track.STATE], contract.vector_resample_strategy)

    def actions(self, contract: Contract, made: Track, turn: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, chunk, A), counted from where ``delta`` says.

        Args:
            contract: of the mixture.
            made: the episode.
            turn: (A,) a whole turn where a number is an angle, whose differences go the short way round; else 0.
        """
        actions = self.ahead.take(made.arrays[track.ACTION], contract.vector_resample_strategy)
        if contract.delta == "none":
            return actions
        width = actions.shape[-1]
        mask = np.ones(width, dtype=np.bool_)
        if contract.delta_mask:
            mask = np.zeros(width, dtype=np.bool_)
            mask[: len(contract.delta_mask)] = contract.delta_mask
        places = np.arange(width)
        if contract.delta_state:
            places[: len(contract.delta_state)] = contract.delta_state
        now = np.zeros((len(self.rows), 1, width))
        now[:, 0, mask] = made.arrays[track.STATE][self.rows][:, places[mask]]
        if contract.delta == "previous":
            now = np.concatenate((now, actions[:, :-1]), axis=1)
        return np.where(mask, _short_way(actions - now, turn), actions)


def _short_way(difference: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences of angles without the whole turns in them; ``turn`` is 0 for numbers that are none."""
    period = np.where(turn > 0, turn, 1.0)
    far = (turn > 0) & (np.abs(difference) > turn / 2)
    return np.where(far, np.mod(difference + period / 2, period) - period / 2, difference)
