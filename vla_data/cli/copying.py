"""Options of a LeRobot dataset that is made of one with video: what is video there stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from vla_data.cli.options import changed
from vla_data.core import Source
from vla_data.core.curate import Step
from vla_data.media.video_settings import ENCODED
from vla_data.selection.videos import videos_after


def as_video(options: dict[str, Any], source: Source, steps: Sequence[Step]) -> dict[str, Any]:
    """Options of the LeRobot sink by which videos of the source are copied, unless the user says how images are
    encoded: ``--images``, or ``--crf``, ``--gop`` or ``--preset`` of a video. ``--video`` alone copies those of
    its codec.

    Args:
        options: as `vla_data.cli.options.lerobot_options` gives them.
        source: of the run.
        steps: of the run.
    """
    if changed(click.get_current_context(), dict.fromkeys(("images", "crf", "gop", "preset"))):
        return options
    found, settings = videos_after(source, steps), options.get("video")
    if found is not None and any(own.codec not in ENCODED for _, own in found.cameras):
        return options  # steps may leave what can't be copied
    if found is None or settings is None:
        return options if found is None else {**options, "video": found}
    same = tuple((name, own) for name, own in found.cameras if own.codec == settings.codec)
    stated = tuple(name for name, _ in same if name in found.stated)
    return {**options, "video": replace(found, cameras=same, others=settings, stated=stated)} if same else options
