"""What of an episode nobody will look at, known before it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Names(Protocol):
    """What a step says that only chooses or names features; any other step may look at everything that it gets."""

    def needs(self, name: str) -> bool:
        """Whether it looks at a feature."""
        ...

    def becomes(self, name: str) -> str | None:
        """What it calls a feature; None where it drops it."""
        ...


@dataclass(frozen=True, slots=True)
class Unwanted:
    """The features of a source that these steps drop before anybody looks at them.

    Attributes:
        steps: of a job, in order.
    """

    steps: tuple[Any, ...] = ()

    def __contains__(self, name: object) -> bool:
        """Whether a feature of the source, by its name there, is dropped unseen."""
        current: str | None = str(name)
        for step in self.steps:
            if current is None or not isinstance(step, Names) or step.needs(current):
                break
            current = step.becomes(current)
        return current is None


def name_after(name: str, steps: Sequence[Any]) -> str | None:
    """What steps call a feature of their source in the end; None where one of them drops it."""
    current: str | None = name
    for step in steps:
        if current is not None and isinstance(step, Names):
            current = step.becomes(current)
    return current
