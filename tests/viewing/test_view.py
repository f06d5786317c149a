"""`vla-data view`: what is shown of every format, and who is answered."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from converters.lerobot.source import LerobotSource
from tests.odd_sources import OddSource
from tests.paths import ROOT
from tests.report.test_inspect import PLACES, ROLLOUTS, options
from tests.rollouts import CAMERA, rollout, save
from vla_data.advantages.labels import Labels
from vla_data.core import Episode, EpisodeRef
from vla_data.core.base import WrappedSource
from vla_data.errors import DataError, UsageError
from vla_data.media import images
from vla_data.selection.subset import parse_positions
from vla_data.viewing.beside import Beside, beside
from vla_data.viewing.server import Viewer

NOTHING = Beside(records={}, by_id={})
PAGE = ROOT / "vla_data/viewing/page"


class Browser:
    """What a browser, or anybody else, may send."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.port = int(viewer.address.split(":")[2].split("/")[0])

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, path, skip_host="Host" in told)
        for name, value in told.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        self.answer = connection.getresponse()
        data = self.answer.read()
        connection.close()
        return self.answer.status, data

    def get(self, path: str) -> Any:
        status, data = self.ask(f"/{self.viewer.guard.token}/{path}")
        assert status == 200, data
        return json.loads(data) if self.answer.headers["Content-Type"] == "application/json" else data

    def flag(self, positions: object, **headers: str) -> tuple[int, Any]:
        given = {"X_Token": self.viewer.guard.token, **headers}
        status, data = self.ask(
            f"/{self.viewer.guard.token}/flags", "POST", json.dumps({"flags": positions}).encode(), **given
        )
        return status, json.loads(data) if data.startswith(b"{") else data


def serve(source: vd.Source, flags: Path, known: Beside = NOTHING) -> Browser:
    viewer = Viewer("a title", source, flags, known)
    viewer.start()
    return Browser(viewer)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    made = serve(OddSource(count=4), tmp_path / "flags.txt")
    yield made
    made.viewer.close()


@pytest.mark.parametrize("kind", ["rollouts", "libero", "aloha", "rlds"])
def test_every_format_is_shown(kind: str, tmp_path: Path) -> None:
    path, declared, want = PLACES[kind]
    source = vd.open_source(path, **options(declared))
    made = serve(vd.open_source(path, **options(declared)), tmp_path / "flags.txt")
    try:
        lines = made.get("episodes.json")["entries"]
        assert [line[1] for line in lines] == [ref.id for ref in source.episodes()]
        episode = source.read(source.episodes()[-1])
        told = made.get(f"episode/{len(lines) - 1}")
        assert (told["task"], told["steps"], told["fps"]) == (episode.task, len(episode), want["fps"])
        assert told["series"][0]["name"] == "action"
        action = np.array(told["series"][0]["values"]).T
        np.testing.assert_allclose(action, episode.arrays["action"].astype(np.float64), rtol=1e-5, atol=1e-12)
        assert [camera["name"] for camera in told["cameras"]] == sorted(episode.frames)
        for at, name in enumerate(sorted(episode.frames)):
            data = made.get(f"frame/{len(lines) - 1}/{at}/{len(episode) - 1}")
            pixels = episode.frames[name].pixels(len(episode) - 1)
            assert np.abs(images.decode(data).astype(int) - pixels).mean() < 8  # JPEG
    finally:
        made.viewer.close()


def test_the_list_is_filled_and_an_episode_that_cannot_be_read_has_its_error(tmp_path: Path) -> None:
    class Bad(WrappedSource):
        def read(self, ref: EpisodeRef) -> Episode:
            if ref.id == "2":
                raise DataError("E105", "it is \x1b[31mcut")
            if ref.id == "3":
                raise ZeroDivisionError("a defect of a reader")
            return super().read(ref)

    viewer = Viewer("t", Bad(OddSource(count=4)), tmp_path / "f", NOTHING)
    viewer.shelf.start().join(30)  # whatever the first one did, when this one ends all is there
    lines = viewer.listed()["entries"]
    assert lines[0] == [0, "0", 5, "pick", True, ""]
    assert lines[2] == [2, "2", 0, "", None, r"E105 truncated: it is \x1b[31mcut"]
    assert lines[3][5] == "ZeroDivisionError: a defect of a reader"
    assert viewer.episode(2) == {"position": 2, "error": r"E105 truncated: it is \x1b[31mcut"}
    viewer.shelf.stop()
    viewer._server.server_close()


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_lerobot_says_what_is_in_an_episode_without_reading_it(tmp_path: Path, version: str) -> None:
    for number in range(2):
        save(tmp_path / "in", f"{number}.npz", rollout(5 + number, instruction=f"do {number}"))
    source = vd.open_source(tmp_path / "in")
    vd.run(source, (), vd.open_sink(tmp_path / "out", version=version, images="png"), workers=1)
    shutil.rmtree(tmp_path / "out/data")
    made = LerobotSource(root=tmp_path / "out")
    viewer = Viewer("t", made, tmp_path / "f", beside(str(tmp_path / "out"), None))
    assert viewer.listed()["entries"] == [
        [0, "episode_000000", 5, "do 0", True, ""],
        [1, "episode_000001", 6, "do 1", True, ""],
    ]
    assert viewer.listed()["complete"]
    viewer.shelf.stop()
    viewer._server.server_close()


def test_buckets_values_and_advantages_are_those_of_the_ledger_and_the_annotation(tmp_path: Path) -> None:
    target = tmp_path / "aligned"
    vd.run(vd.open_source(ROLLOUTS), vd.recipes.ppo_sft(), vd.open_sink(target), workers=1)
    lengths = [r.frames("kept") for r in vd.open_ledger(target).records if r.status == "published"]
    values = np.linspace(-0.9, -0.1, sum(lengths))
    rows = [(e, t) for e, length in enumerate(lengths) for t in range(length)]
    table = {"episode_index": [e for e, _ in rows], "frame_index": [t for _, t in rows], "value": values}
    pq.write_table(pa.table(table), tmp_path / "values.parquet")
    labels = Labels(share=0.3)
    vd.annotate(target, values=tmp_path / "values.parquet", tag="v1", labels=labels)
    made = serve(vd.open_source(target), tmp_path / "f", beside(str(target), None))
    try:
        told = made.get("episode/1")
        record = next(r for r in vd.open_ledger(target).records if r.output_index == 1)
        assert told["buckets"]["spans"] == [[s.start, s.stop, s.bucket, s.reason] for s in record.spans]
        assert len(told["buckets"]["kept"]) == told["steps"] == lengths[1]
        assert told["advantages"]["tag"] == "v1"
        np.testing.assert_allclose(told["advantages"]["value"], values[lengths[0] :])
        assert len(told["advantages"]["positive"]) == lengths[1]
        assert sum(told["success"]) == sum(
            vd.open_source(target).read(EpisodeRef("episode_000001", 0)).success_after
        )
    finally:
        made.viewer.close()
    with pytest.raises(UsageError, match="there is no annotation 'v2'; it has: v1"):
        beside(str(target), "v2")


# -- who is answered ------------------------------------------------------------------------------------


def test_it_listens_on_this_machine_alone(browser: Browser) -> None:
    assert browser.viewer._server.server_address[0] == "127.0.0.1"
    assert browser.viewer.address.startswith("http://127.0.0.1:")


def test_every_answer_forbids_what_a_page_need_not_do(browser: Browser) -> None:
    token = browser.viewer.guard.token
    for path in (f"/{token}/", f"/{token}/view.js", f"/{token}/episodes.json", f"/{token}/frame/0/0/0", "/x/"):
        browser.ask(path)
        told = browser.answer.headers
        policy = dict(part.strip().partition(" ")[::2] for part in told["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["img-src"] == "'self'"
        assert told["X-Content-Type-Options"] == "nosniff"
        assert told["Referrer-Policy"] == "no-referrer"  # the address has the token
        assert told["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_wrong_token_gets_nothing(browser: Browser) -> None:
    token = browser.viewer.guard.token
    assert len(token) == 32
    for path in (
        "/",
        "/episodes.json",
        f"/{token[:-1]}/",
        f"/{token}x/",
        "/%00/",
        f"/{token.swapcase()}/",
    ):
        assert browser.ask(path)[0] == 404, path


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1.evil.example:{port}", "[::1]:{port}", ""]
)
def test_a_name_that_was_made_to_mean_this_machine_gets_nothing(browser: Browser, host: str) -> None:
    path = f"/{browser.viewer.guard.token}/episodes.json"
    assert browser.ask(path, Host=host.format(port=browser.port))[0] == 403
    assert browser.ask(path, Host=f"localhost:{browser.port}")[0] == 200


def test_nothing_but_the_source_is_served(browser: Browser) -> None:
    for path in (
        "../../../etc/passwd",
        "..%2f..%2fetc/passwd",
        "view.js/../../server.py",
        "server.py",
        "page/index.html",
        "/etc/passwd",
        "file:///etc/passwd",
        "episode/4",
        "episode/-1",
        "episode/0/0",
        "episode/../0",
        "episode/9999999999999999999999",
        "episode/%D9%A3",
        "frame/0/1/0",
        "frame/0/0/5",
        "frame/0/0",
        "frame/0/0/0/0",
        "flags",
    ):
        assert browser.ask(f"/{browser.viewer.guard.token}/{path}")[0] == 404, path


def test_numbers_may_have_any_length(browser: Browser) -> None:
    for number in ("9" * 5000, "1" * 20, "0" * 5000, "-1", ""):
        assert browser.ask(f"/{browser.viewer.guard.token}/found.json?after={number}")[0] == 200, number[:9]


def test_other_methods_are_not_known(browser: Browser) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
        assert browser.ask(f"/{browser.viewer.guard.token}/episodes.json", method)[0] == 501, method


def test_flags_are_written_as_a_list_that_episodes_reads(browser: Browser, tmp_path: Path) -> None:
    assert not (tmp_path / "flags.txt").exists()
    assert browser.flag([2, 0, 1]) == (200, {"flags": [0, 1, 2], "list": "0-2"})
    assert (tmp_path / "flags.txt").read_text() == "0-2\n"
    assert parse_positions((tmp_path / "flags.txt").read_text().strip()) == (0, 1, 2)
    again = serve(OddSource(count=4), tmp_path / "flags.txt")
    assert again.get("episodes.json")["flags"] == [0, 1, 2]
    again.viewer.close()
    assert browser.flag([]) == (200, {"flags": [], "list": ""})
    assert (tmp_path / "flags.txt").read_text() == ""


def test_flags_of_others_are_refused(browser: Browser, tmp_path: Path) -> None:
    assert browser.flag([1], X_Token="")[0] == 403
    assert browser.flag([1], X_Token="x" * 32)[0] == 403
    assert browser.flag([1], Origin="http://evil.example")[0] == 403
    assert browser.flag([1], Origin="null")[0] == 403
    for wrong in ([4], [-1], [True], ["1"], [1.0], "1", None):
        assert browser.flag(wrong)[0] == 422, wrong
    path, token = f"/{browser.viewer.guard.token}/flags", browser.viewer.guard.token
    assert browser.ask(path, "POST", b"{", X_Token=token)[0] == 422
    assert browser.ask(path, "POST", X_Token=token)[0] == 413
    assert browser.ask(path, "POST", X_Token=token, Content_Length=str(2 << 20))[0] == 413
    assert browser.ask(f"/{token}/episodes.json", "POST", b"{}", X_Token=token)[0] == 405
    assert not (tmp_path / "flags.txt").exists()
    assert browser.flag([1], Origin=f"http://localhost:{browser.port}")[0] == 200


@pytest.mark.parametrize("text", ["hello", "0,9", "1,1", "0-3\n4"])
def test_a_file_that_holds_something_else_is_not_written_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "f").write_text(text)
    with pytest.raises(UsageError, match=r"does not hold flags of this source .*--flags names another"):
        Viewer("t", OddSource(count=4), tmp_path / "f", NOTHING)
    assert (tmp_path / "f").read_text() == text


def test_texts_of_the_data_are_never_markup() -> None:
    """They are set as text by one function, and no other way to make elements of a text is used."""
    code = (PAGE / "view.js").read_text()
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\(|DOMParser|srcdoc", code)
        == []
    )
    assert re.findall(r"\.href|setAttribute\(\"(?!role|aria-|id)", code) == []
    page = (PAGE / "index.html").read_text()
    assert re.findall(r"<script(?! src=\"view\.js\" defer></script>)|<style|style=| on\w+=|https?:", page) == []
    assert "http" not in (PAGE / "view.css").read_text()


def test_the_command_answers_at_the_address_that_it_prints(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "vla_data", "view", str(ROLLOUTS), "--json"]
    with subprocess.Popen(run, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        told = json.loads(done.stdout.readline())
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]{32})/", told["address"])
        assert found is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
        connection.request("GET", f"/{found[2]}/")
        assert b'<script src="view.js" defer>' in connection.getresponse().read()
        connection.close()
        done.send_signal(signal.SIGINT)
        assert (done.wait(30), done.stderr.read()) == (0, "")
    assert os.listdir(tmp_path) == []
    assert told["flags"] == "rollouts-flags.txt"


def test_flags_inside_of_the_dataset_are_refused(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from vla_data.cli.view import command

    with pytest.raises(UsageError, match="is inside of the dataset; --flags names a place outside of it"):
        CliRunner().invoke(command, [str(ROLLOUTS), "--flags", str(ROLLOUTS / "f.txt")], catch_exceptions=False)


def test_the_camera_of_a_frame_is_the_one_of_its_number(browser: Browser) -> None:
    pixels = images.decode(browser.get("frame/2/0/3"))
    expected = OddSource().read(EpisodeRef("2", 1)).frames[CAMERA].pixels(3)
    assert np.abs(pixels.astype(int) - expected).max() <= 2
