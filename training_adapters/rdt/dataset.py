"""RDT's batches from any source, as a PyTorch dataset. PyTorch is only imported here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from converters.rdt import config as rdt_config
from converters.rdt.sample import Rules, sample, state_only
from training_adapters.rdt.episodes import Episodes
from training_adapters.rdt.item import SIGLIP_MEAN, SIGLIP_SIZE, Hiding, item
from vla_data.core import Source
from vla_data.errors import UsageError

Pixels = NDArray[np.uint8]


class RdtDataset(torch.utils.data.Dataset):  # type: ignore[misc, type-arg, unused-ignore]
    """Every step that RDT trains on, by number; shuffled evenly that is how RDT draws them.

    Items and batches have the keys and shapes of RDT's ``VLAConsumerDataset`` and its collator. What is drawn for
    step ``i`` in epoch ``e`` follows from (``seed``, ``e``, ``i``); call `set_epoch` before each epoch.

    Args:
        source: any source.
        name: of the dataset.
        rules: how samples are cut.
        hiding: what samples are stripped of at random.
        seed: of these draws.
        stat: the dataset's entry of ``dataset_stat.json``; None: counted here.
        process_image: from (side, side, 3) uint8 RGB to a tensor: RDT's image processor. None: (3, side, side)
            uint8, for images that padded to a square are of one size.
        tokenize: from the instruction to a tensor of token ids; None: batches have ``instructions``.
        pad_token_id: that fills short ones.
        image_mean: the image processor's, from 0 to 1.
        image_size: side of the background image, which is in the place of a camera that is missing or hidden.
            None: SigLIP's 384 for ``process_image``, without one that of the other images.
        **options: of `converters.rdt.sample.trajectory`.

    Raises:
        UsageError: E232 when images are of several sizes, or not of ``image_size``, and there is no
            ``process_image``.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str,
        rules: Rules | None = None,
        hiding: Hiding | None = None,
        seed: int = 0,
        stat: Mapping[str, Any] | None = None,
        process_image: Callable[[Pixels], torch.Tensor] | None = None,
        tokenize: Callable[[str], torch.Tensor] | None = None,
        pad_token_id: int = 0,
        image_mean: Sequence[float] = SIGLIP_MEAN,
        image_size: int | None = None,
        **options: Any,
    ) -> None:
        self.name, self.hiding, self.seed, self.epoch = name, hiding or Hiding(), seed, 0
        self.episodes = Episodes(source, rules=rules, **options)
        if stat is None:
            parts = (state_only(self.episodes[i]) for i in range(len(self.episodes)))
            stat = rdt_config.statistics(name, ((part["state"], part["action"]) for part in parts))
        self.stat = stat
        self._process, self._tokenize, self._pad = process_image or _as_tensor, tokenize, pad_token_id
        if process_image is None:
            image_size = _one_size(self.episodes.sides, image_size)
        self._background = (image_mean, SIGLIP_SIZE if image_size is None else image_size)

    def __len__(self) -> int:
        """Steps."""
        return self.episodes.steps

    def set_epoch(self, epoch: int) -> None:
        """Draw anew."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One step, as RDT's ``__getitem__`` gives it."""
        at, step = self.episodes.locate(index)
        mean, size = self._background
        found = item(
            sample(self.episodes[at], step, dataset_name=self.name, rules=self.episodes.rules),
            state_mean=np.asarray(self.stat["state_mean"], dtype=np.float64),
            ctrl_freq=self.episodes.fps,
            hiding=self.hiding,
            rng=np.random.default_rng((self.seed, self.epoch, index)),
            image_mean=mean,
            image_size=size,
        )
        arrays = {key: torch.from_numpy(value) for key, value in found.items() if isinstance(value, np.ndarray)}
        out = {**found, **arrays, "images": [self._process(image) for image in found["images"]]}
        if self._tokenize is not None:
            out["input_ids"] = self._tokenize(found["instruction"])
        return out

    def collate(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch, as RDT's ``DataCollatorForVLAConsumerDataset`` makes it.

        ``states`` (B, 1, 128), ``actions`` (B, chunk, 128), ``state_elem_mask`` and ``state_norm`` (B, 128),
        ``images`` (B, history x 3, ...), ``ctrl_freqs`` (B,), ``data_indices``, and ``input_ids`` with
        ``lang_attn_mask`` (B, L) or ``instructions``.
        """
        keys = ("states", "actions", "state_elem_mask", "state_norm")
        batch: dict[str, Any] = {key: torch.stack([one[key] for one in items]) for key in keys}
        batch["images"] = torch.stack([torch.stack(list(one["images"])) for one in items])
        batch["data_indices"] = [one["data_idx"] for one in items]
        batch["ctrl_freqs"] = torch.tensor([one["ctrl_freq"] for one in items])
        if self._tokenize is None:
            batch["instructions"] = [one["instruction"] for one in items]
            return batch
        ids = [one["input_ids"] for one in items]
        longest = max(len(one) for one in ids)
        batch["input_ids"] = torch.full((len(ids), longest), self._pad, dtype=ids[0].dtype)
        # By length and not by value: a text may hold the padding token.
        batch["lang_attn_mask"] = torch.zeros((len(ids), longest), dtype=torch.bool)
        for row, one in enumerate(ids):
            batch["input_ids"][row, : len(one)] = one
            batch["lang_attn_mask"][row, : len(one)] = True
        return batch


def _one_size(sides: Collection[int], wanted: int | None) -> int | None:
    """The side of all images, the background's included."""
    every = sorted({*sides} if wanted is None else {*sides, wanted})
    if len(every) > 1:
        listed = " and ".join(str(side) for side in every)
        raise UsageError(
            "E232", f"the images of a batch have different sizes ({listed}); give process_image to make them alike"
        )
    return every[0] if every else None


def _as_tensor(image: Pixels) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
