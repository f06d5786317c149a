"""Files of our names that come from a stranger: no wait, no foreign file, one line without escapes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from tests.jobs.test_strangers import Here
from tests.rollouts import rollout, save
from vla_data import cli
from vla_data.core.manifest import recipe_sha256
from vla_data.errors import CODES, DataError, UsageError
from vla_data.files.tables import read_table
from vla_data.mixtures.config import load
from vla_data.safety import strict_json
from vla_data.safety.files import folder_below, open_regular, read_config
from vla_data.safety.text import plain, show

ESCAPE = "\x1b]0;PWN\x07\u202e\n"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "rollouts").mkdir()
    save(folder / "rollouts", "0.npz", rollout(2, size=(8, 8)))
    sink = vd.open_sink(folder / "out", format="lerobot", images="jpeg")
    vd.run(vd.open_source(folder / "rollouts"), (), sink, engine=Here())
    return folder / "out"


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    shutil.copytree(dataset, tmp_path / "ds")
    return tmp_path / "ds"


def call(
    words: Sequence[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """A command in this process: exit code and all that it printed."""
    monkeypatch.setattr(sys, "argv", ["vla-data", *map(str, words)])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    said = capsys.readouterr()
    code = stopped.value.code
    return (0 if code is None else int(code)), said.out + said.err


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _outside(path: Path) -> None:
    path.symlink_to(path.parents[3] / "victim")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _folder(path: Path) -> None:
    path.mkdir()


def _deep(path: Path) -> None:
    path.write_bytes(b"[" * 100_000)


def _twice(path: Path) -> None:
    path.write_bytes(b'{"a": 1, "a": 2}')


def _bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def _list(path: Path) -> None:
    path.write_bytes(b"[]")


ODD = (_fifo, _device, _outside, _loop, _folder, _deep, _twice, _bytes, _list)
OURS = ("manifest.json", "schema.json", "SHA256SUMS", "ledger.parquet")
COMMANDS = ("verify", "verify --deep", "repair", "why 0", "inspect")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.__name__.strip("_"))
def test_a_file_of_ours_that_is_none_ends_in_one_line(
    odd: Callable[[Path], None],
    name: str,
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (copy.parent / "victim").write_text("precious")
    file = copy / "meta/vla_data" / name
    file.unlink()
    odd(file)
    for command in COMMANDS:
        verb, *rest = command.split()
        code, said = call([verb, copy, *rest], monkeypatch, capsys)
        assert code in (0, 2, 3, 4, 5, 6, 7), (command, code, said)
        assert "E901" not in said, (command, said)
        assert "precious" not in said
        if verb == "verify":
            assert code == 6
    assert (copy.parent / "victim").read_text() == "precious"


SHAPES = (
    ("provenance", None),
    ("provenance", 5),
    ("provenance", "text"),
    ("provenance.recipe", 0),
    ("provenance.source", None),
    ("provenance.sink", []),
    ("provenance.sink.video", "text"),
    ("provenance.sink.video", {"type": "VideoSettings", "codec": []}),
    ("versions", 0.5),
    ("reasons", 10**30),
    ("counts", {"kept": "x"}),
    ("content_sha256", 5),
    ("files", []),
)


@pytest.mark.parametrize(("place", "value"), SHAPES, ids=lambda value: str(value)[:30])
def test_a_manifest_of_other_shapes_ends_in_one_line(
    place: str, value: object, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    side = copy / "meta/vla_data"
    manifest = json.loads((side / "manifest.json").read_text())
    facts, *names = manifest, *place.split(".")
    for name in names[:-1]:
        facts = facts[name]
    facts[names[-1]] = value
    with suppress(KeyError, TypeError):
        manifest["recipe_sha256"] = recipe_sha256(manifest)
    (side / "manifest.json").write_text(json.dumps(manifest))
    (copy / "README.md").unlink()
    source = copy.parent / "rollouts"
    source.mkdir()
    save(source, "0.npz", rollout(2, size=(8, 8)))
    for words in (
        *(["verify", copy, "--deep"], ["repair", copy, source], ["why", copy, "0"], ["inspect", copy]),
        ["verify", copy, "--against", source],
    ):
        code, said = call(words, monkeypatch, capsys)
        assert code in (0, 2, 3, 5, 6), (words, code, said)
        assert "E901" not in said, (words, said)


@pytest.mark.parametrize("command", ["why 0", "repair", "verify --deep", "inspect"])
def test_nothing_of_a_stranger_steers_the_terminal(
    command: str, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    side = copy / "meta/vla_data"
    table = pq.read_table(side / "ledger.parquet")
    for name in ("id", "status", "reason", "message", "split"):
        at = table.column_names.index(name)
        column = pa.array([ESCAPE] * len(table), pa.string())
        table = table.set_column(at, table.schema.field(at), column)
    notes = table.column_names.index("notes")
    table = table.set_column(
        notes, table.schema.field(notes), pa.array([[ESCAPE]] * len(table), pa.list_(pa.string()))
    )
    pq.write_table(table, side / "ledger.parquet")
    manifest = json.loads((side / "manifest.json").read_text())
    manifest["versions"][ESCAPE] = ESCAPE
    manifest["reasons"] = {ESCAPE: 1}
    manifest["files"][ESCAPE] = 1
    (side / "manifest.json").write_text(json.dumps(manifest))
    verb, *rest = command.split()
    _, said = call([verb, copy, *rest], monkeypatch, capsys)
    assert said
    assert not set(said) & set("\x1b\x07\u202e")


def test_lines_are_one_line_and_backslashes_stay() -> None:
    assert plain("a\\b\n\x1b") == "a\\b\\n".replace("\\n", "\\x0a") + "\\x1b"
    assert plain("a\nb\x1b", keep="\n") == "a\nb\\x1b"
    assert show("a\\b") == "a\\\\b"
    assert plain(show("a\\b\x1b")) == show("a\\b\x1b")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("odd", [_fifo, _device, _folder, _loop], ids=lambda odd: odd.__name__.strip("_"))
@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_configuration_that_is_no_file_is_refused(
    odd: Callable[[Path], None], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"mixture{suffix}"
    (odd)(path) if odd is not _device else path.symlink_to("/dev/zero")
    with pytest.raises(UsageError) as caught:
        read_config(path)
    assert caught.value.code == "E003"
    with pytest.raises(UsageError):
        load(path)


@pytest.mark.parametrize("path", ["/dev/zero", "/proc/kcore", "/dev/null"])
def test_devices_are_no_files(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip("this machine has none")
    with pytest.raises(UsageError):
        read_config(Path(path))


@pytest.mark.timeout(60)
def test_a_ledger_of_few_bytes_that_means_many_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    with pq.ParquetWriter(path, pa.schema([("id", pa.null())])) as writer:
        writer.write_table(pa.table({"id": pa.nulls(10_000_001)}))
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert caught.value.code == "E107"


def test_a_dictionary_of_one_long_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.parquet"
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"id": values.cast(pa.large_string())}), path, compression="zstd")
    assert path.stat().st_size < 100_000
    monkeypatch.setattr("vla_data.files.tables.MAX_BYTES", 64 << 20)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert caught.value.code == "E107"


def test_depth_is_counted_in_brackets_alone() -> None:
    assert strict_json.loads(b"[" * 64 + b"]" * 64, name="x") is not None
    with pytest.raises(DataError, match="64 deep"):
        strict_json.loads(b"[" * 65 + b"]" * 65, name="x")


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_below_is_reached_without_links(make: bool, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with folder_below(tmp_path / "a", root=tmp_path, make=make) as handle:
        assert os.path.samestat(os.fstat(handle), (tmp_path / "a").stat())
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no folder"), folder_below(tmp_path / "file/x", root=tmp_path, make=make):
        pass


def test_the_machine_is_told_from_an_odd_file(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError) as odd:
        open_regular(tmp_path / "loop", root=tmp_path)
    assert odd.value.__cause__ is None


def test_codes_of_this_page_are_published() -> None:
    assert CODES["E403"] == "source-changed"


@pytest.mark.parametrize(
    "text",
    [
        "[all]\nfps = " + "9" * 5000,
        "[all]\nfps = " + "9" * 4000,
        "[all]\nfps = inf",
        "a = " + "[" * 100_000,
        "[all]\nkeep = [5]",
        "[all]\ndrop = 5",
        "[all]\nrename = { action = 5 }",
        "[all]\nbase = [1, 2]",
        "[all.fill.x]\ndtype = 'O'\nshape = [1]\nvalue = 0",
        "[all.fill.x]\ndtype = 'float32'\nshape = [-1]\nvalue = 0",
        "[all.fill.x]\ndtype = 'float32'\nshape = [1]\nvalue = 1e999",
        "[all]\nactions = '/etc/passwd'",
        '[all]\n"\\u001b\\nx" = 1',
        "seed = " + "9" * 5000,
    ],
)
@pytest.mark.parametrize("command", ["merge", "mixture"])
def test_a_mapping_or_mixture_of_a_stranger_ends_in_one_line(
    text: str, command: str, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy.parent / "file.toml"
    path.write_text(text)
    words: list[object] = ["merge", copy.parent / "out", copy, copy, "--map", path, "--dry-run"]
    code, said = call(words if command == "merge" else ["mixture", path], monkeypatch, capsys)
    assert code == 2, said
    assert "E901" not in said
    assert not set(said) & set("\x1b\x07\u202e")


_SPAN = pa.list_(
    pa.struct([("start", pa.int64()), ("stop", pa.string()), ("bucket", pa.string()), ("reason", pa.string())])
)
CELLS = {
    "null": pa.nulls(1),
    "list": pa.array([[1, 2]]),
    "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    "bytes": pa.array([b"\xff\x00"]),
    "number": pa.array([2**63 - 1]),
    "fraction": pa.array([0.5]),
    "text": pa.array(["[" * 100_000]),
    "spans": pa.array([[{"start": 0, "stop": "2", "bucket": "kept", "reason": ""}]], _SPAN),
    "half a span": pa.array([[{"start": 0}]]),
}


@pytest.mark.parametrize(
    "column", ["id", "status", "length", "success", "source_sha256", "spans", "notes", "meta"]
)
def test_a_ledger_of_other_types_ends_in_one_line(
    column: str, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copy / "meta/vla_data/ledger.parquet"
    table = pq.read_table(file)
    at = table.column_names.index(column)
    for name, cell in CELLS.items():
        pq.write_table(table.set_column(at, column, cell), file)
        for words in (["verify", copy, "--deep"], ["why", copy, "0"], ["repair", copy]):
            code, said = call(words, monkeypatch, capsys)
            assert code in (0, 2, 3, 6, 7), (name, words, code, said)
            assert "E901" not in said, (name, words, said)
