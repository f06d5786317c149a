"""The menu of the documentation has every page once, and nothing in it loads from elsewhere."""

from __future__ import annotations

import re

from tests.paths import ROOT

DOCS = ROOT / "docs"
MENU = (ROOT / "mkdocs.yml").read_text()


def test_every_page_is_in_the_menu_once() -> None:
    named = re.findall(r"^ +- [^:\n]+: (\S+\.md)$", MENU, re.MULTILINE)
    assert sorted(named) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_links_of_pages_stay_among_them() -> None:
    """A site has the pages alone, so a link to a file beside them would lead nowhere there."""
    for path in DOCS.rglob("*.md"):
        for link in re.findall(r"\]\(((?:\.\./|/)[^)#]*)[^)]*\)", path.read_text()):
            assert (path.parent / link).resolve().is_relative_to(DOCS), f"{path.name}: {link}"


def test_the_theme_asks_nobody() -> None:
    assert "highlightjs: false" in MENU
    assert re.findall(r"https?://", MENU) == []
