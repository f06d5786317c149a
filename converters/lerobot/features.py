"""The columns and videos of one episode as arrays and images, with a note of what is left out or was chosen."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from converters.lerobot import depth, images, language, meta, subtasks, totals, values
from converters.lerobot.layout import Layout, Place, Track
from converters.lerobot.names import element_names
from vla_data.core import Array
from vla_data.errors import DataError
from vla_data.media.frames import Frames
from vla_data.safety.files import read_file
from vla_data.safety.text import show


class Contents:
    """What an episode holds, column by column.

    Attributes:
        arrays: name -> array.
        frames: name -> images.
        notes: for `vla_data.core.Episode.notes`.

    Args:
        layout: of the dataset.
        is_left_out: whether nobody wants a feature.
        time: ``(T,)`` seconds, of each row.
    """

    def __init__(self, layout: Layout, is_left_out: Callable[[str], bool], time: NDArray[np.float64]) -> None:
        self._time = time
        self.arrays: dict[str, Array] = {}
        self.frames: dict[str, Frames] = {}
        self.notes: list[str] = []
        self._layout, self._is_left_out = layout, is_left_out

    def _declared(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._layout.info["features"].get(name, {})
        return found

    def add_missing(self, table: pa.Table, place: Place) -> None:
        """Notes on what is declared and neither a column nor a video."""
        for name, feature in self._layout.info["features"].items():
            if name in meta.INDEX_FEATURES or name in table.column_names or name in place.videos:
                continue
            if self._is_left_out(name):
                self.notes.append(f"left_out:{name}")
            elif feature.get("dtype") == "video":
                if not meta.NAME.fullmatch(name):
                    way = values.way_out(name)
                    raise DataError(
                        "E122", f"a camera is named {show(name)[:80]}, which can't be the name of a folder; {way}"
                    )
                self.notes.append(f"no_video_of:{name}")
            else:
                self.notes.append(f"no_column_of:{name}")

    def add(self, name: str, column: pa.ChunkedArray) -> None:
        """A column of the data file.

        Raises:
            DataError: it can't be read as what it is declared as; see `converters.lerobot.values` and ``images``.
        """
        declared, kind = self._declared(name), values.plain_type(column.type)
        if self._is_left_out(name):
            self.notes.append(f"left_out:{name}")
        elif name == "task":
            self.notes.append(f"task_column_left_out:{name}")
        elif declared.get("dtype") == totals.LANGUAGE and name in language.COLUMNS:
            self.arrays[name], notes = language.read(column, name, self._time)
            self.notes += notes
        elif declared.get("dtype") == totals.LANGUAGE:
            self.notes.append(f"language_left_out:{name}")
        elif images.is_image(kind, declared, column) and depth.is_tiff(column):
            self.arrays[name] = depth.from_images(column, name, self._file)
        elif images.is_image(kind, declared, column):
            self.frames[name] = images.encoded(column, name, self._file)
        elif values.holds_array(kind):
            self._add_array(name, column, declared)
        elif declared.get("dtype") == "video":  # where earlier versions had the file and the time of each frame
            self.notes.append(f"no_video_of:{name}")
        elif declared:
            what = "no value in any row" if pa.types.is_null(kind) else f"{kind}: neither numbers, text nor images"
            raise DataError("E203", f"{show(name)} has {show(what)[:200]}; {values.way_out(name)}")
        else:
            self.notes.append(f"column_left_out:{name}")

    def _add_array(self, name: str, column: pa.ChunkedArray, declared: Mapping[str, Any]) -> None:
        if images.is_pixels(column.type, name, declared):
            array, notes = values.array_of(column, name, {**declared, "dtype": None})
            frames, more = images.pixels_of(array, name, declared)
            if frames is not None:
                self.frames[name] = frames
                self.notes += [*notes, *more]
                return
        array, notes = values.array_of(column, name, declared)
        self.arrays[name] = array
        self.notes += notes
        names = declared.get("names")
        if names and element_names(names, array.shape[1:] or (1,)) is None:
            self.notes.append(f"names_left_out:{name}")

    def add_subtasks(self) -> None:
        """The numbers of a table of subtasks, as lerobot 0.4.4 has it, become the texts that it has for them.

        Raises:
            DataError: E206 for a number that the table does not have.
        """
        numbers, table = self.arrays.get(subtasks.INDEX), self._layout.subtasks
        if numbers is None or not table or subtasks.TEXT in {*self.arrays, *self.frames}:
            return
        del self.arrays[subtasks.INDEX]
        if self._is_left_out(subtasks.TEXT):
            self.notes.append(f"left_out:{subtasks.TEXT}")
            return
        self.arrays[subtasks.TEXT] = subtasks.texts(numbers, table)
        self.notes.append(f"subtasks_as_text:{subtasks.INDEX}")

    def add_video(self, camera: str, track: Track, number: int) -> None:
        """A camera's video.

        Args:
            camera: the feature.
            track: where the episode is in which file.
            number: of the episode.

        Raises:
            DataError: see `converters.lerobot.video`.
        """
        from converters.lerobot import video  # loads a video library, which images need not

        fps = float(self._layout.info["fps"])
        try:
            path = self._layout.files.path(track.file)
            declared = self._declared(camera)
            if depth.has_levels(declared):
                self.arrays[camera], notes = video.read_depth(path, camera, track, self._time, fps, declared)
            else:
                frames, notes = video.read(path, camera, track, self._time, fps, declared)
                stats = functools.partial(self._layout.camera_stats.of, number, camera)
                self.frames[camera] = replace(frames, stats=stats)
        except DataError as error:
            way = "" if "--drop" in error.message else f"; {values.way_out(camera)}"
            raise DataError(error.code, error.message + way) from None
        self.notes += notes

    def _file(self, path: str) -> bytes:
        root: Path = self._layout.root
        return read_file(self._layout.files.path(path), root=root)[0]
