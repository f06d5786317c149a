"""RIPT from a start to a checkpoint: groups, advantages, an update, and again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from training_adapters import checkpoints
from training_adapters.cloning import first_policy, new_flow_policy, new_policy
from training_adapters.envs.lanes import observations
from training_adapters.envs.starts import SELECTION_SEED
from training_adapters.envs.table import Place
from training_adapters.evaluate import Evaluation, evaluate, kept
from training_adapters.loop import SCHEDULES, Group, Optimisation, accelerator
from training_adapters.policies.asked import AskedFlow
from training_adapters.policies.tokens import TokenPolicy
from training_adapters.ript.branches import check_guided
from training_adapters.ript.collect import GroupCollector
from training_adapters.ript.config import RIPTConfig
from training_adapters.ript.credit import running
from training_adapters.ript.groups import Compared, Outcome, compare
from training_adapters.ript.ledger import Wave, sums
from training_adapters.ript.processor import Processed
from training_adapters.ript.rollouts import Chunks, gather
from training_adapters.ript.stats import write_stats
from training_adapters.ript.update import Told, update
from training_adapters.runs import Run


class Program:
    """A run of RIPT; `train` goes on to its end.

    Args:
        config: the options.
        run: where it is kept; rollouts are in its ``rollouts``, and what became of them in ``groups.jsonl``.
        resume: go on from the run's last checkpoint.

    Attributes:
        policy: what learns.
        collector: what plays; it has the ledger.
        updates: so far; the policy's version.

    Raises:
        UsageError: there is no start as it is configured, or nothing to resume.
    """

    def __init__(self, config: RIPTConfig, run: Run, *, resume: bool = False) -> None:
        self.config, self.run, self.updates = config, run, 0
        self._place = Place.of(config.env)
        torch.manual_seed(config.seed)
        # A run that was killed before its first checkpoint has played nothing, and begins again.
        saved = checkpoints.load(run.folder) if resume and checkpoints.numbered(run.folder) else None
        self.policy = self._start() if saved is None else self._load(saved)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._optimisation = Optimisation(
            self.policy,
            [Group(module=self.policy, learning_rate=config.learning_rate, clip=config.gradient_clip_norm)],
            accelerator=accelerator(precision=config.precision),
            schedule=SCHEDULES[config.schedule],
            weight_decay=config.weight_decay,
        )
        if saved is not None:
            tensors, _ = saved.train_state()
            with saved.fitting():
                self._generator.set_state(tensors.pop("generator"))
                self._optimisation.load(tensors)
                self.updates = int(saved.metadata["update_step"])
            run.keep(self.updates)
        form = {"horizon": self.policy.config.horizon, "tokens": self.policy.longest}
        self.collector = GroupCollector(self._place, run.folder, config.plan, **form)
        self.collector.recall(self.updates)
        if isinstance(self.policy, AskedFlow):
            check_guided(self.policy, self._look())
        if saved is None:
            self.save()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.collector.close()

    def train(self, *, until: int | None = None) -> Path:
        """Update as often as configured, or so many times in all; the last checkpoint."""
        config = self.config
        end = config.num_train_steps if until is None else min(until, config.num_train_steps)
        while self.updates < end:
            began = time.process_time()
            waves = self.collector.collect(self.policy, self.updates)
            outcomes = self.collector.outcomes(waves, dropped=config.shuffle == "groups")
            collected = time.process_time()
            told = self._learn(outcomes) if outcomes else Told()
            self.updates += 1
            self._log(waves, told, collected - began, time.process_time() - collected)
            if config.save_interval and self.updates % config.save_interval == 0 and self.updates < end:
                self.save()
            if config.eval_interval and self.updates % config.eval_interval == 0:
                self.evaluate(starts_seed=SELECTION_SEED, episodes=90)
        return self.save()

    def before(self) -> Evaluation:
        """What the start achieves; a run that goes on has it from its beginning."""
        return kept(self.run.folder / "before.json", self.evaluate)

    def evaluate(self, **options: Any) -> Evaluation:
        """Success on held-out starts, and a line of it."""
        options.setdefault("episodes", self.config.eval_episodes)
        found = evaluate(self.policy, self._place, horizon=self.policy.config.horizon, **options)
        self.run.say(f"after {self.updates} updates, held-out success {found.success}")
        return found

    def save(self) -> Path:
        """A checkpoint of now, with all that the run goes on from, and ript-vla's statistics of starts."""
        folder, totals = self.run.folder / f"step_{self.updates}", sums(self.collector.ledger)
        facts = {
            "update_step": self.updates,
            "total_episodes": totals["rollouts"],
            "env": self.config.env,
            "program": "ript",
            "start": self.config.start,
        }
        if isinstance(self.policy, AskedFlow):
            facts["cfg_scale"] = self.policy.cfg_scale
        checkpoints.save(
            folder,
            self.policy,
            facts,
            tensors={**self._optimisation.state(), "generator": self._generator.get_state()},
            state={},
        )
        write_stats(self.run.folder / "rollout_stats.json", self.collector.skips.history)
        return folder

    def advantages(self, outcomes: list[Outcome]) -> tuple[Compared, Processed]:
        """The comparison of rollouts, and their advantages as the loss takes them."""
        config, random = self.config, np.random.default_rng((self.config.seed, 8, self.updates))
        if config.shuffle == "groups":
            lots = random.permutation(len(outcomes)).tolist()
            outcomes = [
                replace(outcome, task=outcomes[lot].task, init_hash=outcomes[lot].init_hash)
                for outcome, lot in zip(outcomes, lots, strict=True)
            ]
        compared = compare(outcomes, group_size=config.rloo_batch_size)
        given = random.permutation(compared.advantages) if config.shuffle == "advantages" else compared.advantages
        return compared, config.processor(given, [outcome.label for outcome in compared.outcomes])

    def chunks(self, outcomes: list[Outcome]) -> Chunks:
        """What an update learns from."""
        compared, processed = self.advantages(outcomes)
        rollouts = self.collector.read(compared.outcomes)
        chunks = gather(
            rollouts,
            processed.advantages,
            horizon=self.policy.config.horizon,
            still=self._place.row.still,
            every_step=self.config.optimisation == "cfg" and self.config.cfg_chunks == "every_step",
        )
        if self.config.credit == "rollout" or self.config.optimisation == "cfg":
            return chunks
        return self._running(chunks, compared.outcomes, [len(rollout.begins) for rollout in rollouts])

    def _running(self, chunks: Chunks, outcomes: Sequence[Outcome], counts: Sequence[int]) -> Chunks:
        """Chunks with advantages of their own, without those that no rollout of their group differs from."""
        worth = np.concatenate(running(outcomes, counts))
        if self.config.shuffle == "advantages":
            worth = np.random.default_rng((self.config.seed, 8, self.updates)).permutation(worth)
        rows = np.flatnonzero(worth)
        labels = np.repeat([outcome.label for outcome in outcomes], counts)
        given = self.config.processor(worth[rows], labels[rows].tolist()).advantages
        return replace(chunks.pick(torch.from_numpy(rows)), advantage=torch.from_numpy(given.astype(np.float32)))

    def _learn(self, outcomes: list[Outcome]) -> Told:
        chunks = self.chunks(outcomes)
        share = self.updates / self.config.num_train_steps
        if not len(chunks):
            return Told()
        return update(self._optimisation, chunks, self.config, self._generator, share=share)

    def _log(self, waves: list[Wave], told: Told, collecting: float, learning: float) -> None:
        counts = sums(iter(waves))
        steps = {name: float(value) for name, value in counts.items()}
        success = counts["solved"] / counts["rollouts"] if counts["rollouts"] else float("nan")
        self.run.log(
            self.updates,
            {
                "progress": self.updates / self.config.num_train_steps,
                "success": success,
                **steps,
                **told.means(),
                "drift": told.drift,
                "epochs": told.epochs,
                "collect_cpu_s": collecting,
                "update_cpu_s": learning,
            },
            show_it=self.updates % self.config.log_interval == 0,
        )

    def _look(self) -> dict[str, Any]:
        """A first look at the environment, with chunks in which nothing moves; of training starts."""
        env, form = self._place.make(), self.policy.config
        begin = self._place.draw(np.random.default_rng((self.config.seed, 9)))
        seen, _ = begin.reset(env)
        batch = observations([seen], [str(env.get_wrapper_attr("task"))])
        env.close()
        batch["action"] = self.policy.scaling.action_mean.expand(1, form.horizon, form.dim)
        return batch

    def _load(self, saved: checkpoints.Saved) -> TokenPolicy | AskedFlow:
        if self.config.optimisation == "ppo":
            return saved.policy()
        policy = saved.asked_flow()
        policy.cfg_scale = self.config.cfg_scale
        return policy

    def _start(self) -> TokenPolicy | AskedFlow:
        """The policy that the configuration begins with; a random one only where it says so."""
        config = self.config
        if config.start not in ("demos", "scratch"):
            self.run.say(f"start: {config.start}")
            return self._load(checkpoints.load(config.start))
        how: dict[str, Any] = {
            "episodes": config.demos,
            "updates": None if config.start == "scratch" else config.demo_updates,
            "seed": config.seed,
            "say": self.run.say,
            "horizon": config.horizon,
        }
        if config.optimisation == "ppo":
            return first_policy(self._place, new_policy, **how)
        policy = first_policy(self._place, new_flow_policy, **how)
        policy.cfg_scale = config.cfg_scale
        return policy
