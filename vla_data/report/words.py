"""Words of strangers on a page: one line, nothing in them is markup, steers or reorders what is around them."""

from __future__ import annotations

import html

from vla_data.safety.text import show

_MOST = 300


def escaped(text: object, *, shown: bool = False) -> str:
    """``text`` for HTML, in or between tags.

    Args:
        text: of anybody; after 300 characters it is cut, and says so.
        shown: `vla_data.safety.text.show` was applied, or the text is ours and names such.
    """
    line = show(text, escaped=shown)
    return html.escape(line if len(line) <= _MOST else f"{line[:_MOST]}… ({len(line):,} characters)", quote=True)
