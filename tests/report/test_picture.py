"""`vla-data report --png`: the report in one picture, of any data."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import vla_data as vd
from tests.paths import TESTS
from tests.rollouts import rollout, save
from vla_data.cli.report import command
from vla_data.report import report
from vla_data.report.canvas import KINDS, WIDTH

ROLLOUTS = TESTS / "data/rollouts"


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(command, [str(word) for word in words], standalone_mode=False)
    return (0 if done.exception is None else 1), str(done.exception or done.output)


def test_the_bar_has_the_buckets_by_their_shares(tmp_path: Path) -> None:
    out, png = tmp_path / "aligned", tmp_path / "made/report.png"
    steps = vd.recipes.ppo_sft(min_success_steps=6, pos_thresh=0.01, rot_thresh=0.06)
    vd.run(vd.open_source(ROLLOUTS), steps, vd.open_sink(out), workers=1)
    code, told = run(out, "--against", ROLLOUTS, "-o", tmp_path / "report.html", "--png", png)
    assert (code, "report.png" in told) == (0, True), told
    with Image.open(png) as picture:
        assert (picture.format, picture.width) == ("PNG", WIDTH)
        colours = picture.convert("RGB").getcolors(1 << 24)
    counts = {"#{:02x}{:02x}{:02x}".format(*colour): count for count, colour in colours}
    pixels = [counts.get(KINDS[name], 0) for name in ("kept", "pruned", "truncated", "rejected")]
    for found, frames in zip(pixels, (46, 21, 6, 32), strict=True):
        assert found / sum(pixels) == pytest.approx(frames / 105, abs=0.01)
    code, told = run(out, "-o", tmp_path / "report.html", "--png", png)
    assert (code, "E411" in told) == (1, True)
    code, told = run(out, "-o", tmp_path / "other.html", "--png", png)
    assert (code, "E411" in told, (tmp_path / "other.html").exists()) == (1, True, False)
    code, told = run(out, "-o", tmp_path / "other.html", "--png", out / "report.png")
    assert (code, "--png" in told) == (1, True)


def test_names_of_strangers_are_drawn_as_text(tmp_path: Path) -> None:
    save(tmp_path / "rollouts", "a.npz", rollout(instruction="\x1b[2J\u202e\U0001f600 " + "long " * 400))
    made = report(str(tmp_path / "rollouts"))
    with Image.open(io.BytesIO(made.png())) as picture:
        assert picture.width == WIDTH
