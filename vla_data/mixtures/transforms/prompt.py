"""The indicator of RECAP in the text of the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import UsageError
from vla_data.mixtures.transforms.base import Batch, BatchTransform, Form


class Prompts(Protocol):
    """What makes the texts: `training_adapters.recap.Indicator`, or another with its methods."""

    @property
    def mode(self) -> str:
        """``use``: by labels; ``on`` and ``ignore`` need none."""
        ...

    def prompt(self, task: str) -> str:
        """The text to act by: positive, unless the mode says otherwise."""
        ...

    def prompts(
        self,
        tasks: Sequence[str],
        labels: NDArray[np.bool_],
        *,
        episodes: Sequence[int],
        frames: Sequence[int],
        epoch: int,
    ) -> list[str]:
        """The texts of a batch."""
        ...


@dataclass(frozen=True)
class Prompt(BatchTransform):
    """Makes ``task`` what the indicator makes of it and of ``positive``, the label in the dataset's annotation.

    Whether a frame goes without an indicator depends on its ``episode_index`` and ``frame_index``, the epoch and
    the indicator's seed: it is the same with any workers, and after a resume. What has no ``episode_index`` is not
    of a dataset but of a robot, and gets the text to act by. Actions stay as they are.

    Attributes:
        indicator: makes the texts.
    """

    indicator: Prompts

    def bind(self, form: Form) -> tuple[Prompt, Form]:
        """See `BatchTransform.bind`.

        Raises:
            UsageError: E302, there are no labels; nothing counts as positive by default.
        """
        if self.indicator.mode == "use" and "positive" not in form.columns:
            raise UsageError(
                "E302",
                "prompts need labels: each dataset an annotation = TAG, made with --positive-share or --epsilon",
            )
        return self, form

    def forward(self, batch: Batch, *, epoch: int = 0) -> dict[str, Any]:
        """See `BatchTransform.forward`.

        Raises:
            UsageError: E302, there are no labels.
        """
        tasks = batch["task"]
        if "episode_index" not in batch:
            return dict(batch) | {"task": [self.indicator.prompt(task) for task in tasks]}
        if self.indicator.mode != "use":
            labels = np.ones(len(tasks), dtype=np.bool_)
        elif "positive" in batch:
            labels = np.asarray(batch["positive"])
        else:
            raise UsageError(
                "E302", "the batch has no labels (positive), and nothing counts as positive by default"
            )
        episodes, frames = (np.asarray(batch[name]).tolist() for name in ("episode_index", "frame_index"))
        texts = self.indicator.prompts(tasks, labels, episodes=episodes, frames=frames, epoch=epoch)
        return dict(batch) | {"task": texts}
