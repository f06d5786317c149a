"""RDT's PyTorch dataset with nothing but its defaults."""

from __future__ import annotations

from tests.converters.rdt.test_sink import with_torch
from tests.hdf5_files import LIBERO

DEFAULTS = """
import torch
import vla_data as vd
from converters.rdt.sample import Rules
from torch.utils.data import DataLoader
from training_adapters.rdt import Hiding, RdtDataset
from vla_data.errors import UsageError

source = vd.open_source(sys.argv[1], layout="libero")
rules = Rules(shortest=4)
def shape(**options):
    made = RdtDataset(source, name="libero", rules=rules, **options)
    (batch,) = DataLoader(made, batch_size=len(made), collate_fn=made.collate)
    return batch["images"]

side = source.schema(source.read(source.episodes()[0])).features["observation.images.agentview_rgb"].shape[0]
images = shape(hiding=Hiding(probability=0.5))  # there is no third camera, and half of the others are hidden
assert images.shape[1:] == (6, 3, side, side), (images.shape, side)
assert (images[:, [2, 5]] == 127).all()
assert torch.equal(images, shape(hiding=Hiding(probability=0.5), image_size=side))
small = lambda image: torch.from_numpy(image[:16, :16].copy()).permute(2, 0, 1)
assert shape(process_image=small).shape[1:] == (6, 3, 16, 16)
seen = set()
shape(process_image=lambda image: seen.add(image.shape) or small(image))
assert seen == {(side, side, 3), (384, 384, 3)}, seen
try:
    shape(image_size=384)
except UsageError as error:
    print(error)
"""


def test_defaults_make_batches_of_libero() -> None:
    """LIBERO has two cameras, RDT three: the third is background of the others' size."""
    said = with_torch(DEFAULTS, str(LIBERO)).strip()
    assert said.startswith("E232 not-convertible: the images of a batch have different sizes")
    assert said.endswith("and 384); give process_image to make them alike")
