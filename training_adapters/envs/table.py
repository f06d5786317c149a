"""Environments by name: one row each, with what a policy must know of them and what has to be installed."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import gymnasium
import numpy as np

from training_adapters.envs import features, scene, starts
from vla_data.core import Feature
from vla_data.errors import UsageError
from vla_data.safety.text import show

BETWEEN: Final = "+"
"""Between the names of several tasks of one environment, as in ``metaworld/reach-v3+push-v3``: a start's seed says
which of them it is of, in turn."""

Env: TypeAlias = "gymnasium.Env[dict[str, Any], Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """How an episode begins: what its ``reset`` is told.

    Attributes:
        seed: for environments that draw their start from one.
        initial_state: for those that take a recorded one, as JSON.
        init_hash: the same start, the same text.
    """

    seed: int | None = None
    initial_state: Mapping[str, Any] | None = None
    init_hash: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; ``Begin(**value)`` is the way back."""
        return {"seed": self.seed, "initial_state": self.initial_state, "init_hash": self.init_hash}

    def facts(self) -> dict[str, Any]:
        """What a recording says of the episode that begins so."""
        facts = {"init_hash": self.init_hash, "seed": self.seed}
        return {name: value for name, value in facts.items() if value is not None}

    def reset(self, env: Env) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode so."""
        options = None if self.initial_state is None else {"initial_state": self.initial_state}
        seen, info = env.reset(seed=self.seed, options=options)
        return seen, info


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An environment, or a family of them.

    Attributes:
        module: where its ``make(name, cameras)`` is.
        needs: the module that must be installed; "": nothing more than the extra ``train``.
        install: what to install for it.
        horizon: steps of a chunk, unless a run says otherwise.
        fps: steps per second.
        slots: where objects are in the state; see `training_adapters.policies.config.PolicyConfig`.
        still: elements of an action that are 0 when nothing moves.
        recorded_starts: whether ``reset`` takes ``initial_state``; else episodes begin by seed.
        expert: the module of its scripted expert, whose ``expert(env)`` is the next action; "": there is none.
        noise: deviation of what is added to its expert's first three numbers, as a share of their limits: for
            translations; 0 for places.
        lanes: environments side by side, at most, where a program does not say it: their memory.
        features: what its recordings mean; without, actions are recorded as `RolloutWriter`'s seven numbers.
        pixels: what a policy that sees must know, as options of
            `training_adapters.policies.pixels.PixelConfig`; empty: there is none for it. The environment then has
            ``image(camera)``.
        target: what its ``target`` means, the place of what the prompt names, which recordings of the expert with
            images have as a label; None: it has none.
    """

    module: str
    needs: str = ""
    install: str = ""
    horizon: int = 8
    fps: float = 20.0
    slots: tuple[int, ...] = ()
    still: tuple[int, ...] = ()
    recorded_starts: bool = False
    expert: str = ""
    noise: float = 0.15
    lanes: int = 48
    features: Mapping[str, Feature] = field(default_factory=dict)
    pixels: Mapping[str, Any] = field(default_factory=dict)
    target: Feature | None = None


ENVS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "gym_aloha": Row(
            module="training_adapters.envs.gym_aloha",
            needs="gym_aloha",
            install="gym-aloha",
            horizon=16,
            fps=50.0,
            expert="training_adapters.envs.aloha_expert",
            noise=0.0,
            lanes=16,
            features=features.ALOHA,
        ),
        "gym_pusht": Row(
            module="training_adapters.envs.gym_pusht", needs="gym_pusht", install="gym-pusht", horizon=8, fps=10.0
        ),
        "metaworld": Row(
            module="training_adapters.envs.metaworld",
            needs="metaworld",
            install="metaworld",
            horizon=8,
            fps=80.0,
            still=(0, 1, 2),
            expert="training_adapters.envs.metaworld",
            lanes=12,
            features=features.METAWORLD,
        ),
        "tabletop": Row(
            module="training_adapters.envs.tabletop",
            slots=(6, 3, 4),
            still=(0, 1, 2, 3, 4, 5),
            recorded_starts=True,
            expert="training_adapters.envs.expert",
            features=features.TABLETOP,
            pixels=MappingProxyType(
                {
                    "cameras": ("top", "side"),
                    "size": 64,
                    "own": (0, 1, 2, 3, 4, 5, 18),
                    "hand": (0, 1, 2),
                    "origin": (0.0, 0.0, scene.HAND_HEIGHT),
                }
            ),
            target=features.TARGET,
        ),
    }
)
"""First part of an environment's name -> its row. Sorted."""


@dataclass(frozen=True)
class Place:
    """An environment that can be made several times.

    Attributes:
        name: as it was given, for example ``gym_aloha/AlohaTransferCube-v0``.
        row: of `ENVS`.
    """

    name: str
    row: Row = field(repr=False)

    @classmethod
    def of(cls, name: str) -> Place:
        """The environment of a name.

        Raises:
            UsageError: E001, there is none; E006, its package is not installed.
        """
        family = name.partition("/")[0]
        if family not in ENVS:
            raise UsageError("E001", f"env is {show(name)!r}; known are {', '.join(ENVS)} (as in gym_aloha/NAME)")
        row = ENVS[family]
        if row.needs:
            try:
                importlib.import_module(row.needs)
            except ModuleNotFoundError:
                raise UsageError("E006", f"{family} needs the package: pip install {row.install}") from None
        return cls(name, row)

    def make(self, cameras: Sequence[str] = ()) -> Env:
        """A new environment with LeRobot's observation keys; ``env.task`` is its prompt."""
        make: Callable[[str, Sequence[str]], Env] = importlib.import_module(self.row.module).make
        return make(self.name.partition("/")[2], cameras)

    def expert(self) -> Callable[[Env], Any]:
        """The scripted expert: the next action in an environment.

        Raises:
            UsageError: E231, there is none.
        """
        if not self.row.expert:
            raise UsageError(
                "E231",
                f"{self.name} has no scripted expert to clone: give a checkpoint (--start, or --checkpoint of"
                " collect), which vla-train sft makes of a dataset",
            )
        expert: Callable[[Env], Any] = importlib.import_module(self.row.expert).expert
        return expert

    def draw(self, random: np.random.Generator, *, turn: int | None = None) -> Begin:
        """A start for training; with ``turn``, 0, 1, ..., the prompts come in turn and are not drawn."""
        if self.row.recorded_starts:
            task = None if turn is None else turn % len(starts.TASKS)
            return _recorded(starts.draw_start(random, task=task))
        seed, tasks = int(random.integers(2**20, 2**31)), self.name.count(BETWEEN) + 1
        return self._seeded(seed if turn is None else seed - seed % tasks + turn % tasks)

    def held_out(self, count: int, *, seed: int = starts.HELD_OUT_SEED) -> list[Begin]:
        """Starts for evaluation: a seed's are always the same, and `draw` gives none of the default's."""
        if self.row.recorded_starts:
            return [_recorded(start) for start in starts.starts(count, seed=seed)]
        if not 0 <= seed <= 2**20 - count:
            raise UsageError("E001", f"the seed of held-out starts is {seed}, not 0 to {2**20 - count}")
        return [self._seeded(seed + number) for number in range(count)]

    def _seeded(self, seed: int) -> Begin:
        return Begin(seed=seed, init_hash=hashlib.sha256(f"{self.name}|{seed}".encode()).hexdigest())


def _recorded(start: starts.Start) -> Begin:
    return Begin(initial_state=start.to_json(), init_hash=start.init_hash)
