"""From a sample to what RDT's model gets, as ``train/dataset.py`` of thu-ml/RoboticsDiffusionTransformer makes it.

In NumPy. Every draw comes from the generator that is handed in, in a fixed order, so an item depends on its seed
alone and not on which worker makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.rdt.cameras import SLOTS
from vla_data import options as checks

SIGLIP_MEAN: Final = (0.5, 0.5, 0.5)
SIGLIP_SIZE: Final = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class Hiding:
    """What a sample is stripped of at random, so that the model also learns without it.

    Attributes:
        probability: of hiding each of: control frequency (0 then), state (the dataset's mean), the indicator of
            its slots (zeros), each image (background), the instruction ("").
        external: of hiding an image of ``cam_high``; None: as the others.
        snr: signal-to-noise ratio, in dB, of the noise on the state, whose size is the episode's ``state_std``;
            None: no noise.
    """

    probability: float = 0.1
    external: float | None = None
    snr: float | None = 40.0

    def __post_init__(self) -> None:
        checks.number("probability", self.probability, low=0, high=1)
        if self.external is not None:
            checks.number("external", self.external, low=0, high=1)
        if self.snr is not None:
            checks.number("snr", self.snr)


def item(
    sample: Mapping[str, Any],
    *,
    state_mean: NDArray[np.float64],
    ctrl_freq: float,
    data_idx: int = 0,
    hiding: Hiding | None = None,
    rng: np.random.Generator,
    image_mean: Sequence[float] = SIGLIP_MEAN,
    image_size: int = SIGLIP_SIZE,
) -> dict[str, Any]:
    """What the model gets of a sample.

    Args:
        sample: from `converters.rdt.sample.sample`.
        state_mean: ``(128,)`` of the dataset, from ``dataset_stat.json``.
        ctrl_freq: of the dataset, in Hz.
        data_idx: number of the dataset.
        hiding: None: `Hiding()`; ``Hiding(probability=0, snr=None)`` for evaluation.
        rng: of all draws.
        image_mean: the image processor's mean colour, from 0 to 1, which is the background.
        image_size: side of a background image.

    Returns:
        ``dataset_name``, ``data_idx``, ``ctrl_freq``, ``states`` (1, 128), ``actions`` (chunk, 128),
        ``state_elem_mask`` (128,), ``state_norm`` (128,), ``instruction``, and ``images``: history x cameras
        square uint8 RGB images, the older ones first, of each moment in the order of `rdt_cameras.SLOTS`.
    """
    hiding = hiding or Hiding()

    def hidden(probability: float = hiding.probability) -> bool:
        return bool(rng.random() < probability)

    states = np.array(sample["state"], dtype=np.float64)
    known = int(ctrl_freq) if float(ctrl_freq).is_integer() else ctrl_freq
    frequency = 0 if hidden() else known
    if hiding.snr is not None:
        states = states + rng.normal(size=states.shape) * (sample["state_std"] / np.sqrt(10 ** (hiding.snr / 10)))
    if hidden():
        states = np.tile(state_mean, (len(states), 1))
    indicator = np.array(sample["state_indicator"], dtype=np.float64)
    colour = np.array([int(255 * x) for x in image_mean], dtype=np.uint8)
    images = []
    for i in range(len(sample[f"{SLOTS[0]}_mask"])):
        for slot in SLOTS:
            external = hiding.external if slot == SLOTS[0] else None
            gone = hidden(hiding.probability if external is None else external)
            image = sample[slot][i]
            if sample[f"{slot}_mask"][i] and image.size and not gone:
                images.append(square(image, colour))
            else:
                images.append(np.broadcast_to(colour, (image_size, image_size, 3)).copy())
    return {
        "dataset_name": sample["meta"]["dataset_name"],
        "data_idx": data_idx,
        "ctrl_freq": frequency,
        "states": states,
        "actions": np.array(sample["actions"], dtype=np.float64),
        "state_elem_mask": np.zeros_like(indicator) if hidden() else indicator,
        "state_norm": np.array(sample["state_norm"], dtype=np.float64),
        "instruction": "" if hidden() else str(sample["meta"]["instruction"]),
        "images": images,
    }


def square(image: NDArray[np.uint8], colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image in the middle of a square of ``colour``: RDT's ``image_aspect_ratio: pad``."""
    height, width = image.shape[:2]
    side = max(height, width)
    if height == width:
        return image
    out = np.broadcast_to(colour, (side, side, 3)).copy()
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = image
    return out
