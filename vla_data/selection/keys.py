"""What a refusal asks of a command line, said in the words of a mapping or a mixture, which have no options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from vla_data.errors import DataError, VlaDataError
from vla_data.safety.text import show

_OPTION: Final = re.compile(r"--([a-z][a-z-]*[a-z])")
_STEPS: Final = {
    **{name: name for name in ("actions", "base", "declare", "drop", "fill", "join", "keep", "rename")},
    "resample": "fps",
}
"""Option of a command -> key of a mapping's table. Any other is an option of the source, below ``open``."""
_NEITHER: Final = ("map", "episodes", "images", "filter", "from", "to", "json")
"""Options that say nothing of one source."""
IN_A_MAPPING: Final = "in the mapping (--map)"


def keys_of(message: str) -> list[str]:
    """The keys of a mapping that do what the options in a message do, in their order."""
    names = dict.fromkeys(_OPTION.findall(message))
    return [_STEPS.get(name, f"open.{name.replace('-', '_')}") for name in names if name not in _NEITHER]


@contextmanager
def of_source(name: str, *, named: bool = True) -> Iterator[None]:
    """A refusal says which source it is of, and which keys of its table in the mapping mend it.

    Args:
        name: of the source.
        named: whether the name must be said; the id of an episode says it.
    """
    try:
        yield
    except VlaDataError as error:
        keys = keys_of(error.message) if IN_A_MAPPING not in error.message else []
        where = f"; {IN_A_MAPPING}: {', '.join(keys)} of the [[source]] {show(name)}" if keys else ""
        begin = f"{show(name)}: " if named and not error.message.startswith(f"{show(name)}: ") else ""
        if not begin and not where:
            raise
        told = type(error)(error.code, f"{begin}{error.message}{where}")
        if isinstance(error, DataError) and isinstance(told, DataError):
            told.frames, told.source_sha256 = error.frames, error.source_sha256
        raise told from None
