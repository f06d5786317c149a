"""Rows 23-43 and 46-76 of the reliability table for HDF5, RLDS and LeRobot: which test stands for which row.

`ROWS` names the tests; one of this module checks that all of them are there. Below it, the same faults in every
format: each costs the one episode that has it, with the code of its row, and the others are published.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from tests.converters.rlds.test_source import altered_records
from tests.hdf5_files import robomimic_file
from tests.paths import TESTS
from vla_data.errors import UsageError
from vla_data.jobs.part import make_part
from vla_data.selection.subset import select

h5py = pytest.importorskip("h5py")


FILES: Mapping[str, str] = {
    "advantages": "advantages/numbers",
    "annotate": "advantages/annotate",
    "attacks": "safety/attacks",
    "cli": "cli/cli",
    "hdf5_attacks": "converters/hdf5/attacks",
    "hdf5_content": "converters/hdf5/content",
    "hdf5_layouts": "converters/hdf5/dialects",
    "inspect": "report/inspect",
    "lerobot_source": "converters/lerobot/source",
    "lerobot_stock": "converters/lerobot/stock",
    "merge": "selection/merge",
    "rlds_attacks": "converters/rlds/attacks",
    "rlds_sink": "converters/rlds/sink",
    "rlds_source": "converters/rlds/source",
    "rotations": "actions/rotations",
    "rows_by_format": "converters/rows_by_format",
    "verify": "verification/verify",
}

ROWS: Mapping[int, str] = {
    23: "hdf5_attacks:attack_costs_one_demo_and_nothing_else_is_read hdf5_attacks:no_other_file_is_even_opened",
    24: "hdf5_attacks:attack_costs_one_demo_and_nothing_else_is_read hdf5_attacks:no_other_file_is_even_opened",
    25: "hdf5_attacks:attack_costs_one_demo_and_nothing_else_is_read rlds_attacks:values_that_lie_are_refused",
    26: "hdf5_attacks:cycle_of_hard_links_is_walked_once",
    27: "hdf5_attacks:opening_a_file_turns_plugins_off hdf5_attacks:built_in_filters_are_read",
    28: "hdf5_attacks:files_that_kill_the_lister_cost_only_themselves"
    " hdf5_attacks:damage_gives_episodes_or_quarantine",
    29: "rlds_attacks:a_class_of_ones_own_is_refused_before_anything_else"
    " rlds_attacks:only_known_classes_are_read",
    30: "lerobot_source:info_that_can_not_be_right_refuses_the_dataset",
    31: "lerobot_source:image_paths_out_of_the_dataset_are_not_followed",
    32: "lerobot_source:damaged_dataset_asks_nobody",
    33: "lerobot_source:pickles_in_arrow_types_are_not_read",
    34: "hdf5_content:damaged_files_of_images rlds_attacks:pixels_beyond_the_header_are_never_inflated",
    36: "inspect:a_video_of_another_rate_is_refused verify:deep_reads_videos",
    37: "hdf5_attacks:links_pipes_and_missing_files_are_quarantined rlds_attacks:a_fifo_is_not_waited_for"
    " rlds_attacks:links_out_of_the_dataset_are_not_followed"
    " lerobot_source:links_out_of_the_dataset_are_not_followed",
    38: "hdf5_attacks:file_that_changes_while_its_images_are_read"
    " rlds_attacks:a_file_that_changes_after_it_was_listed_is_noticed",
    41: "inspect:bad_episodes_are_counted_and_hostile_names_are_inert cli:odd_names_are_read_and_shown_escaped",
    42: "hdf5_content:json_of_attributes_is_strict"
    " lerobot_source:info_that_is_no_sound_json_refuses_the_dataset"
    " rlds_attacks:json_that_two_readers_could_understand_differently",
    43: "merge:a_mapping_that_is_none_is_refused_in_one_line",
    46: "hdf5_content:numbers_keep_value_and_type_and_get_native_order rlds_sink:float32_is_an_option",
    47: "hdf5_content:what_can_not_be_used_is_quarantined",
    48: "hdf5_content:last_observation_of_one_more_is_the_end",
    49: "rows_by_format:a_fault_costs_the_episode_that_has_it",
    50: "hdf5_content:time_is_told_from_the_joints_and_pairs_are_the_same"
    " hdf5_layouts:libero_pairs_each_action_with_what_was_seen_before_it",
    51: "hdf5_content:curation_keeps_the_ledger_of_shifted_demos_whole",
    52: "hdf5_content:maniskill_success_must_be_true_or_false hdf5_content:what_can_not_be_used_is_quarantined",
    53: "rows_by_format:a_fault_costs_the_episode_that_has_it",
    54: "hdf5_layouts:libero_success_is_not_made_up",
    55: "rows_by_format:nothing_good_publishes_nothing",
    56: "hdf5_content:one_step_is_an_episode_unless_its_view_is_missing rows_by_format:one_step_is_an_episode",
    57: "hdf5_content:instructions_that_can_not_be_stored",
    58: "rows_by_format:a_fault_costs_the_episode_that_has_it"
    " rlds_source:an_empty_instruction_is_refused_unless_it_is_allowed",
    59: "rows_by_format:a_fault_costs_the_episode_that_has_it",
    60: "rows_by_format:texts_of_all_scripts_go_around",
    61: "rows_by_format:a_fault_costs_the_episode_that_has_it",
    62: "rows_by_format:a_fault_costs_the_episode_that_has_it hdf5_content:other_pictures_than_rgb_stay_arrays",
    63: "hdf5_layouts:aloha_files_pass_through_untouched rlds_source:images_stay_encoded",
    64: "rows_by_format:black_and_frozen_cameras_are_kept",
    65: "lerobot_source:time_that_is_not_the_clocks_is_refused inspect:a_label_that_the_times_contradict_is_told",
    66: "hdf5_attacks:changed_file_is_another_source lerobot_source:fingerprint_is_of_the_metadata_too",
    67: "rows_by_format:the_same_content_twice_is_told",
    68: "hdf5_content:episode_too_large_for_memory_is_refused_before_it_is_read"
    " hdf5_content:images_take_the_memory_of_a_block_and_not_of_the_episode",
    69: "rows_by_format:unlike_episodes_are_refused_with_what_differs"
    " merge:sources_that_differ_are_refused_with_what_differs",
    70: "annotate:stale_partial_or_odd_opentau_files_are_refused annotate:a_file_of_an_older_dataset_is_stale",
    71: "annotate:values_that_do_not_fit_are_refused_with_counts advantages:recap_values_are_checked",
    72: "attacks:files_of_every_numpy_and_pillow_read_the_same",
    73: "attacks:files_of_every_numpy_and_pillow_read_the_same",
    74: "lerobot_source:unknown_version_names_both lerobot_source:v21_is_read_as_v30_is",
    75: "verify:repair_refuses_other_versions lerobot_stock:png_images_are_exact",
    76: "rotations:what_is_no_rotation_is_refused rotations:swapped_quaternion_order_is_another_rotation",
}
"""Row -> tests, as ``file:test``. Rows 35, 39 and 40 are of pickles, HTML and CSV, which are none of these."""


def test_every_row_has_tests_that_are_there() -> None:
    assert {*range(23, 44), *range(46, 77)} - ROWS.keys() == {35, 39, 40}
    for row, names in ROWS.items():
        for name in names.split():
            module, _, test = name.partition(":")
            folder, _, file = FILES[module].rpartition("/")
            text = (TESTS / folder / f"test_{file}.py").read_text()
            assert re.search(rf"^def test_{test}\(", text, re.MULTILINE), (row, name)


# -- one fault, three formats --------------------------------------------------------------------------------

DEMOS = ("demo_0", "demo_1", "demo_2")
STEPS = 5
TASK = "lift the cube"


def demos(folder: Path, **changed: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = robomimic_file(folder / "a.h5", steps=STEPS, demos=DEMOS, **changed)
    with h5py.File(path, "r+") as file:
        for name in DEMOS:
            file[f"data/{name}"].attrs["ep_meta"] = f'{{"lang": "{TASK}"}}'
    return path


class Here:
    """Makes all parts in this process."""

    def make(self, job: Any, digest: str, parts: Any, *, limits: Any) -> Iterator[Any]:
        del limits
        for part in parts:
            make_part(job, digest, part)
            yield part


class Hdf5:
    """Three demos, of which the second can be spoilt."""

    def __init__(self, folder: Path) -> None:
        self.path = demos(folder)

    def source(self) -> vd.Source:
        return vd.open_source(self.path)

    def spoil(self, name: str, change: Callable[[Any], Any]) -> None:
        key = {"action": "actions", "image": "obs/front"}
        with h5py.File(self.path, "r+") as file:
            demo = file["data/demo_1"]
            if name == "task":
                demo.attrs["ep_meta"] = b'{"lang": "' + change(TASK) + b'"}'
                return
            value = change(demo[key[name]][()])
            del demo[key[name]]
            if value is not None:
                demo[key[name]] = value


class Lerobot:
    """The same, converted; the second episode of the data file can be spoilt."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lerobot"
        vd.run(vd.open_source(demos(folder)), (), vd.open_sink(self.path, images="png"), engine=Here())

    def source(self) -> vd.Source:
        return vd.open_source(self.path)

    def spoil(self, name: str, change: Callable[[Any], Any]) -> None:
        if name == "task":
            self._other_task(change(TASK))
            return
        key = {"action": "action", "image": "observation.images.front"}
        (file,) = (self.path / "data").rglob("*.parquet")
        table = pq.read_table(file)
        rows = table["episode_index"].to_numpy() == 1
        cells = table[key[name]].to_pylist()
        values = change([cell for cell, mine in zip(cells, rows, strict=True) if mine])
        if len(values) != STEPS:
            table = table.filter(pa.array(~rows | (np.cumsum(rows) <= len(values))))
        else:
            new = iter(values)
            cells = [next(new) if mine else cell for cell, mine in zip(cells, rows, strict=True)]
            field = table.schema.field(key[name])
            at = table.column_names.index(key[name])
            table = table.set_column(at, field, pa.array(cells, field.type))
        pq.write_table(table, file)

    def _other_task(self, task: bytes) -> None:
        tasks = self.path / "meta/tasks.parquet"
        table = pq.read_table(tasks)
        text = pa.array([TASK.encode(), task]).cast(pa.string(), safe=False) if _is_utf8(task) else None
        if text is None:  # Arrow's own reader takes such bytes for text
            text = pa.Array.from_buffers(pa.string(), 2, pa.array([TASK.encode(), task]).buffers())
        pq.write_table(pa.table({"task_index": pa.array([0, 1]), "task": text}), tasks)
        assert table.num_rows == 1
        (file,) = (self.path / "data").rglob("*.parquet")
        rows = pq.read_table(file)
        numbers = pa.array((rows["episode_index"].to_numpy() == 1).astype(np.int64))
        pq.write_table(rows.set_column(rows.column_names.index("task_index"), "task_index", numbers), file)


class Rlds:
    """The same as RLDS of somebody else; the first record can be spoilt."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "rlds"
        sink = vd.open_sink(
            self.path, format="rlds", name="rows", step_fields="rlds", images="png", val_fraction=0, float32=True
        )
        vd.run(vd.open_source(demos(folder)), (), sink, engine=Here())
        shutil.rmtree(self.path / "vla_data")

    def source(self) -> vd.Source:
        return vd.open_source(self.path, fps=10)

    def spoil(self, name: str, change: Callable[[Any], Any]) -> None:
        key = {"action": "action", "image": "observation/image"}
        (shard,) = self.path.glob("*.tfrecord*")

        def alter(value: Any) -> Any:
            if name == "task":
                return [change(TASK)] * STEPS
            if name == "action":
                return np.asarray(change(np.asarray(value, np.float32).reshape(STEPS, -1)), np.float32).ravel()
            if name == "image":
                new = change([{"bytes": item, "path": None} for item in value])
                return [item["bytes"] for item in new]
            raise KeyError(name)

        altered_records(shard, {f"steps/{key.get(name, 'language_instruction')}": alter})


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


FORMATS: Mapping[str, Any] = {"hdf5": Hdf5, "lerobot": Lerobot, "rlds": Rlds}


def at(value: float) -> Callable[[Any], Any]:
    def change(actions: Any) -> Any:
        out = np.array([np.asarray(row, dtype=np.float64) for row in actions])
        out[3, 6] = value
        return out if isinstance(actions, np.ndarray) else out.tolist()

    return change


def smaller(images: Any) -> Any:
    """Another size in the middle of the episode."""
    import io

    from PIL import Image

    if isinstance(images, np.ndarray):
        return None  # an array can't have two sizes; without any image the demo is not like the others
    out = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(out, format="PNG")
    return [*images[:2], {"bytes": out.getvalue(), "path": None}, *images[3:]]


def broken(images: Any) -> Any:
    return [*images[:2], {"bytes": images[2]["bytes"][:20], "path": None}, *images[3:]]


FAULTS: Mapping[str, tuple[int, str, Callable[[Any], Any], Mapping[str, str]]] = {
    "nan": (44, "action", at(np.nan), dict.fromkeys(FORMATS, "E201")),
    "inf": (45, "action", at(-np.inf), dict.fromkeys(FORMATS, "E201")),
    "1e30": (45, "action", at(1e30), dict.fromkeys(FORMATS, "E202")),
    "two rows less": (49, "action", lambda rows: rows[:-2], dict.fromkeys(FORMATS, "E204")),
    "no action": (53, "action", lambda _: None, {"hdf5": "E206"}),
    "no text": (58, "task", lambda _: b"", {"hdf5": "E211", "lerobot": "E211", "rlds": "E211"}),
    "only spaces": (58, "task", lambda _: b"  ", {"hdf5": "E211", "lerobot": "E211", "rlds": "E211"}),
    "not UTF-8": (59, "task", lambda _: b"lift \xff", {"rlds": "E212"}),
    "escape codes": (61, "task", lambda _: b"lift \x7f\xc2\x9b2J", dict.fromkeys(FORMATS, "E212")),
    "very long": (61, "task", lambda _: b"x" * 70_000, dict.fromkeys(FORMATS, "E212")),
    "two sizes": (62, "image", smaller, {"lerobot": "E203", "rlds": "E203"}),
    "cut image": (62, "image", broken, {"lerobot": "E109", "rlds": "E109"}),
}
"""Name -> row, what is spoilt, how, and the code by format; formats that can't have the fault are not named."""

CASES = [(fault, name) for fault, (_, _, _, codes) in FAULTS.items() for name in codes]


@pytest.mark.parametrize(("fault", "name"), CASES)
def test_a_fault_costs_the_episode_that_has_it(fault: str, name: str, tmp_path: Path) -> None:
    _, what, change, codes = FAULTS[fault]
    made = FORMATS[name](tmp_path)
    made.spoil(what, change)
    problems: list[str] = []
    report = vd.run(
        made.source(), (), vd.open_sink(tmp_path / "out", images="png"), engine=Here(), on_problem=problems.append
    )
    assert report.exit_code == 3
    records = report.ledger.records
    assert sorted(record.status for record in records) == ["failed", "published", "published"]
    (bad,) = [record for record in records if record.status == "failed"]
    assert bad.reason == codes[name], bad.message
    assert "\n" not in bad.message
    assert bad.message.isprintable()
    assert len(problems) == 1
    report.ledger.check()
    again = vd.open_source(tmp_path / "out")
    assert [len(again.read(ref)) for ref in again.episodes()] == [STEPS, STEPS]


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_good_publishes_nothing(name: str, tmp_path: Path) -> None:
    made = FORMATS[name](tmp_path)
    made.spoil("action", at(np.nan))
    source = vd.open_source(made.path, **({"fps": 10} if name == "rlds" else {}))
    bad = [i for i, ref in enumerate(source.episodes()) if _is_bad(source, ref)]
    only = select(source, ",".join(map(str, bad)))
    with pytest.raises(vd.VlaDataError) as caught:
        vd.run(only, (), vd.open_sink(tmp_path / "out"), engine=Here())
    assert caught.value.code == "E402"
    assert not (tmp_path / "out").exists()


def _is_bad(source: vd.Source, ref: Any) -> bool:
    try:
        source.read(ref)
    except vd.DataError:
        return True
    return False


def one_source(folder: Path, name: str, **changed: Any) -> vd.Source:
    """One file of demos in a format."""
    path = demos(folder / "in", **changed)
    if name == "hdf5":
        return vd.open_source(path)
    options: dict[str, Any] = {"name": "rows", "step_fields": "rlds"} if name == "rlds" else {}
    vd.run(
        vd.open_source(path), (), vd.open_sink(folder / name, format=name, images="png", **options), engine=Here()
    )
    return vd.open_source(folder / name)


@pytest.mark.parametrize("name", FORMATS)
def test_one_step_is_an_episode(name: str, tmp_path: Path) -> None:
    made = FORMATS[name](tmp_path)
    source = made.source()
    short = vd.run(source, (_First(),), vd.open_sink(tmp_path / "out", images="png"), engine=Here())
    assert [r.frames("kept") for r in short.ledger.records] == [1, 1, 1]
    again = vd.open_source(tmp_path / "out")
    assert [len(again.read(ref)) for ref in again.episodes()] == [1, 1, 1]


class _First:
    """The first step alone."""

    bucket: ClassVar[str] = "truncated"
    reason: ClassVar[str] = "first_step_only"

    def apply(self, episode: vd.Episode) -> vd.Episode:
        return episode.take(np.arange(1))

    def __repr__(self) -> str:
        return "First()"


TEXTS = ("拿起红色的方块", "ارفع المكعب الأحمر", "lève le cube é (e\u0301)", "🤖 lift 🧊", "In: lift? Out: {0} %s")


@pytest.mark.parametrize("name", FORMATS)
def test_texts_of_all_scripts_go_around(name: str, tmp_path: Path) -> None:
    for text in TEXTS:
        folder = tmp_path / str(TEXTS.index(text))
        made = FORMATS[name](folder)
        made.spoil("task", lambda _, text=text: text.encode())
        source = made.source()
        assert text in {source.read(ref).task for ref in source.episodes()}


@pytest.mark.parametrize("name", FORMATS)
def test_black_and_frozen_cameras_are_kept(name: str, tmp_path: Path) -> None:
    source = one_source(tmp_path, name, obs__front=np.zeros((STEPS, 8, 10, 3), np.uint8))
    report = vd.run(source, (), vd.open_sink(tmp_path / "out", images="png"), engine=Here())
    assert report.exit_code == 0
    again = vd.open_source(tmp_path / "out")
    (camera,) = again.read(again.episodes()[0]).frames.values()
    assert not camera.pixels(STEPS - 1).any()


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_content_twice_is_told(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    same = {
        "actions": rng.uniform(-1, 1, (STEPS, 7)),
        "obs__eef": rng.normal(size=(STEPS, 3)),
        "obs__front": rng.integers(0, 256, (STEPS, 8, 10, 3), dtype=np.uint8),
    }
    source = one_source(tmp_path, name, **same)
    report = vd.run(source, (), vd.open_sink(tmp_path / "out", images="png"), engine=Here())
    assert any("2 episodes repeat" in line for line in report.warnings), report.warnings
    less = vd.run(source, (), vd.open_sink(tmp_path / "less", images="png"), engine=Here(), dedup=True)
    assert sorted(record.status for record in less.ledger.records) == ["published", "rejected", "rejected"]


def test_unlike_episodes_are_refused_with_what_differs(tmp_path: Path) -> None:
    """Within a LeRobot or RLDS dataset all are alike by its metadata; a folder of HDF5 files may differ."""
    demos(tmp_path / "in/one")
    demos(tmp_path / "in/two", obs__front=np.zeros((STEPS, 8, 12, 3), np.uint8))
    with pytest.raises(UsageError, match=r"of 2 kinds.*8, 12, 3") as caught:
        vd.run(vd.open_source(tmp_path / "in"), (), vd.open_sink(tmp_path / "out"), engine=Here())
    assert caught.value.code == "E005"
    assert not (tmp_path / "out").exists()
