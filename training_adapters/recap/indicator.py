r"""RECAP's indicator: which frames are positive, and the exact text that each model's tokenizer gets.

A model is conditioned on words, ``Advantage: positive`` or ``Advantage: negative``, between the instruction and
the actions. How they reach the model differs, and a text that differs from what was trained is another condition:

| target | what the model reads, for the task ``Pick_up the cup`` |
| --- | --- |
| ``opentau`` | ``Pick_up the cup\nAdvantage: positive\n`` |
| ``openpi-pi0`` | ``Pick up the cup Advantage: positive`` then ``\n`` as the start of the answer |
| ``openpi-pi05`` | ``Task: Pick up the cup Advantage: positive, State: 128 0;\nAction: `` |
| ``openpi-fast`` | ``Task: pick up the cup\nadvantage: positive, State: 128 0;\n`` |
| ``rlinf`` | ``Pick_up the cup\nAdvantage: positive`` |

openpi's PaliGemma tokenizer strips the text and makes underscores and newlines spaces; its FAST tokenizer strips
and lower-cases it and makes underscores spaces, and leaves newlines. So there are two texts: `Indicator.prompt` is
what a dataset hands to the trainer as the prompt, `model_text` what that trainer's tokenizer makes of it.

OpenTau can also add the words itself, from the advantage in the batch. Use one or the other: with the prompts of
this module its policy has to be set to ``advantage="ignore"``. The model reads the same then, and dropout, forced
positives and thresholds of tasks, which OpenTau does not have, are in the prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vla_data import options as checks
from vla_data.advantages.numbers.thresholds import OPERATORS, Operator
from vla_data.errors import UsageError
from vla_data.names import unit_hash

MODES: Final = ("ignore", "on", "use")
Mode = Literal["ignore", "on", "use"]
TARGETS: Final = ("openpi-fast", "openpi-pi0", "openpi-pi05", "opentau", "rlinf")
Target = Literal["openpi-fast", "openpi-pi0", "openpi-pi05", "opentau", "rlinf"]
POSITIVE: Final = "Advantage: positive"
NEGATIVE: Final = "Advantage: negative"


@dataclass(frozen=True, kw_only=True)
class Indicator:
    """How frames are conditioned.

    Attributes:
        target: whose model.
        mode: ``use``: by the frame's label; ``on``: positive always, as for demonstrations and for inference;
            ``ignore``: no indicator.
        threshold: with labels from advantages: the bound; one number, or that of the frame's task.
        op: ``>=`` (OpenTau, RLinf) or ``>`` (the paper).
        dropout: share of frames without an indicator, so that the model also learns the unconditioned actions, for
            guidance: 0 in OpenTau, 0.1 in RLinf, 0.3 in the paper.
        seed: of the dropout, which is decided by a hash of the frame and the epoch: it is the same on every worker
            and machine, and after a resume.
        positive_only: negative frames never have an indicator: RLinf's ``positive_only_conditional``.
    """

    target: Target
    mode: Mode = "use"
    threshold: float = 0.0
    op: Operator = ">="
    dropout: float = 0.0
    seed: int = 0
    positive_only: bool = False

    def __post_init__(self) -> None:
        checks.one_of("target", self.target, TARGETS)
        checks.one_of("mode", self.mode, MODES)
        checks.number("threshold", self.threshold)
        checks.one_of("op", self.op, OPERATORS)
        checks.number("dropout", self.dropout, low=0, high=1)
        checks.whole("seed", self.seed, low=0)
        checks.flag("positive_only", self.positive_only)

    def positive(self, advantage: float | None, *, threshold: float | None = None) -> bool:
        """Whether a frame with this advantage is positive; without one (at inference) it is.

        Inference is the only place where there is none: a frame of a dataset that has no advantage is an error,
        which `prompts` raises.

        Raises:
            UsageError: E302 when the advantage or the threshold is NaN, which is neither above nor below anything.
        """
        if self.mode == "on" or advantage is None:
            return True
        bound = self.threshold if threshold is None else threshold
        if math.isnan(advantage) or math.isnan(bound):
            raise UsageError("E302", f"an advantage of {advantage:g} with a threshold of {bound:g} has no label")
        return advantage >= bound if self.op == ">=" else advantage > bound

    def prompt(self, task: str, *, positive: bool | None = True) -> str:
        """The text to hand to the target's trainer as its prompt.

        Args:
            task: the instruction, as it is in the dataset.
            positive: the frame's label; None: no indicator, as for a frame that was dropped out.
        """
        if self.mode == "ignore" or positive is None:
            return task
        if self.mode == "on":
            positive = True
        elif self.positive_only and not positive:
            return task
        words = POSITIVE if positive else NEGATIVE
        if self.target == "rlinf":
            return f"{task}\n{words}"
        line = task if task.endswith("\n") else f"{task}\n"
        return f"{line}{words}\n" if self.target == "opentau" else f"{line}{words}"

    def dropped(self, episode: str | int, frame: int, *, epoch: int = 0) -> bool:
        """Whether a frame goes without an indicator in this epoch."""
        if not self.dropout:
            return False
        return unit_hash(f"{episode}\0{frame}\0{epoch}", salt=f"indicator {self.seed}") < self.dropout

    def prompts(
        self,
        tasks: Sequence[str],
        labels: NDArray[np.bool_] | Sequence[bool],
        *,
        episodes: Sequence[str | int],
        frames: Sequence[int],
        epoch: int = 0,
    ) -> list[str]:
        """The prompts of a batch, dropout included.

        Args:
            tasks: (B,) instructions.
            labels: (B,) ``positive`` of the annotation. Forced positives are in it.
            episodes: (B,) ids or numbers.
            frames: (B,) frame numbers.
            epoch: which draw of the dropout.

        Raises:
            UsageError: E302 when labels are missing or no booleans; nothing counts as positive by default.
        """
        positive = np.asarray(labels)
        if positive.dtype != np.bool_ or positive.shape != (len(tasks),):
            found = f"{positive.dtype} of shape {positive.shape}"
            raise UsageError("E302", f"labels are {found}, not ({len(tasks)},) bool")
        texts = []
        for task, label, episode, frame in zip(tasks, positive.tolist(), episodes, frames, strict=True):
            gone = self.dropped(episode, frame, epoch=epoch)
            texts.append(self.prompt(task, positive=None if gone else label))
        return texts


def model_text(target: Target, prompt: str, state: Any = None) -> str:
    """What the target's tokenizer makes of a prompt before it cuts it into tokens.

    Args:
        target: whose tokenizer.
        prompt: of `Indicator.prompt`.
        state: (D,) the normalised state, which pi0.5 and FAST write into the text in 256 bins.

    Raises:
        UsageError: E001 when the target needs the state and it is not given.
    """
    checks.one_of("target", target, TARGETS)
    if target == "rlinf":
        return prompt
    if target == "opentau":
        return prompt if prompt.endswith("\n") else f"{prompt}\n"
    clean = prompt.strip().replace("_", " ")
    if target == "openpi-pi0":
        return clean.replace("\n", " ") + "\n"
    if state is None:
        raise UsageError("E001", f"{target} writes the state into its text: give the state")
    bins = " ".join(map(str, state_bins(state).tolist()))
    if target == "openpi-pi05":
        return f"Task: {clean.replace(chr(10), ' ')}, State: {bins};\nAction: "
    return f"Task: {clean.lower()}, State: {bins};\n"


def state_bins(state: Any) -> NDArray[np.int64]:
    """The 256 bins of openpi of a normalised state: -1 is 0, 0 is 128, 1 and beyond 255; below -1 it is -1."""
    return np.asarray(np.digitize(np.asarray(state), np.linspace(-1, 1, 257)[:-1]) - 1, dtype=np.int64)
