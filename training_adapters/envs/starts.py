"""Recorded starts of the table-top scene: what an episode begins with, its hash, and sets that are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training_adapters.envs.scene import COLOURS
from vla_data.errors import UsageError

VERBS: Final = ("reach", "push", "lift")
TASKS: Final = tuple(
    text.format(colour)
    for text in ("reach the {} block", "push the {} block forward", "lift the {} block")
    for colour in COLOURS
)
"""The nine prompts; task ``3 v + c`` is verb ``v`` on colour ``c``."""

HELD_OUT_SEED: Final = 10_000
"""Starts of this seed are for evaluation alone."""

SELECTION_SEED: Final = 333
"""Of the starts that a run looks at while it goes on; those of its results are other ones."""


@dataclass(frozen=True, eq=False)
class Start:
    """Where an episode begins.

    Attributes:
        task: 0 to 8, which prompt.
        state: ``(12,)`` float32: x and y of the three blocks (m), x, y, z of the hand's joints (m), yaw of the
            blocks (rad).
    """

    task: int
    state: NDArray[np.float32]

    @property
    def prompt(self) -> str:
        """What is asked for."""
        return TASKS[self.task]

    @property
    def init_hash(self) -> str:
        """SHA-256 of the state's bytes (float32, little-endian) and the task: the same start, the same text."""
        return hashlib.sha256(self.state.astype("<f4").tobytes() + b"|%d" % self.task).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; `of` is the way back, exactly."""
        return {"task": self.task, "state": [float(value) for value in self.state]}

    @classmethod
    def of(cls, value: Start | Mapping[str, Any]) -> Start:
        """A start from itself or from its `to_json`.

        Raises:
            UsageError: E001, it is neither.
        """
        if isinstance(value, Start):
            return value
        try:
            start = cls(task=int(value["task"]), state=np.asarray(value["state"], dtype=np.float32))
        except (KeyError, TypeError, ValueError):
            raise UsageError(
                "E001", "the initial state is not one of the table-top scene (task and state)"
            ) from None
        if not 0 <= start.task < len(TASKS) or start.state.shape != (12,) or not np.isfinite(start.state).all():
            raise UsageError("E001", f"the initial state has task {start.task} and shape {start.state.shape}")
        return start


def draw_start(random: np.random.Generator, *, task: int | None = None) -> Start:
    """A start with its blocks at least 8.5 cm apart; the task is drawn too unless it is given."""
    while True:
        blocks = random.uniform([-0.13, -0.17], [0.09, 0.17], (3, 2))
        if min(float(np.linalg.norm(blocks[i] - blocks[j])) for i in range(3) for j in range(i)) > 0.085:
            break
    hand = random.uniform([-0.08, -0.1, -0.04], [0.08, 0.1, 0.05])
    state = np.concatenate([blocks.ravel(), hand, random.uniform(-0.15, 0.15, 3)]).astype(np.float32)
    return Start(int(random.integers(len(TASKS))) if task is None else task, state)


def starts(count: int, *, seed: int = HELD_OUT_SEED) -> list[Start]:
    """``count`` starts of a seed, the nine tasks in turn; more of a seed begin with the fewer."""
    random = np.random.default_rng(seed)
    return [draw_start(random, task=number % len(TASKS)) for number in range(count)]
