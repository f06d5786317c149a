"""`vla-data diff`: what differs is named, and nothing else."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.odd_sources import OddSource
from tests.paths import ROOT
from tests.rollouts import CAMERA
from vla_data.cli import cli
from vla_data.core import Episode, EpisodeRef, Schema
from vla_data.core.base import WrappedSource
from vla_data.errors import DataError
from vla_data.media import images
from vla_data.media.frames import ClipFrame, Frames
from vla_data.verification.diff import Difference, diff

PAGE = (ROOT / "docs/diff.md").read_text()
Change = Callable[[Episode], Episode]


@dataclass(frozen=True)
class Changed(WrappedSource):
    """Another source, of which one episode is another."""

    which: str
    change: Change

    def read(self, ref: EpisodeRef) -> Episode:
        one = super().read(ref)
        return self.change(one) if ref.id == self.which else one


def changed(change: Change) -> Difference:
    return diff(OddSource(count=3), Changed(OddSource(count=3), "1", change))


def told(found: Difference) -> dict[str, tuple[str, ...]]:
    return {kind: ids for kind, ids in found.episodes.items() if ids}


def encoded(one: Episode) -> Episode:
    return replace(one, frames={CAMERA: Frames(tuple(one.frames[CAMERA].encoded("png")), 8, 16)})


def test_a_dataset_is_as_itself() -> None:
    found = diff(OddSource(), OddSource())
    assert (found.is_equal, found.same, told(found)) == (True, 6, {})


def test_an_episode_that_one_lacks_and_one_that_is_there_twice() -> None:
    found = diff(OddSource(count=3), OddSource(count=3, without=(1,)))
    assert (found.is_equal, found.same, told(found)) == (False, 2, {"only_a": ("1",)})
    assert found.statistics["action"]["mean"][0][0] != found.statistics["action"]["mean"][1][0]
    copy = OddSource(count=1).read(EpisodeRef("0", 1))
    twice = changed(lambda one: replace(copy, id=one.id))
    assert (twice.same, told(twice)) == (2, {"numbers": ("1",)})


def test_one_number_is_named_and_another_id_or_type_is_no_other_content() -> None:
    def bit(one: Episode) -> Episode:
        action = one.arrays["action"].copy()
        action[2, 3] = np.nextafter(action[2, 3], 9)
        return replace(one, arrays={**one.arrays, "action": action})

    found = changed(bit)
    assert (found.same, told(found)) == (2, {"numbers": ("1",)})
    assert set(found.statistics) == {"action"}
    wide = changed(lambda one: replace(one, arrays={**one.arrays, "action": one.arrays["action"].astype("f8")}))
    assert (wide.same, told(wide)) == (3, {})
    assert changed(lambda one: replace(one, task="other")).episodes["numbers"] == ("1",)
    more = changed(lambda one: replace(one, arrays={**one.arrays, "timestamp": np.arange(len(one)) / 7}))
    assert more.is_equal


def test_pictures_are_their_pixels_and_not_their_encoding() -> None:
    def pixel(one: Episode) -> Episode:
        pixels = [one.frames[CAMERA].pixels(t).copy() for t in range(len(one))]
        pixels[-1][7, 15, 2] ^= 1
        return encoded(replace(one, frames={CAMERA: Frames(tuple(pixels), 8, 16)}))

    assert changed(encoded).is_equal
    found = changed(pixel)
    assert (found.same, told(found)) == (2, {"pictures": ("1",)})


def test_pictures_inside_of_videos_are_named_where_they_were_not_compared() -> None:
    class Clip:
        def frame(self, number: int) -> images.Pixels:
            return np.zeros((8, 16, 3), np.uint8)

    def filmed(one: Episode) -> Episode:
        items = tuple(ClipFrame(Clip(), t) for t in range(len(one)))
        return replace(one, frames={CAMERA: Frames(items, 8, 16)})

    source = Changed(OddSource(count=2), "1", filmed)
    assert diff(source, source).blind == (CAMERA,)
    seen = diff(source, OddSource(count=2), decode_video=True)
    assert (seen.blind, told(seen)) == ((), {"pictures": ("1",)})


@dataclass(frozen=True)
class Declared(WrappedSource):
    """Another source, whose schema is another."""

    def schema(self, episode: Episode) -> Schema:
        one = super().schema(episode)
        features = dict(one.features)
        features["action"] = replace(features["action"], convention={"kind": "delta"}, dtype="float64")
        del features["next.success"]
        return replace(one, features=features, fps=one.fps * 2)


def test_features_and_facts_of_conventions_are_named() -> None:
    found = diff(OddSource(count=2), Declared(OddSource(count=2)))
    fps = OddSource().schema(OddSource().read(EpisodeRef("0", 1))).fps
    assert found.features == (
        ("fps", f"{fps} in A, {2 * fps} in B"),
        ("action", "dtype float32 in A, float64 in B"),
        ("action", "convention kind not declared in A, delta in B"),
        ("next.success", "only in A"),
    )


def test_an_episode_that_cannot_be_read_makes_them_different() -> None:
    def bad(one: Episode) -> Episode:
        raise DataError("E105", "it is cut")

    found = changed(bad)
    assert (found.is_equal, found.unread, told(found)) == (
        False,
        (("1", "E105 truncated: it is cut"),),
        {"only_a": ("1",)},
    )


def test_the_commands_and_the_python_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "tests/data/rollouts", tmp_path / "rollouts")
    monkeypatch.chdir(tmp_path)
    codes, outputs = [], []
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL):
        for line in block.splitlines():
            done = CliRunner().invoke(cli, shlex.split(line, comments=True)[1:], catch_exceptions=False)
            codes.append(done.exit_code)
            outputs.append(done.stdout)
    assert codes == [0, 0, 0]
    assert "the same in both  3" in outputs[1]
    assert json.loads(outputs[2])["equal"] is True
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    space: dict[str, Difference] = {}
    exec(code, space)
    assert (space["found"].same, told(space["found"])) == (3, {})
