"""Supervised fine-tuning from a dataset to a checkpoint: frames come from the `Loader`, and from nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from training_adapters import checkpoints
from training_adapters.cloning import new_policy
from training_adapters.demonstrations import Demonstrations
from training_adapters.envs.table import Place
from training_adapters.evaluate import Evaluation, evaluate
from training_adapters.loop import Group, Optimisation, accelerator, cosine
from training_adapters.policies.pixels import TARGET, PixelPolicy, new_pixel_policy
from training_adapters.policies.tokens import TokenPolicy
from training_adapters.policies.words import Vocabulary
from training_adapters.runs import Run
from training_adapters.sft.config import SFTConfig
from training_adapters.torch_batches import to_torch
from vla_data.errors import UsageError
from vla_data.mixtures import Contract, Loader, open_mixture
from vla_data.mixtures.config import Config, Entry

_READ = 512
"""Frames that are read at once to fit tokens and scales."""


class Program:
    """A run of supervised fine-tuning; `train` goes on to its end.

    Args:
        config: the options.
        run: where it is kept.
        resume: go on from the run's last checkpoint.

    Raises:
        UsageError: the dataset or the checkpoint cannot be used; see `vla_data.mixtures` and `checkpoints`.
    """

    def __init__(self, config: SFTConfig, run: Run, *, resume: bool = False) -> None:
        self.config, self.run, self._place = config, run, Place.of(config.env)
        torch.manual_seed(config.seed)
        self._horizon = config.horizon or self._place.row.horizon
        saved = checkpoints.load(run.folder) if resume else None
        if saved is None and config.start:
            saved = checkpoints.load(config.start)
        self._loader = self._open("draw", config.batch_size)
        if saved is not None:
            self.policy = saved.actor()
            self._fits()
        else:
            data = self._demonstrations()
            self.policy = self._new(data)
            run.say(f"a new policy; tokens and scales are fitted on {len(data)} frames of {config.dataset}")
        self._optimisation = Optimisation(
            self.policy,
            [Group(module=self.policy, learning_rate=config.learning_rate, clip=config.max_grad_norm)],
            accelerator=accelerator(precision=config.precision),
            schedule=cosine,
            weight_decay=1e-4,
        )
        if resume and saved is not None:
            tensors, state = saved.train_state()
            self._optimisation.load(tensors)
            with saved.fitting():
                self._loader.load_state_dict(state["loader"])
            run.keep(self._optimisation.updates)

    def train(self, *, until: int | None = None) -> Any:
        """Update as often as configured, or so many times in all; the last checkpoint."""
        config, losses = self.config, []
        end = config.updates if until is None else min(until, config.updates)
        while self._optimisation.updates < end:
            for raw in self._loader:
                batch = self._filled(to_torch(raw))
                losses.append(
                    self._optimisation.step(
                        self._optimisation.model,
                        _parts(batch, config.accumulate),
                        share=self._optimisation.updates / config.updates,
                    )
                )
                now = self._optimisation.updates
                if now % config.log_every == 0 or now == end:
                    self.run.log(now, {"loss": float(np.mean(losses)), "progress": now / config.updates})
                    losses = []
                if config.save_every and now % config.save_every == 0:
                    self.save()
                if now == end:
                    break
        return self.save()

    def evaluate(self) -> Evaluation:
        """Success on held-out starts, and a line of it."""
        found = evaluate(
            self.policy, self._place, episodes=self.config.eval_episodes, horizon=self.policy.config.horizon
        )
        self.run.say(f"after {self._optimisation.updates} updates, held-out success {found.success}")
        return found

    def save(self) -> Any:
        """A checkpoint of now, with all that the run goes on from."""
        folder = self.run.folder / f"step_{self._optimisation.updates}"
        checkpoints.save(
            folder,
            self.policy,
            {
                "update_step": self._optimisation.updates,
                "env": self.config.env,
                "program": "sft",
                "start": self.config.start,
                "dataset": self.config.dataset,
            },
            tensors=self._optimisation.state(),
            state={"loader": self._loader.state_dict()},
        )
        return folder

    def _open(self, order: str, batch_size: int) -> Loader:
        config = self.config
        entry = Entry(root=config.dataset)
        contract = Contract(chunk=self._horizon, state_dim=self._width(entry))
        if order == "draw" and config.obs == "pixels":
            pixels = self._pixels()
            size, extras = (pixels["size"],) * 2, (config.auxiliary,) if config.auxiliary else ()
            contract = replace(contract, cameras=pixels["cameras"], image_size=size, extras=extras)
        mixture = open_mixture(Config(contract=contract, datasets=(entry,), order=order, seed=config.seed))
        return Loader(mixture, batch_size=batch_size, last="short" if order == "sequential" else "wrap")

    def _pixels(self) -> Mapping[str, Any]:
        """What a policy that sees must know of the environment.

        Raises:
            UsageError: E231, there is none for it.
        """
        if not self._place.row.pixels:
            raise UsageError("E231", f"{self._place.name} has no policy that sees; leave obs = pixels out")
        return self._place.row.pixels

    def _new(self, data: Demonstrations) -> TokenPolicy | PixelPolicy:
        """A policy with random parameters that knows the words and scales of its data."""
        config, slots = self.config, self._place.row.slots
        if config.obs == "pixels":
            words = Vocabulary.of(data.task).words
            return new_pixel_policy(data.state, data.action, words, slots=slots, pixels=self._pixels())
        return new_policy(data, slots=slots, scale=config.token_scale, vocab_size=config.vocab_size)

    def _width(self, entry: Entry) -> int:
        """Numbers of the dataset's states, which a contract has to say."""
        found = open_mixture(Config(contract=Contract(), datasets=(entry,)))
        width = found.members[0].widths[0]
        if width == 0:
            raise UsageError("E206", "the dataset has no observation.state, which these policies need; record it")
        return width

    def _demonstrations(self) -> Demonstrations:
        """All frames, once, without their images: what tokens and scales are fitted on."""
        batches = [self._filled(to_torch(batch)) for batch in self._open("sequential", _READ)]
        return Demonstrations(
            torch.cat([batch["observation.state"] for batch in batches]).numpy(),
            [task for batch in batches for task in batch["task"]],
            torch.cat([batch["action"] for batch in batches]).numpy(),
            len({int(number) for batch in batches for number in batch["episode_index"]}),
        )

    def _filled(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with nothing moving after an episode's end; the loader repeats the last motion there.

        What the second loss learns gets its name.
        """
        out = dict(batch)
        if self.config.auxiliary in out:
            out[TARGET] = out.pop(self.config.auxiliary)
        still = list(self._place.row.still)
        if still:
            moves = torch.zeros(batch["action"].shape[2], dtype=torch.bool)
            moves[still] = True
            out["action"] = batch["action"].masked_fill(batch["action_is_pad"][..., None] & moves, 0.0)
        return out

    def _fits(self) -> None:
        if isinstance(self.policy, PixelPolicy) != (self.config.obs == "pixels"):
            raise UsageError(
                "E203", f"obs is {self.config.obs}, and the checkpoint's policy observes something else"
            )
        config, mixture = self.policy.config, self._loader.mixture
        has = (mixture.config.contract.state_dim, self._horizon, mixture.action_dim)
        if has != (config.state, config.horizon, config.dim):
            raise UsageError(
                "E203",
                f"the dataset has states of {has[0]}, chunks of {has[1]} and actions of {has[2]} numbers, the"
                f" checkpoint's policy is for {config.state}, {config.horizon} and {config.dim}",
            )


def _parts(batch: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """A batch in so many parts, the last ones perhaps smaller."""
    size = len(batch["task"])
    out = []
    for rows in torch.arange(size).chunk(count):
        first, end = int(rows[0]), int(rows[-1]) + 1
        out.append({name: value[first:end] for name, value in batch.items()})
    return out
