"""What OpenVLA's and Octo's ``dataset_statistics.json`` have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from vla_data.actions.agreement import spans
from vla_data.core import Json
from vla_data.core.findings import Finding
from vla_data.statistics.blocks import as_vectors, block, mask_of, only
from vla_data.statistics.collect import Summary
from vla_data.statistics.columns import Columns
from vla_data.statistics.trainers import BaseWriter, Meant


@dataclass(frozen=True, kw_only=True)
class DatasetStatistics(BaseWriter):
    """An entry for each dataset: its actions, its proprioception, how many steps and episodes.

    Attributes:
        action: name of the array of actions.
        state: of the proprioception; None: there is none.
        action_mask: which elements of an action are normalised; empty: the file has no mask, which both read as
            all of them.
        flat: the one entry without its name.
    """

    keyed: ClassVar[bool] = True
    file: ClassVar[str] = "dataset_statistics.json"

    action: str = "action"
    state: str | None = None
    action_mask: tuple[bool, ...] = ()
    flat: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays of action and state."""
        return (self.action,) if self.state is None else (self.action, self.state)

    def rows(self, arrays: Columns) -> Columns:
        """Every step, as ``action`` and, where there is a state, ``proprio``."""
        out = {"action": as_vectors(arrays[self.action], self.action)}
        if self.state is not None:
            out["proprio"] = as_vectors(arrays[self.state], self.state)
        return out

    def doubts(self, meant: Meant) -> Iterable[Finding]:
        """See `vla_data.statistics.trainers.Writer`: a mask that is not of the declared gripper."""
        action = meant(self.action)
        gripper = [
            at for at, element in enumerate(action) if element is not None and element.quantity == "gripper"
        ]
        out = [at for at, on in enumerate(self.action_mask) if not on]
        if out and gripper and out != gripper:
            message = (
                f"the mask leaves out {self.action} {spans(out)}, and the declared gripper is {spans(gripper)}"
            )
            yield Finding(where=self.action, code="convention", elements=tuple(out), message=message)

    def parts(self, summary: Summary, quantiles: Mapping[str, float]) -> dict[str, Json]:
        """``action`` with its mask, and ``proprio``, with quantiles of these names."""
        out = {key: block(stats, quantiles) for key, stats in sorted(summary.features.items())}
        out["action"] |= mask_of(self.action_mask, summary.features["action"])
        return dict(out)

    def counts(self, summary: Summary) -> dict[str, Json]:
        """``num_transitions`` and ``num_trajectories``."""
        return {"num_transitions": summary.steps, "num_trajectories": summary.episodes}

    def document(self, entries: Mapping[str, dict[str, Json]]) -> dict[str, Json]:
        """Entries by name, or the only one."""
        return only(entries) if self.flat else dict(entries)
