"""Cuts small files from the real ones: ``python make.py SHARED_DATA``. See README.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).parent
SIDE = 4  # every fourth pixel of a row and of a column


def copy(source: h5py.Group, target: h5py.Group, rows: slice, *, more: tuple[str, ...] = ()) -> None:
    """Rows of every dataset below a group; one row more for those whose path begins with a name in ``more``."""

    def visit(name: str, item: h5py.HLObject) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        stop = rows.stop + int(name.startswith(more)) if more else rows.stop
        data = item[rows.start : stop]
        if data.dtype == np.uint8 and data.ndim == 4:
            data = np.ascontiguousarray(data[:, ::SIDE, ::SIDE])
            target.create_dataset(name, data=data, compression="gzip", compression_opts=9)
        else:
            target.create_dataset(name, data=data)

    source.visititems(visit)
    for name, value in source.attrs.items():
        target.attrs[name] = value[:9000] if isinstance(value, str) else value


def demos(source: Path, target: Path, rows: dict[str, slice]) -> None:
    with h5py.File(source) as old, h5py.File(target, "w", libver="latest") as new:
        data = new.create_group("data")
        for name, value in old["data"].attrs.items():
            data.attrs[name] = value
        data.attrs["total"] = sum(r.stop - r.start for r in rows.values())
        if "num_demos" in data.attrs:
            data.attrs["num_demos"] = len(rows)
        for name, cut in rows.items():
            copy(old["data"][name], data.create_group(name), cut)
            data[name].attrs["num_samples"] = cut.stop - cut.start
        if "mask" in old:
            mask = new.create_group("mask")
            mask.create_dataset("train", data=np.array(list(rows), dtype="S6"))
            mask.create_dataset("valid", data=np.array([]))  # as robomimic writes it


def trajectories(source: Path, target: Path, rows: dict[str, slice]) -> None:
    about = json.loads(source.with_suffix(".json").read_text())
    with h5py.File(source) as old, h5py.File(target, "w", libver="latest") as new:
        for name, cut in rows.items():
            copy(old[name], new.create_group(name), cut, more=("obs/", "env_states/"))
    wanted = {int(name.removeprefix("traj_")): cut.stop - cut.start for name, cut in rows.items()}
    about["episodes"] = [
        {**episode, "elapsed_steps": wanted[episode["episode_id"]]}
        for episode in about["episodes"]
        if episode["episode_id"] in wanted
    ]
    target.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


def episode(source: Path, target: Path, rows: slice) -> None:
    with h5py.File(source) as old, h5py.File(target, "w", libver="latest") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        new["action"] = old["action"][rows]
        new["observations/qpos"] = old["observations/qpos"][rows]
        files = old["observations/images/cam_high"][rows]
        new["observations/images/cam_high"] = files.astype(f"S{max(map(len, files)) + 7}")
        for name in ("cam_left_wrist", "cam_right_wrist"):
            new[f"observations/images/{name}"] = new["observations/images/cam_high"]


def poses(source: Path, target: Path) -> None:
    """Joints and end effector of whole demos, without their images: an arm must move to be told."""
    with h5py.File(source) as file:
        arrays = {
            f"{name}/{key}": demo["obs"][key][()].astype(np.float32)
            for name, demo in file["data"].items()
            for key in ("joint_states", "ee_pos", "ee_ori")
        }
    np.savez_compressed(target, **arrays)


def main(shared: Path) -> None:
    # The last steps, so that the end of an episode is as the recorder left it.
    demos(
        shared / "libero/libero_spatial0_demo.hdf5",
        HERE / "libero_spatial0_demo.hdf5",
        {"demo_0": slice(81, 93), "demo_2": slice(35, 45), "demo_3": slice(83, 93)},
    )
    poses(shared / "libero/libero_spatial0_demo.hdf5", HERE / "libero_spatial0_poses.npz")
    demos(
        shared / "robosuite/rs141_Lift_image_128.hdf5",
        HERE / "robomimic_lift.hdf5",
        {"demo_1": slice(31, 43), "demo_2": slice(0, 8)},
    )
    trajectories(
        shared / "maniskill/PickCube_rgb_pd_ee_delta_pose.h5",
        HERE / "maniskill_PickCube.h5",
        {"traj_0": slice(62, 74), "traj_2": slice(42, 50)},
    )
    episode(shared / "aloha/episode_0.hdf5", HERE / "aloha_episode_0.hdf5", slice(60, 66))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
