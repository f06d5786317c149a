"""A run of RECAP: where its stages' results are, and what several of them need."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from training_adapters import checkpoints
from training_adapters.collect import collect
from training_adapters.collect_expert import collect_expert
from training_adapters.envs.table import Place
from training_adapters.evaluate import Evaluation, evaluate
from training_adapters.recap.config import RecapConfig
from training_adapters.recap.frames import Frames, read_frames
from training_adapters.recap.indicator import Indicator, Mode
from training_adapters.recap.record import Record, checkpoint_digest, dataset_digest
from training_adapters.runs import Run
from training_adapters.stored import fitting, read_json
from vla_data import formats
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.numbers.recap import resolve_success
from vla_data.errors import UsageError
from vla_data.files.sums import hash_tree
from vla_data.files.write import machine_errors, remove_tree, write_file
from vla_data.jobs.run import run as run_job
from vla_data.mixtures import Contract, parse
from vla_data.mixtures.config import Config, Entry
from vla_data.safety.text import show

BLOCK = 250
"""Episodes that are collected together: one whole block or nothing of it is kept."""


@dataclass(frozen=True)
class Project:
    """See the module.

    Attributes:
        config: the options.
        run: whose folder it is.
    """

    config: RecapConfig
    run: Run

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.run.folder

    @property
    def place(self) -> Place:
        """The environment."""
        return Place.of(self.config.env)

    def of_round(self, number: int) -> Path:
        """The folder of a round, from 1."""
        return self.folder / f"round_{number}"

    def record(self, stage: str, number: int | None = None) -> Record:
        """Of a stage, of a round or before all rounds."""
        return Record((self.folder if number is None else self.of_round(number)) / f"{stage}.json", stage)

    def log(self, folder: Path) -> Callable[[int, float], None]:
        """Lines of progress of what is trained there."""
        name = folder.relative_to(self.folder)
        return lambda update, loss: self.run.say(f"{name}: update {update}, loss {loss:.4f}")

    # -- what stages made ---------------------------------------------------------------------------

    def sft(self) -> checkpoints.Saved:
        """The policy that was cloned.

        Raises:
            UsageError: E003, there is none yet.
        """
        found = self.record("sft").need(self.demo_digests())
        with fitting(show(self.record("sft").path)):
            return checkpoints.load(self.folder / found["checkpoint"])

    def critic(self) -> checkpoints.Saved:
        """The critic of demonstrations; raises as `sft`."""
        self.record("value").need(self.value_inputs())
        return checkpoints.load(self.folder / "value")

    def policy(self, number: int) -> checkpoints.Saved:
        """The policy after a round; after round 0 the cloned one. Raises as `sft`."""
        if number == 0:
            return self.sft()
        if self.record("policy-finetune", number).read() is None:
            self.record("policy-finetune", number).need({})
        return checkpoints.load(self.of_round(number) / "policy")

    def dataset(self, number: int) -> Path:
        """The rollouts of a round as a dataset; raises as `sft`, and E301 if another policy played them."""
        self.record("rollout", number).need(self.rollout_inputs(number))
        return self.of_round(number) / "dataset"

    # -- what they are made of ----------------------------------------------------------------------

    def demo_digests(self) -> dict[str, str]:
        """Of the demonstrations' datasets."""
        mixture = self.mixture()
        return {f"demonstrations {at}": _any_digest(entry.root) for at, entry in enumerate(mixture.datasets)}

    def value_inputs(self) -> dict[str, str]:
        """Of the first critic."""
        return {**self.demo_digests(), "sft": checkpoint_digest(self.sft().folder)}

    def rollout_inputs(self, number: int) -> dict[str, str]:
        """Of a round's rollouts."""
        return {"policy": checkpoint_digest(self.policy(number - 1).folder)}

    def mixture(self) -> Config:
        """The demonstrations' mixture: the configured one, or our own expert's dataset.

        Raises:
            UsageError: E003, the expert's was not collected yet; E001, the mixture is at another rate than the
                environment.
        """
        given = self.config.dataset_mixture
        if given is None:
            root = self.folder / "demos" / "dataset"
            if not root.is_dir():
                raise UsageError("E003", "there are no demonstrations yet: vla-train recap sft")
            return Config(contract=Contract(), datasets=(Entry(root=str(root), name="demos"),))
        found = parse({"dataset_mixture": given})
        freq, fps = found.contract.action_freq, self.place.row.fps
        if freq is not None and freq != fps:
            raise UsageError(
                "E001", f"action_freq is {freq:g}, and {self.config.env} executes {fps:g} steps a second"
            )
        return found

    def demonstrations(self) -> Frames:
        """Solved episodes of the demonstrations; where nothing says how one ended it counts as solved."""
        mixture = self.mixture()
        frames = self._frames(mixture.datasets, mixture.contract)
        good = np.ones(len(frames), dtype=np.bool_)
        for at, entry in enumerate(mixture.datasets):
            name, root = formats.find(entry.root)
            if name == "lerobot":
                solved = outcomes(FrameTable.read(Path(root)), unlabelled="success")
                own = np.flatnonzero(frames.dataset == at)
                good[own] = [solved[int(number)] for number in frames.episode[own]]
        left = int((~good).sum())
        if left:
            self.run.say(f"{left:,} frames of demonstrations are of episodes that were not solved; left out")
        if not good.any():
            raise UsageError("E003", "no demonstration was solved")
        return frames.pick(good)

    def rollouts(self, rounds: int, *, tag: str = "") -> Frames:
        """Frames of the rollouts of the first rounds, with ``solved`` and, if named, an annotation's columns."""
        roots = [self.dataset(number) for number in range(1, rounds + 1)]
        entries = tuple(
            Entry(root=f"lerobot:{root}", name=f"round_{at}", annotation=tag) for at, root in enumerate(roots, 1)
        )
        frames = self._frames(entries, self.mixture().contract, player=self.sft().bins())
        ends = [outcomes(FrameTable.read(root)) for root in roots]
        pairs = zip(frames.dataset.tolist(), frames.episode.tolist(), strict=True)
        solved = np.array([ends[dataset][episode] for dataset, episode in pairs], dtype=np.bool_)
        return replace(frames, columns={**frames.columns, "solved": solved})

    def indicator(self, mode: Mode | None = None) -> Indicator:
        """The words of prompts."""
        config = self.config
        return Indicator(target="opentau", mode=mode or config.advantage, dropout=config.dropout, seed=config.seed)

    def _frames(self, entries: tuple[Entry, ...], contract: Contract, **more: Any) -> Frames:
        row = self.place.row
        return read_frames(entries, contract=contract, horizon=row.horizon, still=row.still, **more)

    # -- what is played -----------------------------------------------------------------------------

    def show(self, episodes: int) -> None:
        """The expert's episodes as ``demos/dataset``, in the place of fewer."""
        folder = self.folder / "demos"
        with machine_errors("cannot remove earlier demonstrations"):
            remove_tree(folder)
        collect_expert(self.place, folder / "rollouts", episodes=episodes, seed=self.config.seed, images=False)
        self.publish(folder)

    def play(self, policy: Any, number: int) -> tuple[int, int]:
        """Rollouts of a round, block by block; solved episodes and all of them."""
        folder, solved = self.of_round(number) / "rollouts", 0
        total = self.config.rollouts
        for block in range(-(-total // BLOCK)):
            path, facts = folder / f"block_{block:04d}", folder / f"block_{block:04d}.json"
            size = min(BLOCK, total - block * BLOCK)
            if not path.exists():
                beside = folder / f".block_{block:04d}"
                remove_tree(beside)
                done = collect(
                    policy,
                    self.place,
                    beside,
                    episodes=size,
                    horizon=self.place.row.horizon,
                    tokens=policy.longest,
                    seed=int(np.random.SeedSequence((self.config.seed, number, block)).generate_state(1)[0]),
                    images=False,
                )
                write_file(facts, json.dumps({"solved": done.success.count, "dropped": done.dropped}).encode())
                beside.rename(path)
                self.run.say(f"round {number}: {block * BLOCK + size} of {total} episodes, {done.success} solved")
            with fitting(show(facts)):
                solved += int(read_json(facts, root=folder)["solved"])
        return solved, total

    def publish(self, folder: Path) -> None:
        """The rollouts in a folder as the LeRobot dataset beside them, with every episode, solved or not."""
        target = folder / "dataset"
        if not target.exists():
            sink = formats.open_sink(target, format="lerobot")
            run_job(formats.open_source(folder / "rollouts"), (), sink, workers=1)

    def evaluate(self, policy: Any, path: Path, **options: Any) -> Evaluation:
        """Success on held-out starts, measured once and kept in a file."""
        if path.exists():
            return Evaluation.read(path)
        options = {"episodes": self.config.eval_episodes, "starts_seed": self.config.eval_seed, **options}
        found = evaluate(policy, self.place, horizon=self.place.row.horizon, **options)
        with machine_errors("cannot write the evaluation"):
            write_file(path, (json.dumps(found.to_json(), indent=2, sort_keys=True) + "\n").encode())
        return found


def outcomes(table: FrameTable, *, unlabelled: Any = "error") -> Mapping[int, bool]:
    """``episode_index`` -> whether it was solved."""
    try:
        solved = resolve_success(table.success()[0], unlabelled)
    except ValueError as error:
        raise UsageError("E003", f"the rollouts: {error}") from None
    return dict(zip(table.numbers.tolist(), solved.tolist(), strict=True))


def _any_digest(root: str) -> str:
    """Of demonstrations in any format; raises UsageError, E001, where they are not on this machine."""
    name, place = formats.find(root)
    if not isinstance(place, Path):
        raise UsageError("E001", f"demonstrations are taken from this machine; {name} is read from an address")
    if name == "lerobot":
        return dataset_digest(place)
    with machine_errors("cannot read the demonstrations"):
        return hash_tree(place)
