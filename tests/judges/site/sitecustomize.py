"""For interpreters of trainers: a torchvision for CUDA can be imported beside a PyTorch without it.

That torchvision looks for two operators by their names when it is loaded, which its library defines where there is
CUDA; nothing here uses them.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any


class Names:
    """Defines the names before torchvision is imported."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        import torch

        try:
            plain = "+" not in version("torchvision")
        except PackageNotFoundError:
            return
        if plain and torch.version.cuda is None:
            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            kept.append(self)


kept: list[Any] = []
sys.meta_path.insert(0, Names())  # type: ignore[arg-type]
