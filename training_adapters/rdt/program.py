"""Training in RDT's slots, from a dataset in physical units to a checkpoint that an environment plays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training_adapters import checkpoints
from training_adapters.envs.table import Place
from training_adapters.evaluate import Evaluation, evaluate
from training_adapters.fitting import fit, seeded
from training_adapters.policies.flow import SLOTS, FlowConfig, FlowPolicy
from training_adapters.policies.words import Vocabulary
from training_adapters.rdt.batches import RdtBatches
from training_adapters.rdt.config import RdtConfig
from training_adapters.rdt.player import UnifiedPlayer
from training_adapters.runs import Run
from vla_data import formats
from vla_data.actions import Convention
from vla_data.core import Source
from vla_data.errors import UsageError


class Program:
    """A run of training in RDT's slots.

    Args:
        config: the options.
        run: where it is kept.
        source: in the place of the configured dataset, such as one with a step of its own.
        verify: refuse data with a known mistake; False trains on it, to see what that does.

    Raises:
        UsageError: the dataset or the environment cannot be used.
        VerifyError: E601, the data have a known mistake, which is named.
    """

    def __init__(self, config: RdtConfig, run: Run, *, source: Source | None = None, verify: bool = True) -> None:
        self.config, self.run = config, run
        self.batches = RdtBatches(config, source or formats.open_source(config.dataset, **config.open))
        if verify:
            self.batches.verify()
            run.say("verify: no known mistake in the units, frames and grippers of the data")
        self._place = Place.of(config.env) if config.env else None
        found, episodes = self.batches.vectors, self.batches.dataset.episodes
        run.say(
            f"{len(episodes):,} episodes, {episodes.steps:,} steps, {len(episodes.left_out):,} episodes left out"
        )
        seeded(config.seed, 30)
        observes_scene = config.observe == "observation.state" and self._place is not None
        slots = self._place.row.slots if self._place is not None and observes_scene else ()
        # The small policy knows the words of its data alone, and "" for an instruction that was hidden.
        self.policy = FlowPolicy(
            FlowConfig(
                state=SLOTS + self.batches.observed,
                horizon=config.chunk,
                dim=SLOTS,
                words=Vocabulary.of(self.batches.tasks).words,
                slots=(slots[0] + SLOTS, *slots[1:]) if slots else (),
                moves=tuple(found.action_mask.nonzero()[0].tolist()),
                images=self.batches.images,
                side=max(config.side, 8),
            )
        )
        self.policy.scaling.fit(self.batches.states(), self.batches.actions())

    def train(self) -> Path:
        """Update as often as configured; the checkpoint."""
        config = self.config
        facts: dict[str, Any] = {
            "program": "rdt",
            "dataset": config.dataset,
            "env": config.env,
            "layout": config.layout,
            "rules": dict(self.batches.vectors.rules),
        }
        if self._place is not None:
            facts["slots"] = self.player().to_json()
        return fit(
            self.policy,
            self.batches,
            folder=self.run.folder,
            updates=config.updates,
            learning_rate=config.learning_rate,
            save_every=config.save_every,
            facts=facts,
            log=lambda update, loss: self.run.log(update, {"loss": loss, "progress": update / config.updates}),
            log_every=config.log_every,
        )

    def player(self, actions: Convention | None = None) -> UnifiedPlayer:
        """The policy as one of the environment.

        Args:
            actions: what its chunks mean; None: what the dataset's actions were said to mean.

        Raises:
            UsageError: E231, the environment does not say what its actions and states mean.
        """
        place = self._place
        if place is None:
            raise UsageError("E001", "there is no environment to play in: --set env=NAME")
        meant = {}
        for name in ("action", "observation.state"):
            feature = place.row.features.get(name)
            if feature is None or not feature.convention:
                raise UsageError("E231", f"what {name} of {place.name} means, to be played in RDT's slots")
            meant[name] = Convention.from_json(feature.convention)
        return UnifiedPlayer(
            self.policy,
            actions or self.batches.vectors.action_convention,
            meant["action"],
            meant["observation.state"],
            fps=place.row.fps,
            observed=bool(self.batches.observed),
        )

    def evaluate(self, **options: Any) -> Evaluation:
        """Success on held-out starts, and a line of it."""
        if self._place is None:
            raise UsageError("E001", "there is no environment to be evaluated in: --set env=NAME")
        options.setdefault("episodes", self.config.eval_episodes)
        player = self.player()
        found = evaluate(player, self._place, horizon=self.config.chunk, **options)
        self.run.say(f"held-out success {found.success}")
        return found


def start(config: RdtConfig, run: Run) -> Program:
    """A run that is begun, or gone on with from its last checkpoint."""
    program = Program(config, run)
    done = checkpoints.numbered(run.folder)
    if done:
        run.keep(int(done[-1].name.removeprefix("step_")))
    return program
