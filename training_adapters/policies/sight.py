"""What cameras show of what a prompt asks for: a few points of each image, and the place that they say.

Each camera has a small convolutional network. Queries made of the prompt's words weigh its features by a softmax
over the image (spatial softmax: S. Levine et al., 2016, https://arxiv.org/abs/1504.00702), which gives each query
a point and how sure it is. A pointer says from all points, in metres, where the block is that the prompt names.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

_CHANNELS, _FEATURES, _QUERIES = 16, 24, 4
_SHARP: Final = 4.0  # the weights over an image begin sharp, so that a query has a point early in training
_HIDDEN: Final = 64
_PLACE: Final = 0.1  # metres; of the pointer's numbers


class Sight(nn.Module):
    """See the module.

    Args:
        cameras: how many.
        size: height and width of their images.
        words: numbers of the vocabulary, with 0 for no word.
        width: of a word's vector.

    Attributes:
        width: numbers of what it says.
    """

    def __init__(self, cameras: int, size: int, words: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.look = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, _CHANNELS, 5, 2, 2), nn.ReLU(), nn.Conv2d(_CHANNELS, _FEATURES, 1))
            for _ in range(cameras)
        )
        self.ask = nn.Linear(width, cameras * _QUERIES * _FEATURES)
        self.sharp = nn.Parameter(torch.tensor([_SHARP]))
        self.width = width + cameras * _QUERIES * 3
        self.point = nn.Sequential(nn.Linear(self.width, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 3))
        line = torch.linspace(-1, 1, (size + 1) // 2)
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).flatten(0, 1)
        self.register_buffer("_grid", grid, persistent=False)

    def forward(self, images: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """What is seen ``(B, width)``, and the pointer ``(B, 3)`` in metres.

        Args:
            images: ``(B, cameras, size, size, 3)`` uint8.
            words: ``(B, W)`` numbers of the vocabulary.
        """
        text = (self.words(words) * (words > 0)[..., None]).sum(dim=1)
        queries = self.ask(text).view(len(text), len(self.look), _QUERIES, _FEATURES)
        seen = [text]
        for number, look in enumerate(self.look):
            image = images[:, number].permute(0, 3, 1, 2).to(text.dtype) / 127.5 - 1
            weight = (self.sharp * (queries[:, number] @ look(image).flatten(2))).softmax(dim=-1)
            seen += [2 * (weight @ self._grid).flatten(1), weight.amax(dim=-1)]
        out = torch.cat(seen, dim=1)
        return out, _PLACE * self.point(out)
