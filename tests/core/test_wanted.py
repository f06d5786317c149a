"""What steps drop before anybody looks at it, and what of that a source need not read."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.lerobot_sets import FILE, TOP, Here, camera, numbers, picture, png, records, vector, write
from vla_data.core.base import narrowed, whole
from vla_data.core.notes import NO_TEXT, lacking, told
from vla_data.core.wanted import Unwanted, name_after
from vla_data.errors import DataError, UsageError
from vla_data.selection.mapping import table_steps
from vla_data.selection.merged import Member, MergedSource
from vla_data.selection.subset import Selection
from vla_data.steps import SmallActions
from vla_data.steps.features import Declare, Fill, Rename, SelectFeatures
from vla_data.verification.check import verify
from vla_data.verification.repair import repair

DROP_B = SelectFeatures(drop=("b",))


@pytest.mark.parametrize(
    ("steps", "unwanted"),
    [
        ((), set()),
        ((DROP_B,), {"b"}),
        ((SelectFeatures(keep=("a",)),), {"b", "c"}),
        ((Rename(names=(("c", "d"),)), DROP_B), {"b"}),
        ((Rename(names=(("b", "d"),)), SelectFeatures(drop=("d",))), set()),  # b must be there to be renamed
        ((Rename(names=(("a", "b"), ("b", "a"))), DROP_B), set()),
        ((Declare(conventions=(("b", (("rotation", "rotvec"),)),)), DROP_B), set()),
        ((Declare(robot="panda"), DROP_B), {"b"}),
        ((Fill(name="b", shape=(1,)), DROP_B), set()),
        ((Fill(name="c", shape=(1,)), DROP_B), {"b"}),
        ((SmallActions(pos=None, rot=None), DROP_B), set()),  # may look at everything
        ((DROP_B, SmallActions(pos=None, rot=None)), {"b"}),
        ((SelectFeatures(drop=("task",)),), set()),
    ],
)
def test_unwanted_is_what_is_dropped_before_anybody_looks(steps: Any, unwanted: set[str]) -> None:
    assert {name for name in ("a", "b", "c", "task") if name in Unwanted(steps)} == unwanted


def test_names_are_followed_through_steps() -> None:
    steps = (Rename(names=(("a", "b"),)), SmallActions(pos=None, rot=None), SelectFeatures(drop=("c",)))
    assert [name_after(name, steps) for name in ("a", "c", "d")] == ["b", None, "d"]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A dataset whose camera can't be read."""
    images = records([png(picture(t)[..., 0].astype(np.uint16) * 200) for t in range(4)])
    columns = {"action": numbers().tolist(), "old": numbers().tolist(), TOP: images}
    features = {"action": vector(), "old": vector(), TOP: camera()}
    return write(tmp_path / "in", [columns] * 2, features)


def test_wrappers_hand_on_what_is_not_wanted(damaged: Path) -> None:
    source = vd.open_source(damaged)
    drop = SelectFeatures(drop=("observation.images.*",))
    merged = MergedSource((Member("one", source, (drop,)), Member("two", source)))
    for wrapped in (source, Selection(source, (1,)), MergedSource((Member("one", Selection(source, (0,))),))):
        ref = wrapped.episodes()[0]
        with pytest.raises(DataError):
            wrapped.read(ref)
        episode = narrowed(wrapped, (drop,)).read(ref)
        assert (list(episode.frames), episode.notes) == ([], (f"left_out:{TOP}",))
        assert narrowed(wrapped, (drop,)).fingerprint(ref) == wrapped.fingerprint(ref)
    one, _, two, _ = merged.episodes()
    own = narrowed(merged, ())  # the first member's own steps say it, the second's do not
    assert own.read(one).notes == (f"left_out:{TOP}",)
    with pytest.raises(DataError):
        own.read(two)


def test_a_source_that_reads_everything_stays_as_it_is() -> None:
    class Short:
        def episodes(self) -> Any: ...
        def fingerprint(self, ref: Any) -> Any: ...
        def read(self, ref: Any) -> Any: ...
        def schema(self, episode: Any) -> Any: ...

    source = Short()
    assert narrowed(source, (DROP_B,)) is source
    assert whole(source).evidence(vd.EpisodeRef("x", 0)) is None


def test_steps_that_need_a_schema_read_only_what_is_wanted(damaged: Path) -> None:
    source = vd.open_source(damaged)
    layout = {"translation": [0, 1, 2]}
    facts = {"action": {"kind": "delta", "unit_translation": "m", "layout": layout, "frame": "base"}}
    table = {"declare": facts, "rename": {"old": "new"}, "drop": [TOP], "fps": 5}
    try:
        steps = table_steps(table, source, ())
    except UsageError as error:
        assert TOP not in error.message  # whatever the facts lack, the camera is not to blame
        return
    assert any(type(step).__name__ == "Resample" for step in steps)


def test_a_pattern_to_keep_may_fit_what_is_dropped_unread(damaged: Path) -> None:
    step = SelectFeatures(keep=("action", TOP), drop=("observation.*",))
    source = narrowed(vd.open_source(damaged), (step,))
    assert list(step.apply(source.read(source.episodes()[0])).arrays) == ["action"]
    with pytest.raises(DataError, match="no feature nothing to keep"):
        SelectFeatures(keep=("nothing",)).apply(source.read(source.episodes()[0]))


def test_what_a_step_drops_is_noted_once(damaged: Path) -> None:
    step = SelectFeatures(drop=("old", TOP))
    report = vd.run(vd.open_source(damaged), (step,), vd.open_sink(damaged.parent / "out"), engine=Here())
    records_ = vd.open_ledger(damaged.parent / "out").records
    assert {record.notes for record in records_} == {("left_out:old", f"left_out:{TOP}")}
    assert f"left out as asked: {TOP}, old" in report.warnings


# -- what a user is told ------------------------------------------------------------------------------------


def test_notes_are_told_once_with_the_number_of_episodes() -> None:
    found = [("no_column_of:x", "left_out:b"), ("no_column_of:x", "left_out:a", "time_starts_at:0.5"), ()]
    assert told(found) == [
        "left out as asked: a, b",
        "x is declared and left out: no data file has it (2 episodes)",
    ]
    assert told([("left_out_as_empty:y",)]) == ["y is left out as empty (1 episode)"]
    assert told([("video_at_other_rate:cam=20",)])[0].startswith("cam: 20 frames a second")


def test_many_notes_end_with_their_number() -> None:
    lines = told([[f"no_column_of:x{i}" for i in range(40)]])
    assert len(lines) == 31
    assert lines[-1].startswith("10 more notes")


def test_notes_of_strangers_steer_no_terminal() -> None:
    assert "\x1b" not in "".join(told([("no_column_of:\x1b[2J", "left_out:\x1b[2J")]))


@pytest.mark.parametrize(
    ("features", "notes", "want"),
    [
        ({"action": "float32", "cam": "image"}, [()], []),
        (
            {"action.arm": "float32", "cam": "image"},
            [()],
            [
                "the dataset has no `action` that trainers look for, but its parts action.arm (--join "
                "action=PART,PART,... makes one of them, in the order that you know)"
            ],
        ),
        ({"state": "float32", "cam": "image"}, [()], ["the dataset has no action"]),
        ({"actions": "float32"}, [(NO_TEXT,), ()], ["the dataset has no action, no image"]),
        ({"action": "float32", "cam": "image"}, [(NO_TEXT,)] * 2, ["the dataset has no instruction"]),
    ],
)
def test_a_dataset_that_lacks_what_a_policy_learns_from_says_so(features: Any, notes: Any, want: Any) -> None:
    schema = vd.Schema(features={n: vd.Feature(dtype=d, shape=(1,)) for n, d in features.items()}, fps=1.0)
    assert lacking(schema, notes) == want


def test_a_dataset_made_without_a_camera_is_compared_and_repaired_without_it(damaged: Path) -> None:
    out = damaged.parent / "out"
    step = SelectFeatures(drop=(TOP,))
    vd.run(vd.open_source(damaged), (step,), vd.open_sink(out), engine=Here())
    assert not verify(out, against=damaged).damages
    data = out / FILE
    whole_ = data.read_bytes()
    data.write_bytes(whole_[:100])
    repair(out, damaged, workers=1)
    assert data.read_bytes() == whole_


@pytest.mark.parametrize("name", ["libero_spatial0_demo.hdf5", "robomimic_lift.hdf5", "aloha_episode_0.hdf5"])
def test_what_stays_of_hdf5_is_read_by_the_names_that_it_gets(name: str) -> None:
    path = Path(__file__).parents[1] / "data/hdf5" / name
    options = {
        "aloha_episode_0.hdf5": {"task": "x", "fps": 50, "channel_order": "bgr"},
        "robomimic_lift.hdf5": {"task": "x"},
    }
    source = vd.open_source(path, **options.get(name, {}))
    ref = source.episodes()[0]
    want = source.read(ref)
    for keep in (
        ("action",),
        ("action", "observation.state"),
        ("observation.images.*",),
        ("next.*", *want.frames),
    ):
        step = SelectFeatures(
            keep=tuple(k for k in keep if any(fnmatchcase(n, k) for n in [*want.arrays, *want.frames]))
        )
        if not step.keep:
            continue
        found = step.apply(narrowed(source, (step,)).read(ref))
        expected = step.apply(want)
        assert list(found.arrays) == list(expected.arrays)
        assert list(found.frames) == list(expected.frames)
