"""Formats, trainers and datasets of other distributions and of a user's own files."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vla_data as vd
from tests.paths import ROOT, TESTS
from vla_data import formats
from vla_data.cli import cli
from vla_data.errors import MissingExtraError, NotFoundError, UsageError
from vla_data.formats.files import load_class

ROLLOUTS = TESTS / "data/rollouts"

SOURCE = """
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import vla_data as vd


@dataclass(frozen=True, kw_only=True)
class Lines(vd.BaseSource):
    root: Path = field(repr=False)
    fps: float = 10

    def episodes(self):
        return [vd.EpisodeRef(path.name, path.stat().st_size) for path in sorted(Path(self.root).glob("*.txt"))]

    def fingerprint(self, ref):
        import hashlib
        return hashlib.sha256((Path(self.root) / ref.id).read_bytes()).hexdigest()

    def read(self, ref):
        rows = np.loadtxt(Path(self.root) / ref.id, ndmin=2)
        meta = {"source": "lines", "source_length": len(rows), "source_sha256": self.fingerprint(ref)}
        return vd.Episode(
            id=ref.id, arrays={"action": rows}, frames={}, task="lift", index=np.arange(len(rows)), meta=meta
        )

    def schema(self, episode):
        width = episode.arrays["action"].shape[1]
        return vd.Schema(features={"action": vd.Feature(dtype="float64", shape=(width,))}, fps=self.fps)
"""


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    folder = tmp_path / "lines"
    folder.mkdir()
    (folder / "a.txt").write_text("1 2\n3 4\n")
    (folder / "b.txt").write_text("5 6\n7 8\n9 10\n")
    return folder


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution with one entry point of each kind, as pip would leave it."""
    site = tmp_path / "site"
    (site / "lines_ext-1.0.dist-info").mkdir(parents=True)
    (site / "lines_ext-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: lines-ext\nVersion: 1.0\n"
    )
    (site / "lines_ext-1.0.dist-info/entry_points.txt").write_text(
        "[vla_data.formats]\nlines = lines_ext:FORMAT\nbroken = lines_ext:MISSING\nodd = lines_ext:ODD\n"
        "[vla_data.trainers]\nlinear = lines_ext:TRAINER\n"
        "[vla_data.builders]\nlined = lines_ext\n"
    )
    (site / "lines_ext.py").write_text(
        SOURCE
        + "\nfrom builders.ppo_sft_aligned.definition import Definition as _Base\n"
        + "from vla_data.formats import Format, Trainer\n"
        + 'FORMAT = Format(source="lines_ext:Lines")\nODD = 3\n'
        + 'TRAINER = Trainer(reads="lerobot", gate="lines_gate")\n'
        + 'class Definition(_Base):\n    NAME = "lined"\n'
    )
    (site / "lines_gate.py").write_text("def read_back(folder):\n    return {'lines': ['seen ' + folder.name]}\n")
    monkeypatch.syspath_prepend(str(site))
    for table in (formats.FORMATS, formats.TRAINERS, formats.BUILDERS):
        monkeypatch.delitem(vars(table), "_points", raising=False)
    importlib.invalidate_caches()
    yield site
    for name in ("lines_ext", "lines_gate"):
        sys.modules.pop(name, None)
    for table in (formats.FORMATS, formats.TRAINERS, formats.BUILDERS):
        vars(table).pop("_points", None)


def test_a_format_of_another_distribution_is_read_and_listed(installed: Path, lines: Path) -> None:
    source = vd.open_source(f"lines:{lines}", fps=5)
    assert [source.read(ref).arrays["action"].tolist() for ref in source.episodes()] == [
        [[1, 2], [3, 4]],
        [[5, 6], [7, 8], [9, 10]],
    ]
    assert "lines" in formats.FORMATS.names()
    assert "lines" not in list(formats.FORMATS)  # ours alone, without asking what is installed


def test_a_row_that_can_not_be_loaded_is_one_line(installed: Path, lines: Path) -> None:
    with pytest.raises(MissingExtraError, match="broken of lines-ext can't be loaded: AttributeError"):
        vd.open_source(f"broken:{lines}")
    with pytest.raises(MissingExtraError, match="odd of lines-ext is lines_ext:ODD, which is not a Format"):
        vd.open_source(f"odd:{lines}")


def test_a_gate_of_another_distribution_judges(installed: Path, lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["convert", f"lines:{lines}", str(out), "--to", "lerobot", "--gate", "linear", "--workers", "1"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert "seen " in done.output
    again = CliRunner().invoke(cli, ["verify", str(out), "--gate", "linar"])
    assert again.exit_code == 2
    assert "'linar' is not one of" in again.output
    assert "'linear'" in again.output  # an installed one is among those that are named


def test_a_dataset_of_another_distribution_is_built_by_its_name(installed: Path, tmp_path: Path) -> None:
    definition = formats.load_builder("lined")({})
    assert definition.folder(tmp_path) == tmp_path / "lined/default/1.0.0"


def test_a_source_in_a_file_of_ones_own(lines: Path, tmp_path: Path) -> None:
    file = tmp_path / "my_source.py"
    file.write_text(SOURCE)
    source = vd.open_source(f"{file}:Lines:{lines}")
    report = vd.run(source, (), vd.open_sink(tmp_path / "out"), workers=2)
    assert report.counts["published_episodes"] == 2
    with pytest.raises(UsageError, match="has no Other"):
        vd.open_source(f"{file}:Other:{lines}")
    with pytest.raises(NotFoundError):
        vd.open_source(f"{tmp_path}/none.py:Lines:{lines}")
    file.write_text("raise RuntimeError('oh')\n")
    sys.modules.pop("my_source")
    with pytest.raises(MissingExtraError, match="can't be loaded: RuntimeError: oh"):
        vd.open_source(f"{file}:Lines:{lines}")


def test_files_of_one_name_make_way_for_each_other_and_for_no_module_of_python(
    lines: Path, tmp_path: Path
) -> None:
    found = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "lines_of_my.own.py"
        file.write_text(SOURCE + f"\nFROM = {folder!r}\n")
        found.append(load_class(f"{file}:FROM"))
        assert load_class(f"{file}:Lines") is load_class(f"{file}:Lines")
    assert found == ["one", "two"]
    for name in ("queue.py", "converters.py", "pytest.py"):
        (tmp_path / name).write_text(SOURCE)
        with pytest.raises(UsageError, match=f"there is a module {name[:-3]}; give the file another name"):
            vd.open_source(f"{tmp_path / name}:Lines:{lines}")
    (tmp_path / "json").mkdir()
    (tmp_path / "json/definition.py").write_text("")
    with pytest.raises(UsageError, match="there is a module json; give the folder another name"):
        formats.load_builder(str(tmp_path / "json"))


def test_a_definition_has_the_modules_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "kitchen_of_two"
    folder.mkdir()
    (folder / "beside.py").write_text("class Definition: pass\n")
    (folder / "definition.py").write_text("from .beside import Definition\n")
    assert formats.load_builder(str(folder)).__module__ == "kitchen_of_two.beside"
    (folder / "definition.py").write_text("1 / 0\n")
    for name in [name for name in sys.modules if name.startswith("kitchen_of_two")]:
        del sys.modules[name]
    with pytest.raises(MissingExtraError, match=r"definition\.py can't be loaded: ZeroDivisionError"):
        formats.load_builder(str(folder))


def test_a_class_that_is_no_source_or_sink_is_told(lines: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="JSONDecoder takes no 'root', which would say where"):
        vd.open_source(f"json:JSONDecoder:{lines}")
    with pytest.raises(UsageError, match="JSONDecoder takes no 'target'"):
        vd.open_sink(tmp_path / "x", format="json:JSONDecoder")
    with pytest.raises(UsageError, match="an object of Namespace is no source: it has no episodes"):
        vd.open_source(f"argparse:Namespace:{lines}")
    with pytest.raises(UsageError, match="format builtins:int: this is no class of sources or sinks"):
        vd.open_source(f"builtins:int:{lines}")


def test_a_mistyped_format_of_an_address_is_told_with_the_nearest(lines: Path) -> None:
    with pytest.raises(UsageError, match=f"there is no format 'ppo_rolout'; did you mean ppo_rollout:{lines}"):
        vd.open_source(f"ppo_rolout:{lines}")
    with pytest.raises(NotFoundError):
        vd.open_source(f"ppo_rolout:{lines}/nowhere")


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="there is no dataset 'ppo_sft_alined'; did you mean 'ppo_sft_aligned'"):
        formats.load_builder("ppo_sft_alined")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"format": "lerobot", "imges": "png"},
            "not an option of writing lerobot; did you mean --images?",
        ),
        ({"format": "lerobot", "images": "gif"}, "images is 'gif', not one of jpeg, png"),
        ({"format": "plain_rollout", "x": 1}, "--x is not an option of writing plain_rollout; it has none"),
        ({"format": "ppo_rollout"}, "format ppo_rollout has no sink; these have: lerobot"),
        ({"format": "lerbot"}, "there is no format 'lerbot'; did you mean 'lerobot'"),
    ],
)
def test_open_sink_says_what_is_wrong_in_one_line(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        vd.open_sink(tmp_path / "x", **options)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", [name for name, row in formats.FORMATS.items() if row.sink])
def test_open_sink_takes_every_format_without_options(name: str, tmp_path: Path) -> None:
    assert isinstance(vd.open_sink(tmp_path / "kitchen/1.0.0", format=name), vd.BaseSink)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The folder of a dataset under another name."""
    folder = tmp_path / "mine/kitchen_sft"
    shutil.copytree(ROOT / "builders/ppo_sft_aligned", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "ppo_sft_aligned_dataset_builder.py").rename(folder / "kitchen_sft_dataset_builder.py")
    return folder


def test_a_copy_of_a_dataset_builds_under_its_own_name(copied: Path, tmp_path: Path) -> None:
    words = [
        "build",
        str(copied),
        "--input",
        str(ROLLOUTS),
        "--data-dir",
        str(tmp_path / "data"),
        "--workers",
        "1",
    ]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    made = tmp_path / "data/kitchen_sft/default/1.0.0"
    assert '"name": "kitchen_sft"' in (made / "dataset_info.json").read_text()
    assert vd.verify(made, deep=True).ok


@pytest.mark.parametrize("damage", [b"x", b'"moduleName"'])
def test_a_copy_with_a_description_of_its_own_is_repaired(copied: Path, tmp_path: Path, damage: bytes) -> None:
    definition = copied / "definition.py"
    definition.write_text(definition.read_text().replace("Solved PPO rollouts, cut", 'A \\"kitchen\\", cut'))
    made = tmp_path / "data/kitchen_sft/default/1.0.0"
    formats.load_builder(str(definition))({}).build(ROLLOUTS, made, workers=1)
    file = made / "dataset_info.json"
    healthy = file.read_bytes()
    assert b'A \\"kitchen\\", cut' in healthy
    file.write_bytes(healthy + damage if damage == b"x" else healthy.replace(damage, b""))
    assert vd.repair(made, ROLLOUTS, workers=1).after.ok
    assert file.read_bytes() == healthy


STEPS = """

class OnlyCarrots:
    def reject(self, episode):
        return None if "carrot" in episode.task else "no_carrot"


def recipe(min_success_steps=6):
    return (OnlyCarrots(), *ppo_sft(min_success_steps=min_success_steps))


class Definition"""


def test_tfds_builds_a_copy_of_a_dataset_with_steps_of_its_own_as_we_do(copied: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_datasets")
    definition = copied / "definition.py"
    text = definition.read_text().replace("\n\nclass Definition", STEPS)
    definition.write_text(text.replace("staticmethod(ppo_sft)", "staticmethod(recipe)"))
    tool = Path(sys.executable).with_name("tfds")
    words = [str(tool), "build", str(copied), f"--manual_dir={ROLLOUTS}", f"--data_dir={tmp_path / 'data'}"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    made = tmp_path / "data/kitchen_sft/default/1.0.0"
    assert vd.verify(made, deep=True).ok
    assert b"kitchen_sft.definition:OnlyCarrots" in (made / "vla_data/manifest.json").read_bytes()
    ours = formats.load_builder(str(copied))({})
    ours.build(ROLLOUTS, tmp_path / "ours", workers=2)
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path / "ours") for p in (tmp_path / "ours").rglob("*") if p.is_file())
    assert [(made / name).read_bytes() for name in files] == [(tmp_path / "ours" / n).read_bytes() for n in files]
