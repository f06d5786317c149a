"""RDT's ``configs/dataset_stat.json`` (`data/compute_dataset_stat_hdf5.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from converters.rdt import slots as rdt_slots
from vla_data.actions.agreement import Element, spans
from vla_data.core import Array, Json
from vla_data.core.findings import Finding
from vla_data.errors import DataError, UsageError
from vla_data.statistics.blocks import as_vectors
from vla_data.statistics.collect import Summary
from vla_data.statistics.columns import Columns
from vla_data.statistics.health import judged
from vla_data.statistics.trainers import BaseWriter, Meant
from vla_data.statistics.vectors import Vector, VectorStats

SLOTS: Final = 128
"""Elements of RDT's unified state."""

NEAR_ZERO: Final = 1e-8
"""RDT counts values up to this as zero."""

SHORTEST: Final = 128
MOVES: Final = 1e-2


@dataclass(frozen=True, kw_only=True)
class Rdt(BaseWriter):
    """An entry for each dataset, of states in the 128 slots.

    Attributes:
        state: name of the array of states.
        slots: for a state that is not 128 wide yet, the slot of each element; unused slots are 0.
        std: ``rdt`` is what RDT's script computes, ``sqrt(N / nonzero)`` times the standard deviation, ``true``
            the standard deviation itself.
        trim: leave out what RDT's dataset leaves out when it is read: episodes under 128 steps, and the steps
            before the last one at which no element of the state has moved by more than 0.01 from the first.
    """

    keyed: ClassVar[bool] = True
    indent: ClassVar[int | None] = 4
    file: ClassVar[str] = "dataset_stat.json"
    takes_mixtures: ClassVar[bool] = False

    state: str = "observation.state"
    slots: tuple[int, ...] = ()
    std: Literal["rdt", "true"] = "rdt"
    trim: bool = False

    def __post_init__(self) -> None:
        if len(set(self.slots)) != len(self.slots) or any(not 0 <= slot < SLOTS for slot in self.slots):
            raise UsageError("E001", f"slots must be different numbers from 0 to {SLOTS - 1}")

    @property
    def names(self) -> tuple[str, ...]:
        """The array of states."""
        return (self.state,)

    def doubts(self, meant: Meant) -> Iterable[Finding]:
        """See `vla_data.statistics.trainers.Writer`: slots that are of something else, or in another unit."""
        wrong: dict[str, list[int]] = {}
        for at, (slot, element) in enumerate(zip(self.slots, meant(self.state), strict=False)):
            if element is not None and (why := misplaced(slot, element)):
                wrong.setdefault(why, []).append(at)
        for why, places in wrong.items():
            slots = spans([self.slots[at] for at in places])
            message = f"{self.state} {spans(places)} goes to slots {slots}, and {why}"
            yield Finding(where=self.state, code="convention", elements=tuple(places), message=message)

    def rows(self, arrays: Columns) -> Columns:
        """The states of the steps that count, in their slots."""
        states = as_vectors(arrays[self.state], self.state)
        if self.trim:
            states = trimmed(states)
        return {"state": in_slots(states, self.slots)}

    def entry(self, summary: Summary, name: str) -> dict[str, Json]:
        """``dataset_name`` and the state's mean, std, min and max."""
        stats = summary.exact("state")
        std = rdt_std(stats) if self.std == "rdt" else stats.std
        values = {"mean": stats.mean, "std": std, "min": stats.min, "max": stats.max}
        return {"dataset_name": name} | {f"state_{key}": row.tolist() for key, row in values.items()}

    def document(self, entries: Mapping[str, dict[str, Json]]) -> dict[str, Json]:
        """Entries by name."""
        return dict(entries)

    def judge(self, summary: Summary) -> list[Finding]:
        """Slots that nothing uses are constant and fine; RDT's standard deviation may be none."""
        stats = summary.exact("state")
        true, rdt = stats.std, rdt_std(stats)
        which = tuple(i for i in range(stats.width) if true[i] > 0 and rdt[i] > 1.01 * true[i])
        out = [found for found in judged(summary) if found.code != "constant"]
        if not which:
            return out
        worst = max(rdt[i] / true[i] for i in which)
        text = (
            f"state {list(which)}: RDT's std is up to {worst:.3g} times the real one, as it leaves zeros uncounted"
        )
        return [*out, Finding(where="state", code="inflated_std", elements=which, message=text)]


def misplaced(slot: int, element: Element) -> str:
    """Why a declared number is not what RDT takes a slot for; empty where it may be."""
    of: dict[str, tuple[int, int, dict[str, object]]] = {
        "joints": (rdt_slots.JOINTS, rdt_slots.ARM_JOINTS, {"joint_unit": "rad"}),
        "gripper": (rdt_slots.GRIPPER, 1, {"gripper_open": 1.0, "gripper_closed": 0.0}),
        "translation": (rdt_slots.POSITION, 3, {"translation_unit": "m"}),
        "rotation": (rdt_slots.ROTATION, 6, {"rotation": "6d_columns"}),
    }
    if element.quantity not in of or element.facts.get("kind") == "velocity":
        return ""
    first, size, facts = of[element.quantity]
    side = rdt_slots.LEFT if slot >= rdt_slots.LEFT else 0
    if not first <= slot - side < first + size:
        return f"{element.part} has slots {spans(range(first + side, first + side + size))}"
    wrong = [f"{k} is {element.facts[k]}, RDT's {v}" for k, v in facts.items() if element.facts.get(k, v) != v]
    return ", ".join(wrong)


def in_slots(states: Array, slots: tuple[int, ...]) -> Array:
    """``(T, S)`` -> ``(T, 128)``.

    Raises:
        DataError: E203, the state is neither 128 wide nor as wide as ``slots`` is long.
    """
    width = states.shape[1]
    if not slots and width == SLOTS:
        return states
    if width != len(slots):
        how = f"{len(slots)} slots are given" if slots else "no slots are given (--slots)"
        raise DataError("E203", f"the state has {width} elements, RDT's has {SLOTS}, and {how}")
    out = np.zeros((len(states), SLOTS), dtype=states.dtype)
    out[:, list(slots)] = states
    return out


def trimmed(states: Array) -> Array:
    """The states that RDT's `HDF5VLADataset` gives of an episode.

    Raises:
        DataError: E207 for an episode that it does not use.
    """
    if len(states) < SHORTEST:
        raise DataError("E207", f"the episode has {len(states)} steps; RDT trains on {SHORTEST} or more")
    moved = np.flatnonzero((np.abs(states - states[:1]) > MOVES).any(axis=1))
    if len(moved) == 0:
        raise DataError("E207", f"no element of the state ever moves by more than {MOVES:g}")
    rest: Array = states[moved[0] - 1 :]
    return rest


def rdt_std(stats: VectorStats) -> Vector:
    """What RDT calls the standard deviation: ``sqrt(sum(z^2) / nonzero - (sum(z) / N)^2 * N / nonzero)``.

    ``z`` is the value, or 0 up to `NEAR_ZERO`; ``nonzero`` is at least 1. It is the standard deviation times
    ``sqrt(N / nonzero)``, so it grows with the share of zeros.
    """
    out = np.zeros(stats.width)
    for i, column in enumerate(stats.columns):
        tiny, counts = column.between(-NEAR_ZERO, NEAR_ZERO)
        nonzero = max(stats.count - int(counts.sum()), 1)
        mean = stats.mean[i] - tiny @ counts / stats.count
        squares = stats.squares[i] + tiny @ counts * (stats.mean[i] + mean) - tiny**2 @ counts
        out[i] = np.sqrt(max(squares, 0.0) / nonzero)
    return out
