"""P17: collecting chunks of a policy in the table-top scene, against what bare simulator and bare policy allow.

    python -m benchmarks.p17_collecting [--lanes 96] [--rounds 12] [--repeats 5] [--checkpoint CHECKPOINT]

needs ``vla-data[train]``. One process, CPU seconds, the three sides in turn on the same chunks:

- **simulator**: ``mj_step`` with the controls of every step that was collected, from each episode's start, and
  nothing else: no action, observation, reward or reset.
- **policy**: ``act`` on every batch that was collected, with the same draws, and ``value`` of it, which PPO needs.
- **collecting**: `training_adapters.ppo.collect.Collector` with all that it does: resets, rewards, advantages,
  values.

``share`` is the time of the first two over that of the third; the goal is 80 %.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

from benchmarks import harness
from training_adapters import checkpoints
from training_adapters.cloning import clone, new_policy
from training_adapters.demonstrations import demonstrate
from training_adapters.envs.lanes import Lanes
from training_adapters.envs.scene import scene
from training_adapters.envs.table import Place
from training_adapters.envs.tabletop import Tabletop
from training_adapters.policies.value import ActorCritic
from training_adapters.ppo.collect import Collector

GOAL = 0.8
SUBSTEPS = 10  # of the scene's control step


@dataclass(slots=True)
class Played:
    """What the simulator was told, by episode: its state at the start and the controls of each step."""

    starts: list[tuple[Any, Any]] = field(default_factory=list)
    controls: list[list[Any]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return sum(map(len, self.controls))


class Watched(Tabletop):
    """The scene, with its controls written down as they come."""

    played: Played

    def reset(self, **options: Any) -> Any:
        out = super().reset(**options)
        self.own: list[Any] = []
        self.played.starts.append((self._data.qpos.copy(), self._data.qvel.copy()))
        self.played.controls.append(self.own)
        return out

    def step(self, action: Any) -> Any:
        out = super().step(action)
        self.own.append(self._data.ctrl.copy())
        return out


class WatchedPlace(Place):
    """A place whose environments write into `played`."""

    played: Played

    def make(self, cameras: Any = ()) -> Any:
        env = Watched()
        env.played = self.played
        return env


def model_of(checkpoint: Path | None) -> ActorCritic:
    if checkpoint is not None:
        return checkpoints.load(checkpoint).actor_critic()[0]
    torch.manual_seed(0)
    data = demonstrate(60, seed=0, horizon=8)
    policy = new_policy(data, slots=Place.of("tabletop").row.slots)
    clone(policy, data, updates=300, seed=0)
    return ActorCritic(policy)


def collector(model: ActorCritic, place: Place, lanes: int) -> Collector:
    random = np.random.default_rng(0)
    side = Lanes(place, count=lanes, horizon=8, begins=lambda: place.draw(random))
    side.begin()
    generator = torch.Generator().manual_seed(0)
    return Collector(model, side, generator, count=lanes, gamma=0.97, discount="chunk", lam=0.95)


def timed(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = model_of(given.checkpoint)

    played, batches = Played(), []
    place = WatchedPlace("tabletop", Place.of("tabletop").row)
    object.__setattr__(place, "played", played)
    first = collector(model, place, given.lanes)
    acts = model.act

    def told(batch: Any, generator: torch.Generator, **options: Any) -> Any:
        batches.append(batch)
        return acts(batch, generator, **options)

    model.act = told  # type: ignore[method-assign]
    steps = first.collect(given.rounds).steps
    model.act = acts  # type: ignore[method-assign]
    scenery = mujoco.MjModel.from_xml_string(scene())
    data = mujoco.MjData(scenery)

    def simulator() -> None:
        for (position, velocity), controls in zip(played.starts, played.controls, strict=True):
            mujoco.mj_resetData(scenery, data)
            data.qpos[:], data.qvel[:] = position, velocity
            for control in controls:
                data.ctrl[:] = control
                mujoco.mj_step(scenery, data, SUBSTEPS)

    def policy() -> None:
        generator = torch.Generator().manual_seed(0)
        for batch in batches:
            model.act(batch, generator)
            with torch.no_grad():
                model.value(batch)

    def collecting() -> float:
        made = collector(
            model, Place.of("tabletop"), given.lanes
        )  # its environments and first resets do not count
        return timed(lambda: made.collect(given.rounds))

    sides = {
        "simulator": lambda _: timed(simulator),
        "policy": lambda _: timed(policy),
        "collecting": lambda _: collecting(),
    }
    done = harness.alternate(sides, repeats=given.repeats)
    seconds = {name: harness.median(runs) for name, runs in done.items()}
    seconds["simulator and policy"] = seconds["simulator"] + seconds["policy"]
    share = seconds["simulator and policy"] / seconds["collecting"]
    rows = [
        {
            "side": name,
            "CPU s": seconds[name],
            "steps / CPU s": steps / seconds[name],
            "spread": harness.spread(done[name]) if name in done else None,
        }
        for name in ("simulator", "policy", "simulator and policy", "collecting")
    ]
    print(harness.table(rows))
    print(f"{steps:,} environment steps in {given.lanes} lanes; share {share:.1%}, goal {GOAL:.0%}")
    if given.output:
        machine = harness.machine("numpy", "torch", "mujoco")
        harness.write_json(given.output, {"machine": machine, "share": share, "steps": steps, "rows": rows})


if __name__ == "__main__":
    main()
