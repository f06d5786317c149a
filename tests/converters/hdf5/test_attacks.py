"""Rows 23 to 28, 37, 38, 42, 68, 77 and 86 of the fault model: HDF5 files that reach for more than themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from converters.hdf5 import listing as hdf5_list
from tests.hdf5_files import LIBERO, MANISKILL, ROBOMIMIC, edited, pixels, read, replace, robomimic_file, source
from tests.paths import ROOT
from vla_data.errors import DataError, UsageError
from vla_data.safety.hdf5 import File, Group, _is_plain

h5py = pytest.importorskip("h5py")

SECRET = b"root:$6$secret:19000:0:99999:7:::"
EEF = "data/demo_0/obs/eef"
FRONT = "data/demo_0/obs/front"
Attack = Callable[[Any, Path], object]


def attacked(tmp_path: Path, attack: Attack) -> Path:
    """A healthy file with two demos, of which the first is attacked."""
    (tmp_path / "in").mkdir(exist_ok=True)
    path = robomimic_file(tmp_path / "in/a.h5", demos=("demo_0", "demo_1"))
    with h5py.File(path, "r+") as file:
        attack(file, tmp_path)
    return path


def canary(folder: Path) -> str:
    path = folder / "canary"
    if not path.exists():
        path.write_bytes(SECRET * 100)
    return str(path)


def other_file(folder: Path) -> str:
    path = folder / "other.h5"
    with h5py.File(path, "w") as file:
        file["eef"] = np.full((5, 3), 3.25)
        file["obs/eef"] = np.full((5, 3), 3.25)
    return str(path)


def external_storage(file: Any, folder: Path) -> None:
    del file[EEF]
    file.create_dataset(EEF, (5, 3), dtype=np.float64, external=[(canary(folder), 0, 120)])


def external_images(file: Any, folder: Path) -> None:
    del file[FRONT]
    file.create_dataset(FRONT, (5, 2, 10, 3), dtype=np.uint8, external=[(canary(folder), 0, 300)])


def external_link(file: Any, folder: Path) -> None:
    del file[EEF]
    file[EEF] = h5py.ExternalLink(other_file(folder), "/eef")


def external_link_on_the_way(file: Any, folder: Path) -> None:
    del file["data/demo_0/obs"]
    file["data/demo_0/obs"] = h5py.ExternalLink(other_file(folder), "/obs")


def soft_link_out(file: Any, folder: Path) -> None:
    """Over a link that leads out of the file."""
    del file[EEF]
    file["way"] = h5py.ExternalLink(other_file(folder), "/")
    file[EEF] = h5py.SoftLink("/way/eef")


def soft_link_in_a_circle(file: Any, folder: Path) -> None:
    del file[EEF]
    file[EEF] = h5py.SoftLink("./eef")


def soft_links_without_end(file: Any, folder: Path) -> None:
    """Each is two more: followed one by one, and not all of them."""
    del file[EEF]
    for i in range(64):
        file[f"data/demo_0/obs/{'eef' if i == 0 else f'l{i}'}"] = h5py.SoftLink(f"l{i + 1}/./l{i + 1}")


def soft_link_to_nothing(file: Any, folder: Path) -> None:
    del file[EEF]
    file[EEF] = h5py.SoftLink("/data/demo_1/obs/elbow")


def virtual(file: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((5, 3), dtype=np.float64)
    layout[:] = h5py.VirtualSource(other_file(folder), "eef", (5, 3))
    del file[EEF]
    file.create_virtual_dataset(EEF, layout)


def shape_bomb(file: Any, folder: Path) -> None:
    del file[FRONT]
    file.create_dataset(FRONT, (5, 8 << 20, 64 << 10, 3), dtype=np.uint8, chunks=(1, 64, 64, 3))


def row_bomb(file: Any, folder: Path) -> None:
    del file["data/demo_0/actions"]
    file.create_dataset("data/demo_0/actions", (1 << 40, 7), dtype=np.float64, chunks=(64, 7))


def hole(file: Any, folder: Path) -> None:
    """Contiguous, and never written: HDF5 would make up the numbers."""
    del file[EEF]
    file.create_dataset(EEF, (5, 1 << 20), dtype=np.float64)


def chunk_bomb(file: Any, folder: Path) -> None:
    del file[EEF]
    file.create_dataset(EEF, (5, 60 << 20), dtype=np.float64, chunks=(1, 60 << 20), compression="gzip")


def filtered(file: Any, code: int) -> None:
    del file[EEF]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((5, 3))
    plan.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((5, 3))
    table = h5py.h5d.create(file["data/demo_0/obs"].id, b"eef", h5py.h5t.IEEE_F64LE, space, plan)
    table.write_direct_chunk((0, 0), np.ones((5, 3)).tobytes(), filter_mask=0)  # as if it had gone through


def plugin_filter(file: Any, folder: Path) -> None:
    filtered(file, 32_026)


def scale_offset(file: Any, folder: Path) -> None:
    del file[EEF]
    file.create_dataset(EEF, data=np.ones((5, 3), dtype=np.int32), chunks=(5, 3), scaleoffset=True)


def compound(file: Any, folder: Path) -> None:
    replace(file, EEF, np.zeros(5, dtype=[("x", "f8"), ("y", "f8")]))


def complex_numbers(file: Any, folder: Path) -> None:
    replace(file, EEF, np.zeros((5, 3), dtype=np.complex128))


def reference(file: Any, folder: Path) -> None:
    del file[EEF]
    table = file.create_dataset(EEF, (5,), dtype=h5py.ref_dtype)
    table[0] = file["data"].ref


def opaque(file: Any, folder: Path) -> None:
    replace(file, EEF, np.zeros(5, dtype="V16"))


def enumeration(file: Any, folder: Path) -> None:
    del file[EEF]
    file.create_dataset(EEF, (5,), dtype=h5py.enum_dtype({"A": 0, "B": 1}))


def ragged_numbers(file: Any, folder: Path) -> None:
    del file[EEF]
    table = file.create_dataset(EEF, (5,), dtype=h5py.vlen_dtype(np.float64))
    table[0] = [1.0, 2.0]


def ragged_bytes(file: Any, folder: Path) -> None:
    """Allowed for image files alone."""
    del file[EEF]
    table = file.create_dataset(EEF, (5,), dtype=h5py.vlen_dtype(np.uint8))
    table[0] = [1, 2]


def long_doubles(file: Any, folder: Path) -> None:
    replace(file, EEF, np.zeros((5, 3), dtype=np.longdouble))


def no_data(file: Any, folder: Path) -> None:
    replace(file, EEF, h5py.Empty("f8"))


def fork_bomb(file: Any, folder: Path) -> None:
    """Each of 30 groups has two names for the next one: 2**30 paths."""
    here = file["data/demo_0/obs"]
    for _ in range(30):
        below = here.create_group("l")
        here["r"] = below
        here = below


def many(file: Any, folder: Path) -> None:
    for i in range(5_000):
        file["data/demo_0/obs"].create_group(str(i))


def many_attributes(file: Any, folder: Path) -> None:
    for i in range(300):
        file["data/demo_0"].attrs[f"a{i}"] = i


def odd_name(file: Any, folder: Path) -> None:
    file["data/demo_0/obs/\x1b]8;;evil"] = np.ones((5, 3))


def two_names_for_one_feature(file: Any, folder: Path) -> None:
    file["data/demo_0/obs/a.b"] = np.ones((5, 3))
    file["data/demo_0/obs/a/b"] = np.zeros((5, 3))


ATTACKS: dict[Attack, str] = {
    external_storage: "E111",
    external_images: "E111",
    external_link: "E111",
    external_link_on_the_way: "E111",
    soft_link_out: "E111",
    soft_link_in_a_circle: "E111",
    soft_links_without_end: "E111",
    soft_link_to_nothing: "E206",
    virtual: "E111",
    shape_bomb: "E107",
    row_bomb: "E107",
    hole: "E107",
    chunk_bomb: "E107",
    plugin_filter: "E112",
    scale_offset: "E112",
    compound: "E232",
    complex_numbers: "E232",
    reference: "E232",
    opaque: "E232",
    enumeration: "E232",
    ragged_numbers: "E232",
    ragged_bytes: "E232",
    long_doubles: "E232",
    no_data: "E203",
    fork_bomb: "E106",
    many: "E106",
    many_attributes: "E107",
    odd_name: "E232",
    two_names_for_one_feature: "E232",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda f: f.__name__)
def test_attack_costs_one_demo_and_nothing_else_is_read(tmp_path: Path, attack: Attack) -> None:
    opened = source(attacked(tmp_path, attack), task="x")
    first, second = opened.episodes()
    with pytest.raises(DataError) as caught:
        opened.read(first)
    assert caught.value.code == ATTACKS[attack]
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert caught.value.source_sha256 == opened.fingerprint(first)
    assert np.isfinite(opened.read(second).arrays["observation.eef"]).all()


@pytest.mark.parametrize(
    "attack", [external_storage, external_images, external_link, virtual], ids=lambda f: f.__name__
)
def test_no_other_file_is_even_opened(tmp_path: Path, attack: Attack) -> None:
    """Whatever the file names is a pipe now: opening it would wait for ever for a writer."""
    path = attacked(tmp_path, attack)
    for name in ("canary", "other.h5"):
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
    script = f"""
        import signal
        signal.alarm(20)
        from tests.hdf5_files import source
        from vla_data.errors import DataError
        opened = source({os.fspath(path)!r}, task="x")
        try:
            opened.read(opened.episodes()[0])
        except DataError as error:
            print(error.code)
    """.replace("source('", "source(__import__('pathlib').Path('").replace("', task", "'), task")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "E111\n"), done.stderr


def test_one_bad_demo_costs_one_demo(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5", demos=tuple(f"demo_{i}" for i in range(3)))
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/obs/eef"]
        file["data/demo_1/obs/eef"] = h5py.ExternalLink("/etc/passwd", "/")
    report = vd.run(source(path, task="x"), (), vd.open_sink(tmp_path / "set", images="png"), workers=1)
    assert [(r.id, r.status, r.reason) for r in report.ledger.records] == [
        ("a.h5/demo_0", "published", ""),
        ("a.h5/demo_1", "failed", "E111"),
        ("a.h5/demo_2", "published", ""),
    ]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (EEF, "/data/demo_1/obs/eef"),
        (EEF, "./again"),
        ("data/demo_0/actions", "/data/demo_1/actions"),
        ("data/demo_0/obs", "/data/./demo_1//obs"),
        ("data/demo_0", "demo_1"),
    ],
)
def test_soft_links_within_the_file_are_what_they_lead_to(tmp_path: Path, name: str, target: str) -> None:
    """As h5py follows them."""
    path = robomimic_file(tmp_path / "a.h5", demos=("demo_0", "demo_1"))
    with h5py.File(path, "r+") as file:
        file["data/demo_1/obs/eef"][...] = 7.5
        file["data/demo_1/actions"][...] = 0.25
        file["data/demo_0/obs/again"] = h5py.SoftLink("/data/demo_1/obs/eef")
        del file[name]
        file[name] = h5py.SoftLink(target)
        want = file[EEF][()], file["data/demo_0/actions"][()]
    first = read(path, task="x")
    assert np.array_equal(first.arrays["observation.eef"], want[0])
    assert np.array_equal(first.arrays["action"], want[1])


def test_cycle_of_hard_links_is_walked_once(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0/obs/again"] = file["data/demo_0/obs"]
        file["data/demo_0/obs/inner/again"] = file["data/demo_0/obs"]
    episode = read(path, task="x")
    assert set(episode.notes) == {"left_out_as_repeated:again", "left_out_as_repeated:inner.again"}
    assert set(episode.arrays) == {"action", "observation.eef"}


def test_demos_with_odd_names_have_distinct_plain_ids(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5", demos=("demo 1", "demo%201", "d\x1b[31m", "демо"))
    opened = source(path, task="x")
    refs = opened.episodes()
    assert [ref.id for ref in refs] == [
        "a.h5/d%1B%5B31m",
        "a.h5/demo 1",
        "a.h5/demo%25201",
        "a.h5/%D0%B4%D0%B5%D0%BC%D0%BE",
    ]
    assert [len(opened.read(ref)) for ref in refs] == [5] * 4


@pytest.mark.parametrize("name", ["", ".", "a/b", "/", "a\0b"])
def test_names_that_hdf5_would_walk_are_refused(name: str) -> None:
    assert not _is_plain(name)
    top = File(LIBERO, root=LIBERO.parent).top
    assert name not in top
    with pytest.raises(DataError) as caught:
        top[name]
    assert caught.value.code == "E111"


def test_black_images_that_compress_a_thousandfold_are_no_bomb(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5", steps=60, obs__front=None)
    with h5py.File(path, "r+") as file:
        black = np.zeros((60, 128, 128, 3), dtype=np.uint8)
        table = file.create_dataset("data/demo_0/obs/front", data=black, compression=9, chunks=(60, 128, 128, 3))
        assert black.nbytes > 900 * table.id.get_storage_size()
    assert not pixels(read(path, task="x"), "observation.images.front").any()


@pytest.mark.parametrize(
    "options", [{"compression": "lzf"}, {"compression": 4, "shuffle": True}, {"fletcher32": True}]
)
def test_built_in_filters_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    eef = np.random.default_rng(0).normal(size=(5, 3))
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        replace(file, EEF, eef, **options)
    assert np.array_equal(read(path, task="x").arrays["observation.eef"], eef)


# -- plugins ----------------------------------------------------------------------------------------------

_PLUGINS = """
    import sys
    import h5py
    if sys.argv[2] == "off":
        from vla_data.safety.hdf5 import plugins_off
        plugins_off()
    with h5py.File(sys.argv[1]) as file:
        try:
            file["data/demo_0/obs/eef"][:]
        except OSError:
            print("not read")
    print(h5py.h5pl.size())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="LD_DEBUG is glibc's")
@pytest.mark.parametrize(
    ("how", "environment", "tried", "folders"),
    [("as it is", {}, True, 1), ("off", {}, False, 0), ("as it is", {"HDF5_PLUGIN_PRELOAD": "::"}, False, 1)],
)
def test_plugins_are_tried_unless_turned_off(
    tmp_path: Path, how: str, environment: dict[str, str], tried: bool, folders: int
) -> None:
    """The dynamic loader itself says whether it opened the library that lies where plugins are looked for."""
    path = attacked(tmp_path, plugin_filter)
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "libh5evil.so").symlink_to(h5py.h5.__file__)  # any library
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_PLUGINS), os.fspath(path), how],
        env={**os.environ, "HDF5_PLUGIN_PATH": os.fspath(plugins), "LD_DEBUG": "files", **environment},
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout == f"not read\n{folders}\n"
    assert ("libh5evil.so" in done.stderr) == tried


def test_opening_a_file_turns_plugins_off() -> None:
    script = """
        from pathlib import Path
        import h5py
        from vla_data.safety.hdf5 import File
        before = h5py.h5pl.size()
        path = Path("tests/data/hdf5/robomimic_lift.hdf5")
        File(path, root=path.parent)
        print(before, h5py.h5pl.size())
    """
    root = ROOT
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HDF5_PLUGIN")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, check=True, cwd=root
    )
    assert done.stdout == b"1 0\n"


# -- files ------------------------------------------------------------------------------------------------


def test_links_pipes_and_missing_files_are_quarantined(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    outside = robomimic_file(tmp_path / "outside.h5")
    good = robomimic_file(inside / "good.h5")
    (inside / "leaves.h5").symlink_to(outside)
    (inside / "stays.h5").symlink_to(good)
    (inside / "loop.h5").symlink_to(inside / "loop.h5")
    os.mkfifo(inside / "pipe.h5")
    opened = source(inside, task="x")
    codes = {}
    for ref in opened.episodes():
        try:
            opened.read(ref)
        except DataError as error:
            codes[ref.id] = error.code
    assert codes == {"leaves.h5": "E131", "loop.h5": "E131", "pipe.h5": "E131"}
    assert [ref.id for ref in opened.episodes()] == [
        "good.h5/demo_0",
        "leaves.h5",
        "loop.h5",
        "pipe.h5",
        "stays.h5/demo_0",
    ]


def test_link_that_the_user_names_as_the_root_is_meant(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    robomimic_file(tmp_path / "blobs/0af3")
    (tmp_path / "names").mkdir()
    (tmp_path / "names/a.h5").symlink_to("../blobs/0af3")
    assert len(read(tmp_path / "names/a.h5", task="x")) == 5


def test_sidecar_that_leads_outside_or_lies_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = edited(MANISKILL, tmp_path / "in/a.h5", lambda file: None)
    side = path.with_suffix(".json")
    side.rename(tmp_path / "a.json")
    side.symlink_to(tmp_path / "a.json")
    opened = source(path, task="x", fps=20)
    with pytest.raises(DataError) as caught:
        opened.read(opened.episodes()[0])
    assert caught.value.code == "E131"
    for text in (
        '{"env_info": {}, "env_info": {}, "episodes": []}',
        "[" * 100,
        "{}",
        '{"env_info": {}, "episodes": [1]}',
    ):
        side.unlink()
        side.write_text(text)
        with pytest.raises(DataError) as caught:
            opened.read(opened.episodes()[0])
        assert caught.value.code == "E141"


def test_file_that_changes_while_its_images_are_read(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    episode = read(path, task="x")
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DataError, match="changed") as caught:
        pixels(episode, "observation.images.front")
    assert caught.value.code == "E105"


def test_changed_file_is_another_source(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    opened = source(path, task="x")
    ref = opened.episodes()[0]
    before = opened.fingerprint(ref)
    with h5py.File(path, "r+") as file:
        file["data/demo_0/actions"][0, 0] = 0.5
    assert opened.fingerprint(ref) != before
    assert opened.read(ref).arrays["action"][0, 0] == 0.5


def test_masks_that_can_not_be_read_are_noted(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["mask/train"] = h5py.SoftLink("/nowhere")
        file["mask/valid"] = np.array([b"demo_0"])
    episode = read(path, task="x")
    assert (episode.meta["masks"], episode.notes) == (["valid"], ("mask_left_out:train",))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at open files")
def test_file_is_open_as_long_as_its_images_are_in_use(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5")

    def is_open() -> bool:
        handles = list(Path("/proc/self/fd").iterdir())
        return any(handle.is_symlink() and handle.readlink() == path for handle in handles)

    frames = read(path, task="x").frames["observation.images.front"].take([1])
    assert is_open()
    frames.pixels(0)
    del frames
    assert not is_open()


def test_seal_is_kept(tmp_path: Path) -> None:
    from vla_data.files.sums import write_seal

    robomimic_file(tmp_path / "a.h5")
    robomimic_file(tmp_path / "b.h5")
    write_seal(tmp_path, ["a.h5", "b.h5"])
    (tmp_path / "b.h5").unlink()
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["data/demo_0/actions"][0, 0] = 0.5
    opened = source(tmp_path, task="x")
    codes = []
    for ref in opened.episodes():
        with pytest.raises(DataError) as caught:
            opened.read(ref)
        codes.append((ref.id, caught.value.code))
    assert codes == [("a.h5/demo_0", "E132"), ("b.h5", "E133")]


def test_other_hdf5_files_are_left_alone_and_broken_ones_are_not(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["layer_0"] = np.ones(3)
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file.create_group("data")
    (tmp_path / "text.h5").write_text("not at all")
    whole = robomimic_file(tmp_path / "cut.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    opened = source(tmp_path, task="x")
    found = {}
    for ref in opened.episodes():
        with pytest.raises(DataError) as caught:
            opened.read(ref)
        found[ref.id] = (caught.value.code, caught.value.ignore)
    assert found == {
        "weights.h5": ("E206", True),
        "none.h5": ("E207", False),
        "text.h5": ("E105", False),
        "cut.h5": ("E105", False),
    }


# -- the process that lists -------------------------------------------------------------------------------

_ODD_READER = """
import os, time
import vla_data.safety.hdf5 as hdf5
whole = hdf5.File.__init__
def init(self, path, *, root):
    if "crash" in path.name:
        os.kill(os.getpid(), 11)
    if "hang" in path.name:
        time.sleep(600)
    if "eat" in path.name:
        bytearray(8 << 30)
    whole(self, path, root=root)
hdf5.File.__init__ = init
"""


@pytest.fixture
def odd_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes crash, hang or take all memory on files with such names, as on files of an attacker."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_ODD_READER)
    monkeypatch.syspath_prepend(folder)


@pytest.mark.usefixtures("odd_reader")
def test_files_that_kill_the_lister_cost_only_themselves(tmp_path: Path) -> None:
    names = ["a.h5", "crash1.h5", "b.h5", "crash2.h5", "eat.h5", "hang.h5", "z.h5"]
    files = [robomimic_file(tmp_path / name) for name in names]
    found = hdf5_list.list_files(files, root=tmp_path, layout="auto", mask=None, seconds=3.0)
    assert [listing.error.code if listing.error else listing.demos for listing in found] == [
        ("demo_0",),
        "E502",
        ("demo_0",),
        "E502",
        "E504",
        "E503",
        ("demo_0",),
    ]


@pytest.mark.usefixtures("odd_reader")
def test_run_survives_a_file_that_kills_the_lister(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.h5", "crash.h5", "z.h5"):
        robomimic_file(folder / name)
    report = vd.run(
        source(folder, task="x"), (), vd.open_sink(tmp_path / "set", images="png"), workers=1, max_bad=0.5
    )
    assert [(r.id, r.status, r.reason) for r in report.ledger.records] == [
        ("a.h5/demo_0", "published", ""),
        ("crash.h5", "failed", "E502"),
        ("z.h5/demo_0", "published", ""),
    ]


def test_defect_while_listing_is_no_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import converters.hdf5.listing\nimport vla_data.safety.hdf5 as h\nh.File.top = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=r"listing a\.h5 failed"):
        source(robomimic_file(tmp_path / "a.h5")).episodes()


def test_listing_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    opened = source(path)
    assert len(opened.episodes()) == 1
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", None)
        assert len(opened.episodes()) == 1
    robomimic_file(path, demos=("demo_0", "demo_1"))
    assert len(opened.episodes()) == 2


# -- damage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [ROBOMIMIC, MANISKILL], ids=lambda p: p.stem)
def test_damage_gives_episodes_or_quarantine(tmp_path: Path, real: Path) -> None:
    """24 damaged files and a good one: cut anywhere, or with bytes of the structures changed.

    The HDF5 library crashes on some, which costs a worker and that file.
    """
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(7)
    data = np.frombuffer(real.read_bytes(), dtype=np.uint8)
    (folder / "good.h5").write_bytes(data.tobytes())
    for number in range(24):
        bad = data.copy()
        if number % 4 == 0:
            bad = bad[: rng.integers(1, len(bad))]
        else:
            bad[rng.integers(0, len(bad) if number % 2 else 8_192, size=20)] = rng.integers(0, 256, 20)
        (folder / f"bad{number:02d}.h5").write_bytes(bad.tobytes())
    opened = source(folder, task="x", fps=20)
    report = vd.run(opened, (), vd.open_sink(tmp_path / "set", images="png"), workers=2, max_bad=1.0)
    records = {record.id: record for record in report.ledger.records}
    assert [r.status for name, r in records.items() if name.startswith("good.h5/")] == ["published"] * 2
    reasons = [record.reason for record in records.values()]
    assert reasons.count("E105") >= 6
    assert {reason for reason in reasons if reason} <= {
        *(f"E{n}" for n in range(100, 240)),
        "E502",
        "E503",
        "E504",
    }
    assert all("\n" not in record.message for record in records.values())


def test_group_and_table_say_what_they_are() -> None:
    top = File(LIBERO, root=LIBERO.parent).top
    assert isinstance(top["data"], Group)
    with pytest.raises(DataError, match="a dataset, not a group"):
        top.group("data").group("demo_0").group("actions")
    with pytest.raises(DataError, match="a group, not a dataset"):
        top.table("data")


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "hdf"},
        {"observation_time": "during"},
        {"image_orientation": "hflip"},
        {"channel_order": "grb"},
        {"language": "bddl"},
        {"task": ""},
        {"mask": 3},
        {"fps": 0},
        {"action_limit": float("nan")},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        source(LIBERO, **options)


def test_missing_root_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        source(tmp_path / "none.h5").episodes()
    assert caught.value.code == "E003"


def test_episode_metadata_is_json_whatever_attributes_hold(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        attrs = file["data/demo_0"].attrs
        attrs["nan"] = np.array([np.nan, np.inf, 1.0])
        attrs["big"] = np.arange(5_000)
        attrs["bytes"] = b"\xff\xfe"
        attrs["flag"] = True
        attrs["empty"] = h5py.Empty("f4")
        attrs["names"] = ["a", "b"]
        attrs["ref"] = file["data"].ref
        attrs["pair"] = np.zeros(1, dtype=[("x", "f8")])[0]
    told = read(path, task="x").meta["episode_metadata"]["demo"]
    json.dumps(told, allow_nan=False)
    assert told["nan"] == ["nan", "inf", 1.0]
    assert set(told["big"]) == {"sha256", "dtype", "shape"}
    assert (told["bytes"], told["flag"], told["empty"], told["names"]) == ("\\xff\\xfe", True, None, ["a", "b"])
    assert (told["ref"], told["pair"]) == ({"left_out": "reference"}, {"left_out": "compound"})
