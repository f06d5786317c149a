"""``vla-data stats`` as a user meets it."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import vla_data as vd
from tests.paths import ROOT, TESTS
from vla_data.cli import cli
from vla_data.errors import VlaDataError

ROLLOUTS = TESTS / "data/rollouts"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("sets") / "plates"
    vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(target))
    return target


def run(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["stats", *map(str, arguments)])
    if isinstance(done.exception, VlaDataError):
        assert done.exception.exit_code == code, done.exception
    else:
        assert done.exit_code == code, done.output
    return done


def actions(dataset: Path) -> Any:
    source = vd.open_source(dataset)
    return np.concatenate([source.read(ref).arrays["action"] for ref in source.episodes()]).astype(np.float64)


def test_openvla_on_standard_output(dataset: Path) -> None:
    document = json.loads(run(dataset, "--format", "openvla", "--action-mask", "6,-1").stdout)
    entry = document["plates"]
    assert entry["action"]["q01"] == np.quantile(actions(dataset), 0.01, axis=0).tolist()
    assert entry["action"]["mask"] == [True] * 6 + [False]
    assert entry["num_trajectories"] == 3


@pytest.mark.parametrize(
    ("trainer", "file"),
    [("openvla", "dataset_statistics.json"), ("octo", "dataset_statistics.json"), ("lerobot", "stats.json")],
)
def test_a_folder_gets_the_usual_name_and_nothing_is_overwritten(
    dataset: Path, tmp_path: Path, trainer: str, file: str
) -> None:
    run(dataset, "--format", trainer, "--output", tmp_path)
    before = (tmp_path / file).read_bytes()
    assert json.loads(before)
    run(dataset, "--format", trainer, "--output", tmp_path, code=5)
    run(dataset, "--format", trainer, "--output", tmp_path, "--replace")
    assert (tmp_path / file).read_bytes() == before


def test_rollouts_without_conversion(dataset: Path) -> None:
    """The same arrays give the same numbers, from whatever they are read."""
    one = json.loads(run(ROLLOUTS, "--format", "octo", "--flat").stdout)
    two = json.loads(run(dataset, "--format", "octo", "--flat").stdout)
    assert one == two


def test_some_episodes(dataset: Path) -> None:
    document = json.loads(run(dataset, "--format", "octo", "--flat", "--episodes", "1").stdout)
    source = vd.open_source(dataset)
    assert document["num_transitions"] == len(source.read(source.episodes()[1]))


def test_a_report_for_machines(dataset: Path) -> None:
    report = json.loads(run(dataset, "--format", "openvla", "--json").stdout)
    assert report["format"] == "openvla"
    assert report["file"] == "dataset_statistics.json"
    assert report["datasets"]["plates"]["episodes"] == 3
    assert report["document"]["plates"]["num_trajectories"] == 3
    assert report["warnings"] == [] or {"feature", "kind", "elements", "message"} <= set(report["warnings"][0])


def test_lerobot_keeps_the_images_statistics_of_the_dataset(dataset: Path) -> None:
    stored = json.loads((dataset / "meta/stats.json").read_bytes())
    ours = json.loads(run(dataset, "--format", "lerobot").stdout)
    assert set(ours) == set(stored)
    (camera,) = (name for name in stored if "images" in name)
    assert ours[camera] == stored[camera]
    assert "no statistics of images" in run(dataset, "--format", "lerobot", "--episodes", "0").stderr


def test_mixture(dataset: Path) -> None:
    done = run(dataset, ROLLOUTS, "--format", "octo", "--weights", "1,1")
    mixed = json.loads(done.stdout)["mixture"]
    alone = json.loads(run(dataset, "--format", "octo", "--flat").stdout)
    assert np.allclose(mixed["action"]["mean"], alone["action"]["mean"], rtol=0, atol=1e-12)
    assert mixed["num_transitions"] == 2 * alone["num_transitions"]


def test_a_damaged_episode_is_left_out_and_the_exit_code_says_so(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "data/chunk-000").mkdir(parents=True)
    for name in ("info.json", "tasks.parquet", "stats.json", "episodes"):
        (copy / "meta").mkdir(exist_ok=True)
        (copy / "meta" / name).symlink_to(dataset / "meta" / name)
    (copy / "meta/episodes").unlink()
    for path in (dataset / "meta/episodes").rglob("*.parquet"):
        there = copy / path.relative_to(dataset)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes())
    for name in ("info.json", "tasks.parquet", "stats.json"):
        (copy / "meta" / name).unlink()
        (copy / "meta" / name).write_bytes((dataset / "meta" / name).read_bytes())
    for path in (dataset / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        rows = [i for i, n in enumerate(table["episode_index"].to_pylist()) if n != 1]
        pq.write_table(table.take(pa.array(rows)), copy / path.relative_to(dataset))
    done = run(copy, "--format", "octo", "--flat", code=3)
    assert json.loads(done.stdout)["num_trajectories"] == 2
    assert "episode_000001" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "rdt", "--action-mask", "6,-1"], "--action-mask does not work"),
        (["--format", "openvla", "--action-mask", "six"], "is not a mask"),
        (["--format", "gr00t", "--relative", "arm", "--action-horizon", "4"], "modality.json"),
        (["--format", "gr00t", "--action-horizon", "4"], "--relative"),
        (["--format", "octo", "--weights", "x"], "not a list of weights"),
        (["--format", "octo", "--weights", "1,2"], "weights"),
        (["--format", "octo", "--name", "a", "--name", "b"], "as many names"),
    ],
)
def test_wrong_calls_are_refused(dataset: Path, arguments: list[str], message: str) -> None:
    done = run(dataset, *arguments, code=2)
    assert message in str(done.exception)


def test_two_sources_of_one_name_are_refused(dataset: Path) -> None:
    done = run(dataset, dataset, "--format", "octo", code=2)
    assert "two sources have one name" in str(done.exception)
    assert list(json.loads(run(dataset, dataset, "--format", "octo", "--name", "a", "--name", "b").stdout)) == [
        "a",
        "b",
    ]


def test_warnings_are_no_wider_than_a_terminal(tmp_path: Path) -> None:
    words = ("--format", "openpi", "--state", "action")
    done = run(ROLLOUTS, *words, "--output", tmp_path / "stats.json")
    lines = done.stderr.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.startswith("vla-data: ") for line in lines)
    whole = " ".join(line.removeprefix("vla-data: ").strip() for line in lines)
    assert "chunks of 50 actions, as pi0's and pi05's; --action-horizon is for others" in whole
    report = json.loads(run(ROLLOUTS, *words, "--json").stdout)
    assert all(f"warning: {found['message']}" in whole for found in report["warnings"])


def test_the_documented_lines_of_python_run() -> None:
    text = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")
    code = text.partition("## From Python")[2].partition("`numpy.quantile` of")[0]
    parts = np.random.default_rng(0).normal(size=(4, 50, 3))
    names = dict(zip(("first", "second", "third", "x"), parts, strict=True))
    exec(textwrap.dedent(code), names)
    assert names["entry"]["q01"] == np.quantile(parts[:3].reshape(150, 3), 0.01, axis=0).tolist()


def test_a_slash_at_the_end_is_a_folder(dataset: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "new", tmp_path / "a" / "b"):
        run(dataset, "--format", "octo", "--output", f"{place}/")
        assert [path.name for path in place.iterdir()] == ["dataset_statistics.json"]
    run(dataset, "--format", "octo", "--output", tmp_path / "named")
    assert (tmp_path / "named").is_file()


def test_our_own_rdt_folder_says_what_it_is(tmp_path: Path) -> None:
    """Channels, rate and meanings are in its files and in ``rdt.json``; nobody is asked for them again."""
    target = tmp_path / "set"
    source = vd.open_source(TESTS / "data/hdf5/libero_spatial0_demo.hdf5", layout="libero")
    vd.run(source, (), vd.open_sink(target, format="rdt", name="set", shortest=1), workers=1)
    document = json.loads(run(target, "--format", "rdt").stdout)
    written = json.loads((target / "configs/dataset_stat.json").read_text())
    assert document["set"]["state_mean"] == pytest.approx(written["set"]["state_mean"], abs=1e-12)
    reader = vd.open_source(target)
    schema = reader.schema(reader.read(reader.episodes()[0]))
    facts = json.loads((target / "rdt.json").read_text())
    assert schema.fps == facts["control_freq"]
    assert schema.features["action"].convention == facts["conventions"]["action"]
    assert schema.features["observation.state"].convention == facts["conventions"]["state"]
