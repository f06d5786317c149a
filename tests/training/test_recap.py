"""RECAP end to end in its smallest form: stages, what they refuse, and what is the same after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from training_adapters.cli import cli
from training_adapters.recap import stages
from training_adapters.recap.ablation import ablate, markdown, text
from training_adapters.recap.config import PRESETS, RecapConfig, flat
from training_adapters.recap.critics import cross_fit, folds_of, returns_of
from training_adapters.recap.evidence import lines
from training_adapters.recap.frames import Frames
from training_adapters.recap.labelling import tag_of
from training_adapters.recap.pictures import picture
from training_adapters.recap.project import Project
from training_adapters.recap.rounds import run_rounds
from training_adapters.runs import Run
from vla_data.advantages import ValueBins, annotate
from vla_data.advantages.annotation import read_annotation
from vla_data.advantages.frame_table import FrameTable
from vla_data.errors import RefusedError, UsageError

# Cloned well enough that episodes end in both ways.
SMALL = {**PRESETS["debug"], "demos": 36, "sft_updates": 250, "eval_episodes": 9, "policy_batch": 32}


def project(folder: Path, **options: Any) -> Project:
    config = RecapConfig(**{**SMALL, **options})
    there = (folder / "config.json").is_file()
    return Project(config, Run(folder, replace(config, accept_weak_critic=False), resume=there))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds."""
    folder = tmp_path_factory.mktemp("recap") / "run"
    run_rounds(project(folder), 2)
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """The run, to be spoilt."""
    shutil.copytree(done, tmp_path / "run")
    return tmp_path / "run"


def digests(folder: Path) -> dict[str, Any]:
    return {
        path.relative_to(folder).as_posix(): json.loads(path.read_text()).get("sha256")
        for path in sorted(folder.rglob("*.json"))
        if path.stem in (*stages.BEFORE, *stages.IN_ROUND)
    }


def test_stages_say_what_they_were_made_of(done: Path) -> None:
    read = lambda name: json.loads((done / name).read_text())  # noqa: E731
    start = read("sft.json")["sha256"]
    assert read("value.json")["inputs"]["sft"] == start
    assert read("round_1/rollout.json")["inputs"] == {"policy": start}
    first = read("round_1/rollout.json")["dataset"]
    last = read("round_2/policy-finetune.json")["inputs"]
    assert last["rollouts 1"] == first
    assert last["sft"] == start, "every round's policy begins with that of stage 1"
    assert read("round_2/value-finetune.json")["inputs"]["value"] == read("value.json")["sha256"]
    assert read("round_2/rollout.json")["inputs"]["policy"] == read("round_1/policy-finetune.json")["sha256"]
    assert set(read("round_2/advantage.json")["advantages"]) == {"round_1", "round_2"}


def test_rollouts_are_a_dataset_with_how_they_began_and_ended(done: Path) -> None:
    table = FrameTable.read(done / "round_1" / "dataset")
    labels, rule = table.success()
    assert rule == "episodes:success"
    assert len(labels) == 27
    assert True in labels
    assert False in labels
    rows = pq.read_table(done / "round_1/dataset/meta/episodes").to_pydict()
    assert len({*rows["init_hash"]}) == 27


def test_the_critic_is_in_the_annotation(done: Path) -> None:
    made = read_annotation(FrameTable.read(done / "round_1" / "dataset"), tag_of(1))
    critic = made.provenance["critic"]
    assert critic == json.loads((done / "round_1/value-finetune.json").read_text())["critic"]
    assert critic["episodes"] == 27
    assert {"auc", "auc_alike", "rank_correlation", "calibration_error"} <= critic.keys()
    assert (done / "round_1/dataset/meta/advantages.json").is_file(), "OpenTau's file"


def test_what_is_done_is_not_done_again(done: Path) -> None:
    before = digests(done)
    marks = {path: path.stat().st_mtime_ns for path in done.rglob("*.safetensors")}
    run_rounds(project(done), 2)
    assert digests(done) == before
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*.safetensors")} == marks


def test_annotations_are_drawn(done: Path) -> None:
    drawing = (done / "round_1" / "advantages_1.svg").read_text()
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    table = FrameTable.read(done / "round_1" / "dataset")
    made = read_annotation(table, tag_of(1))
    solved = np.array(table.success()[0], dtype=np.bool_)
    assert picture(made, table, solved) == drawing
    assert made.positive is not None
    shown = [at for good in (True, False) for at in np.flatnonzero(solved == good)[:2]]
    dots = sum(int(made.positive[table.episodes.starts[at] : table.episodes.ends[at]].sum()) for at in shown)
    assert drawing.count("<circle") == dots
    assert drawing.count("solved") == len(shown)


class Killed(BaseException):
    """As a kill, in the middle of whatever says a line."""


@pytest.mark.parametrize("line", [9, *(pytest.param(line, marks=pytest.mark.nightly) for line in (1, 4, 13, 17))])
def test_a_killed_loop_goes_on_to_the_same(
    done: Path, tmp_path: Path, line: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [0]
    say: Callable[[Run, str], None] = Run.say

    def counted(run: Run, what: str) -> None:
        said[0] += 1
        if said[0] == line:
            raise Killed
        say(run, what)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "say", counted)
        with pytest.raises(Killed):
            run_rounds(project(tmp_path / "run"), 1)
    run_rounds(project(tmp_path / "run"), 1)
    want = {name: digest for name, digest in digests(done).items() if not name.startswith("round_2")}
    assert digests(tmp_path / "run") == want


def test_another_policy_or_dataset_is_refused(copy: Path) -> None:
    start = next((copy).glob("sft_*/step_250/metadata.json"))
    start.write_text(start.read_text().replace('"env"', '"place"'))
    with pytest.raises(UsageError, match=r"E301.*rollout was made of policy"):
        stages.policy_finetune(project(copy), 1)


def test_advantages_of_another_dataset_are_refused(copy: Path) -> None:
    side = "dataset/meta/vla_data/advantages/recap_1.parquet"
    other = annotate(
        copy / "round_2" / "dataset", tag="other", values=copy / "round_2" / "values_2.parquet", rules=RULES
    )
    shutil.copy(copy / "round_2" / "dataset" / other.files[0], copy / "round_1" / side)
    (copy / "round_1" / "policy-finetune.json").unlink()
    with pytest.raises(UsageError, match=r"E301.*made for other data"):
        stages.policy_finetune(project(copy), 1)


RULES = RecapConfig(**SMALL).rules()


def test_a_perfect_critic_leaves_nothing_to_learn(copy: Path) -> None:
    root = copy / "round_1" / "dataset"
    table = FrameTable.read(root)
    solved = np.array(table.success()[0], dtype=np.bool_)
    value = RULES.returns(table.episodes, solved) / table.episodes.per_frame(
        RULES.normalizers(table.episodes, table.episode_tasks)
    )
    columns = {"episode_index": table.episode_index, "frame_index": table.episodes.frame_index(), "value": value}
    pq.write_table(pa.table(columns), copy / "perfect.parquet")
    labels = RecapConfig(**SMALL).labels()
    made = annotate(root, tag=tag_of(1), values=copy / "perfect.parquet", rules=RULES, labels=labels, replace=True)
    assert not made.annotation.advantages.any()
    (copy / "round_1" / "policy-finetune.json").unlink()
    with pytest.raises(RefusedError, match="there is nothing to learn: every advantage is exactly 0"):
        stages.policy_finetune(project(copy), 1)


def test_a_critic_of_noise_trains_no_policy(copy: Path) -> None:
    values = copy / "round_1" / "values_1.parquet"
    table = pq.read_table(values)
    noise = np.random.default_rng(0).random(len(table)) - 1
    pq.write_table(table.set_column(2, "value", pa.array(noise)), values)
    record = copy / "round_1" / "value-finetune.json"
    facts = json.loads(record.read_text())
    facts["critic"]["auc"] = {"value": 0.51, "interval": [0.47, 0.55]}
    record.write_text(json.dumps(facts))
    for name in ("advantage", "policy-finetune"):
        (copy / "round_1" / f"{name}.json").unlink()
    stages.advantage(project(copy), 1)
    with pytest.raises(RefusedError, match=r"no better than a guess: auc is 0\.510 \(0\.470 to 0\.550\)"):
        stages.policy_finetune(project(copy, accept_weak_critic=False), 1)


def test_controls_are_one_table(copy: Path) -> None:
    table = ablate(project(copy), (8,))
    assert [line.name for line in table] == [
        "start",
        *("recap, beta 3", "recap, beta 1", "no_indicator", "shuffled, beta 3", "shuffled, beta 1"),
        *("solved_only", "advantage_weighted", "recap_n8, beta 3", "recap_n8, beta 1"),
    ]
    assert all(line.found.success.total == 9 for line in table)
    stored = json.loads((copy / "ablation.json").read_text())
    assert stored["settings"]["rollouts"] == 27
    assert [one["name"] for one in stored["arms"]] == [line.name for line in table]
    assert len(text(table)) == 10 + 1 + 10 * 10
    assert markdown(table)[2].startswith("| start |")
    again = ablate(project(copy), (8,))
    assert [line.to_json() for line in again] == [line.to_json() for line in table]


def test_a_learning_curve_of_the_critic(copy: Path) -> None:
    made = project(copy)
    facts = cross_fit(Project(replace(made.config, curve=(6, 12)), made.run), 1)
    assert [one["episodes"] for one in facts["critic"]["curve"]] == [6, 12]
    assert all(one["auc"] is None or 0 <= one["auc"] <= 1 for one in facts["critic"]["curve"])
    assert len(lines(facts["critic"])) == 7
    with pytest.raises(UsageError, match="curve has 99 episodes; 18 are left beside the first fold"):
        cross_fit(Project(replace(made.config, curve=(99,)), made.run), 1)


def test_the_loop_as_it_is_typed(done: Path) -> None:
    words = ["recap", "loop", "--rounds", "2", "--exp-name", done.name, "--runs", str(done.parent)]
    printed = CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False).output
    assert [line[2:9].strip() for line in printed.splitlines()[-3:]] == ["start", "round 1", "round 2"]
    stage = ["recap", "rollout", "--round", "2", "--json", "--exp-name", done.name, "--runs", str(done.parent)]
    told = CliRunner().invoke(cli, stage, catch_exceptions=False, standalone_mode=False).output
    assert json.loads(told)["episodes"] == 27


def test_folds_hold_whole_episodes() -> None:
    folds = folds_of(100, 3, seed=1)
    assert sorted(np.bincount(folds)) == [33, 33, 34]
    assert folds.tolist() != folds_of(100, 3, seed=2).tolist()


def test_returns_are_the_worked_ones() -> None:
    """T = 5, normaliser 10, C = -4: bins 120, 140, ... of a success, and 40, 60, ... of a failure."""
    frames = Frames(
        state=np.zeros((10, 1), dtype=np.float32),
        task=np.array(["a"] * 10, dtype=object),
        action=np.zeros((10, 1, 1), dtype=np.float32),
        dataset=np.zeros(10, dtype=np.int64),
        episode=np.repeat([3, 7], 5),
        frame=np.tile(np.arange(5), 2),
    )
    config = RecapConfig(c_neg=-4, reward_normalizer=10)
    returns, scales = returns_of(config, frames, np.repeat([True, False], 5))
    assert returns.tolist() == [-4, -3, -2, -1, 0, -8, -7, -6, -5, -4]
    bins = ValueBins(count=config.number_of_bins).encode(returns, scales)
    assert bins.tolist() == [120, 140, 160, 180, 200, 40, 60, 80, 100, 120]
    with pytest.raises(UsageError, match=r"reward_normalizer.*too small"):
        returns_of(RecapConfig(c_neg=-4, reward_normalizer=5), frames, np.repeat([True, False], 5))


def test_datasets_are_drawn_by_their_weights() -> None:
    frames = Frames(
        state=np.zeros((100, 1), dtype=np.float32),
        task=np.array(["a"] * 100, dtype=object),
        action=np.zeros((100, 1, 1), dtype=np.float32),
        dataset=np.repeat([0, 2], [90, 10]),
        episode=np.arange(100),
        frame=np.zeros(100, dtype=np.int64),
    )
    rows = frames.draw(np.random.default_rng(0), 20_000, (1.0, 7.0, 3.0))
    assert (rows >= 90).mean() == pytest.approx(0.75, abs=0.01)
    counts = np.bincount(rows[rows >= 90] - 90)
    assert len(counts) == 10
    assert counts.min() > 1_300
    assert (frames.draw(np.random.default_rng(0), 20_000) >= 90).mean() == pytest.approx(0.1, abs=0.01)
    with pytest.raises(UsageError, match="no dataset with a weight above 0"):
        frames.draw(np.random.default_rng(0), 3, (0.0, 1.0, 0.0))


def test_demonstrations_of_a_dataset(done: Path, tmp_path: Path) -> None:
    names = {"state": "observation.state", "actions": "action"}
    root = str(done / "demos" / "dataset")
    mixture = {
        "datasets": [
            {"root": root, "repo_id": "some", "episodes": [*range(20)], "data_features_name_mapping": names},
            {"root": root, "repo_id": "others", "episodes": [*range(20, 36)], "data_features_name_mapping": names},
        ],
        "weights": [3, 1],
        "action_freq": 20,
    }
    made = project(tmp_path / "run", dataset_mixture=mixture, sft_updates=3)
    told = stages.sft(made)
    assert told["demonstrations"] is None
    assert told["frames"] == len(FrameTable.read(done / "demos" / "dataset"))
    mixture["action_freq"] = 10
    with pytest.raises(UsageError, match="action_freq is 10, and tabletop executes 20 steps a second"):
        stages.sft(project(tmp_path / "other", dataset_mixture=mixture))


def test_the_documented_configuration() -> None:
    documented = {
        "dataset_mixture": {
            "datasets": [{"root": "/data/demos", "data_features_name_mapping": {"actions": "action"}}],
            "weights": [1.0],
            "action_freq": 20,
            "image_resample_strategy": "nearest",
            "vector_resample_strategy": "nearest",
        },
        "policy": {"advantage": "on", "advantage_threshold": -0.01},
        "reward_config": {
            "number_of_bins": 201,
            "C_neg": -1000,
            "reward_normalizer": 1600,
            "N_steps_look_ahead": 50,
        },
        "seed": 1000,
    }
    config = RecapConfig(**flat(documented))
    assert (config.advantage, config.advantage_threshold, config.look_ahead) == ("on", -0.01, 50)
    assert (config.c_neg, config.reward_normalizer, config.number_of_bins, config.seed) == (-1000, 1600, 201, 1000)
    assert config.labels().epsilon == -0.01


@pytest.mark.parametrize(
    ("facts", "hint"),
    [
        ({"reward_config": {"C_ngt": 1}}, "reward_config has C_ngt; did you mean C_neg?"),
        ({"policy": {"advantages": "use"}}, "policy has advantages; did you mean advantage?"),
        ({"rollout": 3}, "the configuration has rollout; did you mean rollouts?"),
        ({"dataset_mixture": 3}, "dataset_mixture is not a table"),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest(facts: dict[str, Any], hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        flat(facts)
    assert refused.value.message == hint


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recap", "value", "--exp-name", "new"], "E003"),
        (["recap", "sft", "--exp-name", "new", "--set", "fold=2"], "did you mean folds?"),
        (["recap", "sft", "--exp-name", "new", "--set", "c_neg=3"], "-c_neg"),
        (["recap", "sft", "--exp-name", "new", "--round", "1"], "done once"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        CliRunner().invoke(cli, [*words, "--runs", str(tmp_path)], catch_exceptions=False, standalone_mode=False)
