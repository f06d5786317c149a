"""A file that a command was asked for, which replaces nothing unless that was asked for, too."""

from __future__ import annotations

from pathlib import Path

from vla_data.errors import TargetExistsError
from vla_data.files.write import Piece, machine_errors, make_folder, write_file
from vla_data.safety.text import show


def write_result(path: Path, data: Piece, what: str, *, replace: bool) -> None:
    """Write a whole file, and the folders that lead to it.

    Args:
        path: the file.
        data: its content.
        what: it is, for messages.
        replace: whether a file of that name may be replaced. Otherwise what comes there at the last moment stays.

    Raises:
        TargetExistsError: E411, something is there.
        MachineError: the disk refuses.
    """
    with machine_errors(f"cannot write {what}"):
        make_folder(path.parent)
        try:
            write_file(path, data, new=not replace)
        except FileExistsError:
            raise TargetExistsError("E411", f"{show(path)} exists; --replace replaces it") from None
