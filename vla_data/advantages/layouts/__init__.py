"""The interchange layouts: how other projects store advantages. Each is in the module of its name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

LAYOUTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "evo-rl": "vla_data.advantages.layouts.evo_rl",
        "opentau": "vla_data.advantages.layouts.opentau",
        "rabc": "vla_data.advantages.layouts.rabc",
        "rlinf": "vla_data.advantages.layouts.rlinf",
        "zhhhming": "vla_data.advantages.layouts.zhhhming",
    }
)
"""Layout -> module. Sorted. All have ``read(table, tag)``; all but ``evo-rl``, which makes a copy, ``write``."""

NEED_LABELS: Final = frozenset({"evo-rl", "rlinf", "zhhhming"})
"""Layouts that store what is positive, and not only how much."""
