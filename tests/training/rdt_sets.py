"""The expert's episodes of the table-top scene as datasets: in physical units, and in the controller's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.training.controller_units import ControllerUnits
from training_adapters.collect_expert import collect_expert
from training_adapters.envs.table import Place
from training_adapters.envs.tabletop import LIMITS
from training_adapters.policy import Batch, Chunk
from training_adapters.rdt.player import UnifiedPlayer
from vla_data import formats
from vla_data.jobs.run import run


@dataclass(frozen=True)
class OwnWayBack:
    """A policy of `ControllerUnits`, played by one who knows: what it calls a metre is the whole range."""

    player: UnifiedPlayer

    def act(self, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0) -> Chunk:
        chunk = self.player.act(batch, generator, temperature=temperature)
        return replace(chunk, actions=chunk.actions * torch.from_numpy(LIMITS.astype(np.float64)))


def datasets(folder: Path, *, episodes: int, seed: int) -> tuple[Path, Path]:
    """The same episodes in physical units and in the controller's."""
    collect_expert(Place.of("tabletop"), folder / "rollouts", episodes=episodes, seed=seed, images=False)
    steps: dict[str, tuple[Any, ...]] = {"physical": (), "controller": (ControllerUnits(),)}
    for name, some in steps.items():
        sink = formats.open_sink(folder / name, format="lerobot")
        run(formats.open_source(folder / "rollouts"), some, sink, workers=1)
    return folder / "physical", folder / "controller"
