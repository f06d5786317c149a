"""Chunk PPO from a start to a checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from training_adapters import checkpoints
from training_adapters.cloning import first_policy, new_policy
from training_adapters.collect import CAMERA, Recorder
from training_adapters.envs.lanes import Lanes
from training_adapters.envs.starts import SELECTION_SEED
from training_adapters.envs.table import Begin, Place
from training_adapters.evaluate import Evaluation, evaluate, kept
from training_adapters.loop import SCHEDULES, Group, Optimisation, accelerator
from training_adapters.policies.value import ActorCritic
from training_adapters.policy import cameras_of
from training_adapters.ppo.collect import Collector
from training_adapters.ppo.config import PPOConfig
from training_adapters.ppo.update import update
from training_adapters.runs import Run


@dataclass(slots=True)
class Counts:
    """How far a run is."""

    updates: int = 0
    chunks: int = 0
    episodes: int = 0
    steps: int = 0


@dataclass(slots=True)
class Spent:
    """What CPU time went to, in this process.

    Attributes:
        steps: of the environment.
        updates: of the optimiser.
        collecting: CPU seconds.
        learning: CPU seconds.
    """

    steps: int = 0
    updates: int = 0
    collecting: float = 0.0
    learning: float = 0.0

    def add(self, steps: int, updates: int, collecting: float, learning: float) -> None:
        """And so much more."""
        self.steps, self.updates = self.steps + steps, self.updates + updates
        self.collecting, self.learning = self.collecting + collecting, self.learning + learning

    def __str__(self) -> str:
        return (
            f"{self.steps:,} environment steps in {self.collecting:.1f} CPU s"
            f" ({self.steps / max(self.collecting, 1e-9):,.0f} a second), {self.updates:,} updates in"
            f" {self.learning:.1f} CPU s ({self.updates / max(self.learning, 1e-9):,.1f} a second)"
        )


class Program:
    """A run of chunk PPO; `train` goes on to its end.

    Args:
        config: the options.
        run: where it is kept.
        resume: go on from the run's last checkpoint.
        record: a folder for the rollouts of every episode; None: they are not kept.

    Raises:
        UsageError: there is no start as it is configured, or nothing to resume.
    """

    def __init__(self, config: PPOConfig, run: Run, *, resume: bool = False, record: Path | None = None) -> None:
        self.config, self.run, self.counts = config, run, Counts()
        self._place = Place.of(config.env)
        torch.manual_seed(config.seed)
        self._starts = np.random.default_rng((config.seed, 2))
        self._generator = torch.Generator().manual_seed(config.seed)
        saved = checkpoints.load(run.folder) if resume else None
        self.model = saved.actor_critic()[0] if saved is not None else self._start()
        self._horizon = self.model.actor_backbone.config.horizon
        self._optimisation = Optimisation(
            self.model,
            [
                Group(
                    module=self.model.actor_backbone,
                    learning_rate=config.learning_rate,
                    clip=config.max_grad_norm,
                ),
                Group(
                    module=self.model.value_head,
                    learning_rate=config.value_learning_rate,
                    clip=config.max_grad_norm,
                ),
            ],
            accelerator=accelerator(precision=config.precision),
            schedule=SCHEDULES[config.schedule],
            eps=1e-5,
        )
        longest, looks = self.model.actor_backbone.longest, cameras_of(self.model)
        self._recorder = None if record is None else Recorder(record, self._place.row, tokens=longest)
        self._lanes = Lanes(
            self._place,
            count=config.lanes,
            horizon=self._horizon,
            begins=self._draw,
            cameras=() if record is None else looks or (CAMERA,),
            looks=looks,
        )
        self._rounds = config.num_chunks_per_update // config.lanes
        if saved is None:
            self._lanes.begin()
        self._collector = Collector(
            self.model,
            self._lanes,
            self._generator,
            count=config.lanes,
            gamma=config.gamma,
            discount=config.discount,
            lam=config.gae_lambda,
            time_limit=config.time_limit,
            temperature=config.temperature,
            watch=self._recorder,
        )
        if saved is not None:
            self._restore(saved)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lanes.close()
        if self._recorder is not None:
            self._recorder.close()

    def train(self, *, until: int | None = None) -> Path:
        """Update until ``total_timesteps``, or so many updates; the last checkpoint.

        Raises:
            UsageError: E001, the lanes have no episode that could begin.
        """
        config, spent = self.config, Spent()
        while self.counts.steps < config.total_timesteps and (until is None or self.counts.updates < until):
            began = time.process_time()
            if self._recorder is not None:
                self._recorder.version = self.counts.updates
            got = self._collector.collect(self._rounds)
            collected = time.process_time()
            share = min(1.0, self.counts.steps / config.total_timesteps)
            warmup = self.counts.updates < config.value_warmup
            stepped = self._optimisation.updates
            told = update(self._optimisation, got.rollout, config, self._generator, share=share, warmup=warmup)
            now, stepped = time.process_time(), self._optimisation.updates - stepped
            spent.add(got.steps, stepped, collected - began, now - collected)
            counts = self.counts
            counts.updates += 1
            counts.chunks += len(got.rollout)
            counts.episodes += got.episodes
            counts.steps += got.steps
            self.run.log(
                counts.updates,
                {
                    "steps": counts.steps,
                    "progress": min(1.0, counts.steps / config.total_timesteps),
                    "episodes": counts.episodes,
                    "success": got.solved / got.episodes if got.episodes else float("nan"),
                    "episode_reward": got.episode_reward,
                    "chunk_reward": got.chunk_reward,
                    **told.means(),
                    "epochs": told.epochs,
                    "malformed": got.malformed,
                    "explained": got.explained,
                    "steps_per_cpu_s": got.steps / max(collected - began, 1e-9),
                    "updates_per_cpu_s": stepped / max(now - collected, 1e-9),
                    "update_cpu_s": now - collected,
                },
            )
            if config.save_every and counts.updates % config.save_every == 0:
                self.save()
            if config.eval_every and counts.updates % config.eval_every == 0:
                self.evaluate(starts_seed=SELECTION_SEED, episodes=90)
        if spent.steps:
            self.run.say(str(spent))
        return self.save()

    def before(self) -> Evaluation:
        """What the start achieves; a run that goes on has it from its beginning."""
        return kept(self.run.folder / "before.json", self.evaluate)

    def evaluate(self, **options: Any) -> Evaluation:
        """Success on held-out starts, and a line of it."""
        options.setdefault("episodes", self.config.eval_episodes)
        found = evaluate(self.model, self._place, horizon=self._horizon, **options)
        self.run.say(f"after {self.counts.updates} updates, held-out success {found.success}")
        return found

    def save(self) -> Path:
        """A checkpoint of now, with all that the run goes on from."""
        counts = self.counts
        folder = self.run.folder / f"step_{counts.updates}"
        checkpoints.save(
            folder,
            self.model,
            {
                "update_step": counts.updates,
                "total_chunks": counts.chunks,
                "total_episodes": counts.episodes,
                "total_steps": counts.steps,
                "env": self.config.env,
                "program": "ppo",
                "start": self.config.start,
            },
            tensors={**self._optimisation.state(), "generator": self._generator.get_state()},
            state={
                "starts": self._starts.bit_generator.state,
                "lanes": self._lanes.state(),
                "returns": self._collector.returns,
            },
        )
        return folder

    def _restore(self, saved: checkpoints.Saved) -> None:
        tensors, state = saved.train_state()
        with saved.fitting():
            self._generator.set_state(tensors.pop("generator"))
            self._optimisation.load(tensors)
            self._starts.bit_generator.state = state["starts"]
            self._lanes.restore(state["lanes"])
            self._collector.returns = list(state["returns"])
            if self._recorder is not None:
                self._recorder.skip(number for number, lane in enumerate(state["lanes"]) if lane["actions"])
            facts = saved.metadata
            self.counts = Counts(
                updates=facts["update_step"],
                chunks=facts["total_chunks"],
                episodes=facts["total_episodes"],
                steps=facts["total_steps"],
            )
        self.run.keep(self.counts.updates)

    def _draw(self) -> Begin | None:
        return self._place.draw(self._starts)

    def _start(self) -> ActorCritic:
        """The policy that the configuration begins with; a random one only where it says so."""
        config = self.config
        if config.start not in ("demos", "scratch"):
            model, whole = checkpoints.load(config.start).actor_critic()
            self.run.say(f"start: {config.start}" + ("" if whole else "; its value head is new"))
            return model
        policy = first_policy(
            self._place,
            new_policy,
            episodes=config.demos,
            updates=None if config.start == "scratch" else config.demo_updates,
            seed=config.seed,
            say=self.run.say,
            horizon=config.horizon,
        )
        return ActorCritic(policy)
