"""A picture to draw on with Pillow: text, bars and small images in a page's colours, from top to bottom."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

INK, SOFT, PAPER, CARD, LINE, MAIN, OTHER = (
    *("#1c2430", "#566170", "#ffffff", "#f5f6f8", "#d9dde3", "#2f6db3", "#9c4a12"),
)
KINDS: Final = {
    "kept": "#2e7d5b",
    "pruned": "#b8912b",
    "truncated": "#7b6bb0",
    "rejected": "#8b95a3",
    "failed": "#b3403a",
}
"""As `vla_data.report.page` has them in the light."""
WIDTH: Final = 1200
EDGE: Final = 28
_TALLEST: Final = 4_000


class Canvas:
    """`y` is where the next thing goes; `png` cuts the paper below it."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (WIDTH, _TALLEST), PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self.y = EDGE

    def text(self, words: str, *, x: int = EDGE, size: int = 16, colour: str = INK, y: int | None = None) -> int:
        """One line, cut where the paper ends; how wide it became, in pixels."""
        font = ImageFont.load_default(size)
        room = WIDTH - EDGE - x
        shown = words
        while shown and self._draw.textlength(shown, font=font) > room:
            shown = f"{shown[:-2].rstrip('…')}…" if len(shown) > 2 else ""
        self._draw.text((x, self.y if y is None else y), shown, font=font, fill=colour)
        if y is None:
            self.y += round(size * 1.5)
        return round(self._draw.textlength(shown, font=font))

    def heading(self, words: str) -> None:
        """A heading with a line below."""
        self.y += 14
        self.text(words, size=20)
        self._draw.line((EDGE, self.y, WIDTH - EDGE, self.y), fill=LINE)
        self.y += 10

    def shares(self, parts: Sequence[tuple[str, int]]) -> None:
        """Parts of a whole, ``(kind, count)``, side by side in one bar, with their names and shares below."""
        whole, at = sum(count for _, count in parts) or 1, float(EDGE)
        for kind, count in parts:
            wide = (WIDTH - 2 * EDGE) * count / whole
            if count:
                self._draw.rectangle((at, self.y, max(at + wide - 1, at), self.y + 26), fill=KINDS[kind])
            at += wide
        self.y += 34
        x = EDGE
        for kind, count in parts:
            if count:
                self._draw.rectangle((x, self.y + 3, x + 12, self.y + 15), fill=KINDS[kind])
                x += 20 + self.text(f"{kind} {count:,}, {count / whole:.1%}", x=x + 20, y=self.y, size=15) + 22
        self.y += 26

    def histogram(self, heights: Sequence[float], *, x: int, y: int, wide: int, tall: int) -> None:
        """Bars of equal width, the highest as high as there is room."""
        top, step = max([*heights, 1e-12]), wide / max(len(heights), 1)
        for i, height in enumerate(heights):
            if height > 0:
                high = max(height / top * tall, 1)
                left = x + i * step
                self._draw.rectangle((left, y + tall - high, left + step * 0.85, y + tall), fill=MAIN)
        self._draw.line((x, y + tall + 1, x + wide, y + tall + 1), fill=LINE)

    def card(self, x: int, y: int, wide: int, tall: int) -> None:
        """The ground of a small picture."""
        self._draw.rounded_rectangle((x, y, x + wide, y + tall), radius=6, fill=CARD)

    def film(self, pictures: Sequence[bytes], *, tall: int) -> None:
        """Encoded images of this library's own making, in a row, as many as there is room for."""
        x = EDGE
        for data in pictures:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
                small = opened.resize((max(round(opened.width * tall / opened.height), 1), tall))
            if x + small.width > WIDTH - EDGE:
                break
            self._image.paste(small, (x, self.y))
            x += small.width + 4
        self.y += tall + 8

    def png(self) -> bytes:
        """What was drawn."""
        out = io.BytesIO()
        self._image.crop((0, 0, WIDTH, min(self.y + EDGE, _TALLEST))).save(out, "PNG", optimize=True)
        return out.getvalue()
