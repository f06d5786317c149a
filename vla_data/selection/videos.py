"""How the cameras of a source are encoded, under the names that they have after steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from vla_data.core import Source
from vla_data.core.base import whole
from vla_data.core.curate import Step
from vla_data.core.wanted import name_after
from vla_data.errors import UsageError
from vla_data.media.video_settings import VideoCopy


def videos_after(source: Source, steps: Sequence[Step]) -> VideoCopy | None:
    """The cameras that are video in a source and not dropped by steps; None where there are none, or where one has
    a codec that is not written.
    """
    found: VideoCopy | None = None
    with suppress(UsageError):
        found = whole(source).videos()
    if found is None:
        return None
    names = {old: new for old, _ in found.cameras if (new := name_after(old, steps)) is not None}
    cameras = tuple((names[old], settings) for old, settings in found.cameras if old in names)
    stated = tuple(names[old] for old in found.stated if old in names)
    return VideoCopy(cameras=cameras, stated=stated) if cameras else None


def together(sources: Iterable[tuple[Source, Sequence[Step]]]) -> VideoCopy | None:
    """Those of several sources, each after its steps: where two have one camera, as the first has it."""
    every = [found for source, steps in sources if (found := videos_after(source, steps)) is not None]
    cameras = {name: settings for found in reversed(every) for name, settings in found.cameras}
    unlike = {
        name
        for found in every
        for name, settings in found.cameras
        if settings != cameras[name] or name not in found.stated
    }
    ordered = dict.fromkeys(name for found in every for name, _ in found.cameras)
    pairs = tuple((name, cameras[name]) for name in ordered)
    return VideoCopy(cameras=pairs, stated=tuple(n for n in ordered if n not in unlike)) if pairs else None
