"""Policies that learn from rollouts and demonstrations: RECAP's, and those that it has to be compared with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from training_adapters.fitting import fit
from training_adapters.recap.evidence import trusted
from training_adapters.recap.frames import Frames
from training_adapters.recap.project import Project
from vla_data import options as checks
from vla_data.advantages.annotation import read_annotation
from vla_data.advantages.frame_table import FrameTable
from vla_data.errors import RefusedError, UsageError

LABELS: Final = ("advantage", "shuffled", "none")
ROWS: Final = ("all", "solved")
_FARTHEST: Final = 3.0  # deviations of an advantage that change its weight


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to learn from the same frames.

    Attributes:
        name: of it.
        labels: what prompts say: by ``advantage``; the same ``shuffled`` among the frames of a task; ``none``.
        rows: ``all`` frames of rollouts, or those of ``solved`` episodes.
        weighted: whether a frame counts by ``exp(A / deviation)``, at most 3 deviations.
        look_ahead: of the advantages; None: the configured one.
    """

    name: str
    labels: str = "advantage"
    rows: str = "all"
    weighted: bool = False
    look_ahead: int | None = None

    def __post_init__(self) -> None:
        checks.one_of("labels", self.labels, LABELS)
        checks.one_of("rows", self.rows, ROWS)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def trusted_frames(project: Project, number: int, tag: str) -> tuple[Frames, str | None]:
    """Annotated rollouts of the first ``number`` rounds, and what is weak about their critic and was accepted.

    Raises:
        RefusedError: E402, the critic cannot be told from chance and was not accepted, or every advantage is 0.
        UsageError: E301, the annotation was made for another dataset; E003, there is none.
    """
    found = [read_annotation(FrameTable.read(project.dataset(one)), tag) for one in range(1, number + 1)]
    if not any(one.advantages.any() for one in found):
        raise RefusedError(
            "E402", "there is nothing to learn: every advantage is exactly 0, so the critic knew all that happened"
        )
    weak = trusted(found[-1].provenance.get("critic"), accept=project.config.accept_weak_critic)
    if weak is not None:
        project.run.say(f"accepted, as asked for: {weak}")
    frames = project.rollouts(number, tag=tag)
    if "positive" not in frames.columns:
        raise UsageError("E302", "the advantages have no labels")
    return frames, weak


def learn(project: Project, arm: Arm, rolled: Frames, shown: Frames, folder: Path) -> Path:
    """Train the cloned policy in one of the ways; the checkpoint.

    Args:
        project: the run.
        arm: which way.
        rolled: annotated frames of rollouts.
        shown: demonstrations, which are positive.
        folder: of the checkpoints.

    Raises:
        RefusedError: E402, no frame is left to learn from.
    """
    config, policy = project.config, project.sft().bins()
    labels, counts = _labels(arm, rolled, config.seed), _weights(arm, rolled)
    weights = project.mixture().weights
    kept = np.flatnonzero(rolled.columns["solved"]) if arm.rows == "solved" else np.arange(len(rolled))
    if len(kept) == 0:
        raise RefusedError("E402", f"{arm.name}: no episode of the rollouts was solved")
    indicator = project.indicator("ignore" if arm.labels == "none" else None)
    demos = round(config.policy_batch * config.demo_share)
    tokens = [policy.encode(torch.from_numpy(frames.action)) for frames in (rolled, shown)]

    def batch(number: int) -> dict[str, Any]:
        random = np.random.default_rng((config.seed, 24, number))
        rows = (
            kept[random.integers(len(kept), size=config.policy_batch - demos)],
            shown.draw(random, demos, weights),
        )
        parts = [frames.batch(own) for frames, own in zip((rolled, shown), rows, strict=True)]
        prompts = indicator.prompts(
            [*parts[0]["task"], *parts[1]["task"]],
            np.concatenate([labels[rows[0]], np.ones(demos, dtype=np.bool_)]),
            episodes=[
                f"{name} {dataset} {episode}"
                for name, frames, own in (("rollout", rolled, rows[0]), ("demo", shown, rows[1]))
                for dataset, episode in zip(
                    frames.dataset[own].tolist(), frames.episode[own].tolist(), strict=True
                )
            ],
            frames=[*rolled.frame[rows[0]].tolist(), *shown.frame[rows[1]].tolist()],
            epoch=number,
        )
        out = {
            "observation.state": torch.cat([part["observation.state"] for part in parts]),
            "task": prompts,
            "tokens": torch.cat([own[index] for own, index in zip(tokens, rows, strict=True)]),
        }
        if counts is not None:
            out["weight"] = torch.from_numpy(np.concatenate([counts[rows[0]], np.ones(demos)])).float()
        return out

    asked = {} if arm.labels == "none" else {"asked": {"words": indicator.prompt(""), "beta": config.beta}}
    return fit(
        policy,
        batch,
        folder=folder,
        updates=config.policy_updates,
        learning_rate=config.policy_learning_rate,
        save_every=config.save_every,
        facts={"program": "recap policy-finetune", "env": config.env, "arm": arm.to_json(), **asked},
        log=project.log(folder),
    )


def _labels(arm: Arm, frames: Frames, seed: int) -> NDArray[np.bool_]:
    positive: NDArray[np.bool_] = frames.columns["positive"].astype(np.bool_)
    if arm.labels != "shuffled":
        return positive
    random, out = np.random.default_rng((seed, 25)), positive.copy()
    for task in sorted(set(frames.task.tolist())):
        own = np.flatnonzero(frames.task == task)
        out[own] = positive[random.permutation(own)]
    return out


def _weights(arm: Arm, frames: Frames) -> NDArray[np.float64] | None:
    if not arm.weighted:
        return None
    advantage = frames.columns["advantage"]
    spread = float(advantage.std()) or 1.0
    return np.asarray(np.exp(np.clip(advantage / spread, -_FARTHEST, _FARTHEST)))
