"""Features that are declared before anything is recorded, and whether each is one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vla_data.actions.convention import Convention
from vla_data.core import Feature
from vla_data.errors import DataError, RecordError, UsageError
from vla_data.media.images import MAX_SIDE
from vla_data.recording.columns import FLAGS, NUMBERS, is_camera
from vla_data.recording.recorded import check_name


def check_features(features: Mapping[str, Any] | None) -> dict[str, Feature]:
    """A copy of declared features.

    Raises:
        RecordError: E203 for a name, type or shape that no recorded feature has, E232 for no convention.
    """
    out = dict(features or {})
    for name, feature in out.items():
        try:
            check_name(name)
        except DataError as error:
            raise RecordError(error.code, f"features: {error.message}") from None
        if not isinstance(feature, Feature):
            raise RecordError("E203", f"features: {name} is a {type(feature).__name__}, not a vla_data.Feature")
        _check(name, feature)
    return out


def _check(name: str, feature: Feature) -> None:
    shape = feature.shape
    if feature.dtype not in (*NUMBERS, "image", "string"):
        kinds = ", ".join((*NUMBERS, "image", "string"))
        raise RecordError("E203", f"features: {name} has dtype {feature.dtype!r}, not one of {kinds}")
    if not all(type(n) is int and n > 0 for n in shape):
        raise RecordError("E203", f"features: {name} has shape {shape}; sizes are whole numbers from 1")
    is_image = feature.dtype == "image"
    if is_image != is_camera(name) and (is_camera(name) or not name.startswith("observation.")):
        what = (
            "is an image by its name"
            if is_camera(name)
            else "can't be an image; observation.images.<camera> is one"
        )
        raise RecordError("E203", f"features: {name} of dtype {feature.dtype} {what}")
    if is_image and (len(shape) != 3 or shape[2] != 3 or max(shape) > MAX_SIDE):
        raise RecordError("E203", f"features: {name} has shape {shape}, not (height, width, 3)")
    if feature.dtype == "string" and shape not in ((), (1,)):
        raise RecordError("E203", f"features: {name} has shape {shape}; a step has one text")
    if name in FLAGS and (feature.dtype != "bool" or shape not in ((), (1,))):
        raise RecordError("E203", f"features: {name} is {feature.dtype}{shape}, not one True or False a step")
    try:
        json.dumps(feature.to_json(), allow_nan=False)
        if feature.convention and not is_image:
            Convention.from_json(feature.convention)
    except (TypeError, ValueError) as error:
        raise RecordError(
            "E203", f"features: the convention of {name} can't be written as JSON ({error})"
        ) from None
    except UsageError as error:
        raise RecordError(error.code, f"features: {name}: {error.message}") from None
