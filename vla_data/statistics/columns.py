"""The numbers of each episode of a source, without looking at an image."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from vla_data.core import Source
from vla_data.core.base import Columns, narrowed, whole
from vla_data.core.notes import no_action
from vla_data.errors import DataError
from vla_data.safety.text import show

__all__ = ["Columns", "NoImages", "chosen", "read_columns"]


def read_columns(source: Source, names: Collection[str] | None) -> Iterator[tuple[str, Columns | DataError]]:
    """For each episode of a source its id, and its arrays of numbers or why it can't be used.

    A source that has its numbers apart, as LeRobot's Parquet files do, reads those alone; others read whole
    episodes, whose images stay encoded.

    Args:
        source: any source.
        names: of arrays; None for all, which for LeRobot are also ``timestamp``, ``frame_index`` and the like.
    """
    refs = source.episodes()
    found = whole(source).columns(refs, names)
    if found is not None:
        yield from found
        return
    source = narrowed(source, (NoImages(),))
    for ref in refs:
        try:
            arrays = source.read(ref).arrays
            yield ref.id, chosen({k: v for k, v in arrays.items() if v.dtype.kind in "biuf"}, names)
        except DataError as error:
            if not error.ignore:
                yield ref.id, error


class NoImages:
    """Stands for steps that look at no image; see `vla_data.core.wanted.Names`."""

    def needs(self, name: str) -> bool:
        """Nothing."""
        return False

    def becomes(self, name: str) -> str | None:
        """The same name; None of a camera."""
        return None if name.startswith("observation.images.") else name


def _lacks(name: str) -> str:
    return f"there are no numbers called {show(name)}; vla-data inspect lists what there is"


def chosen(arrays: Columns, names: Collection[str] | None) -> Columns:
    """The arrays of these names.

    Raises:
        DataError: E206 where one is not there.
    """
    if names is None:
        return arrays
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError("E206", no_action(arrays) if missing[0] == "action" else _lacks(missing[0]))
    return {name: arrays[name] for name in names}
