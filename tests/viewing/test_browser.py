"""The page in a browser, where there is one: ``pip install playwright``, and CHROMIUM=/path/to/chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vla_data as vd
from tests.rollouts import rollout, save
from vla_data.viewing.beside import Beside
from vla_data.viewing.server import Viewer

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif("CHROMIUM" not in os.environ, reason="CHROMIUM does not name a browser"),
]
TEXTS = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(2)</script>',
    "${alert(3)}",
    "</script><svg onload=alert(4)>",
    "\u202egnp.exe",
    "javascript:alert(6)",
)
SIZES = [(1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light"), (390, 844, "dark")]


def until(page: Any, wanted: str) -> None:
    """Wait; `wait_for_function` would evaluate a text in the page, which its policy forbids."""
    for _ in range(200):
        if page.evaluate(wanted):
            return
        page.wait_for_timeout(50)
    raise AssertionError(wanted)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[Viewer]:
    for n, text in enumerate(TEXTS):
        save(tmp_path / "in", f"<b onclick=alert({n})>{n}.npz", rollout(6 + n, instruction=text))
    made = Viewer(
        "<i>title</i>", vd.open_source(tmp_path / "in"), tmp_path / "flags", Beside(records={}, by_id={})
    )
    made.start()
    yield made
    made.close()


@pytest.mark.parametrize(("width", "height", "scheme"), SIZES)
def test_strings_of_strangers_are_text_and_nothing_is_asked_of_others(
    browser: Any, viewer: Viewer, width: int, height: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda asked: asked.url.startswith(viewer.address) or said.append(asked.url))
    page.goto(viewer.address)
    until(page, f"document.querySelectorAll('#list button').length === {len(TEXTS)}")
    for n, text in enumerate(TEXTS):
        page.click(f"#list button[data-position='{n}']")
        until(page, f"document.querySelector('#episode-title').textContent.startsWith('{n} ')")
        assert page.text_content("#task") == text
        page.wait_for_selector("#cameras img[src]")
        assert page.evaluate("document.querySelector('#cameras img').decode().then(() => true)")
    assert page.evaluate("document.querySelectorAll('main b, nav b, main svg, nav svg, nav img, i').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    context.close()


def test_hands_on_keys_and_flags(browser: Any, viewer: Viewer) -> None:
    page = browser.new_page()
    page.goto(viewer.address)
    page.wait_for_selector("#cameras img[src]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('#cameras img').alt.endsWith('step 2')")
    page.keyboard.press("n")
    until(page, "document.querySelector('#episode-title').textContent.startsWith('1 ')")
    page.keyboard.press("f")
    until(page, "document.querySelector('#flags').textContent === '--episodes 1'")
    assert viewer.flags.path.read_text() == "1\n"
    page.select_option("#kind", "flagged")
    assert page.locator("#list button").count() == 1
    page.select_option("#kind", "all")
    page.fill("#search", "onerror")
    assert page.locator("#list button").count() == 1
    page.keyboard.press("f")  # in a field it is a letter
    assert viewer.flags.path.read_text() == "1\n"
    page.click("#play")
    until(page, "document.querySelector('#step').value === '6'")
    until(page, "document.querySelector('#play').textContent === 'Play'")
    page.close()
