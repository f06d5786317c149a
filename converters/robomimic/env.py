"""``env_args``: what a robomimic file says of the environment that its demos are from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from converters.robomimic.file import attribute
from vla_data.core import Episode, Json, Schema
from vla_data.errors import DataError, UsageError
from vla_data.safety import strict_json


def env_args(episode: Episode, schema: Schema, declared: Mapping[str, Json] | None) -> str:
    """``env_args`` as one line of JSON: declared, or the source's own, or what is known.

    ``control_freq`` is the rate of these steps, whatever the source's was. ``type`` is null where nobody says
    which simulator it was; robomimic needs it to make the environment, and not to train.
    """
    args: dict[str, Any] | None = dict(declared) if declared is not None else _of_source(episode)
    if args is None:
        known: dict[str, Json] = {"robots": schema.robot} if schema.robot else {}
        if episode.meta.controller is not None:
            known["controller_configs"] = dict(episode.meta.controller)
        args = {"env_name": str(episode.meta.env or ""), "type": None, "env_kwargs": known}
    kwargs = dict(args.get("env_kwargs") or {})
    rate = int(schema.fps) if schema.fps == int(schema.fps) else schema.fps
    if kwargs.get("control_freq") != rate:
        kwargs["control_freq"] = rate
    return attribute("env_args", json.dumps({**args, "env_kwargs": kwargs}, sort_keys=True))


def _of_source(episode: Episode) -> dict[str, Json] | None:
    of_file = (episode.meta.episode_metadata or {}).get("file")
    value: Any = episode.meta.env_args or (of_file.get("env_args") if isinstance(of_file, Mapping) else None)
    if isinstance(value, str):
        try:
            value = strict_json.loads(value.encode("utf-8", "replace"), name="env_args")
        except (DataError, UsageError):  # the source said what it is worth
            return None
    good = isinstance(value, Mapping) and {"env_name", "env_kwargs"} <= value.keys()
    return dict(value) if good and isinstance(value["env_kwargs"], Mapping) else None
