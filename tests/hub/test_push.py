"""`vla-data push` with the real huggingface_hub client, against a stand-in of the Hub's HTTP API."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vla_data as vd
from tests import hub_server
from tests.hub_server import Hub, serve
from tests.lerobot_sets import Here
from tests.paths import ROOT, TESTS
from vla_data.cli import cli
from vla_data.errors import MachineError, VerifyError, VlaDataError

pytest.importorskip("huggingface_hub")
constants = importlib.import_module("huggingface_hub.constants")
REPO = "me/carrots"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the client about its own packages
hub_push = importlib.import_module("vla_data.hub.push")  # the package has a function of this name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("push") / "set"
    vd.run(vd.open_source(TESTS / "data/rollouts"), (), vd.open_sink(target), engine=Here())
    return target


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub that this process's huggingface_hub takes for the real one."""
    with serve() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        for name, value in {"HF_TOKEN": "hf_x", "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}.items():
            monkeypatch.setenv(name, value)
        yield found


def push(dataset: Path, *words: str, code: int = 0) -> Any:
    """Run the command."""
    ran = CliRunner().invoke(cli, ["push", str(dataset), *words])
    error = ran.exception if isinstance(ran.exception, VlaDataError) else None
    assert (error.exit_code if error else ran.exit_code) == code, ran.output
    return json.loads(ran.stdout) if "--json" in words and not code else f"{ran.output}{error or ''}"


def test_a_process_of_its_own_is_told_by_the_environment(made: Path, tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    with serve() as hub:
        own = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_x", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        own |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
        words = [sys.executable, "-m", "vla_data", "push", str(made), REPO, "--public", "--tag", "v9"]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=120, env=kept | own)
        assert ran.returncode == 0, ran.stderr
        assert f"{hub.url}/datasets/{REPO} (v9)" in ran.stdout
        assert "no licence is declared" in ran.stderr
        assert (hub.private[REPO], list(hub.tags[REPO])) == (False, ["v9"])


def test_what_is_there_in_the_end_verifies(hub: Hub, made: Path, tmp_path: Path) -> None:
    done = push(made, REPO, "--json")
    assert (done["tag"], done["kept"], len(done["commits"])) == ("v3.0", 0, 1)
    assert hub.tags[REPO] == {"v3.0": hub.commits[REPO][-1]}
    assert hub.private[REPO]
    copy = tmp_path / "copy"
    for name, content in hub.repos[REPO].items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    found = vd.verify(copy, deep=True)
    assert (found.ok, found.others) == (True, (".gitattributes",))
    assert sent(hub, made)
    assert hub.repos[REPO].keys() - {p.relative_to(made).as_posix() for p in made.rglob("*")} == {
        ".gitattributes",
        "croissant.json",
    }
    assert vd.open_ledger(copy).records == vd.open_ledger(made).records
    # A second time nothing is sent, and the tag stays.
    before = list(hub.written())
    again = push(made, REPO, "--json")
    assert (again["sent"], again["commits"]) == ([], [])
    assert [line for line in hub.written()[len(before) :] if "create" not in line] == []


def test_an_interrupted_run_goes_on(hub: Hub, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that end at their first request that writes, their second, and so on; each goes on where it can."""
    monkeypatch.setattr(hub_push, "MOST_FILES", 3)
    hub.fail, failures = 403, 0
    for hub.after in range(100):
        had = dict(hub.repos.get(REPO, {}))
        try:
            hub_push.push(made, REPO)
            break
        except MachineError as error:
            assert error.code == "E702"
        failures += 1
        assert not hub.tags.get(REPO), "a tag names half of a dataset"
        assert all(hub.repos[REPO][name] == content for name, content in had.items())
    assert failures >= 4
    assert hub.tags[REPO] == {"v3.0": hub.commits[REPO][-1]}
    assert sent(hub, made)
    # Nothing that arrived was sent twice.
    stored = [line for line in hub.asked if line.startswith("PUT /store")]
    assert len(stored) <= len(set(stored)) + failures


def test_what_the_hub_answers_is_told(hub: Hub, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.fail = 400
    assert "E703" in push(made, REPO, code=7)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    assert "run it again" in push(made, REPO, code=7)


def sent(hub: Hub, made: Path) -> bool:
    """Whether the repository has every file of the dataset; card, manifest and sums are made for it."""
    names = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    own = {"README.md", "meta/vla_data/manifest.json", "meta/vla_data/SHA256SUMS"}
    same = all(hub.repos[REPO][name] == (made / name).read_bytes() for name in names - own)
    return same and own <= hub.repos[REPO].keys()


def test_a_card_of_the_authors_own_is_sent_as_it_is(hub: Hub, made: Path, tmp_path: Path) -> None:
    target = tmp_path / "tfds/set/1.0.0"
    vd.run(vd.open_source(made), (), vd.open_sink(target, format="rlds"), engine=Here())
    (target / "README.md").write_text("# Mine\n")
    done = push(target, REPO, "--json")
    assert (done["tag"], hub.repos[REPO]["README.md"]) == ("v1.0", b"# Mine\n")
    assert any("your own" in note for note in done["notes"])
    assert "E001" in push(target, REPO, "--license", "mit", code=2)


def test_damage_is_not_sent(hub: Hub, made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    path = next((copy / "data").rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "E601" in push(copy, REPO, code=6)
    assert "E003" in push(TESTS / "data/rollouts", REPO, code=2)
    assert hub.written() == []


def test_another_dataset_is_not_written_over(hub: Hub, made: Path, tmp_path: Path) -> None:
    push(made, REPO)
    hub.repos[REPO]["data/of_somebody.parquet"] = b"x"
    assert "E411" in push(made, REPO, code=5)
    del hub.repos[REPO]["data/of_somebody.parquet"]
    other = tmp_path / "other"
    vd.run(vd.open_source(TESTS / "data/rollouts"), (), vd.open_sink(other, images="png"), engine=Here())
    assert "the tag v3.0" in push(other, REPO, code=5)
    dry = push(other, REPO, "--replace", "--dry-run", "--json")
    assert dry["sent"]
    assert hub.tags[REPO] == {"v3.0": hub.commits[REPO][-1]}
    done = push(other, REPO, "--replace", "--json")
    assert done["commits"] == [hub.commits[REPO][-1]] == list(hub.tags[REPO].values())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("no_owner",), "OWNER/NAME"),
        (("../x",), "OWNER/NAME"),
        ((REPO, "--license", "mine: all"), "no licence"),
        ((REPO, "--tag", "a b"), "is no tag"),
    ],
)
def test_names_that_are_none(hub: Hub, made: Path, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    stderr = push(made, *words, code=2)
    assert "E001" in stderr
    assert told in stderr
    assert hub.asked == []


@pytest.mark.parametrize("how", [pytest.param("other", marks=pytest.mark.nightly), "link", "fifo"])
def test_what_is_exchanged_after_it_was_verified_is_not_sent(
    how: str, hub: Hub, made: Path, tmp_path: Path
) -> None:
    copy, secret = Path(shutil.copytree(made, tmp_path / "copy")), tmp_path / "secret"
    secret.write_bytes(b"of somebody else")
    file = next(path for path in sorted(copy.rglob("*.parquet")) if "vla_data" not in path.parts)

    def exchange(_line: str) -> None:
        file.unlink()
        if how == "other":
            file.write_bytes(secret.read_bytes())
        elif how == "link":
            file.symlink_to(secret)
        elif how == "fifo":
            os.mkfifo(file)

    with pytest.raises(VerifyError, match="changed after it was verified"):
        hub_push.push(copy, REPO, progress=exchange)
    assert not hub.tags.get(REPO)
    assert secret.read_bytes() not in [*hub.repos[REPO].values(), *hub.large.values()]


ODD_ANSWERS: tuple[Any, ...] = ({}, [], None, "text", [1, 2], {"files": 5, "objects": [5], "url": [], "sha": {}})


@pytest.mark.parametrize("asked", ["create", "tree", "refs", "preupload", "batch", "commit"])
@pytest.mark.parametrize("number", [1, pytest.param(len(ODD_ANSWERS), marks=pytest.mark.nightly)])
def test_answers_of_no_hub_are_told(
    number: int, asked: str, hub: Hub, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is answered, the line says so, and no tag names a part of a dataset."""
    routes = [(pattern, action) for pattern, action in hub_server.ROUTES if action.__name__ != asked]
    pattern = next(pattern for pattern, action in hub_server.ROUTES if action.__name__ == asked)
    for answer in ODD_ANSWERS[:number]:
        odd = (pattern, lambda handler, *_, answer=answer: handler.answer(answer))
        monkeypatch.setattr(hub_server, "ROUTES", [odd, *routes])
        hub.repos.clear()
        hub.tags.clear()
        try:
            hub_push.push(made, REPO)
            assert sent(hub, made)
        except MachineError as error:
            assert error.code == "E703"
            assert not hub.tags.get(REPO)
