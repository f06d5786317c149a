"""Columns of language and subtasks of LeRobot: read, kept through every step, written, compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_data as vd
from converters.lerobot import language
from converters.lerobot.source import LerobotSource
from tests.language_sets import EVENTS, PERSISTENT, STEPS, TOOLS, annotated, happening, holding, row, say
from tests.lerobot_sets import FILE, FPS, Here, change_table
from vla_data.core.curate import curate
from vla_data.core.notes import told
from vla_data.errors import DataError
from vla_data.selection.mapping import table_steps

TIME = np.arange(STEPS) / FPS


def read(root: Path, number: int = 0) -> vd.Episode:
    source = LerobotSource(root=root)
    return source.read(source.episodes()[number])


def texts(episode: vd.Episode, name: str = PERSISTENT) -> list[list[dict[str, Any]]]:
    return [json.loads(text) for text in episode.arrays[name].tolist()]


def stored(root: Path, name: str = PERSISTENT) -> list[Any]:
    found: list[Any] = pq.read_table(root / FILE)[name].to_pylist()
    return found


def converted(root: Path, out: Path, *steps: Any, **options: Any) -> vd.Report:
    sink = vd.open_sink(out, **{"images": "png", **options})
    return vd.run(LerobotSource(root=root), steps, sink, engine=Here())


def held(rows: list[dict[str, Any]], step: int) -> list[str]:
    """What lerobot's ``active_at`` gives: the latest row of a style, and all wordings of the task."""
    latest: dict[Any, float] = {}
    for one in rows:
        if one["timestamp"] <= step / FPS + 1e-4:
            latest[one["style"]] = max(one["timestamp"], latest.get(one["style"], 0.0))
    return [one["content"] for one in rows if latest.get(one["style"]) == one["timestamp"]]


def test_a_step_has_what_holds_and_what_happens_there(tmp_path: Path) -> None:
    for number in range(2):
        episode = read(annotated(tmp_path / str(number)), number)
        assert [[one["content"] for one in step] for step in texts(episode)] == [
            held(holding(number), t) for t in range(STEPS)
        ]
        want = [[{k: v for k, v in one.items() if v is not None} for one in step] for step in happening(number)]
        assert texts(episode, EVENTS) == want
        assert not episode.notes


@pytest.mark.parametrize("options", [{}, {"images": "jpeg"}])
def test_a_copy_has_the_rows_the_tools_and_nothing_else(options: dict[str, Any], tmp_path: Path) -> None:
    root = annotated(tmp_path / "in")
    report = converted(root, tmp_path / "out", **options)
    assert not report.warnings
    assert stored(tmp_path / "out") == [rows for e in range(2) for rows in [holding(e)] * STEPS]
    events = stored(tmp_path / "out", EVENTS)
    for rows in events:
        for one in rows:
            one["tool_calls"] = one["tool_calls"] and [json.loads(call) for call in one["tool_calls"]]
    assert events == [step for e in range(2) for step in happening(e)]
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert info["tools"] == TOOLS
    assert info["features"][PERSISTENT] == {"dtype": "language", "shape": [1], "names": None}
    seen = vd.verify(tmp_path / "out", against=[str(root)])
    assert seen.ok
    assert {PERSISTENT, EVENTS} <= seen.checked["against"]["features"].keys()
    converted(tmp_path / "out", tmp_path / "again", **options)
    digests = [[r.content_sha256 for r in vd.open_ledger(tmp_path / n).records] for n in ("out", "again")]
    assert digests[0] == digests[1]
    assert (tmp_path / "out" / FILE).read_bytes() == (tmp_path / "again" / FILE).read_bytes()


@pytest.mark.parametrize(
    ("target", "options"), [("rlds", {"name": "set", "step_fields": "rlds"}), ("plain_rollout", {})]
)
def test_every_format_that_holds_texts_holds_language(target: str, options: Any, tmp_path: Path) -> None:
    root = annotated(tmp_path / "in", depth=False)
    sink = vd.open_sink(tmp_path / "out", format=target, **options)
    vd.run(LerobotSource(root=root), (), sink, engine=Here())
    source = vd.open_source(next(tmp_path.glob("out/**/dataset_info.json"), tmp_path / "out/x").parent)
    found = [source.read(ref) for ref in source.episodes()]
    for name in (PERSISTENT, EVENTS):
        want = [read(root, number).arrays[name].tolist() for number in range(2)]
        assert sorted(e.arrays[name].tolist() for e in found) == sorted(want)


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3, 4, 5], [1, 2, 5], [3], [4, 5], [0, 5], [2, 3]])
def test_what_is_dropped_takes_its_own_rows_along(chosen: list[int], tmp_path: Path) -> None:
    root = annotated(tmp_path / "in", depth=False)
    source = LerobotSource(root=root)
    episode = source.read(source.episodes()[0]).take(np.asarray(chosen))
    sink = vd.open_sink(tmp_path / "out", images="png")
    schema = source.schema(episode)
    encoded = sink.encode(episode, schema)
    blob = b"".join(map(bytes, encoded.blob))
    (tmp_path / "made").mkdir()
    sink.assemble(
        [vd.core.Published("a", encoded.content, encoded.summary, "", lambda: blob)], schema, tmp_path / "made"
    )
    rows = stored(tmp_path / "made")
    assert all(step == rows[0] for step in rows)
    for t, old in enumerate(chosen):
        assert held(rows[0], t) == held(holding(0), old)
    events = stored(tmp_path / "made", EVENTS)
    assert [[one["content"] for one in step] for step in events] == [
        [one["content"] for one in happening(0)[old]] for old in chosen
    ]


def test_another_rate_shows_what_holds_at_the_frames_that_stay(tmp_path: Path) -> None:
    root = annotated(tmp_path / "in", depth=False)
    source = LerobotSource(root=root)
    steps = table_steps({"drop": ("action",), "fps": 5}, source, ())
    episode = curate(source.read(source.episodes()[1]), steps).episode
    assert episode is not None
    want = texts(read(root, 1))
    assert texts(episode) == [want[t] for t in episode.index]


ROWS = st.lists(
    st.tuples(st.sampled_from(["plan", "subtask", "memory"]), st.sampled_from("abc"), st.integers(0, 5)),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS)
def test_rows_that_hold_somewhere_come_back(rows: list[tuple[str, str, int]]) -> None:
    """In the order of their times; of rows of one kind at one time, all."""
    given_ = [row(content, style, step) for style, content, step in sorted(rows, key=lambda r: r[2])]
    column = pa.chunked_array([pa.array([given_] * STEPS, language.arrow_type(PERSISTENT))])
    found, notes = language.read(column, PERSISTENT, TIME)
    assert not notes
    assert language.checked(found, PERSISTENT).tolist() == found.tolist()
    back = language.column(found.tolist(), PERSISTENT, FPS).to_pylist()
    assert back == [given_] * STEPS


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, chosen=st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
def test_after_any_choice_of_steps_lerobot_finds_what_held(
    rows: list[tuple[str, str, int]], chosen: list[int]
) -> None:
    given_ = [row(content, style, step) for style, content, step in sorted(rows, key=lambda r: r[2])]
    column = pa.chunked_array([pa.array([given_] * STEPS, language.arrow_type(PERSISTENT))])
    found, _ = language.read(column, PERSISTENT, TIME)
    chosen = sorted(chosen)
    back = language.column(language.checked(found[chosen], PERSISTENT).tolist(), PERSISTENT, FPS).to_pylist()[0]
    for t, old in enumerate(chosen):
        assert sorted(held(back, t)) == sorted(held(given_, old))


@pytest.mark.parametrize(
    ("rows", "note", "kept"),
    [
        ([row("a", "plan", 0.4)], "language_moved_to_frames", [(0.1, "a")]),
        ([row("a", "plan", -3)], "language_moved_to_frames", [(0.0, "a")]),
        ([row("a", "plan", 9)], "language_never_in_effect", []),
        ([row("a", "plan", 0.2), row("b", "plan", 0.7)], "language_never_in_effect", [(0.1, "b")]),
    ],
)
def test_rows_between_frames_are_moved_or_left_out_with_a_note(rows: Any, note: str, kept: Any) -> None:
    column = pa.chunked_array([pa.array([rows] * STEPS, language.arrow_type(PERSISTENT))])
    found, notes = language.read(column, PERSISTENT, TIME)
    assert f"{note}:{PERSISTENT}" in notes
    assert told([notes])
    back = language.column(found.tolist(), PERSISTENT, FPS).to_pylist()[0]
    assert [(round(one["timestamp"], 3), one["content"]) for one in back] == kept


WAYS: dict[str, Callable[[list[Any]], pa.Array]] = {
    "inferred": pa.array,
    "without calls": lambda steps: pa.array(
        [[{k: r[k] for k in r if k != "tool_calls"} for r in s] for s in steps]
    ),
    "large lists": lambda steps: pa.array(steps).cast(pa.large_list(pa.array(steps).type.value_type)),
    "JSON texts": lambda steps: pa.array(
        [
            [{**r, "tool_calls": r["tool_calls"] and [json.dumps(c) for c in r["tool_calls"]]} for r in s]
            for s in steps
        ]
    ),
    "only what came": lambda steps: pa.array([s if t % 2 else s[:4] for t, s in enumerate(steps)]),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_store_the_rows_is_read_alike(way: str) -> None:
    rows = [*holding(0), row("x", "memory", 1, tool_calls=say("so") if way != "without calls" else None)]
    rows.sort(key=lambda one: one["timestamp"])
    want, _ = language.read(pa.chunked_array([pa.array([rows] * STEPS)]), PERSISTENT, TIME)
    found, notes = language.read(pa.chunked_array([WAYS[way]([rows] * STEPS)]), PERSISTENT, TIME)
    assert not notes
    assert found.tolist() == want.tolist()
    steps = happening(0) if way != "without calls" else [[row("x", "vqa")] for _ in range(STEPS)]
    if way != "only what came":
        want, _ = language.read(pa.chunked_array([pa.array(steps)]), EVENTS, TIME)
        assert language.read(pa.chunked_array([WAYS[way](steps)]), EVENTS, TIME)[0].tolist() == want.tolist()


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array(["x"] * STEPS), "no lists of rows"),
        (pa.array([[{"content": "x"}]] * STEPS), "no lists of rows"),
        (
            pa.array(
                [[{"role": None, "timestamp": 0.0}]] * STEPS,
                pa.list_(pa.struct([("role", pa.string()), ("timestamp", pa.float32())])),
            ),
            "without a role",
        ),
        (pa.array([[{"role": "user"}]] * STEPS), "without a timestamp"),
        (pa.array([[{"role": "user", "timestamp": float("nan")}]] * STEPS), "without a timestamp"),
        (pa.array([[{"role": "user", "timestamp": 0.0, "mood": "x"}]] * STEPS), "mood"),
        (pa.array([[{"role": "user", "timestamp": 0.0, "content": 3}]] * STEPS), "no text"),
    ],
)
def test_what_is_no_rows_of_language_is_refused_with_the_way_out(column: pa.Array, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        language.read(pa.chunked_array([column]), PERSISTENT, TIME)
    assert caught.value.code == "E203"
    assert f"--drop {PERSISTENT}" in caught.value.message


@pytest.mark.parametrize(
    "steps",
    [
        ["reach", "[]"],
        ['[{"role":"user"}', "[]"],
        ['[{"role":"user","style":"plan"}]', "[]"],
        ['[{"role":"user","x":1}]'] * 2,
        ['[{"role":"user","again":2}]'] * 2,
    ],
    ids=["no JSON", "cut", "it ends", "a strange key", "a strange mark"],
)
def test_texts_that_lerobot_cannot_hold_are_refused(steps: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        language.checked(np.asarray(steps), PERSISTENT)
    assert caught.value.code == "E232"
    assert "--rename" in caught.value.message


def test_a_row_that_went_is_found_beside_the_source(tmp_path: Path) -> None:
    """`verify --against` looks at the files, whatever the reader made of them."""
    root = annotated(tmp_path / "in", depth=False)
    converted(root, tmp_path / "out")

    def change(table: pa.Table) -> pa.Table:
        rows = [
            [{**one, "content": "lift it"} if one["content"] == "lift" else one for one in step]
            for step in table[PERSISTENT].to_pylist()
        ]
        at = table.column_names.index(PERSISTENT)
        return table.set_column(at, PERSISTENT, pa.array(rows))

    change_table(root / FILE, change)
    seen = vd.verify(tmp_path / "out", against=[str(root)])
    assert not seen.ok
    assert any(PERSISTENT in str(problem) for problem in seen.damages)


def test_subtasks_of_a_table_become_texts_and_stay(tmp_path: Path) -> None:
    root = annotated(tmp_path / "in", language=False, depth=False, subtasks=True)
    episode = read(root)
    assert episode.arrays["subtask"].tolist() == ["reach"] * 3 + ["grasp"] * 2 + ["lift"]
    assert "subtask_index" not in episode.arrays
    report = converted(root, tmp_path / "out")
    assert report.warnings == (
        "subtask_index is kept as the texts of its table, in the feature `subtask` (2 episodes)",
    )
    assert read(tmp_path / "out").arrays["subtask"].tolist() == episode.arrays["subtask"].tolist()
    assert vd.verify(tmp_path / "out", against=[str(root)]).ok
    assert "subtask" not in read_without(root, "subtask").arrays


def read_without(root: Path, name: str) -> vd.Episode:
    source = LerobotSource(root=root, leave_out=("subtask*",) if name == "subtask" else (name,))
    return source.read(source.episodes()[0])


def test_a_subtask_that_no_table_has_refuses_the_episode(tmp_path: Path) -> None:
    root = annotated(tmp_path / "in", language=False, depth=False, subtasks=True)
    pq.write_table(pa.table({"subtask_index": [0, 1], "subtask": ["a", "b"]}), root / "meta/subtasks.parquet")
    with pytest.raises(DataError, match="subtask_index is 2") as caught:
        read(root)
    assert caught.value.code == "E206"


def test_numbers_of_subtasks_without_a_table_stay_numbers(tmp_path: Path) -> None:
    root = annotated(tmp_path / "in", language=False, depth=False, subtasks=True)
    (root / "meta/subtasks.parquet").unlink()
    assert read(root).arrays["subtask_index"].tolist() == [1, 1, 1, 0, 0, 2]
