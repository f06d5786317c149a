"""RDT's training sample: what ``data/hdf5_vla_dataset.py`` of thu-ml/RoboticsDiffusionTransformer gives of a step.

In plain NumPy and of any episode. Where the published class stops or draws at random, this says why or takes an
argument:

- an episode in which nothing moves by more than 0.01 is E207 (the class raises ValueError in mid-training)
- a short episode is E207 (the class takes another one at random, also while it counts statistics); the limit is
  the 32 steps of its ``base.yaml``, the class itself has 128, which is more than most episodes of LIBERO
- the step and the instruction are arguments
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.rdt import cameras as rdt_cameras
from converters.rdt import slots as rdt_slots
from converters.rdt.vectors import Layout, vectors
from vla_data import options as checks
from vla_data.actions import Convention
from vla_data.core import Episode, Json, Schema
from vla_data.errors import DataError
from vla_data.media.frames import Frames

Floats = NDArray[np.float64]

CLASS_SHORTEST: Final = 128
"""Steps below which RDT's published class leaves an episode out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How samples are cut.

    Attributes:
        chunk: actions of a sample, from the step on; the last action is repeated after the end.
        history: images of a sample, up to the step; the first image is repeated before the start.
        shortest: steps that an episode must have.
        moves: samples begin one step before the first at which an element of the state differs by more than this
            from the first state.
    """

    chunk: int = 64
    history: int = 2
    shortest: int = 32
    moves: float = 1e-2

    def __post_init__(self) -> None:
        for name in ("chunk", "history", "shortest"):
            checks.whole(name, getattr(self, name), low=1)
        object.__setattr__(self, "moves", checks.number("moves", self.moves, low=0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trajectory:
    """An episode of ``T`` steps as RDT sees it.

    Attributes:
        id: of the episode.
        state: ``(T, 128)``.
        action: ``(T, 128)``.
        state_mask: ``(128,)``, the slots that states fill.
        action_mask: ``(128,)``.
        frames: `rdt_cameras.SLOTS` -> images; a camera may be absent.
        task: the instruction.
        first: the first step that is trained on.
        facts: what is known besides.
    """

    id: str
    state: Floats
    action: Floats
    state_mask: NDArray[np.bool_]
    action_mask: NDArray[np.bool_]
    frames: Mapping[str, Frames]
    task: str
    first: int
    facts: Mapping[str, Json] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.state)


def trajectory(
    episode: Episode,
    schema: Schema,
    *,
    layout: Layout = "pose_delta",
    action_convention: Convention | str | None = None,
    state_convention: Convention | str | None = None,
    opening: float | None = None,
    cameras: Mapping[str, str | None] | None = None,
    rules: Rules | None = None,
) -> Trajectory:
    """An episode of any source as RDT sees it; see `converters.rdt.vectors.vectors` and `rdt_cameras.choose`.

    Raises:
        DataError: E207 for an episode that RDT does not train on; those of the two functions; E232 where the
            instruction changes in the episode.
    """
    found = vectors(
        episode,
        schema,
        layout=layout,
        action_convention=action_convention,
        state_convention=state_convention,
        opening=opening,
    )
    chosen = rdt_cameras.choose(list(episode.frames), cameras or {})
    return Trajectory(
        id=episode.id,
        state=found.state,
        action=found.action,
        state_mask=found.state_mask,
        action_mask=found.action_mask,
        frames={slot: episode.frames[name] for slot, name in chosen.items()},
        task=instruction_of(episode),
        first=first_step(found.state, rules or Rules()),
        facts={"rules": dict(found.rules)},
    )


def instruction_of(episode: Episode) -> str:
    """The one instruction of an episode.

    Raises:
        DataError: E232 where steps have several.
    """
    tasks = {str(task) for task in episode.arrays["task"]} if "task" in episode.arrays else {episode.task}
    if len(tasks) > 1:
        raise DataError(
            "E232", f"the instruction changes in the episode ({len(tasks)} texts), but RDT has one for all steps"
        )
    return tasks.pop() if tasks else episode.task


def first_step(states: NDArray[Any], rules: Rules) -> int:
    """The first step that is trained on: the one before the first that moved.

    Args:
        states: ``(T, D)``, as they lie in the file.
        rules: limits.

    Raises:
        DataError: E207 for an episode that is too short, or in which nothing moves.
    """
    if len(states) < rules.shortest:
        raise DataError("E207", f"{len(states)} steps; RDT trains on {rules.shortest} or more")
    moved = np.flatnonzero((np.abs(states - states[:1]) > rules.moves).any(axis=1))
    if len(moved) == 0:
        raise DataError("E207", f"no element of the state moves by more than {rules.moves:g} from the first")
    return int(moved[0]) - 1


def sample(
    whole: Trajectory, step: int, *, dataset_name: str, rules: Rules | None = None, instruction: str | None = None
) -> dict[str, Any]:
    """The sample dictionary of one step.

    Args:
        whole: the episode.
        step: from ``whole.first`` to its last.
        dataset_name: as in RDT's configuration files.
        rules: chunk and history.
        instruction: another wording of the task.

    Returns:
        As RDT's class: ``meta`` (dataset_name, #steps, step_id, instruction), ``state`` (1, 128), ``state_std``,
        ``state_mean``, ``state_norm`` (128,) of all steps of the episode, ``actions`` (chunk, 128),
        ``state_indicator`` (128,), all float64; for each camera images (history, height, width, 3) uint8 RGB,
        (history, 0, 0, 0) where there is none, and ``<camera>_mask`` (history,), False where an image repeats
        another, lies before the first step, or there is none. ``action_indicator`` (128,) is added.
    """
    rules = rules or Rules()
    if not whole.first <= step < len(whole):
        raise ValueError(f"step {step} is not one of {whole.first} to {len(whole) - 1}")
    ahead = np.minimum(np.arange(step, step + rules.chunk), len(whole) - 1)
    out: dict[str, Any] = {
        "meta": {
            "dataset_name": dataset_name,
            "#steps": len(whole),
            "step_id": step,
            "instruction": whole.task if instruction is None else instruction,
        },
        "state": whole.state[step : step + 1].copy(),
        **episode_stats(whole.state),
        "actions": whole.action[ahead],
        "state_indicator": whole.state_mask.astype(np.float64),
        "action_indicator": whole.action_mask.astype(np.float64),
    }
    back = np.maximum(np.arange(step - rules.history + 1, step + 1), 0)
    valid = min(step - whole.first + 1, rules.history)
    mask = np.arange(rules.history) >= rules.history - valid
    for slot in rdt_cameras.SLOTS:
        frames = whole.frames.get(slot)
        if frames is None:
            out[slot] = np.zeros((rules.history, 0, 0, 0), dtype=np.uint8)
            out[f"{slot}_mask"] = np.zeros(rules.history, dtype=np.bool_)
        else:
            out[slot] = np.stack([frames.pixels(int(i)) for i in back])
            out[f"{slot}_mask"] = mask.copy()
    return out


def state_only(whole: Trajectory) -> dict[str, Floats]:
    """``state`` and ``action`` ``(T', 128)`` of the steps that are trained on: ``get_item(state_only=True)``."""
    return {"state": whole.state[whole.first :], "action": whole.action[whole.first :]}


def episode_stats(states: Floats) -> dict[str, Floats]:
    """``state_std``, ``state_mean`` and ``state_norm`` (root mean square), each ``(128,)``, over all steps."""
    if states.shape[1:] != (rdt_slots.SIZE,):
        raise ValueError(f"states of shape {states.shape}")
    return {
        "state_std": states.std(axis=0),
        "state_mean": states.mean(axis=0),
        "state_norm": np.sqrt(np.mean(states**2, axis=0)),
    }
