"""Words of strangers on a page: one line, nothing in them is markup, steers or reorders what is around them."""

from __future__ import annotations

import html
from typing import Final

from vla_data.safety.text import show

_MOST: Final = 300
_OURS: Final = 4_000


def cut(text: object, most: int) -> str:
    """``text`` on one line, as `vla_data.safety.text.show` shows it, with a mark where it was cut."""
    line = show(text)
    return line if len(line) <= most else f"{line[:most]}…"


def escaped(text: object, *, shown: bool = False) -> str:
    """``text`` for HTML, in or between tags.

    Args:
        text: of anybody; after 300 characters it is cut, and says so.
        shown: `vla_data.safety.text.show` was applied, or the text is ours and names such; 4,000 characters.
    """
    line = show(text, escaped=shown)
    most = _OURS if shown else _MOST
    return html.escape(line if len(line) <= most else f"{line[:most]}… ({len(line):,} characters)", quote=True)
