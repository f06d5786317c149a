"""What a reference policy is made for: sizes, words and where blocks are in its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from vla_data import options as checks
from vla_data.errors import UsageError
from vla_data.safety.text import show


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The form of a reference policy; it is kept with every checkpoint.

    Attributes:
        state: numbers of ``observation.state``.
        horizon: steps of a chunk, H.
        dim: numbers of an action, D.
        words: that its prompts may have.
        slots: where objects are in the state, as (first number, objects, numbers of each); empty: none. A policy
            with slots reads which object a prompt names through a gate from words to slots. This is an inductive
            bias, which results must state.
        width: of the transformer.
        layers: of the transformer.
        heads: of its attention.
    """

    state: int
    horizon: int
    dim: int
    words: tuple[str, ...]
    slots: tuple[int, ...] = ()
    width: int = 64
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        for name in ("state", "horizon", "dim", "width", "layers", "heads"):
            checks.whole(name, getattr(self, name), low=1, high=4096)
        object.__setattr__(self, "words", tuple(self.words))
        object.__setattr__(self, "slots", tuple(self.slots))
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided among {self.heads} heads")
        if self.slots and (len(self.slots) != 3 or self.slots[0] + self.slots[1] * self.slots[2] > self.state):
            raise ValueError(f"slots {self.slots} are not in a state of {self.state}")

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; `of` is the way back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The configuration of a stored one.

        Raises:
            UsageError: E001, it is none of this version.
        """
        known = {field.name for field in fields(cls)}
        try:
            if set(facts) - known:
                raise ValueError(f"it has unknown keys: {', '.join(sorted(set(facts) - known))}")
            return cls(**facts)
        except (TypeError, ValueError) as error:
            raise UsageError("E001", f"the checkpoint's policy: {show(error)}") from None
