"""`vla-data report`: one page for every format, with the right numbers, and inert whatever strangers wrote."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import vla_data as vd
from tests.hdf5_files import LIBERO
from tests.report.test_inspect import BRIDGE, PLACES, ROLLOUTS, options
from tests.rollouts import rollout, save
from vla_data.cli.convert import command as convert
from vla_data.cli.report import command
from vla_data.cli.stats import command as stats
from vla_data.core.ledger import BUCKETS
from vla_data.media.video_settings import VideoSettings
from vla_data.report.make import make_page

PARTS = [
    "findings",
    "flow",
    "pictures",
    "lengths",
    "numbers",
    "gripper",
    "conventions",
    "look",
    "provenance",
    "limits",
]
VOID = {"meta", "img"}


class Seen(HTMLParser):
    """What a browser would make of a page: tags, attributes, and the text of each section."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: dict[str, str] = {}
        self.open: list[str] = []
        self._section = "head"
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self._section = dict(attrs)["id"] or ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + data + "\n"


def assert_self_contained(seen: Seen) -> None:
    """Nothing that runs, and nothing that is not in the file."""
    assert seen.open == []
    assert not seen.tags & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "form",
        "input",
        "foreignobject",
    }
    for tag, name, value in seen.attributes:
        assert not name.startswith("on"), (tag, name)
        if name == "src":
            assert value.startswith("data:image/jpeg;base64,")
        if name == "href":
            assert value.startswith("#")
        assert name not in ("srcset", "srcdoc", "action", "formaction", "background", "xlink:href"), (tag, name)
    (policy,) = (v for t, n, v in seen.attributes if t == "meta" and n == "content" and "default-src" in v)
    assert "default-src 'none'" in policy
    assert "script" not in policy


def svgs(page: str) -> list[ET.Element]:
    return [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


@pytest.mark.parametrize("kind", PLACES)
def test_every_format_has_a_page_with_its_numbers(kind: str) -> None:
    path, declared, want = PLACES[kind]
    made = make_page(str(path), **options(declared))
    seen = Seen(made.html)
    assert_self_contained(seen)
    assert [part for part in PARTS if part in seen.text] == [p for p in PARTS if p in seen.text or p != "gripper"]
    assert f"Format {want['format']}, {want['episodes']} episodes." in seen.text["head"]
    assert f"{want['steps']} in all" in seen.text["lengths"]
    source = vd.open_source(path, **options(declared))
    read = [source.read(ref) for ref in source.episodes()]
    action = np.concatenate([one.arrays["action"] for one in read]).astype(np.float64)
    for value in (action.min(axis=0)[0], np.quantile(action, 0.99, axis=0)[1], action.std(axis=0)[2]):
        assert f"\n{value:.3g}\n" in seen.text["numbers"]
    assert "no ledger" in seen.text["flow"]
    assert len(svgs(made.html)) > action.shape[1]
    assert len(made.html) < 1 << 20


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report") / "aligned"
    vd.run(vd.open_source(ROLLOUTS), vd.recipes.ppo_sft(), vd.open_sink(root), workers=1)
    return root


def test_what_came_out_and_why_is_that_of_the_ledger(aligned: Path) -> None:
    made = make_page(str(aligned))
    text = Seen(made.html).text
    counts = vd.open_ledger(aligned).counts()
    for bucket in BUCKETS:
        assert f"{bucket}\n{counts[bucket]}\n{counts[bucket] / counts['source']:.1%}\n" in text["flow"]
    assert "small_action\n21\n" in text["flow"]
    assert "3 episodes came in, 2 came out" in text["flow"]
    assert "2 solved the task by the recipe's rule." in text["flow"]
    flow = next(svg for svg in svgs(made.html) if svg.get("class") == "flow")
    widths = {rect.get("class"): float(rect.get("width", 0)) for rect in flow}
    assert widths["kept"] / sum(widths.values()) == pytest.approx(46 / 105, abs=1e-3)
    assert "RequireSuccess(" in text["provenance"]
    assert "Dropped" not in text["pictures"]
    assert "--against" in text["limits"]


def test_beside_its_source_both_are_shown_and_what_was_dropped(aligned: Path) -> None:
    made = make_page(str(aligned), against=str(ROLLOUTS))
    seen = Seen(made.html)
    assert_self_contained(seen)
    assert "PutCarrotOnPlate_drop_ep4.npz\n" in seen.text["pictures"]
    assert "rejected: no_success" in seen.text["pictures"]
    assert "46 steps, beside 105" in seen.text["numbers"]
    assert "--against" not in seen.text["limits"]
    assert sum(svg.find("polyline") is not None for svg in svgs(made.html)) == 7


def test_numbers_in_other_units_are_never_drawn_over_each_other(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        convert, [str(LIBERO), str(tmp_path / "si"), "--actions", "physical", "--workers", "1"]
    )
    assert done.exit_code == 0, done.output
    made = make_page(str(tmp_path / "si"), against=str(LIBERO))
    text = Seen(made.html).text["numbers"]
    assert "No known rule of success was applied." in Seen(made.html).text["flow"]
    assert "action of the other dataset" in text.replace("\n", "")
    assert "controller input, 1 = 0.05 m" in text
    assert "\nobservation.state\n" in text
    assert "observation.state of the other" not in text.replace("\n", "")


def test_a_notebook_shows_the_page_in_a_frame_that_runs_nothing(aligned: Path) -> None:
    made = make_page(str(aligned))
    seen = Seen(made._repr_html_())
    assert seen.tags == {"iframe"}
    found = {name: value for _, name, value in seen.attributes}
    assert found["srcdoc"] == made.html
    assert found["sandbox"] == ""


def test_pictures_of_a_video_are_shown(tmp_path: Path) -> None:
    sink = vd.open_sink(tmp_path / "video", video=VideoSettings(codec="h264"))
    vd.run(vd.open_source(ROLLOUTS), (), sink, workers=1)
    seen = Seen(make_page(str(tmp_path / "video")).html)
    assert sum(tag == "img" and name == "src" for tag, name, _ in seen.attributes) == 3 * 8


HOSTILE = [
    f"{before}{middle}{after}"
    for before in ("", '"', "'", "-->", "</title>", "</style>", "</td></table>", "</svg>", "]]>", "\\", "&lt;")
    for middle in (
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "javascript:alert(1)",
        " onmouseover=alert(1) x=",
        "<iframe srcdoc='<script>1</script>'>",
        "<style>*{display:none}</style>",
        "<base href=//evil>",
        "<a href=data:text/html,1>",
        "{{7*7}}${7*7}`id`",
        "<!--",
        "<meta http-equiv=refresh content=0>",
    )
    for after in ("", '"', "\u202e", "&#60;")
]


def test_strings_of_strangers_are_inert_wherever_they_stand(tmp_path: Path, aligned: Path) -> None:
    """In names of files and numbers, instructions, the robot and conventions; parsed as a browser would."""
    assert len(HOSTILE) >= 500
    for number in range(8):
        text = " ".join(HOSTILE[number::32])[:1000]
        name = HOSTILE[number * 12].replace("/", "\u2215")[:60]
        save(tmp_path / "in", f"{number}{name}.npz", rollout(6, seed=number, size=(8, 8), instruction=text))
    (tmp_path / "in" / "bad<script>alert(2)<\u2215script>.npz").write_bytes(b"none")
    out = tmp_path / "o<img src=x onerror=alert(3)>"
    vd.run(vd.open_source(tmp_path / "in"), (), vd.open_sink(out), workers=1, max_bad=1)
    names = iter(HOSTILE)
    info = json.loads((out / "meta/info.json").read_text())
    info["robot_type"] = next(names)
    info["features"]["action"]["names"] = [next(names) for _ in range(7)]
    (out / "meta/info.json").write_text(json.dumps(info))
    schema = json.loads((out / "meta/vla_data/schema.json").read_text())
    schema["features"]["action"]["names"] = info["features"]["action"]["names"]
    schema["features"]["action"]["convention"]["comment"] = " ".join(HOSTILE[:40])
    (out / "meta/vla_data/schema.json").write_text(json.dumps(schema))
    plain = [
        Seen(page.html) for page in (make_page(str(aligned), against=str(ROLLOUTS)), make_page(str(ROLLOUTS)))
    ]
    tags = set().union(*(seen.tags for seen in plain))
    pairs = {(tag, name) for seen in plain for tag, name, _ in seen.attributes}
    for made in (make_page(str(out), against=str(tmp_path / "in")), make_page(str(tmp_path / "in"))):
        seen = Seen(made.html)
        assert_self_contained(seen)
        assert seen.tags <= tags
        assert {(tag, name) for tag, name, _ in seen.attributes} <= pairs
        text = "".join(seen.text.values())
        assert text.count("alert(1)") > 20
        assert "\u202e" not in made.html
    text = Seen(make_page(str(out)).html).text
    assert f"\n{HOSTILE[0]}\n" in text["lengths"]
    assert all(f"\n{name}" in text["numbers"] for name in (HOSTILE[1], HOSTILE[4], HOSTILE[5]))
    assert HOSTILE[8] in text["conventions"]


def test_all_hostile_strings_go_through_the_page_one_by_one() -> None:
    from vla_data.report.words import escaped

    for text in HOSTILE:
        for page in (f"<p>{escaped(text)}</p>", f'<p title="{escaped(text)}">x</p>'):
            seen = Seen(page)
            assert seen.tags == {"p"}
            assert {name for _, name, _ in seen.attributes} <= {"title"}


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def test_success_and_lengths_are_told_of_each_instruction(tmp_path: Path) -> None:
    for number, (task, solved) in enumerate((("push", 1), ("push", 0), ("pull", 1), *(("push", 1),) * 2)):
        data = rollout(success=[0, 0, solved, solved] + [0] * number, seed=number, size=(8, 8), instruction=task)
        save(tmp_path / "in", f"{number}.npz", data)
    text = Seen(make_page(str(tmp_path / "in")).html).text["lengths"]
    assert "push\n4\n3 of 4\n6\n" in text
    assert "pull\n1\n1 of 1\n6\n" in text
    assert text.index("push\n4") < text.index("pull\n1")


def test_integers_that_no_float_holds_have_no_statistics_and_hurt_nobody(tmp_path: Path) -> None:
    vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(tmp_path / "set"), workers=1)
    (file,) = (tmp_path / "set/data").rglob("*.parquet")
    table = pq.read_table(file)
    pq.write_table(table.append_column("big", pa.array(np.arange(len(table)) + 2**60)), file)
    path = tmp_path / "set/meta/info.json"
    info = json.loads(path.read_text())
    info["features"]["big"] = {"dtype": "int64", "shape": [1], "names": None}
    path.write_text(json.dumps(info))
    assert "\nbig\n" in Seen(make_page(str(tmp_path / "set")).html).text["numbers"]


def test_a_sample_is_said_to_be_one(tmp_path: Path) -> None:
    for number in range(12):
        save(tmp_path / "in", f"{number:02d}.npz", rollout(4, seed=number, size=(8, 8)))
    text = Seen(make_page(str(tmp_path / "in"), most=5).html).text
    assert "12 episodes; 5 of them were read." in text["head"]
    assert "Anything of 7 of the 12 episodes" in text["limits"]
    text = Seen(make_page(str(tmp_path / "in"), most=5, everything=True).html).text
    assert "12 episodes." in text["head"]
    assert "Anything of" not in text["limits"]


def test_findings_come_worst_first_and_what_they_say_to_do_works(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "in", f"{number}.npz", rollout(40, seed=number, size=(8, 8)))
    shutil.copy(tmp_path / "in/1.npz", tmp_path / "in/copy.npz")
    (tmp_path / "in/bad.npz").write_bytes(b"none")
    made = make_page(str(tmp_path / "in"))
    levels = [finding.level for finding in made.findings]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert levels[0] == "error"
    found = {finding.code: finding for finding in made.findings}
    assert {"undeclared", "duplicates", "constant"} <= set(found)
    assert "1 episodes have the content of another one" in found["duplicates"].message
    assert "--action-mask=1,-6 " in found["constant"].fix
    words = found["constant"].fix.partition("  #")[0].split()[2:]
    assert CliRunner().invoke(stats, words).exit_code == 3  # of the one that can't be read
    text = Seen(made.html).text
    assert "copy.npz\nduplicate of 1.npz" in text["look"]
    assert "bad.npz\nunreadable: E" in text["look"]
    words = found["duplicates"].fix.replace(" OUT", f" {tmp_path / 'out'}").split()[2:]
    done = CliRunner().invoke(convert, [*words, "--workers", "1", "--max-bad", "1"])
    assert done.exit_code == 3, done.output
    assert len(vd.open_source(tmp_path / "out").episodes()) == 3


def test_a_file_is_never_written_over_nor_into_the_dataset(tmp_path: Path, aligned: Path) -> None:
    out = tmp_path / "a.html"
    assert run(aligned, "-o", out, "--dry-run").exit_code == 0
    assert not out.exists()
    done = run(aligned, "-o", out, "--json")
    told = json.loads(done.output)
    assert (done.exit_code, told["bytes"], told["readable"]) == (0, out.stat().st_size, 2)
    assert next(finding["code"] for finding in told["findings"]) == "undeclared"
    for words, code in (((aligned, "-o", out), "E411"), ((aligned, "-o", aligned / "x.html"), "E001")):
        error = run(*words).exception
        assert isinstance(error, vd.VlaDataError)
        assert error.code == code
    assert run(aligned, "-o", out, "--replace").exit_code == 0
    assert run(aligned, "-o", f"{tmp_path}/new/").exit_code == 0
    assert (tmp_path / "new/report.html").read_text() == out.read_text()


def test_options_are_of_the_one_that_needs_them(tmp_path: Path) -> None:
    vd.run(vd.open_source(BRIDGE, fps=5), (), vd.open_sink(tmp_path / "set"), workers=1)
    done = run(tmp_path / "set", "--against", BRIDGE, "--fps", "5", "-o", tmp_path / "a.html")
    assert done.exit_code == 0, done.output
    assert "18 steps, beside 18" in (tmp_path / "a.html").read_text()


def test_where_nothing_can_be_read_the_page_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.npz").write_bytes(b"none")
    made: Any = make_page(str(tmp_path / "in"))
    seen = Seen(made.html)
    assert_self_contained(seen)
    assert made.findings[0].level == "error"
    assert "0 of them are readable" in seen.text["flow"]
