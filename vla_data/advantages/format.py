"""What all interchange layouts share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vla_data.advantages.annotation import Annotation
from vla_data.advantages.frame_table import FrameTable
from vla_data.advantages.join import Coverage
from vla_data.advantages.numbers.flat import Bools, Floats
from vla_data.core import Json
from vla_data.errors import UsageError
from vla_data.safety.files import is_own


@dataclass(frozen=True, kw_only=True)
class Exchanged:
    """What a file of another project says of a dataset's frames.

    Attributes:
        layout: its layout.
        files: relative to the dataset.
        coverage: whether it speaks of every frame, once.
        advantages: (N,) NaN where it does not, or None where the layout has none.
        values: (N,) V, or None.
        positive: (N,) bool, or None.
        facts: what else it says.
    """

    layout: str
    files: tuple[str, ...]
    coverage: Coverage
    advantages: Floats | None = None
    values: Floats | None = None
    positive: Bools | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a layout wants to be written.

    Attributes:
        files: name, relative to the dataset -> its bytes.
        facts: what a user must know to train with it, JSON-ready.
    """

    files: Mapping[str, bytes | memoryview | Iterable[bytes]]
    facts: Mapping[str, Json] = field(default_factory=dict)


class Layout(Protocol):
    """One project's way to store advantages; a module has these functions."""

    def files(self, tag: str) -> tuple[str, ...]:
        """The names of what `write` gives, relative to the dataset."""
        ...

    def write(self, annotation: Annotation, table: FrameTable) -> Written:
        """The files of an annotation."""
        ...

    def read(self, table: FrameTable, tag: str | None) -> Exchanged:
        """What is there, put onto the dataset's frames."""
        ...


def need_labels(annotation: Annotation, layout: str) -> Bools:
    """The labels of an annotation.

    Raises:
        UsageError: E001 when it has none.
    """
    if annotation.positive is None:
        raise UsageError("E001", f"{layout} stores which frames are positive: give --positive-share or --epsilon")
    return annotation.positive


def need_tag(tag: str | None, layout: str) -> str:
    """The tag.

    Raises:
        UsageError: E001 without one.
    """
    if tag is None:
        raise UsageError("E001", f"{layout} names its files by a tag: give --tag")
    return tag


def file_of(root: Path, name: str) -> Path:
    """A file of the dataset.

    Raises:
        UsageError: E003 when it is not there or leads out of it.
    """
    path = root / name
    if not path.is_file() or not is_own(path.resolve(), path, root):
        raise UsageError("E003", f"the dataset has no {name}")
    return path


def batches(total: int, size: int = 65536) -> Iterable[slice]:
    """Rows in pieces, for text that is made of many."""
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def plain(values: Any) -> list[Any]:
    """A NumPy array as Python numbers."""
    found: list[Any] = values.tolist()
    return found
