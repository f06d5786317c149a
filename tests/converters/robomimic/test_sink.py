"""robomimic's layout: what is written, read back, refused, and noticed when it is damaged."""

from __future__ import annotations

import errno
import hashlib
import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vla_data as vd
from converters.robomimic.check import RobomimicAudit
from converters.robomimic.names import check_paths, mask_name, masks_of, name_of, path_of
from converters.robomimic.sink import FILE, RobomimicSink
from tests import hdf5_files
from tests.paths import TESTS
from tests.rollouts import CAMERA, MOVE, episode
from vla_data.core import Episode, Feature, Published, Schema
from vla_data.core.ledger import Ledger
from vla_data.errors import DataError, MachineError, VerifyError
from vla_data.files import write as job_io
from vla_data.media.frames import Frames
from vla_data.selection.subset import select

ROLLOUTS = TESTS / "data/rollouts"
SIDECAR = "vla_data/robomimic"


def ledger_of(root: Path) -> Ledger:
    return Ledger.read(root / SIDECAR / "ledger.parquet")


def schema_of(root: Path) -> Schema:
    return Schema.from_text((root / SIDECAR / "schema.json").read_text())


def convert(source: vd.Source, target: Path, **options: Any) -> Path:
    vd.run(source, (), vd.open_sink(target, **({"format": "robomimic"} | options)), workers=1)
    return target


@pytest.fixture(scope="module")
def lift(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """robomimic's own file, through us and back to its layout."""
    return convert(hdf5_files.source(hdf5_files.ROBOMIMIC), tmp_path_factory.mktemp("lift") / "set")


@pytest.fixture(scope="module")
def carrots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(vd.open_source(ROLLOUTS), tmp_path_factory.mktemp("carrots") / "set")


# -- content ----------------------------------------------------------------------------------------------


def test_every_dataset_of_a_stock_file_is_there_value_by_value(lift: Path) -> None:
    with h5py.File(hdf5_files.ROBOMIMIC) as stock, h5py.File(lift / FILE) as ours:
        assert ours["data"].attrs["total"] == stock["data"].attrs["total"]
        names = sorted(stock["data"], key=lambda name: int(name[5:]))
        for number, name in enumerate(names):
            demo, made = stock["data"][name], ours[f"data/demo_{number}"]
            assert made.attrs["num_samples"] == demo.attrs["num_samples"]
            for key in ("actions", "rewards", "dones", "states", *(f"obs/{key}" for key in demo["obs"])):
                assert np.array_equal(made[key][:], demo[key][:]), key
                assert key == "dones" or made[key].dtype == demo[key].dtype


def test_stock_file_keeps_its_env_args_and_masks(lift: Path) -> None:
    with h5py.File(hdf5_files.ROBOMIMIC) as stock, h5py.File(lift / FILE) as ours:
        want, found = (json.loads(file["data"].attrs["env_args"]) for file in (stock, ours))
        assert (found["env_name"], found["type"]) == (want["env_name"], want["type"]) == ("Lift", 1)
        assert found["env_kwargs"]["control_freq"] == want["env_kwargs"]["control_freq"] == 20
        order = {name: f"demo_{i}" for i, name in enumerate(sorted(stock["data"], key=lambda n: int(n[5:])))}
        for key in stock["mask"]:
            names = [order[name.decode()] for name in stock["mask"][key][:] if name]
            assert [name.decode() for name in ours["mask"][key][:]] == names
        assert ours["mask"].keys() == stock["mask"].keys()
        assert len(stock["mask/valid"]) == 0


def test_content_survives_the_way_through_lerobot_and_back(lift: Path, tmp_path: Path) -> None:
    over = convert(vd.open_source(f"hdf5:{lift / FILE}"), tmp_path / "over", format="lerobot", images="png")
    back = convert(vd.open_source(f"lerobot:{over}"), tmp_path / "back")
    digests = [[record.content_sha256 for record in ledger_of(root).records] for root in (lift, back)]
    assert digests[0] == digests[1]
    assert None not in digests[0]


def test_rollouts_are_written_as_their_source_reads_them(carrots: Path) -> None:
    source = vd.open_source(ROLLOUTS)
    with h5py.File(carrots / FILE) as file:
        assert file["data"].attrs["total"] == 105
        for number, ref in enumerate(source.episodes()):
            read, demo = source.read(ref), file[f"data/demo_{number}"]
            assert json.loads(demo.attrs["ep_meta"])["lang"] == read.task
            assert np.array_equal(demo["actions"][:], read.arrays["action"])
            assert demo["next/success"].dtype == bool
            images = demo["obs/primary"][:]
            for i in range(len(read)):
                assert np.array_equal(images[i], read.frames[CAMERA].pixels(i))


def test_every_chunk_has_a_checksum(carrots: Path) -> None:
    with h5py.File(carrots / FILE) as file:
        without: list[str] = []
        file.visititems(
            lambda path, item: (
                without.append(path) if isinstance(item, h5py.Dataset) and not item.fletcher32 else None
            )
        )
        assert without == []
        assert file["data/demo_0/obs/primary"].chunks == (1, 120, 160, 3)


def test_same_bytes_for_any_number_of_workers(carrots: Path, tmp_path: Path) -> None:
    vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(tmp_path / "set", format="robomimic"), workers=2)
    assert (tmp_path / "set" / FILE).read_bytes() == (carrots / FILE).read_bytes()


# -- what follows from other features ---------------------------------------------------------------------


def encode(made: Episode, **options: Any) -> tuple[h5py.Group, dict[str, Any]]:
    sink = RobomimicSink(target=Path("unused"), **options)
    features = {
        name: Feature(dtype=str(array.dtype), shape=array.shape[1:] or (1,)) for name, array in made.arrays.items()
    }
    features |= {
        name: Feature(dtype="image", shape=(frames.height, frames.width, 3))
        for name, frames in made.frames.items()
    }
    encoded = sink.encode(made, Schema(features=features, fps=5.0))
    return h5py.File(io.BytesIO(b"".join(map(bytes, encoded.blob))))["demo"], dict(encoded.summary)


def with_arrays(**arrays: Any) -> Episode:
    plain = episode([MOVE, MOVE, MOVE], [0, 1, 0])
    kept = {"action": plain.arrays["action"]}
    return replace(plain, arrays=kept | {name.replace("__", "."): np.asarray(v) for name, v in arrays.items()})


@pytest.mark.parametrize(
    ("arrays", "dones", "rule"),
    [
        ({"next__success": [False, True, False]}, [0, 1, 0], "next.success"),
        (
            {"next__terminated": [0, 1, 0], "next__truncated": [0, 0, 1]},
            [0, 1, 1],
            "next.terminated or next.truncated",
        ),
        ({}, [0, 0, 1], "last step"),
    ],
)
def test_dones_that_nobody_recorded_follow_a_stated_rule(
    arrays: dict[str, Any], dones: list[int], rule: str
) -> None:
    demo, _ = encode(with_arrays(**arrays))
    assert demo["dones"][:].tolist() == dones
    assert demo["dones"].attrs["derived_by"] == rule


def test_rewards_are_never_made_up() -> None:
    assert "rewards" not in encode(with_arrays())[0]
    told = encode(with_arrays(next__success=[False, True, False]))[0]["rewards"]
    assert (told[:].tolist(), told.attrs["derived_by"]) == ([0.0, 1.0, 0.0], "next.success")
    assert dict(encode(with_arrays(next__reward=[0.5, 0.0, 2.0]))[0]["rewards"].attrs) == {}


def test_next_obs_is_the_observation_after_the_action() -> None:
    made = with_arrays(observation__state=[[1.0], [2.0], [3.0]])
    after = Frames((np.full((4, 6, 3), 7, np.uint8),), 4, 6)
    demo, _ = encode(replace(made, final={CAMERA: after}), next_obs=True)
    assert demo["next_obs/state"][:].ravel().tolist() == [2.0, 3.0, 3.0]
    assert demo["next_obs/state"].attrs["last_row"] == "repeated"
    assert np.array_equal(demo["next_obs/primary"][:2], demo["obs/primary"][1:])
    assert (demo["next_obs/primary"][2] == 7).all()
    assert demo["next_obs/primary"].attrs["last_row"] == "seen"


def test_env_args_say_what_is_known_and_no_more() -> None:
    _, facts = encode(with_arrays())
    assert json.loads(facts["env_args"]) == {"env_kwargs": {"control_freq": 5}, "env_name": "", "type": None}
    _, facts = encode(with_arrays(), env_args={"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}})
    assert json.loads(facts["env_args"])["env_kwargs"] == {"control_freq": 5}  # the rate of these steps


def test_masks_of_splits_groups_and_the_source() -> None:
    made = replace(
        with_arrays(), meta={"split": "valid", "masks": ["50_demos", "valid"], "episode_metadata": {"seed": 3}}
    )
    assert encode(made, masks_by=("seed",))[1]["masks"] == ["50_demos", "valid", "seed_3"]
    with pytest.raises(DataError, match="the episode has no scene"):
        encode(made, masks_by=("scene",))


MASKS = {"train": [0, 1], "valid": [2], "better": [1, 3], "20_percent_train": [0], "nobody": []}
"""Filter keys of a file of five demos; two are in neither train nor valid."""


def masked(path: Path) -> Path:
    hdf5_files.robomimic_file(path, demos=tuple(f"demo_{number}" for number in range(5)))
    with h5py.File(path, "r+") as file:
        for key, numbers in MASKS.items():
            file[f"mask/{key}"] = np.array([f"demo_{number}" for number in numbers], dtype="S")
    return path


def masks_in(root: Path) -> dict[str, list[int]]:
    """Mask -> the numbers of its demos in the first file, told by their own values."""
    with h5py.File(root / FILE) as file:
        return {
            key: sorted(round(float(file[f"data/{name.decode()}/obs/mark"][0])) for name in names[:])
            for key, names in file["mask"].items()
        }


@pytest.mark.parametrize("over", [(), ("lerobot",), ("rlds",), ("lerobot", "rlds", "lerobot")])
def test_masks_come_back_over_any_formats(over: tuple[str, ...], tmp_path: Path) -> None:
    path = masked(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        for number, demo in enumerate(file["data"].values()):
            demo["obs/mark"] = np.full(5, float(number))
            demo.attrs["ep_meta"] = json.dumps({"lang": "x"})
    address = f"hdf5:{path}"
    for number, name in enumerate(over):
        options: dict[str, Any] = {"name": "masked", "step_fields": "rlds"} if name == "rlds" else {}
        reading = {"fps": 10} if address.startswith("rlds:") else {}
        made = convert(
            vd.open_source(address, **reading), tmp_path / str(number), format=name, images="png", **options
        )
        address = f"{name}:{made}"
    reading = {"fps": 10} if address.startswith("rlds:") else {}
    back = convert(vd.open_source(address, **reading), tmp_path / "back")
    assert masks_in(back) == {mask_name(key): numbers for key, numbers in MASKS.items()}
    assert damages(back, back) == []


def test_mask_whose_demos_were_not_chosen_stays_and_is_empty(tmp_path: Path) -> None:
    path = masked(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        for number, demo in enumerate(file["data"].values()):
            demo["obs/mark"] = np.full(5, float(number))
    back = convert(select(vd.open_source(f"hdf5:{path}", task="x"), "0,3"), tmp_path / "back")
    assert masks_in(back) == {"train": [0], "valid": [], "better": [3], "20_percent_train": [0], "nobody": []}


def test_origin_goes_with_the_file(tmp_path: Path) -> None:
    libero = vd.open_source(hdf5_files.LIBERO)
    made = convert(libero, tmp_path / "set")
    again = vd.open_source(f"hdf5:{made / FILE}")
    origin = again.read(again.episodes()[0]).meta["origin"]
    assert origin["id"] == libero.episodes()[0].id
    assert origin["notes"] == list(libero.read(libero.episodes()[0]).notes)
    assert "first_action_dropped" in origin["notes"]
    rules = {key: origin[key] for key in ("image_orientation", "image_orientation_rule", "observation_time")}
    assert rules == {
        "image_orientation": "vflip",
        "image_orientation_rule": "macros_image_convention",
        "observation_time": "after",
    }
    over = convert(again, tmp_path / "over", format="lerobot", images="png")
    third = convert(vd.open_source(f"lerobot:{over}"), tmp_path / "third")
    last = vd.open_source(f"hdf5:{third / FILE}")
    assert last.read(last.episodes()[0]).meta["origin"] == origin


def test_origin_of_a_stranger_is_short_and_plain(tmp_path: Path) -> None:
    told = {"id": "x" * 999, "masks": 3, "deep": {"a": 1}, "notes": ["n" * 999, 4, "kept"], "rule": "a", "odd": []}
    path = hdf5_files.robomimic_file(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["vla_data_origin"] = json.dumps(told)
    origin = hdf5_files.read(path, task="x").meta["origin"]
    assert origin == {"masks": 3, "rule": "a", "notes": ["kept"]}
    assert masks_of(vd.EpisodeMeta(origin=origin)) == ([], [])


# -- what the format can't hold ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("observation.z", np.zeros((3, 2), complex), "can't hold observation.z of type complex128"),
        ("observation.z", np.zeros((3, 0)), r"observation.z has the shape \(3, 0\)"),
        ("observation.rgb", np.zeros((3, 4, 4, 3), np.uint8), "observation.rgb would be read as images"),
        ("rewards", np.zeros(3), "no place for an array named rewards"),
        ("obs.state", np.zeros(3), "no place for an array named obs.state"),
        ("observation..z", np.zeros(3), "no place for an array named observation..z"),
        ("observation.t", np.asarray(["a", "\ud800", "c"]), "observation.t has text that is not Unicode"),
    ],
)
def test_refused_by_name(name: str, values: Any, message: str) -> None:
    made = with_arrays()
    with pytest.raises(DataError, match=message):
        encode(replace(made, arrays={**made.arrays, name: values}))


def test_features_that_would_be_one_are_refused() -> None:
    with pytest.raises(DataError, match="two features would be obs/primary"):
        encode(with_arrays(observation__primary=[0.0, 1.0, 2.0]))
    with pytest.raises(DataError, match="obs/a would be a group and a feature"):
        encode(with_arrays(observation__a=[0, 1, 2], observation__a__b=[0, 1, 2]))


def test_types_keep_themselves() -> None:
    arrays = {
        "observation__depth": np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5),
        "observation__half": np.asarray([0.5, np.nan, np.inf], np.float16),
        "observation__big": np.asarray([1, 2, 3], ">i4"),
        "task": np.asarray(["hinauf", "grün", ""]),
    }
    demo, _ = encode(with_arrays(**arrays))
    assert demo["obs/depth"].dtype == np.uint16
    assert np.array_equal(demo["obs/depth"][:], arrays["observation__depth"])
    assert np.array_equal(demo["obs/half"][:], arrays["observation__half"], equal_nan=True)
    assert (demo["obs/big"].dtype.str, demo["obs/big"][:].tolist()) == ("<i4", [1, 2, 3])
    assert [text.decode() for text in demo["task"][:]] == ["hinauf", "grün", ""]


names = st.lists(
    st.sampled_from(["action", "next", "observation", "images", "states", "obs", "reward", "a", "b"]),
    min_size=1,
    max_size=4,
)


@given(st.lists(st.tuples(names.map(".".join), st.booleans()), unique=True))
def test_names_come_back_or_are_refused(features: list[tuple[str, bool]]) -> None:
    placed: dict[tuple[str, bool], str] = {}
    for name, images in features:
        try:
            placed[name, images] = path_of(name, images=images)
        except DataError:
            continue
        assert name_of(placed[name, images], images=images) == name
    if len(set(placed.values())) < len(placed):
        with pytest.raises(DataError):
            check_paths(placed.values())


@given(st.text(max_size=12), st.text(max_size=12))
def test_mask_names_are_links_of_their_own(a: str, b: str) -> None:
    assert (mask_name(a) == mask_name(b)) == (a == b)
    with h5py.File("names", "w", driver="core", backing_store=False) as file:
        file.create_group(mask_name(a))
        assert list(file) == [mask_name(a)]


# -- damage -----------------------------------------------------------------------------------------------


def published(sink: RobomimicSink) -> tuple[list[Published], Schema]:
    source = vd.open_source(ROLLOUTS)
    out = []
    for ref in source.episodes():
        read = source.read(ref)
        encoded = sink.encode(read, source.schema(read))
        blob = b"".join(map(bytes, encoded.blob))
        digest = hashlib.sha256(blob).hexdigest()
        out.append(Published(ref.id, encoded.content, encoded.summary, digest, partial(bytes, blob)))
    return out, source.schema(read)


def test_check_finds_each_change(tmp_path: Path) -> None:
    sink = RobomimicSink(target=tmp_path / "set", masks_by=("info_timing",))
    episodes, schema = published(sink)
    sink.assemble(episodes, schema, tmp_path)
    sink.check(tmp_path, episodes)
    whole = (tmp_path / FILE).read_bytes()

    def after(change: Any) -> str:
        (tmp_path / FILE).write_bytes(whole)
        with h5py.File(tmp_path / FILE, "r+") as file:
            change(file)
        with pytest.raises(VerifyError) as caught:
            sink.check(tmp_path, episodes)
        return caught.value.message

    def value(file: h5py.File) -> None:
        file["data/demo_1/actions"][3, 2] += 1e-6

    def attribute(file: h5py.File) -> None:
        file["data/demo_1"].attrs["num_samples"] = 5

    def swap(file: h5py.File) -> None:
        file.move("data/demo_0", "x")
        file.move("data/demo_1", "data/demo_0")
        file.move("x", "data/demo_1")

    def mask(file: h5py.File) -> None:
        (key,) = file["mask"]
        file["mask"][key][0] = b"demo_2"

    assert "actions of demo_1 is not what was written" in after(value)
    assert "an attribute of demo_1 is not what was written" in after(attribute)
    assert "demo_0 is not what was written" in after(swap)
    assert "the masks are not what was written" in after(mask)
    assert "has other groups" in after(lambda file: file.create_group("more"))
    assert "total or env_args" in after(lambda file: file["data"].attrs.modify("total", 4))
    assert "has 2 demos, not 3" in after(lambda file: file.__delitem__("data/demo_2"))
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VerifyError, match="can't be read back"):
        sink.check(tmp_path, episodes)


def test_no_flipped_bit_of_the_data_is_missed(carrots: Path, tmp_path: Path) -> None:
    """Fletcher-32 of HDF5, as any reader computes it."""
    whole = (carrots / FILE).read_bytes()
    places: list[tuple[int, int]] = []
    with h5py.File(carrots / FILE) as file:
        for key in ("actions", "dones", "obs/primary", "next/success"):
            file[f"data/demo_0/{key}"].id.chunk_iter(lambda chunk: places.append((chunk.byte_offset, chunk.size)))
    for number, (at, size) in enumerate(places):
        damaged = bytearray(whole)
        damaged[at + (number * 7919) % size] ^= 1 << number % 8
        (tmp_path / FILE).write_bytes(damaged)
        problems = damages(carrots, tmp_path)
        assert problems, f"byte {at} of chunk {number}"


def damages(original: Path, root: Path) -> list[str]:
    out: list[str] = []
    audit = RobomimicAudit(
        root, ledger_of(original), schema_of(original), lambda file, problem, *_: out.append(problem)
    )
    audit.run()
    return out


def test_examine_is_content_with_what_we_write(lift: Path, carrots: Path) -> None:
    for root, episodes, frames in ((lift, 2, None), (carrots, 3, 105)):
        blamed: list[Any] = []
        facts = RobomimicAudit(root, ledger_of(root), schema_of(root), lambda *what: blamed.append(what)).run()  # noqa: B023
        assert blamed == []
        assert facts["episodes"] == episodes
        assert frames is None or facts["frames"] == frames


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda f: f["data/demo_0"].attrs.modify("num_samples", 3),
            "says num_samples 3, but a dataset",
        ),
        (lambda f: f["data/demo_0"].attrs.modify("vla_data_id", "b"), "says that it is b"),
        (lambda f: f["data/demo_0"].attrs.modify("ep_meta", '{"lang": "x"}'), "another content"),
        (lambda f: f["data"].attrs.modify("env_args", "{}"), "control_freq None, not 5"),
        (lambda f: f["data"].attrs.modify("total", 1), "total is 1, not 105"),
        (lambda f: f.__delitem__("data/demo_1"), "has 2 demos, not demo_0 to demo_2"),
        (lambda f: f.__delitem__("data/demo_0/next/success"), "another content"),
        (
            lambda f: f["data/demo_0"].create_dataset("more", data=np.zeros(32)),
            "another content",
        ),
        (
            lambda f: f.__setitem__("mask/train", np.asarray(["demo_9"], "S")),
            "mask train names a demo twice or one",
        ),
        (
            lambda f: f.__setitem__("data/demo_0/link", h5py.ExternalLink("/etc/passwd", "/")),
            "link to another file",
        ),
    ],
)
def test_examine_names_what_is_wrong(carrots: Path, tmp_path: Path, change: Any, problem: str) -> None:
    (tmp_path / FILE).write_bytes((carrots / FILE).read_bytes())
    with h5py.File(tmp_path / FILE, "r+") as file:
        change(file)
    assert any(problem in line for line in damages(carrots, tmp_path)), damages(carrots, tmp_path)


@pytest.mark.parametrize("failing", [1, 3, 40])
def test_failing_disk_is_told_once_and_nothing_is_published(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = 0

    def fail(name: str, path: Path) -> None:
        nonlocal seen
        if name == "write" and path.name == FILE:
            seen += 1
            if seen >= failing:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(job_io, "hook", fail)
    with pytest.raises(MachineError) as caught:
        convert(vd.open_source(ROLLOUTS), tmp_path / "set")
    assert caught.value.code == "E701"
    assert seen == failing  # HDF5 was not let try again
    assert not (tmp_path / "set").exists()
    monkeypatch.setattr(job_io, "hook", None)
    convert(vd.open_source(ROLLOUTS), tmp_path / "set")
    assert capfd.readouterr().err == ""
