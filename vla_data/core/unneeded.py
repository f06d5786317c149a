"""Facts that files may not say and that whoever reads them does not need: nobody is asked for them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final

from vla_data.core.base import whole
from vla_data.core.ends import Source

FACTS: Final = ("fps", "task", "observation_time", "image_orientation", "channel_order")
"""What files may not say, and options of sources declare."""
NUMBERS: Final = ("fps", "task", "image_orientation", "channel_order")
"""Of these, what values of actions and states do not depend on."""
_EMPTY: Final = "allow_empty_instruction"


def lenient(source: Source, facts: Collection[str]) -> Source:
    """A source that does not ask for these of `FACTS`; the same one where it never does.

    See `vla_data.core.base.BaseSource.not_asking`. Whoever opens one, declared nothing about them else.
    """
    found: Any = whole(source).not_asking(facts) or source
    if "task" in facts and is_dataclass(found) and not isinstance(found, type):
        options = {field.name: getattr(found, field.name) for field in fields(found)}
        if options.get("task") is None and _EMPTY in options:
            found = replace(found, **{_EMPTY: True})
    opened: Source = found
    return opened
