"""RECAP's stages, each of which is done once and says of what (pi*0.6, https://arxiv.org/abs/2511.14759).

Before all rounds ``sft`` and ``value``; in each round ``rollout``, ``value-finetune``, ``advantage`` and
``policy-finetune``. Every round's critics begin with that of ``value`` and every round's policy with that of
``sft``: nothing is handed from round to round but episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training_adapters import checkpoints
from training_adapters.envs.starts import SELECTION_SEED
from training_adapters.fitting import fit, seeded
from training_adapters.policies.bins import new_bin_policy
from training_adapters.policies.critic import BinCritic, CriticConfig
from training_adapters.policies.words import Vocabulary
from training_adapters.recap.critics import cross_fit, demo_batches
from training_adapters.recap.evidence import lines
from training_adapters.recap.frames import Frames
from training_adapters.recap.labelling import annotate_round, tag_of
from training_adapters.recap.learning import Arm, learn, trusted_frames
from training_adapters.recap.project import Project
from training_adapters.recap.record import checkpoint_digest, dataset_digest
from vla_data.files.sums import hash_file

BEFORE: Final = ("sft", "value")
IN_ROUND: Final = ("rollout", "value-finetune", "advantage", "policy-finetune")
MORE_DEMOS: Final = 20
"""Demonstrations that are added where a policy of fewer was too weak."""


def sft(project: Project) -> dict[str, Any]:
    """Clone the demonstrations; its words include those that later stages add."""
    config, record = project.config, project.record("sft")
    if record.read() is not None:
        return record.need(project.demo_digests())
    count = config.demos
    while True:
        if config.dataset_mixture is None:
            project.show(count)
        frames = project.demonstrations()
        folder = project.folder / (f"sft_{count}" if config.dataset_mixture is None else "sft_given")
        path = _clone(project, frames, folder)
        success = project.evaluate(
            checkpoints.load(path).bins(), folder / "selection.json", episodes=90, starts_seed=SELECTION_SEED
        ).success
        project.run.say(f"sft: {len(frames):,} frames, on other starts {success}")
        if success.rate >= config.least_start or config.dataset_mixture is not None or count >= 4 * config.demos:
            break
        count += MORE_DEMOS
    return record.write(
        project.demo_digests(),
        {
            "checkpoint": f"{folder.name}/{path.name}",
            "sha256": checkpoint_digest(path),
            "demonstrations": count if config.dataset_mixture is None else None,
            "frames": len(frames),
            "selection": {"count": success.count, "total": success.total},
        },
    )


def value(project: Project) -> dict[str, Any]:
    """Train the critic that every round begins with, on demonstrations, which all end well."""
    config, record, inputs = project.config, project.record("value"), project.value_inputs()
    if (found := record.facts(inputs)) is not None:
        return found
    policy, frames = project.sft().bins(), project.demonstrations()
    form = {name: getattr(policy.config, name) for name in ("state", "horizon", "dim", "words", "slots")}
    seeded(config.seed, 1)
    critic = BinCritic(
        CriticConfig(**form, bins=config.number_of_bins, limit=max(int(frames.frame.max()) + 1, -config.c_neg, 1))
    )
    critic.scaling.load_state_dict(policy.scaling.state_dict())
    folder = project.folder / "value"
    path = fit(
        critic,
        demo_batches(config, frames, project.mixture().weights),
        folder=folder,
        updates=config.value_updates,
        learning_rate=config.value_learning_rate,
        save_every=config.save_every,
        facts={"program": "recap value", "env": config.env},
        log=project.log(folder),
    )
    return record.write(inputs, {"checkpoint": f"value/{path.name}", "sha256": checkpoint_digest(path)})


def rollout(project: Project, number: int) -> dict[str, Any]:
    """Play the last policy, and publish what it did, solved or not, as a LeRobot dataset."""
    record, inputs = project.record("rollout", number), project.rollout_inputs(number)
    if (found := record.facts(inputs)) is not None:
        return found
    solved, total = project.play(project.policy(number - 1).player(), number)
    project.publish(project.of_round(number))
    root = project.of_round(number) / "dataset"
    project.run.say(f"round {number}: {solved} of {total} episodes solved")
    return record.write(inputs, {"solved": solved, "episodes": total, "dataset": dataset_digest(root)})


def value_finetune(project: Project, number: int) -> dict[str, Any]:
    """Fold by fold, a critic for the episodes that it has not seen; and what these values are worth."""
    record = project.record("value-finetune", number)
    inputs = {"value": checkpoint_digest(project.critic().folder), **_datasets(project, number)}
    if (found := record.facts(inputs)) is not None:
        return found
    facts = cross_fit(project, number)
    for line in lines(facts["critic"]):
        project.run.say(line)
    return record.write(inputs, facts)


def advantage(project: Project, number: int, look_ahead: int | None = None) -> dict[str, Any]:
    """Annotate the datasets of all rounds so far with what the critics say.

    Args:
        project: the run.
        number: of the round.
        look_ahead: another one than configured, for a comparison.
    """
    record = project.record("advantage" if look_ahead is None else f"advantage-n{look_ahead}", number)
    values = value_finetune(project, number)["values"]
    inputs = {**_datasets(project, number), **values}
    if (found := record.facts(inputs)) is not None:
        return found
    return record.write(inputs, annotate_round(project, number, look_ahead))


def policy_finetune(project: Project, number: int) -> dict[str, Any]:
    """Train the cloned policy on rollouts and demonstrations, with words for what is good."""
    record = project.record("policy-finetune", number)
    inputs = policy_inputs(project, number)
    if (found := record.facts(inputs)) is not None:
        return found
    frames, weak = trusted_frames(project, number, tag_of(number))
    folder = project.of_round(number) / "policy"
    path = learn(project, Arm(name="recap"), frames, project.demonstrations(), folder)
    facts: dict[str, Any] = {"checkpoint": f"policy/{path.name}", "sha256": checkpoint_digest(path)}
    if weak is not None:
        facts["accepted"] = weak
    if project.config.eval_episodes:
        path = project.of_round(number) / "eval.json"
        found_success = project.evaluate(checkpoints.load(folder).player(), path)
        facts["eval"] = found_success.to_json()
        project.run.say(f"round {number}: held-out success {found_success.success}")
    return record.write(inputs, facts)


def policy_inputs(project: Project, number: int, tag: str = "") -> dict[str, str]:
    """What a policy of a round is made of: start, demonstrations, rollouts and their annotations.

    Raises:
        UsageError: E003, an annotation is not there.
    """
    out = {"sft": checkpoint_digest(project.sft().folder), **project.demo_digests(), **_datasets(project, number)}
    for one in range(1, number + 1):
        path = project.dataset(one) / "meta/vla_data/advantages" / f"{tag or tag_of(number)}.parquet"
        if not path.is_file():
            project.record("advantage", number).need({})
        out[f"advantages {one}"] = hash_file(path)
    return out


def _datasets(project: Project, number: int) -> dict[str, str]:
    return {f"rollouts {one}": dataset_digest(project.dataset(one)) for one in range(1, number + 1)}


def _clone(project: Project, frames: Frames, folder: Path) -> Path:
    config, row = project.config, project.place.row
    indicator = project.indicator("use")
    tasks = sorted(set(frames.task.tolist()))
    words = Vocabulary.of(indicator.prompt(task, positive=good) for task in tasks for good in (True, False)).words
    seeded(config.seed, 0)
    policy = new_bin_policy(frames.state, frames.action, words, slots=row.slots)
    tokens, weights = policy.encode(torch.from_numpy(frames.action)), project.mixture().weights

    def batch(number: int) -> dict[str, Any]:
        rows = frames.draw(np.random.default_rng((config.seed, 20, number)), config.sft_batch, weights)
        return {**frames.batch(rows), "tokens": tokens[rows]}

    return fit(
        policy,
        batch,
        folder=folder,
        updates=config.sft_updates,
        learning_rate=config.sft_learning_rate,
        save_every=config.save_every,
        facts={"program": "recap sft", "env": config.env},
        log=project.log(folder),
    )


ROUND: Final[Mapping[str, Callable[[Project, int], dict[str, Any]]]] = {
    "rollout": rollout,
    "value-finetune": value_finetune,
    "advantage": advantage,
    "policy-finetune": policy_finetune,
}
"""Stage of a round -> what does it."""
