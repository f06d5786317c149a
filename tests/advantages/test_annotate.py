"""``vla-data annotate``: values in, canonical file and all layouts out, and each of them read back.

The dataset is made of real rollouts; one of its three episodes fails.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vla_data as vd
from tests.paths import ROOT, SHARED
from tests.stock_lerobot import PYTHONS, ask, needed, said
from training_adapters.opentau import advantages as opentau
from vla_data import advantages as adv
from vla_data.advantages.annotation import SUMS, read_annotation, read_sums
from vla_data.advantages.frame_table import FrameTable
from vla_data.cli import annotate as command_module
from vla_data.cli import cli
from vla_data.errors import DataError, LockedError, MachineError, TargetExistsError, UsageError
from vla_data.files import write as io
from vla_data.formats import TRAINERS, trainers

LAYOUTS = trainers("advantages")
NEED_LABELS = [name for name in LAYOUTS if TRAINERS[name].needs_labels]
GROOT = SHARED / "lerobot_v20_groot"
SHARE = adv.Labels(share=0.3)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("annotate") / "set"
    vd.run(vd.open_source(ROOT / "tests/data/rollouts"), [], vd.open_sink(root), workers=1)
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "set"
    shutil.copytree(original, copy)
    return copy


def write_values(path: Path, table: FrameTable, **changes: Any) -> Path:
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "episode_index": table.episode_index,
        "frame_index": table.episodes.frame_index(),
        "value": random.uniform(-0.7, 0, len(table)).astype(np.float32),
    }
    columns |= changes
    pq.write_table(pa.table({name: column for name, column in columns.items() if column is not None}), path)
    return path


@pytest.fixture
def values(root: Path, tmp_path: Path) -> Path:
    return write_values(tmp_path / "values.parquet", FrameTable.read(root))


def tree(root: Path) -> dict[str, str]:
    files = (p for p in sorted(root.rglob("*")) if p.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def by_hand(root: Path, values: Path, n: int, normalizer: int = 1600) -> tuple[list[Any], list[float]]:
    """Keys and advantages by OpenTau's two passes over the rows of the data files, in plain Python."""
    rows = [row for path in sorted(root.glob("data/*/*.parquet")) for row in pq.read_table(path).to_pylist()]
    value = {(r["episode_index"], r["frame_index"]): r["value"] for r in pq.read_table(values).to_pylist()}
    lengths: dict[int, int] = {}
    solved: dict[int, bool] = {}
    for row in rows:
        lengths[row["episode_index"]] = row["frame_index"] + 1
        solved[row["episode_index"]] = solved.get(row["episode_index"], False) or row["next.success"]
    keys, found = [], []
    for row in rows:
        e, t = row["episode_index"], row["frame_index"]
        past = t + n >= lengths[e]
        reward = max(t - lengths[e] + 1, -n) + (-1000 if past and not solved[e] else 0)
        found.append(reward / normalizer + value.get((e, t + n), 0) - value[e, t])
        keys.append((e, row["timestamp"]))
    return keys, found


# -- the canonical file -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 50])
def test_advantages_are_those_of_two_passes(root: Path, values: Path, n: int) -> None:
    done = adv.annotate(root, tag="a", values=values, rules=adv.Recap(n=n), labels=SHARE)
    _, want = by_hand(root, values, n)
    np.testing.assert_allclose(done.annotation.advantages, want, rtol=0, atol=1e-12)


def test_file_has_everything_that_made_it(root: Path, values: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    done = adv.annotate(root, tag="a", values=values, value_model=model, labels=SHARE)
    read = pq.read_table(root / "meta/vla_data/advantages/a.parquet", page_checksum_verification=True)
    facts = json.loads(read.schema.metadata[b"vla_data"])
    manifest = json.loads((root / "meta/vla_data/manifest.json").read_bytes())
    assert facts["dataset"]["sha256"] == manifest["content_sha256"]
    assert facts["dataset"]["kind"] == "content_digest"
    assert facts["values"] == {
        "kind": "file",
        "name": "values.parquet",
        "sha256": hashlib.sha256(values.read_bytes()).hexdigest(),
        "model_sha256": hashlib.sha256(b"weights").hexdigest(),
    }
    assert (facts["n_step"], facts["c_neg"], facts["normalizer"], facts["tag"]) == (50, -1000, 1600, "a")
    assert (facts["success"], facts["successful_episodes"], facts["unlabelled_episodes"]) == ("ledger", 2, 0)
    bound = facts["thresholds"]["bounds"]["all"]
    assert bound["epsilon"] == np.quantile(read["advantage"].to_numpy(), 0.7)
    assert read["positive"].to_numpy().sum() == bound["positive"] == 32
    assert str(tmp_path) not in json.dumps(facts)
    again = read_annotation(FrameTable.read(root), "a")
    np.testing.assert_array_equal(again.advantages, done.annotation.advantages)
    assert dict(again.provenance) == json.loads(json.dumps(dict(done.annotation.provenance)))


def test_labels_can_be_computed_again_from_the_file(root: Path, values: Path) -> None:
    adv.annotate(root, tag="a", values=values, labels=adv.Labels(share=0.3, op=">"), force_positive="next.success")
    made = read_annotation(FrameTable.read(root), "a")
    epsilon = made.provenance["thresholds"]["bounds"]["all"]["epsilon"]
    assert made.forced is not None
    assert made.forced.any()
    np.testing.assert_array_equal(made.positive, (made.advantages > epsilon) | made.forced)


def test_same_call_same_bytes_and_nothing_published_changes(root: Path, values: Path) -> None:
    before = tree(root)
    adv.annotate(root, tag="a", values=values, labels=SHARE, layout="opentau")
    first = tree(root)
    adv.annotate(root, tag="a", values=values, labels=SHARE, layout="opentau", replace=True)
    assert tree(root) == first
    assert before.items() <= first.items()
    assert first.keys() - before.keys() == {"meta/vla_data/advantages/a.parquet", "meta/advantages.json", SUMS}


def test_order_of_the_values_does_not_matter(root: Path, values: Path, tmp_path: Path) -> None:
    table = pq.read_table(values)
    mixed = tmp_path / "mixed.parquet"
    pq.write_table(table.take(np.random.default_rng(1).permutation(len(table))), mixed)
    one = adv.annotate(root, tag="a", values=values).annotation
    two = adv.annotate(root, tag="b", values=mixed).annotation
    np.testing.assert_array_equal(one.advantages, two.advantages)


def test_sums_of_annotations_are_in_the_format_of_sha256sum(root: Path, values: Path) -> None:
    for tag, layout in (("a", "rlinf"), ("b", "rabc")):
        adv.annotate(root, tag=tag, values=values, labels=SHARE, layout=layout)
    assert set(read_sums(root)) == {
        "meta/advantages_a.parquet",
        "meta/returns_a.parquet",
        "meta/vla_data/advantages/a.parquet",
        "meta/vla_data/advantages/b.parquet",
        "sarm_progress.parquet",
    }
    done = subprocess.run(["sha256sum", "--quiet", "-c", SUMS], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- refusals ---------------------------------------------------------------------------------------


def changed_values(kind: str, table: FrameTable) -> Mapping[str, Any]:
    episode, frame = table.episode_index, table.episodes.frame_index()
    value = np.zeros(len(table), dtype=np.float32)
    if kind == "partial":
        return {"episode_index": episode[:-7], "frame_index": frame[:-7], "value": value[:-7]}
    if kind == "repeated":
        frame = frame.copy()
        frame[1] = 0
        return {"frame_index": frame, "value": value}
    if kind == "other data":
        return {"episode_index": episode + 1, "value": value}
    if kind == "longer":
        more = [np.append(column, column[-1] + 1) for column in (frame, value)]
        return {"episode_index": np.append(episode, episode[-1]), "frame_index": more[0], "value": more[1]}
    if kind == "nan":
        value[5] = np.nan
        return {"value": value}
    if kind == "text":
        return {"value": np.array(["0"] * len(table))}
    return {"value": None}


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("partial", "E302", r"7 frames have no row \(as episode 2, frame 33\); 98 of 105 .* one row of 98"),
        ("repeated", "E302", "1 frames have no row .*; 1 rows repeat a frame; 103 of 105 frames"),
        ("other data", "E301", "is of other data: 40 rows are of no frame here; 65 of 105"),
        ("longer", "E301", "1 rows are of no frame here; 105 of 105 frames have one row of 106"),
        ("nan", "E302", "1 of 105 values are not finite"),
        ("text", "E302", "value is string"),
        ("no column", "E003", "no column value"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_counts(
    root: Path, tmp_path: Path, kind: str, code: str, message: str
) -> None:
    table = FrameTable.read(root)
    path = write_values(tmp_path / "bad.parquet", table, **changed_values(kind, table))
    before = tree(root)
    with pytest.raises(UsageError, match=message) as error:
        adv.annotate(root, tag="a", values=path)
    assert error.value.code == code
    assert tree(root) == before


def test_a_file_of_an_older_dataset_is_stale(root: Path, values: Path) -> None:
    adv.annotate(root, tag="a", values=values)
    manifest = root / "meta/vla_data/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_bytes()), "content_sha256": "0" * 64}))
    with pytest.raises(
        UsageError, match="was made for other data: not the same sha256; 105 frames then, 105 now"
    ) as error:
        read_annotation(FrameTable.read(root), "a")
    assert error.value.code == "E301"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(3)).filter(lambda order: order != [0, 1, 2]))
def test_a_file_of_permuted_episodes_is_stale(root: Path, values: Path, order: list[int]) -> None:
    """The same frames in all, in other episodes: the shape of the dataset differs."""
    adv.annotate(root, tag="a", values=values, replace=True)
    (path,) = root.glob("data/*/*.parquet")
    whole = pq.read_table(path)
    try:
        parts = [whole.filter(pa.compute.equal(whole["episode_index"], e)) for e in order]
        renamed = []
        for number, part in enumerate(parts):
            at = part.schema.get_field_index("episode_index")
            renamed.append(part.set_column(at, "episode_index", pa.array([number] * len(part))))
        pq.write_table(pa.concat_tables(renamed), path)
        with pytest.raises(UsageError, match="E301"):
            read_annotation(FrameTable.read(root), "a")
    finally:
        pq.write_table(whole, path)


def test_an_annotation_is_not_overwritten(root: Path, values: Path) -> None:
    adv.annotate(root, tag="a", values=values)
    with pytest.raises(TargetExistsError, match=r"a\.parquet exists; --replace"):
        adv.annotate(root, tag="a", values=values)
    (root / "meta/advantages.json").write_text("{}")
    with pytest.raises(TargetExistsError, match=r"meta/advantages\.json exists"):
        adv.annotate(root, tag="b", values=values, layout="opentau")
    assert not (root / "meta/vla_data/advantages/b.parquet").exists()


def test_a_published_file_is_never_replaced(root: Path, values: Path) -> None:
    sums = root / "meta/vla_data/SHA256SUMS"
    sums.write_text(sums.read_text() + "0" * 64 + "  meta/advantages.json\n")
    with pytest.raises(UsageError, match="was published with the dataset"):
        adv.annotate(root, tag="a", values=values, layout="opentau", replace=True)


def test_one_run_at_a_time(root: Path, values: Path) -> None:
    import fcntl

    folder = root / "meta/vla_data/advantages"
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(LockedError, match="E801"):
            adv.annotate(root, tag="a", values=values)
    finally:
        os.close(handle)


@pytest.mark.parametrize("tag", ["../a", "", "a b", ".a", "a" * 65, "a/b"])
def test_tags_are_names(root: Path, values: Path, tag: str) -> None:
    with pytest.raises(UsageError, match="is not a tag"):
        adv.annotate(root, tag=tag, values=values)


@pytest.mark.parametrize("layout", ["opentau", "rlinf", "evo-rl"])
def test_a_failing_disk_leaves_nothing_false(
    root: Path, values: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever write fails, the dataset's files stay, what is there is whole, and the next run mends the rest."""
    before, copy = tree(root), root.parent / "set-t"
    fired: list[int] = []

    def fail_at(at: int) -> Callable[[str, Path], None]:
        left = [at]

        def hook(_step: str, _path: Path) -> None:
            left[0] -= 1
            if left[0] == 0:
                fired.append(at)
                raise OSError(errno.ENOSPC, "No space left on device")

        return hook

    failures = 0
    for at in range(1, 1000, 4 if layout == "evo-rl" else 1):
        monkeypatch.setattr(io, "hook", fail_at(at))
        try:
            adv.annotate(root, tag="t", values=values, labels=SHARE, layout=layout, replace=True)
        except MachineError as error:
            failures += 1
            assert error.code == "E701"
        monkeypatch.setattr(io, "hook", None)
        assert before.items() <= tree(root).items()
        if at not in fired:
            break
        if copy.exists():
            assert adv.read(copy, layout, tag="t").coverage.complete
            shutil.rmtree(copy)
    assert failures > 8
    done = subprocess.run(["sha256sum", "--quiet", "-c", SUMS], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert adv.read(copy if layout == "evo-rl" else root, layout, tag="t").coverage.complete


# -- where success is found -------------------------------------------------------------------------


def without_ledger(root: Path) -> Path:
    (root / "meta/vla_data/ledger.parquet").unlink()
    return root


def test_success_of_an_episode_is_any_flag_of_its_frames(root: Path) -> None:
    """Judged by its first frame or its mean, a success at the end would be a failure."""
    assert FrameTable.read(without_ledger(root)).success() == ([False, True, True], "frames:next.success")


def add_episode_column(root: Path, name: str, flags: list[Any]) -> None:
    (path,) = root.glob("meta/episodes/*/*.parquet")
    pq.write_table(pq.read_table(path).append_column(name, pa.array(flags)), path)


def test_episode_column_comes_first(root: Path) -> None:
    add_episode_column(root, "success", [True, False, None])
    table = FrameTable.read(root)
    assert table.success() == ([True, False, None], "episodes:success")
    assert table.success("ledger") == ([False, True, True], "ledger")
    assert table.success("frames:next.success")[0] == [False, True, True]
    with pytest.raises(UsageError, match="has no episodes:nothing"):
        table.success("episodes:nothing")
    with pytest.raises(UsageError, match="--success is 'guess'"):
        table.success("guess")


def test_unlabelled_episodes_are_refused_unless_declared(root: Path, values: Path) -> None:
    add_episode_column(root, "success", [True, False, None])
    with pytest.raises(UsageError, match=r"1 of 3 episodes have no success label \(as episode 2\)"):
        adv.annotate(root, tag="a", values=values)
    done = adv.annotate(root, tag="a", values=values, unlabelled="failure")
    facts = done.annotation.provenance
    assert (facts["successful_episodes"], facts["unlabelled"], facts["unlabelled_episodes"]) == (1, "failure", 1)


def test_a_success_column_of_other_numbers_is_refused(root: Path) -> None:
    add_episode_column(root, "success", [0.5, 1.0, 0.0])
    with pytest.raises(DataError, match="E205"):
        FrameTable.read(root).success()


def test_ledger_without_flags_is_no_judge(root: Path) -> None:
    """Without flags every episode is solved by the ledger, which nobody has said."""
    info = root / "meta/info.json"
    facts = json.loads(info.read_bytes())
    del facts["features"]["next.success"]
    info.write_text(json.dumps(facts))
    assert FrameTable.read(root).success() == ([None] * 3, "none")


# -- layouts ----------------------------------------------------------------------------------------


def test_table_of_layouts_is_sorted_and_known_to_the_command() -> None:
    (option,) = (param for param in command_module.command.params if param.name == "layout")
    assert list(option.type.choices) == LAYOUTS == sorted(LAYOUTS)


def annotated(root: Path, values: Path, layout: str, **options: Any) -> tuple[Any, Path]:
    done = adv.annotate(root, tag="t", values=values, layout=layout, **{"labels": SHARE, **options})
    return done, done.copy or root


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("per_task", [False, True])
def test_what_is_written_is_read_back(root: Path, values: Path, layout: str, per_task: bool) -> None:
    labels = adv.Labels(share=0.3, per_task=per_task)
    done, where = annotated(root, values, layout, labels=labels, force_positive="next.success")
    found = adv.read(where, layout, tag="t")
    assert found.coverage.complete
    made = done.annotation
    exact = {"rtol": 0, "atol": 5.1e-7 if layout == "opentau" else 6e-8}
    if layout == "opentau":
        limit = done.layout["advantage_threshold"]
        seen = opentau.seen_positive(found.advantages, limit)
        assert (seen != made.positive).sum() == done.layout["flipped"]
        plain = made.advantages - (made.provenance["thresholds"]["bounds"]["0"]["epsilon"] if per_task else 0)
        kept = ~made.forced
        np.testing.assert_allclose(found.advantages[kept], plain[kept], **exact)
        assert seen[made.forced].all()
    elif layout in ("lerobot-recap", "sample-weights", "task-text"):
        assert found.advantages is None
        np.testing.assert_array_equal(found.positive, made.positive)
    elif layout == "rabc":
        assert found.advantages is None
        np.testing.assert_allclose(found.values, made.values, **exact)
    else:
        np.testing.assert_allclose(found.advantages, made.advantages, **exact)
        np.testing.assert_allclose(found.values, made.values, **exact)
        np.testing.assert_array_equal(found.positive, made.positive)


@pytest.mark.parametrize("layout", sorted(NEED_LABELS))
def test_layouts_of_labels_need_a_threshold(root: Path, values: Path, layout: str) -> None:
    with pytest.raises(UsageError, match="stores which frames are positive: give --positive-share"):
        adv.annotate(root, tag="t", values=values, layout=layout)


def test_opentau_finds_every_frame(root: Path, values: Path) -> None:
    """Its own reader's rule, ``load_advantages`` and ``__getitem__``."""
    adv.annotate(root, tag="t", values=values, layout="opentau")
    keys, want = by_hand(root, values, 50)
    text = (root / "meta/advantages.json").read_text()
    raw = json.loads(text)
    assert text == json.dumps(raw, indent=4)
    pairs = zip(keys, want, strict=True)
    assert raw == {f"{e},{float(np.float32(ts))}": f"{value:.6f}" for (e, ts), value in pairs}
    loaded = {(int(k.split(",")[0]), float(k.split(",")[1])): float(v) for k, v in raw.items()}
    missing = object()
    found = [loaded.get((e, np.float32(ts).item()), missing) for e, ts in keys]
    assert missing not in found
    assert "0,0.20000000298023224" in raw


def edit(root: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = root / "meta/advantages.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def double(entries: dict[str, Any]) -> dict[str, Any]:
    """Keys as ``frame_index / fps`` in float64 gives them: OpenTau finds only whole seconds."""
    return {f"{k.split(',')[0]},{round(float(k.split(',')[1]), 6)}": v for k, v in entries.items()}


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda d: dict(list(d.items())[:-5]), "E302", "5 frames have no row"),
        (lambda d: d | {"3,0.0": "0.1", "2,99.0": "0.1"}, "E301", "2 rows are of no frame here; 105 of 105"),
        (lambda d: {f"{int(k[0]) + 1}{k[1:]}": v for k, v in d.items()}, "E301", "is of other data"),
        (double, "E302", "83 keys would not be found by its own reader"),
        (lambda d: d | {"0,0.0": "nan"}, "E302", "1 of 105 entries are not finite"),
        (lambda d: d | {"x": "0.1"}, "E302", "has x: 0.1"),
        (lambda d: d | {"0,0.0": True}, "E302", "has 0,0.0: True"),
    ],
)
def test_stale_partial_or_odd_opentau_files_are_refused(
    root: Path, values: Path, change: Any, code: str, message: str
) -> None:
    adv.annotate(root, tag="t", values=values, layout="opentau")
    edit(root, change)
    with pytest.raises(UsageError, match=message) as error:
        adv.read(root, "opentau").coverage.require("meta/advantages.json")
    assert error.value.code == code


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False))
def test_order_of_the_json_changes_nothing(root: Path, values: Path, random: Any) -> None:
    if not (root / "meta/advantages.json").exists():
        adv.annotate(root, tag="t", values=values, layout="opentau")
    want = adv.read(root, "opentau")

    def shuffle(entries: dict[str, Any]) -> dict[str, Any]:
        items = list(entries.items())
        random.shuffle(items)
        return dict(items)

    edit(root, shuffle)
    found = adv.read(root, "opentau")
    assert found.coverage == want.coverage
    np.testing.assert_array_equal(found.advantages, want.advantages)


@pytest.mark.parametrize("limit", [0.0, 0.35769, -0.012345, 1e-6, 0.3, -1.0])
def test_forced_positives_reach_opentau_through_its_bfloat16(limit: float) -> None:
    least = opentau.least_positive(limit)
    assert opentau.seen_positive(np.array([float(f"{least:.6f}")]), limit).all()
    assert least <= limit + abs(limit) / 128 + 2e-6


@pytest.mark.parametrize("limit", [0.0, 0.35769, -0.012345, 0.012345, 1e-6, 0.3, -1.0, 1 / 3, 0.0123, 0.4999])
def test_nothing_below_the_least_positive_is_positive(limit: float) -> None:
    least = opentau.least_positive(limit)
    below = np.round(least - np.arange(1, 200) * 1e-6, 6)
    assert not opentau.seen_positive(below, limit).any()


SEEN = """
import json, sys, torch
values, limits = json.load(sys.stdin)
x = torch.tensor(values, dtype=torch.bfloat16)
print(json.dumps([(x >= limit).tolist() for limit in limits]))
"""


@needed
def test_what_opentau_sees_is_what_torch_sees() -> None:
    """torch rounds the number too that it compares with: 0.012345 is at least 0.012345, in bfloat16."""
    random = np.random.default_rng(0)
    limits = [0.012345, -0.0123, 0.3, 1 / 3, 0.0, -1.0, *random.uniform(-1, 1, 200).round(5).tolist()]
    near = np.concatenate([limit * (1 + random.uniform(-1, 1, 40) / 100) for limit in limits])
    values = [*limits, *np.round(near, 6).tolist(), *(opentau.least_positive(limit) for limit in limits)]
    done = ask(PYTHONS[0], SEEN, input=json.dumps([values, limits]))
    assert done.returncode == 0, done.stderr
    seen = [opentau.seen_positive(np.array(values), limit).tolist() for limit in limits]
    assert json.loads(done.stdout) == seen


def test_flipped_labels_are_those_that_opentau_turns_around(root: Path, tmp_path: Path) -> None:
    """Advantages around a threshold that bfloat16 rounds down: the finding of 8 that were 18."""
    table = FrameTable.read(root)
    random = np.random.default_rng(0)
    left = -(table.episodes.per_frame(table.episodes.lengths) - 1 - table.episodes.frame_index())
    values = write_values(
        tmp_path / "v.parquet", table, value=left / 1600 - random.uniform(0.012, 0.0127, len(left))
    )
    done = adv.annotate(
        root,
        tag="t",
        values=values,
        rules=adv.Recap(n=None, c_neg=0),
        labels=adv.Labels(epsilon=0.012345),
        layout="opentau",
    )
    text = json.loads((root / "meta/advantages.json").read_bytes()).values()
    step = 2.0**-14  # of bfloat16 from 2^-7 to 2^-6, to which the threshold is rounded as well
    assert round(0.012345 / step) * step < 0.012345
    seen = np.array([round(float(one) / step) for one in text]) >= round(0.012345 / step)
    assert done.layout["flipped"] == (seen != done.annotation.positive).sum() > 0


def test_bfloat16_is_torchs() -> None:
    assert opentau.bfloat16(np.array([-0.012345, 1.0, 0.1, -0.0, 3.0e38])).tolist() == [
        -0.0123291015625,
        1.0,
        0.10009765625,
        0.0,
        3.00405527047391e38,
    ]


def test_rlinf_columns(root: Path, values: Path) -> None:
    done, _ = annotated(root, values, "rlinf", rules=adv.Recap(n=10))
    read = pq.read_table(root / "meta/advantages_t.parquet")
    kinds = {field.name: str(field.type) for field in read.schema}
    assert kinds == {
        "episode_index": "int64",
        "frame_index": "int64",
        **dict.fromkeys(["advantage_continuous", "return", "value_current", "value_next"], "double"),
        **dict.fromkeys(["reward_sum", "reward_sum_raw"], "double"),
        "num_valid_rewards": "int64",
        "advantage": "bool",
    }
    column = {name: read[name].to_numpy() for name in kinds}
    again = column["reward_sum"] + column["value_next"] - column["value_current"]
    np.testing.assert_allclose(again, column["advantage_continuous"], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(column["advantage"], done.annotation.positive)
    returns = pq.read_table(root / "meta/returns_t.parquet")
    assert returns.column_names == ["episode_index", "frame_index", "return", "reward", "prompt"]
    first = returns["episode_index"].to_numpy() == 0
    assert returns["reward"].to_numpy()[first].tolist() == [-1.0] * 31 + [-1000.0]
    assert returns["return"].to_numpy()[first][0] == -1031.0
    assert set(returns["prompt"].to_pylist()) == {"put carrot on plate"}


def test_frame_labels_entries(root: Path, values: Path) -> None:
    done, _ = annotated(root, values, "frame-labels", rules=adv.Recap(n=None))
    found = json.loads((root / "meta/advantages_t.json").read_bytes())
    assert found["label"] == "advantage:positive"
    assert (found["version"], found["num_frames"], found["positive_percentile"]) == (1, 105, 70.0)
    entry = found["entries"][33]
    assert (entry["dataset_index"], entry["index"], entry["episode_index"]) == (0, 33, 1)
    assert entry["advantage"] == pytest.approx(entry["target_value"] - entry["value"], abs=1e-15)
    assert [e["positive"] for e in found["entries"]] == done.annotation.positive.tolist()
    found["entries"][0]["index"] = 10**6
    (root / "meta/advantages_t.json").write_text(json.dumps(found))
    with pytest.raises(UsageError, match="1 rows are of no frame"):
        adv.read(root, "frame-labels", tag="t").coverage.require("x")


def test_rabc_with_another_index_is_told(root: Path, values: Path) -> None:
    annotated(root, values, "rabc")
    path = root / "sarm_progress.parquet"
    read = pq.read_table(path)
    assert read.schema.metadata[b"reward_model_path"] == b"vla-data:t"
    pq.write_table(read.set_column(0, "index", pa.array(read["index"].to_numpy() + 1)), path)
    with pytest.raises(UsageError, match="105 keys would not be found by its own reader"):
        adv.read(root, "rabc").coverage.require("sarm_progress.parquet")


def test_evo_rl_copy_has_the_columns_and_all_else(root: Path, values: Path, tmp_path: Path) -> None:
    before = tree(root)
    done, copy = annotated(root, values, "evo-rl")
    assert copy == tmp_path / "set-t"
    assert before.items() <= tree(root).items()
    (name,) = (p.relative_to(root) for p in root.glob("data/*/*.parquet"))
    old, new = pq.read_table(root / name), pq.read_table(copy / name, page_checksum_verification=True)
    added = [f"complementary_info.{kind}_t" for kind in ("value", "advantage", "acp_indicator")]
    assert new.column_names == [*old.column_names, *added]
    assert new.select(old.column_names).equals(old)
    assert [str(new.schema.field(c).type) for c in added] == ["float", "float", "int64"]
    np.testing.assert_array_equal(new[added[2]].to_numpy(), done.annotation.positive.astype(int))
    assert pq.ParquetFile(copy / name).num_row_groups == pq.ParquetFile(root / name).num_row_groups
    features = json.loads((copy / "meta/info.json").read_bytes())["features"]
    assert features[added[0]] == {"dtype": "float32", "shape": [1], "names": None}
    assert features[added[2]] == {"dtype": "int64", "shape": [1], "names": None}
    same = {"README.md", "meta/stats.json", "meta/tasks.parquet"}
    assert {n: d for n, d in tree(copy).items() if n in same} == {n: before[n] for n in same}
    assert not (copy / "meta/vla_data/manifest.json").exists()
    (ref, *_) = vd.open_source(copy).episodes()
    assert added[0] in vd.open_source(copy).read(ref).arrays
    with pytest.raises(TargetExistsError, match="E411"):
        adv.annotate(root, tag="u", values=values, layout="evo-rl", labels=SHARE, copy_to=copy)


STOCK = """
import json, os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
try:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
except ImportError:
    from lerobot.datasets import LeRobotDataset
data = LeRobotDataset("local/set", root=sys.argv[1])
names = [n for n in data[0] if n.startswith("complementary_info.")]
rows = [{n: data[i][n].item() for n in names} for i in range(len(data))]
print("STOCK " + json.dumps({"rows": rows, "frames": len(data)}))
"""
RABC = """
import json, sys
try:
    from lerobot.rewards.sarm.rabc import RABCWeights
except ImportError:
    print("STOCK null"); sys.exit()
import torch
weights = RABCWeights(sys.argv[1], device=torch.device("cpu"))
w, stats = weights.compute_batch_weights({"index": torch.arange(105)})
print("STOCK " + json.dumps({"weights": w.tolist(), **weights.get_stats()}))
"""


def stock(python: str, script: str, path: Path) -> Any:
    return said(ask(python, script, str(path)), "STOCK ")


@needed
def test_stock_lerobot_opens_the_evo_rl_copy(root: Path, values: Path) -> None:
    done, copy = annotated(root, values, "evo-rl")
    seen = stock(PYTHONS[-1], STOCK, copy)
    made = done.annotation
    assert seen["frames"] == 105
    indicators = [row["complementary_info.acp_indicator_t"] for row in seen["rows"]]
    assert indicators == made.positive.astype(int).tolist()
    want = made.advantages.astype(np.float32).tolist()
    assert [row["complementary_info.advantage_t"] for row in seen["rows"]] == want


@needed
def test_stock_lerobot_weighs_by_the_rabc_file(root: Path, values: Path) -> None:
    done, _ = annotated(root, values, "rabc")
    seen = stock(PYTHONS[-1], RABC, root / "sarm_progress.parquet")
    if seen is None:
        pytest.skip("this lerobot has no RA-BC")
    made, table = done.annotation, FrameTable.read(root)
    ahead = np.minimum(np.arange(105) + 50, table.episodes.per_frame(table.episodes.last))
    delta = (made.values + 1).astype(np.float32).astype(np.float64)
    delta = delta[ahead] - delta
    assert seen["num_frames"] == 105
    assert seen["delta_std"] == pytest.approx(delta.std(), rel=1e-6)
    weights = adv.losses.progress_weights(delta, mean=float(delta.mean()), deviation=float(delta.std()))
    np.testing.assert_allclose(seen["weights"], weights * 105 / (weights.sum() + 1e-6), rtol=0, atol=1e-5)


# -- values from a function -------------------------------------------------------------------------

CRITIC = """
import os
from pathlib import Path
import numpy as np

CALLS = []

def value(batch):
    stop = os.environ.get("CRITIC_STOPS_AT")
    if stop is not None and int(batch["episode_index"][0]) >= int(stop):
        raise KeyboardInterrupt
    CALLS.append((len(batch["task"]), sorted(batch)))
    image = batch["observation.images.primary"]
    assert image.dtype == np.uint8 and image.shape[0] == len(batch["task"])
    return -image.reshape(len(image), -1).mean(axis=1) / 255 - batch["frame_index"] * 1e-6

def wrong_shape(batch):
    return np.zeros((len(batch["task"]), 1))

def raises(batch):
    raise ValueError("no such \\x1b[31mcamera\\nand more")

def silent(batch):
    raise RuntimeError

def ragged(batch):
    return [[1], [2, 3]]

def not_finite(batch):
    return np.full(len(batch["task"]), np.nan)
"""


@pytest.fixture
def critic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"critic_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(CRITIC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def test_a_function_sees_every_frame_in_batches(root: Path, critic: str, tmp_path: Path) -> None:
    one = adv.annotate(root, tag="a", values=adv.FunctionValues(function=f"{critic}:value", batch_size=8))
    calls = sys.modules[critic].CALLS
    assert [size for size, _ in calls] == [8] * 13 + [1]
    assert {"action", "next.success", "observation.images.primary", "task", "timestamp"} <= set(calls[0][1])
    source, want = vd.open_source(root), []
    for ref in source.episodes():
        frames = source.read(ref).frames["observation.images.primary"]
        want += [-frames.pixels(i).mean() / 255 - i * 1e-6 for i in range(len(frames))]
    np.testing.assert_allclose(one.annotation.values, want, rtol=0, atol=1e-12)
    origin = one.annotation.provenance["values"]
    assert origin["sha256"] == hashlib.sha256((tmp_path / f"{critic}.py").read_bytes()).hexdigest()
    assert not list((root / "meta/vla_data/advantages").glob(".*"))


def test_a_function_goes_on_where_it_stopped(root: Path, critic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla_data.advantages.values._PART", 1)  # a part an episode
    function = adv.FunctionValues(function=f"{critic}:value", batch_size=16)
    want = adv.annotate(root, tag="whole", values=function).annotation.values
    before = tree(root)
    monkeypatch.setenv("CRITIC_STOPS_AT", "2")
    with pytest.raises(KeyboardInterrupt):
        adv.annotate(root, tag="a", values=function)
    assert {n: d for n, d in tree(root).items() if ".work" not in n} == before
    monkeypatch.delenv("CRITIC_STOPS_AT")
    sys.modules[critic].CALLS.clear()
    found = adv.annotate(root, tag="a", values=function)
    assert sum(size for size, _ in sys.modules[critic].CALLS) == 40
    np.testing.assert_array_equal(found.annotation.values, want)


def test_kept_work_of_another_job_or_damaged_is_done_again(
    root: Path, critic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vla_data.advantages.values._PART", 1)
    monkeypatch.setenv("CRITIC_STOPS_AT", "2")
    for size in (16, 5):
        function = adv.FunctionValues(function=f"{critic}:value", batch_size=size)
        with pytest.raises(KeyboardInterrupt):
            adv.annotate(root, tag="a", values=function)
    part = root / "meta/vla_data/advantages/.a.work/000001.values"
    part.write_bytes(part.read_bytes()[:-1] + b"\xff")
    monkeypatch.delenv("CRITIC_STOPS_AT")
    sys.modules[critic].CALLS.clear()
    adv.annotate(root, tag="a", values=adv.FunctionValues(function=f"{critic}:value", batch_size=5))
    assert sum(size for size, _ in sys.modules[critic].CALLS) == 33 + 40


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("wrong_shape", r"returned float64 of shape \(105, 1\), not \(105,\) numbers"),
        ("not_finite", "returned nan for episode 0, frame 0"),
        ("nothing", "has no function nothing"),
        (
            "raises",
            r"E302.*:raises failed at episode 0, frame 0 to episode 2, frame \d+: "
            r"ValueError: no such \\x1b\[31mcamera$",
        ),
        ("silent", r"E302.*:silent failed at episode 0, frame 0 to .*: RuntimeError$"),
        ("ragged", r"E302.*:ragged failed at .*: ValueError: "),
    ],
)
def test_odd_functions(root: Path, critic: str, function: str, message: str) -> None:
    before = tree(root)
    with pytest.raises(UsageError, match=message):
        adv.annotate(root, tag="a", values=adv.FunctionValues(function=f"{critic}:{function}"))
    assert {n: d for n, d in tree(root).items() if ".work" not in n} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package", "can't be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("def f(:", "can't be imported: SyntaxError"),
        ("1 / 0", "can't be imported: ZeroDivisionError"),
    ],
)
def test_modules_that_fail_are_the_users(root: Path, critic: str, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / f"{critic}.py").write_text(text)
    with pytest.raises(UsageError, match=f"E003.*{critic} {message}"):
        adv.annotate(root, tag="a", values=adv.FunctionValues(function=f"{critic}:f"))


def test_a_module_without_a_file_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match=r"E003.*module sys has no file"):
        adv.annotate(root, tag="a", values=adv.FunctionValues(function="sys:intern"))


@pytest.mark.parametrize(("function", "message"), [("no_such:f", "no module"), ("critic", "MODULE:FUNCTION")])
def test_functions_that_are_not_there(root: Path, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        adv.annotate(root, tag="a", values=adv.FunctionValues(function=function))


# -- the command ------------------------------------------------------------------------------------


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["annotate", *map(str, words)], standalone_mode=False)


@pytest.mark.parametrize(
    "words",
    [
        ["--n-step", "50"],
        ["--monte-carlo", "--c-neg", "-1000", "--normalizer", "1600"],
        ["--normalizer", "per-task", "--positive-share", "0.3", "--per-task", "--layout", "opentau"],
        ["--positive-share", "0.3", "--layout", "rlinf"],
        ["--positive-share", "0.3", "--layout", "evo-rl"],
        ["--positive-share", "0.3", "--layout", "rabc"],
        ["--positive-share", "0.3", "--layout", "frame-labels"],
        ["--epsilon", "0.1", "--op", ">"],
    ],
)
def test_command_lines(root: Path, values: Path, words: list[str]) -> None:
    result = run(root, "--values", values, "--tag", "NAME", *words, "--json")
    assert result.exception is None, result.exception
    facts = json.loads(result.stdout)
    assert facts["frames"] == 105
    assert facts["files"][0] == "meta/vla_data/advantages/NAME.parquet"
    assert facts["n_step"] == (None if "--monte-carlo" in words else 50)


def test_command_reads_what_is_there(root: Path, values: Path) -> None:
    run(root, "--values", values, "--tag", "t", "--layout", "opentau")
    result = run(root, "--read", "opentau", "--json")
    assert json.loads(result.stdout)["coverage"] == {
        "complete": True,
        "frames": 105,
        "inexact": 0,
        "matched": 105,
        "missing": 0,
        "repeated": 0,
        "rows": 105,
        "unknown": 0,
    }
    edit(root, lambda d: dict(list(d.items())[1:]))
    result = run(root, "--read", "opentau", "--json")
    assert json.loads(result.stdout)["coverage"]["missing"] == 1
    assert getattr(result.exception, "exit_code", None) == 2 or result.return_value == 2
    assert "E302 bad-advantages: meta/advantages.json: 1 frames have no row" in result.stderr


def test_command_for_a_person(root: Path, values: Path) -> None:
    words = ["--tag", "t", "--positive-share", "0.3", "--force-positive", "next.success"]
    result = run(root, "--values", values, *words)
    assert "Advantage percentiles for deciding epsilon threshold:" in result.stdout
    assert "  all frames: positive is >= 0.357690: 32 of 105 frames" in result.stdout
    assert "Forced positive: 18 frames" in result.stdout
    assert "Positive in all: 39 frames, 37.14 %" in result.stdout
    assert "wrote: meta/vla_data/advantages/t.parquet" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--values", "v"], "give --tag"),
        (["--tag", "t"], "one of them"),
        (["--tag", "t", "--values", "v", "--monte-carlo", "--n-step", "3"], "--monte-carlo or --n-step, not both"),
        (["--tag", "t", "--values", "v", "--per-task"], "thresholds per task need share"),
        (["--tag", "t", "--values", "v", "--normalizer", "400"], "too small for 1 of 3 episodes"),
        (["--tag", "t", "--values", "v"], "can't be read"),
        (["--read", "opentau"], "has no meta/advantages.json"),
        (["--read", "rlinf"], "give --tag"),
    ],
)
def test_wrong_calls(root: Path, words: list[str], message: str) -> None:
    result = run(root, *words)
    assert isinstance(result.exception, UsageError)
    assert message in result.exception.message


# -- other datasets ---------------------------------------------------------------------------------


@pytest.mark.skipif(not GROOT.exists(), reason="the company's data is not here")
def test_a_foreign_v20_dataset(tmp_path: Path) -> None:
    root = tmp_path / "groot"
    shutil.copytree(GROOT, root, ignore=shutil.ignore_patterns("videos"))
    table = FrameTable.read(root)
    assert table.digest()["kind"] == "data_files"
    assert table.episodes.lengths.tolist() == [416, 470, 470, 412, 328]
    values = write_values(tmp_path / "values.parquet", table)
    with pytest.raises(UsageError, match="5 of 5 episodes have no success label"):
        adv.annotate(root, tag="t", values=values)
    labels = adv.Labels(share=0.3, per_task=True)
    adv.annotate(root, tag="t", values=values, unlabelled="success", labels=labels, layout="opentau")
    assert adv.read(root, "opentau").coverage.complete
    assert read_annotation(table, "t").provenance["success"] == "none"
