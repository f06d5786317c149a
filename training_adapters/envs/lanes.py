"""Several environments side by side, each a lane of episodes one after the other.

    lanes = Lanes(Place.of("tabletop"), count=32, horizon=8, seed=0)
    while ...:
        chunk = policy.act(lanes.observations(), generator)
        ended = lanes.step(chunk.actions.numpy())

Episodes go on from one update to the next. `state` says what each lane is in the middle of, as its start and the
actions since; `restore` plays these again, which in a deterministic simulator is the same state to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from training_adapters.envs.chunks import ChunkEnv, Observation, Step
from training_adapters.envs.table import Begin, Place

_CAMERA: Final = "observation.images."


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """What a chunk did in one lane.

    Attributes:
        lane: its number, which stays when others end.
        steps: one by one; 1 to H of them.
        last: the observation after them, of this episode, also where the lane has begun another.
        task: the prompt.
        begin: of the episode.
        terminated: the episode has ended: what comes after is worth nothing.
        truncated: it was cut off by its time limit: what would have come after has a value.
        success: it has ended, and was solved.
    """

    lane: int
    steps: list[Step]
    last: Observation
    task: str
    begin: Begin
    terminated: bool
    truncated: bool
    success: bool

    @property
    def rewards(self) -> NDArray[np.float64]:
        """``(k,)`` rewards of the steps."""
        return np.array([step.reward for step in self.steps])


@dataclass(slots=True, eq=False)
class _Lane:
    env: ChunkEnv
    number: int
    begin: Begin = field(default_factory=Begin)
    seen: Observation = field(default_factory=dict)
    actions: list[NDArray[Any]] = field(default_factory=list)


def observations(seen: Sequence[Observation], tasks: Sequence[str]) -> dict[str, Any]:
    """A batch, by the names of `training_adapters.policy`, of observations with LeRobot's keys.

    ``observation.state`` is ``agent_pos``, then ``environment_state``, as far as there are both.
    """
    names = [name for name in ("agent_pos", "environment_state") if name in seen[0]]
    rows = np.stack([np.concatenate([one[name] for name in names]) for one in seen]).astype(np.float32)
    batch: dict[str, Any] = {"observation.state": torch.from_numpy(rows), "task": list(tasks)}
    for camera in seen[0].get("pixels", {}):
        batch[_CAMERA + camera] = torch.from_numpy(np.stack([one["pixels"][camera] for one in seen]))
    return batch


class Lanes:
    """See the module.

    Args:
        place: the environment.
        count: lanes.
        horizon: steps of a chunk.
        begins: the next start of a lane; None lets the lane rest, for a fixed number of episodes.
        cameras: that are rendered in every step.
        looks: that a policy looks through: rendered in `observations` alone, as pictures cost more than steps. The
            environment has ``image(camera)`` for them.
    """

    def __init__(
        self,
        place: Place,
        *,
        count: int,
        horizon: int,
        begins: Callable[[], Begin | None],
        cameras: Sequence[str] = (),
        looks: Sequence[str] = (),
    ) -> None:
        self._begins = begins
        self._looks = [camera for camera in looks if camera not in cameras]
        self._spare = [_Lane(ChunkEnv(place.make(cameras), horizon), number) for number in range(count)]
        self._lanes: list[_Lane] = []

    def begin(self) -> None:
        """Begin an episode in each lane, also in those that had no more; what was going on is over."""
        lanes = sorted([*self._lanes, *self._spare], key=lambda lane: lane.number)
        self._lanes = [lane for lane in lanes if self._start(lane)]
        self._spare = [lane for lane in lanes if lane not in self._lanes]

    def __len__(self) -> int:
        """Lanes with an episode in them."""
        return len(self._lanes)

    def observations(self) -> dict[str, Any]:
        """What the lanes see now, as a batch for a policy."""
        return observations([self._looked(lane) for lane in self._lanes], [lane.env.task for lane in self._lanes])

    def step(self, chunks: NDArray[Any], *, malformed: Sequence[bool] = ()) -> list[Moved]:
        """Execute a chunk ``(H, D)`` in each lane; lanes whose episode ends begin the next, or rest until `begin`.

        Args:
            chunks: ``(lanes, H, D)``.
            malformed: lanes whose chunk is none: nothing is executed, and the episode ends there, unsolved.
        """
        bad = malformed or [False] * len(self._lanes)
        out: list[Moved] = []
        going: list[_Lane] = []
        for lane, chunk, skip in zip(self._lanes, chunks, bad, strict=True):
            moved = _skipped(lane) if skip else _moved(lane, chunk)
            out.append(moved)
            goes_on = not (moved.terminated or moved.truncated) or self._start(lane)
            (going if goes_on else self._spare).append(lane)
        self._lanes = going
        return out

    def state(self) -> list[dict[str, Any]]:
        """What each lane is in the middle of: plain JSON."""
        return [
            {"begin": lane.begin.to_json(), "actions": [row.tolist() for row in lane.actions]}
            for lane in self._lanes
        ]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Put the lanes where a `state` was, by playing its actions again."""
        lanes = [*self._lanes, *self._spare]
        if len(state) != len(lanes):
            raise ValueError(f"the state is of {len(state)} lanes, and there are {len(lanes)}")
        for lane, one in zip(lanes, state, strict=True):
            self._reset(lane, Begin(**one["begin"]))
            for row in one["actions"]:
                action = np.asarray(row, dtype=lane.env.action_space.dtype)
                lane.seen = lane.env.replay(action)
                lane.actions.append(action)
        self._lanes, self._spare = lanes, []

    def close(self) -> None:
        """Give the environments' memory back."""
        for lane in [*self._lanes, *self._spare]:
            lane.env.close()

    def _looked(self, lane: _Lane) -> Observation:
        if not self._looks:
            return lane.seen
        image = lane.env.get_wrapper_attr("image")
        return {**lane.seen, "pixels": lane.seen.get("pixels", {}) | {name: image(name) for name in self._looks}}

    def _start(self, lane: _Lane) -> bool:
        begin = self._begins()
        if begin is None:
            return False
        self._reset(lane, begin)
        return True

    @staticmethod
    def _reset(lane: _Lane, begin: Begin) -> None:
        lane.begin, lane.actions = begin, []
        lane.seen, _ = begin.reset(lane.env)


def _moved(lane: _Lane, chunk: NDArray[Any]) -> Moved:
    task = lane.env.task
    lane.seen, _, terminated, truncated, info = lane.env.step(chunk)
    lane.actions.extend(step.action for step in lane.env.taken)
    return Moved(
        lane=lane.number,
        steps=lane.env.taken,
        last=lane.seen,
        task=task,
        begin=lane.begin,
        terminated=terminated,
        truncated=truncated and not terminated,
        success=(terminated or truncated) and bool(info["is_success"]),
    )


def _skipped(lane: _Lane) -> Moved:
    return Moved(
        lane=lane.number,
        steps=[],
        last=lane.seen,
        task=lane.env.task,
        begin=lane.begin,
        terminated=True,
        truncated=False,
        success=False,
    )
