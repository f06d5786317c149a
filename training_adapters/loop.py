"""What every program here does with a loss: accumulate, clip, step, follow a schedule, and go on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from training_adapters.stored import fitting
from vla_data import options as checks
from vla_data.errors import UsageError

PRECISIONS: Final = ("no", "bf16", "fp16")
Schedule = Callable[[float], float]


def cosine(share: float) -> float:
    """A factor of the learning rate: up over the first 5 %, then down along a cosine to 5 %."""
    return min(1.0, share / 0.05 + 0.02) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def linear(share: float) -> float:
    """A factor of the learning rate: from 1 down to a tenth."""
    return 1.0 - 0.9 * min(share, 1.0)


def warm_linear(share: float) -> float:
    """As `linear`, after a rise from a tenth over the first 2 %: Adam's first steps are as large as its rate."""
    return min(1.0, 0.1 + 0.9 * share / 0.02) * linear(share)


def constant(share: float) -> float:
    """A factor of the learning rate: 1."""
    return 1.0


SCHEDULES: Final[Mapping[str, Schedule]] = MappingProxyType(
    {"constant": constant, "cosine": cosine, "linear": linear, "warm_linear": warm_linear}
)
"""By name. Sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parameters with a learning rate and a bound of their own.

    Attributes:
        module: whose parameters.
        learning_rate: at the schedule's 1.
        clip: bound of the norm of their gradient.
    """

    module: nn.Module
    learning_rate: float
    clip: float


def accelerator(*, precision: str = "no", cpu: bool = True) -> Accelerator:
    """Where tensors are and in which precision losses are computed.

    Raises:
        UsageError: E001, an option is unknown.
    """
    try:
        checks.one_of("precision", precision, PRECISIONS)
    except ValueError as error:
        raise UsageError("E001", str(error)) from None
    if AcceleratorState._shared_state:  # of an earlier one in this process, which may have had another precision
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision, cpu=cpu)


class Optimisation:
    """A model that learns.

    Args:
        model: all of it; it is called through `model`, which may be a wrapper for several devices.
        groups: which of its modules learn how fast.
        accelerator: see `accelerator`.
        schedule: factor of the learning rates, by the share of the training that is done.
        weight_decay: of AdamW.
        eps: of AdamW.

    Attributes:
        model: to compute losses with.
        updates: steps of the optimiser so far.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[Group],
        *,
        accelerator: Accelerator,
        schedule: Schedule,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self._accelerator, self._schedule, self._groups = accelerator, schedule, groups
        optimizer = torch.optim.AdamW(
            [{"params": list(group.module.parameters()), "lr": group.learning_rate} for group in groups],
            weight_decay=weight_decay,
            eps=eps,
        )
        self.model, self._optimizer = accelerator.prepare(model, optimizer)
        self.updates = 0

    def step(
        self,
        losses: Callable[[Any], Tensor],
        parts: Sequence[Any],
        *,
        share: float,
        only: Sequence[int] | None = None,
    ) -> float:
        """One update of the mean of the losses of all samples, whatever the sizes of the parts.

        Args:
            losses: ``(B,)`` losses of a part's samples.
            parts: of the batch, one after the other through the model: accumulation. The last may be smaller.
            share: of the training that is done, for the schedule.
            only: the groups that learn; None: all.

        Returns:
            The mean loss.
        """
        counts = [_size(part) for part in parts]
        total = 0.0
        for part in parts:
            with self.autocast():
                loss = losses(part).sum() / sum(counts)
            self._accelerator.backward(loss)
            total += loss.item()
        for number, (group, options) in enumerate(zip(self._groups, self._optimizer.param_groups, strict=True)):
            learns = only is None or number in only
            options["lr"] = group.learning_rate * self._schedule(share) if learns else 0.0
            self._accelerator.clip_grad_norm_(group.module.parameters(), group.clip)
            if not learns:  # AdamW moves parameters by its memory also where the gradient is 0
                for parameter in group.module.parameters():
                    parameter.grad = None
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.updates += 1
        return total

    def autocast(self) -> Any:
        """The precision of losses, as a context."""
        return self._accelerator.autocast()

    def state(self) -> dict[str, Tensor]:
        """The optimiser's memory and the count of updates, as tensors by name."""
        out = {"updates": torch.tensor(self.updates)}
        for number, memory in self._optimizer.state_dict()["state"].items():
            for name, value in memory.items():
                out[f"optimizer/{number}/{name}"] = torch.as_tensor(value)
        return out

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`.

        Raises:
            UsageError: E301, it is of no such model.
        """
        memory: dict[int, dict[str, Tensor]] = {}
        with fitting("the state of the optimiser"):
            for key, value in state.items():
                if key.startswith("optimizer/"):
                    _, number, name = key.split("/")
                    memory.setdefault(int(number), {})[name] = value
            whole = self._optimizer.state_dict()
            self._optimizer.load_state_dict({**whole, "state": memory})
            self._check()
            self.updates = int(state["updates"])

    def _check(self) -> None:
        """Raises ValueError where the optimiser remembers parameters of another shape."""
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                for name, value in self._optimizer.state[parameter].items():
                    if value.ndim and value.shape != parameter.shape:
                        raise ValueError(f"{name} is of {tuple(value.shape)}, not {tuple(parameter.shape)}")


def _size(part: Any) -> int:
    """Samples of a part: a batch by name, or anything with a length."""
    if isinstance(part, Mapping):
        return len(part["task"])
    return len(part)
