"""Critics that are cross-fitted: every episode is valued by one that has not seen it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from training_adapters.fitting import Batches, fit
from training_adapters.policies.critic import BinCritic
from training_adapters.recap.config import RecapConfig
from training_adapters.recap.evidence import Held, Ranked, evidence
from training_adapters.recap.frames import Frames
from training_adapters.recap.project import Project
from vla_data.advantages import Episodes, ValueBins
from vla_data.advantages.annotation import parquet_bytes
from vla_data.errors import UsageError
from vla_data.files.sums import hash_file
from vla_data.files.write import machine_errors, write_file

_AT_ONCE = 8_192


def folds_of(episodes: int, folds: int, seed: int) -> NDArray[np.int64]:
    """``(E,)``: the fold of each episode, drawn; sizes differ by one at most."""
    return np.asarray(np.random.default_rng((seed, 5)).permutation(episodes) % folds)


def returns_of(config: RecapConfig, frames: Frames, solved: NDArray[np.bool_]) -> tuple[Any, Any]:
    """``(N,)`` returns in steps and what they are divided by.

    Args:
        config: its reward.
        frames: whole episodes.
        solved: ``(N,)``.

    Raises:
        UsageError: E001, the normaliser is too small.
    """
    rules = config.rules()
    starts = np.flatnonzero(np.append(True, np.diff(frames.number) != 0))
    episodes = Episodes(np.diff(np.append(starts, len(frames))))
    ends = solved[starts]
    scales = rules.normalizers(episodes, frames.task[starts])
    try:
        rules.check(episodes, ends, scales)
    except ValueError as error:
        raise UsageError("E001", f"reward_normalizer: {error}") from None
    return rules.returns(episodes, ends), episodes.per_frame(scales)


def demo_batches(config: RecapConfig, frames: Frames, weights: Sequence[float] | None) -> Batches:
    """Frames of demonstrations, all of which end well; datasets by their weights."""
    target = _bins(config, *returns_of(config, frames, np.ones(len(frames), dtype=np.bool_)))

    def batch(number: int) -> dict[str, Any]:
        rows = frames.draw(np.random.default_rng((config.seed, 21, number)), config.value_batch, weights)
        return {**frames.batch(rows), "bin": target[rows]}

    return batch


def cross_fit(project: Project, number: int) -> dict[str, Any]:
    """Values of the rollouts of the first ``number`` rounds, in ``values_R.parquet`` for each of them.

    Returns:
        ``values``: name -> SHA-256 of these files; ``critic``: see `training_adapters.recap.evidence`.
    """
    config, folder = project.config, project.of_round(number)
    frames = project.rollouts(number)
    solved = frames.columns["solved"]
    returns, scales = returns_of(config, frames, solved)
    target, episode = _bins(config, returns, scales), frames.number
    fold = folds_of(int(episode.max()) + 1, config.folds, config.seed)[episode]
    value = np.empty(len(frames))
    for one in range(config.folds):
        rows = np.flatnonzero(fold != one)
        critic = _train(project, frames, target, rows, folder / "value" / f"fold_{one}", (22, one))
        value[fold == one] = values_of(critic, frames, np.flatnonzero(fold == one))
    tasks = np.unique(frames.task.astype(str), return_inverse=True)[1].reshape(-1)
    held = Held(value, returns / scales, solved, episode, tasks, frames.frame)
    found = evidence(held, seed=config.seed)
    found["folds"] = config.folds
    if config.curve:
        found["curve"] = _curve(project, frames, target, fold, folder)
    return {"values": _write(frames, value, folder, number), "critic": found}


def values_of(critic: BinCritic, frames: Frames, rows: NDArray[Any]) -> NDArray[np.float64]:
    """``(len(rows),)``."""
    out = np.empty(len(rows))
    with torch.no_grad():
        for first in range(0, len(rows), _AT_ONCE):
            some = rows[first : first + _AT_ONCE]
            out[first : first + len(some)] = critic.value(frames.batch(some)).numpy()
    return out


def _train(
    project: Project, frames: Frames, target: Tensor, rows: NDArray[Any], folder: Path, salt: Sequence[int]
) -> BinCritic:
    config, critic = project.config, project.critic().critic()
    fit(
        critic,
        _batches(config, frames, target, rows, *salt),
        folder=folder,
        updates=config.value_finetune_updates,
        learning_rate=config.value_learning_rate,
        save_every=config.save_every,
        facts={"program": "recap value-finetune", "env": config.env},
        log=project.log(folder),
    )
    return critic


def _curve(
    project: Project,
    frames: Frames,
    target: Tensor,
    fold: NDArray[Any],
    folder: Path,
) -> list[dict[str, Any]]:
    """``auc`` on the first fold of critics that saw so many of the other episodes; None where all ended alike."""
    others = np.unique(frames.number[fold != 0])
    order = np.random.default_rng((project.config.seed, 6)).permutation(others)
    held, out = np.flatnonzero(fold == 0), []
    for size in project.config.curve:
        if size > len(order):
            raise UsageError("E001", f"curve has {size} episodes; {len(order)} are left beside the first fold")
        rows = np.flatnonzero(np.isin(frames.number, order[:size]))
        critic = _train(project, frames, target, rows, folder / "curve" / f"of_{size}", (23, size))
        area = Ranked(values_of(critic, frames, held), frames.columns["solved"][held]).area()
        out.append({"episodes": size, "auc": area if np.isfinite(area) else None})
    return out


def _batches(config: RecapConfig, frames: Frames, target: Tensor, rows: NDArray[Any], *salt: int) -> Batches:
    def batch(number: int) -> dict[str, Any]:
        draw = np.random.default_rng((config.seed, *salt, number)).integers(len(rows), size=config.value_batch)
        return {**frames.batch(rows[draw]), "bin": target[rows[draw]]}

    return batch


def _bins(config: RecapConfig, returns: Any, scales: Any) -> Tensor:
    return torch.from_numpy(ValueBins(count=config.number_of_bins).encode(returns, scales))


def _write(frames: Frames, value: NDArray[np.float64], folder: Path, number: int) -> dict[str, str]:
    out = {}
    for one in range(1, number + 1):
        own = frames.dataset == one - 1
        columns = {"episode_index": frames.episode[own], "frame_index": frames.frame[own], "value": value[own]}
        path = folder / f"values_{one}.parquet"
        with machine_errors("cannot write the values"):
            write_file(path, parquet_bytes(pa.table(columns)))
        out[f"values {one}"] = hash_file(path)
    return out
