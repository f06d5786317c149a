"""The words of the library: episodes and their schema, sources and sinks, what became of every frame."""

from vla_data.core.ends import Elsewhere, Encoded, EpisodeRef, Place, Published, Sink, Source
from vla_data.core.episode import Array, Episode, Feature, Json, Schema, iter_spans
from vla_data.core.meta import EpisodeMeta

__all__ = [
    "Array",
    "Elsewhere",
    "Encoded",
    "Episode",
    "EpisodeMeta",
    "EpisodeRef",
    "Feature",
    "Json",
    "Place",
    "Published",
    "Schema",
    "Sink",
    "Source",
    "iter_spans",
]
