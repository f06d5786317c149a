"""Formats, trainers, datasets and engines by name, and what opens an address."""

from vla_data.formats.detection import beside, detect
from vla_data.formats.open import (
    find,
    locate,
    names_code,
    open_sink,
    open_source,
    parse_address,
    place_sink,
    storage_of,
)
from vla_data.formats.rows import Format, Trainer
from vla_data.formats.tables import (
    BUILDERS,
    ENGINES,
    FORMATS,
    TOKENIZERS,
    TRAINERS,
    load_builder,
    load_engine,
    load_module,
    load_part,
    load_tokenizer,
    load_trainer,
    trainer,
    trainers,
)

__all__ = [
    "BUILDERS",
    "ENGINES",
    "FORMATS",
    "TOKENIZERS",
    "TRAINERS",
    "Format",
    "Trainer",
    "beside",
    "detect",
    "find",
    "load_builder",
    "load_engine",
    "load_module",
    "load_part",
    "load_tokenizer",
    "load_trainer",
    "locate",
    "names_code",
    "open_sink",
    "open_source",
    "parse_address",
    "place_sink",
    "storage_of",
    "trainer",
    "trainers",
]
