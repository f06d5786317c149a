"""Several sources as one dataset, by a mapping that is declared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from tests.rollouts import rollout, save
from vla_data.cli.merge import command as merge_command
from vla_data.errors import UsageError
from vla_data.selection.mapping import merged
from vla_data.verification.check import verify
from vla_data.verification.repair import repair

MAP = """
[[source]]
name = "near"
rename = { "observation.images.primary" = "observation.images.front" }
drop = ["info.*"]

[[source]]
name = "far"
open = { camera = "front", fps = 5 }

[all]
robot = "widowx"
fill = { "observation.state" = { shape = [7] } }
"""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for folder, seeds in (("a", (0, 1)), ("b", (2, 3, 4))):
        for seed in seeds:
            save(tmp_path / folder, f"e{seed}.npz", rollout(T=6 + seed, seed=seed))
    return tmp_path / "a", tmp_path / "b"


def mapping(tmp_path: Path, text: str = MAP) -> Path:
    path = tmp_path / "map.toml"
    path.write_text(text)
    return path


def texts(*paths: Path) -> list[str]:
    return [str(path) for path in paths]


def test_every_episode_of_every_source_is_there_with_its_origin(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    source = merged(texts(*folders), mapping(tmp_path))
    report = vd.run(source, (), vd.open_sink(tmp_path / "out", images="png"), workers=1)
    assert [r.id for r in report.ledger.records] == [
        "near/e0.npz", "near/e1.npz", "far/e2.npz", "far/e3.npz", "far/e4.npz"
    ]  # fmt: skip
    found = vd.open_source(tmp_path / "out")
    episodes = [found.read(ref) for ref in found.episodes()]
    assert [len(e) for e in episodes] == [6, 7, 8, 9, 10]
    assert set(episodes[0].frames) == set(episodes[4].frames) == {"observation.images.front"}
    assert all(e.arrays["observation.state_is_pad"].all() for e in episodes)
    alone = vd.open_source(folders[1])
    np.testing.assert_array_equal(episodes[2].arrays["action"], alone.read(alone.episodes()[0]).arrays["action"])
    assert json.loads((tmp_path / "out/meta/info.json").read_text())["robot_type"] == "widowx"


def test_a_merged_dataset_is_compared_with_all_its_sources(folders: tuple[Path, Path], tmp_path: Path) -> None:
    vd.run(merged(texts(*folders), mapping(tmp_path)), (), vd.open_sink(tmp_path / "out", images="png"), workers=1)
    verdict = verify(tmp_path / "out", against=folders)
    assert verdict.ok
    assert verdict.checked["against"]["compared"] == 5
    assert verdict.checked["against"]["features"]["action"]["differing"] == 0
    with pytest.raises(UsageError, match="more sources than are named"):
        verify(tmp_path / "out", against=folders[0])
    with pytest.raises(UsageError, match="3 sources are named"):
        verify(tmp_path / "out", against=(*folders, folders[0]))


def test_a_merged_dataset_is_repaired_from_its_sources_in_their_order(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    root = tmp_path / "out"
    vd.run(merged(texts(*folders), mapping(tmp_path)), (), vd.open_sink(root), workers=1)
    file = root / "data/chunk-000/file-000.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert repair(root, texts(*folders), workers=1).replaced == ("data/chunk-000/file-000.parquet",)
    assert file.read_bytes() == whole


def test_sources_that_differ_are_refused_with_what_differs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    path = mapping(tmp_path, MAP.replace("fps = 5", "fps = 7"))
    with pytest.raises(UsageError) as caught:
        vd.run(merged(texts(*folders), path), (), vd.open_sink(tmp_path / "out"), workers=1)
    assert caught.value.code == "E005"
    assert "3 episodes with fps 7" in caught.value.message
    assert "2 episodes with fps 5" in caught.value.message
    path = mapping(tmp_path, MAP.replace("\n[all]", 'declare = { action = { rotation = "rotvec" } }\n[all]'))
    with pytest.raises(UsageError, match="action rotation=rotvec"):
        vd.run(merged(texts(*folders), path), (), vd.open_sink(tmp_path / "out"), workers=1)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[[source]]\n", r"1 \[\[source\]\] for 2 sources"),
        ("[source]\n", "a wrong kind of"),
        ("[al]\n", "has al; it may have source, all"),
        ("[[source]]\nrenam = {}\n[[source]]\n", "has renam; it may have name, open, declare"),
        ("[all]\nname = 'x'\n", "has name; it may have declare"),
        ("[all]\nfill = { x = { dtype = 'float32' } }\n", "shape"),
        ("[all]\nfill = { x = { shape = [2], colour = 1 } }\n", "colour"),
        ("[all]\nkeep = 5\n", "mapping"),
        ("[all", "not TOML"),
        ("[[source]]\nname = '../x'\n[[source]]\n", "is not a name for a source"),
        ("[[source]]\nname = 'b'\n[[source]]\n", "two sources have the same name"),
        ("[[source]]\nopen = { sped = 1 }\n[[source]]\n", "--sped is not an option of format ppo_rollout"),
    ],
)
def test_a_mapping_that_is_none_is_refused_in_one_line(
    text: str, what: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        merged(texts(*folders), mapping(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_the_target_may_not_lie_in_any_source(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="inside one another"):
        vd.run(merged(texts(*folders)), (), vd.open_sink(folders[1] / "out"))


def test_the_command_merges_alike_sources_without_a_mapping(folders: tuple[Path, Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(merge_command, [str(tmp_path / "out"), *texts(*folders), "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert re.search(r"Published episodes +5\b", done.output)
