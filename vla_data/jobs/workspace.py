"""The hidden folder beside a target in which its parts wait, and the lock on it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vla_data.errors import LockedError, TargetExistsError, UsageError
from vla_data.jobs.io import machine_errors, make_folder, remove_tree, step, sync_folder, sync_tree
from vla_data.safety.text import show


@contextmanager
def workspace(target: Path) -> Iterator[Path]:
    """Hold the work folder of ``target``, ``.<name>.vla-data`` beside it.

    The lock is the kernel's, on the folder itself: it dies with the process and leaves nothing behind.

    Raises:
        LockedError: E801, another run holds it.
        MachineError: the folder can't be written.
    """
    folder = target.parent / f".{target.name}.vla-data"
    with machine_errors("cannot write beside the target"):
        while True:
            make_folder(folder)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise LockedError("E801", f"another run is writing {show(target)}") from None
            if _is_same(handle, folder):
                break
            os.close(handle)  # the run that held it finished and removed it in between
    try:
        yield folder
    finally:
        os.close(handle)


def _is_same(handle: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False


def check_target(target: Path, source: Path | None, *, replace: bool) -> None:
    """Refuse a target that can't be published to, before any work.

    Raises:
        UsageError: E001 when it is the source or inside of it, or not a folder.
        TargetExistsError: E411 when it exists and may not be replaced.
    """
    real = target.resolve()
    if source is not None:
        root = source.resolve()
        if real == root or real.is_relative_to(root) or root.is_relative_to(real):
            raise UsageError("E001", f"the target {show(target)} and the input lie inside one another")
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise TargetExistsError("E411", f"{show(target)} exists and is not a folder")
    if target.exists() and any(target.iterdir()):
        if not replace:
            raise TargetExistsError("E411", f"{show(target)} exists; --replace replaces it")
        if not is_ours(target):
            raise TargetExistsError("E411", f"{show(target)} was not made by vla-data; it is not replaced")


def is_ours(folder: Path) -> bool:
    """Whether a folder is a dataset of ours, and so may be replaced when asked."""
    for side in ("meta/vla_data", "vla_data", "."):
        try:
            manifest = json.loads((folder / side / "manifest.json").read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(manifest, dict) and {"format_version", "recipe_digest"} <= manifest.keys():
            return True
    return False


def publish(staging: Path, target: Path) -> None:
    """Make ``staging`` the target by one rename, after everything in it is on the disk.

    An old target is moved aside first and removed last.
    """
    with machine_errors("cannot publish"):
        sync_tree(staging)
        old = staging.with_name("replaced")
        if target.exists():
            remove_tree(old)
            step("rename", old)
            os.rename(target, old)
        step("rename", target)
        os.rename(staging, target)
        sync_folder(target.parent)
        remove_tree(old)
