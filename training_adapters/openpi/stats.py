"""openpi's ``norm_stats.json`` (`openpi/shared/normalize.py`, `scripts/compute_norm_stats.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vla_data.core import Json
from vla_data.errors import UsageError
from vla_data.statistics.blocks import as_vectors, only
from vla_data.statistics.chunks import Padding, action_chunks
from vla_data.statistics.collect import Summary
from vla_data.statistics.columns import Columns
from vla_data.statistics.trainers import BaseWriter, Subtracted


@dataclass(frozen=True, kw_only=True)
class Openpi(BaseWriter):
    """``{"norm_stats": {"state": ..., "actions": ...}}``, over the action chunks that the policy is trained on.

    Attributes:
        action: name of the array of actions.
        state: of the state.
        action_horizon: ``H`` of the model's configuration; each step counts the ``H`` actions from it on.
        delta_actions: for the first elements, whether the policy predicts them relative to the state: the mask of
            the configuration's ``DeltaActions``.
        padding: ``repeat``, as openpi counts, the last action again in chunks that reach beyond the end; ``none``
            leaves these out.
    """

    keyed: ClassVar[bool] = False
    indent: ClassVar[int | None] = 2
    file: ClassVar[str] = "norm_stats.json"

    action_horizon: int
    action: str = "action"
    state: str = "observation.state"
    delta_actions: tuple[bool, ...] = ()
    padding: Padding = "repeat"

    def __post_init__(self) -> None:
        if self.action_horizon < 1:
            raise UsageError("E001", "the horizon must be 1 or more")

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays of action and state."""
        return (self.action, self.state)

    @property
    def subtracted(self) -> Sequence[Subtracted]:
        """See `vla_data.statistics.trainers.Writer`."""
        pairs = tuple((i, i) for i, on in enumerate(self.delta_actions) if on)
        return ((self.action, self.state, pairs),) if pairs else ()

    def rows(self, arrays: Columns) -> Columns:
        """The state of every step, and all actions of the chunks that begin there."""
        states = as_vectors(arrays[self.state], self.state)
        chunks = action_chunks(
            as_vectors(arrays[self.action], self.action),
            self.action_horizon,
            states=states,
            delta=self.delta_actions,
            padding=self.padding,
        )
        return {"state": states, "actions": chunks.reshape(-1, chunks.shape[-1])}

    def entry(self, summary: Summary, name: str) -> dict[str, Json]:
        """``state`` and ``actions``, each with mean, std, q01 and q99."""
        out: dict[str, Json] = {}
        for key in ("state", "actions"):
            stats = summary.features[key]
            q01, q99 = stats.quantiles([0.01, 0.99]).tolist()
            out[key] = {"mean": stats.mean.tolist(), "std": stats.std.tolist(), "q01": q01, "q99": q99}
        return out

    def document(self, entries: Mapping[str, dict[str, Json]]) -> dict[str, Json]:
        """The only entry, under ``norm_stats``."""
        return {"norm_stats": only(entries)}
