"""Episodes of a policy, written as they come by the `RolloutWriter`, for ``vla-data align`` and what follows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from training_adapters.envs.lanes import Lanes, Moved
from training_adapters.envs.table import Begin, Place, Row
from training_adapters.intervals import Share
from training_adapters.policy import Actor, Chunk, cameras_of
from vla_data.errors import UsageError
from vla_data.recording import OpenEpisode, RolloutWriter
from vla_data.steps.success import RECORDED

CAMERA = "top"
"""The camera that a recording has, unless a policy looks through others or they are asked for."""


class Recorder:
    """Writes every step of lanes of episodes; give it to a collector as its ``watch``.

    A step has the image and state before its action, the action as it was executed, reward and success after it,
    and of its chunk: the step within it, ``chunk.tokens`` ``(L,)`` with their ``chunk.tokens_mask``, and the
    log-probability of the whole chunk when it was sampled. An episode's facts are those of its start
    (``init_hash``, and ``seed`` where it began by one) and ``policy_version``, that of its first chunk; of one
    that its success ended also ``success_steps``, 1, by which ``vla-data align`` counts it as solved.

    Args:
        folder: where the rollouts go; more of them are added to those that are there.
        row: of the environment; it says how many steps are a second, and what recordings mean.
        tokens: L, the most tokens that a chunk has; shorter ones are filled up with 0.
        wants: whether an episode that begins so is to be written; None: all are.

    Attributes:
        written: episodes that were written.
        dropped: episodes that were not, since a chunk in them was malformed.
        version: of the policy that acts now; a number that whoever trains it raises.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        row: Row,
        *,
        tokens: int,
        wants: Callable[[Begin], bool] | None = None,
    ) -> None:
        self._writer = RolloutWriter(folder, fps=row.fps, features=row.features)
        self._tokens, self._wants = tokens, wants
        self._open: dict[int, OpenEpisode] = {}
        self._skipped: set[int] = set()
        self.written = self.dropped = self.version = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, chunk: Chunk, moves: Sequence[Moved]) -> None:
        """Take a chunk of every lane."""
        for row, (moved, malformed) in enumerate(zip(moves, chunk.malformed.tolist(), strict=True)):
            ended = moved.terminated or moved.truncated
            new = moved.lane not in self._open and moved.lane not in self._skipped
            if new and self._wants is not None and not self._wants(moved.begin):
                self._skipped.add(moved.lane)
            if moved.lane in self._skipped:
                self._skipped -= {moved.lane} if ended else set()
                continue
            if malformed:
                self._drop(moved.lane)
                continue
            if moved.lane not in self._open:
                self._open[moved.lane] = self._writer.episode(task=moved.task, facts=self._facts(moved))
            self._add(self._open[moved.lane], moved, self._said(chunk, row))
            if ended:
                rule = {RECORDED: 1} if moved.success and moved.terminated else {}
                self._open.pop(moved.lane).end(seen(moved.last), facts={"success": moved.success, **rule})
                self.written += 1

    @property
    def files(self) -> list[Path]:
        """What was written, in the order in which the episodes ended."""
        return self._writer.written

    def skip(self, lanes: Iterable[int]) -> None:
        """Leave out what these lanes are in the middle of: its beginning was not seen."""
        self._skipped.update(lanes)

    def close(self) -> None:
        """Seal the rollouts; episodes that are not over are left out."""
        for episode in self._open.values():
            episode.discard()
        self._open = {}
        self._writer.close()

    def _facts(self, moved: Moved) -> dict[str, Any]:
        return moved.begin.facts() | {"policy_version": self.version}

    def _said(self, chunk: Chunk, row: int) -> dict[str, Any]:
        """A chunk's tokens and log-probability, in the form that every step of a recording has."""
        length = chunk.tokens.shape[1]
        tokens, mask = np.zeros(self._tokens, dtype=np.int64), np.zeros(self._tokens, dtype=np.bool_)
        tokens[:length], mask[:length] = chunk.tokens[row].numpy(), chunk.mask[row].numpy()
        log_prob = np.float32(chunk.log_prob[row].sum())
        return {"chunk.tokens": tokens, "chunk.tokens_mask": mask, "chunk.log_prob": log_prob}

    def _add(self, episode: OpenEpisode, moved: Moved, said: Mapping[str, Any]) -> None:
        for number, step in enumerate(moved.steps):
            last = number == len(moved.steps) - 1
            episode.add(
                {
                    **seen(step.observation),
                    **said,
                    "chunk.step": number,
                    "action": step.action,
                    "next.success": bool(step.info["is_success"]) or (last and moved.success),
                    "next.reward": step.reward,
                }
            )

    def _drop(self, lane: int) -> None:
        self.dropped += 1
        if lane in self._open:
            self._open.pop(lane).discard()


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What was collected.

    Attributes:
        success: of the episodes.
        written: episodes in the folder.
        dropped: that a malformed chunk ended.
        steps: of the environment.
    """

    success: Share
    written: int
    dropped: int
    steps: int


def collect(
    policy: Actor,
    place: Place,
    folder: str | Path,
    *,
    episodes: int,
    horizon: int,
    tokens: int,
    seed: int = 0,
    temperature: float = 1.0,
    lanes: int | None = None,
    images: bool = True,
) -> Collection:
    """Play ``episodes`` training starts of a seed and write them.

    Args:
        policy: what acts.
        place: the environment.
        folder: of the rollouts.
        episodes: how many.
        horizon: steps of a chunk.
        tokens: the most tokens that one has.
        seed: of the starts and of sampling.
        temperature: of sampling.
        lanes: environments side by side; None: as many as the environment's row says.
        images: whether cameras are recorded too: those that the policy looks through, or `CAMERA`.

    Raises:
        UsageError: E001, no episodes; E006, the machine cannot render.
    """
    if episodes < 1:
        raise UsageError("E001", f"episodes is {episodes}, not 1 or more")
    random, left = np.random.default_rng((seed, 3)), [episodes]

    def next_start() -> Begin | None:
        left[0] -= 1
        return place.draw(random) if left[0] >= 0 else None

    generator = torch.Generator().manual_seed(seed)
    looks = cameras_of(policy)
    cameras = (looks or (CAMERA,)) if images else ()
    side = Lanes(
        *(place,),
        count=min(lanes or min(32, place.row.lanes), episodes),
        horizon=horizon,
        begins=next_start,
        cameras=cameras,
        looks=looks,
    )
    solved = steps = 0
    with Recorder(folder, place.row, tokens=tokens) as recorder:
        side.begin()
        while len(side):
            chunk = policy.act(side.observations(), generator, temperature=temperature)
            moves = side.step(chunk.actions.numpy(), malformed=chunk.malformed.tolist())
            recorder(chunk, moves)
            solved += sum(moved.success for moved in moves)
            steps += sum(len(moved.steps) for moved in moves)
    side.close()
    return Collection(
        success=Share(solved, episodes), written=recorder.written, dropped=recorder.dropped, steps=steps
    )


def seen(observation: Mapping[str, Any]) -> dict[str, Any]:
    """What a recording keeps of an observation, by its names: the state, and the cameras that were rendered.

    One camera is ``observation.images.primary``, several have their own names.
    """
    out, pixels = {"observation.state": observation["agent_pos"]}, observation.get("pixels", {})
    for camera, image in pixels.items():
        out[f"observation.images.{camera if len(pixels) > 1 else 'primary'}"] = image
    return out
