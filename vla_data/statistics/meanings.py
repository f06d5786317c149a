"""Whether what a trainer's statistics do with numbers goes with what is declared of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from vla_data.actions.agreement import Elements, differences, elements, subtraction
from vla_data.actions.convention import Convention
from vla_data.actions.plausible import implausible
from vla_data.core import Schema, Source
from vla_data.core.base import narrowed
from vla_data.core.findings import Finding
from vla_data.errors import UsageError
from vla_data.safety.text import show
from vla_data.selection.mapping import schema_of
from vla_data.statistics.collect import Summary
from vla_data.statistics.columns import NoImages
from vla_data.statistics.trainers import Writer

_KEYS: Final = {"observation.state": ("proprio", "state")}
"""Feature -> what trainers call it."""


def schemas_of(sources: Mapping[str, Source]) -> dict[str, Schema]:
    """The schema of each source that has an episode which can be read; what is wrong with others is told later."""
    seen = {name: narrowed(source, (NoImages(),)) for name, source in sources.items()}
    return {name: schema for name, source in seen.items() if (schema := _schema(source)) is not None}


def check(schemas: Mapping[str, Schema], writer: Writer, *, pooled: bool) -> list[Finding]:
    """What speaks against statistics of these datasets, where it may be meant so.

    Args:
        schemas: of the datasets, by their names.
        writer: of the trainer.
        pooled: whether all are taken together.

    Raises:
        UsageError: E232, the declared meanings contradict what is asked for.
    """
    found = [finding for name, schema in schemas.items() for finding in _subtractions(name, schema, writer)]
    for name, schema in schemas.items():
        for finding in writer.doubts(partial(_elements, schema)):
            found.append(replace(finding, message=f"{name}: {finding.message}"))
    if pooled and len(schemas) > 1:
        found += _unlike(schemas, writer.names)
    return found


def contradictions(name: str, schema: Schema, summary: Summary) -> list[Finding]:
    """Where the least and the largest numbers of a dataset are not what is declared of them, in its summary."""
    out = []
    for feature, meant in schema.features.items():
        keys = (feature, *_KEYS.get(feature, ()))
        stats = next((summary.features[key] for key in keys if key in summary.features), None)
        if stats is None or meant.shape != stats.min.shape:
            continue
        for said in implausible(np.stack([stats.min, stats.max]), meant.convention, rows=False):
            message = f"{name}: {feature} {said}; declare what is true (--declare {feature}:KEY=VALUE)"
            out.append(Finding(where=feature, code="contradicts_what_is_declared", message=message))
    return out


def _subtractions(dataset: str, schema: Schema, writer: Writer) -> Iterator[Finding]:
    for action, state, pairs in writer.subtracted:
        for doubt in subtraction(_elements(schema, action), _elements(schema, state), pairs):
            if doubt.certain:
                raise UsageError(
                    "E232",
                    f"{show(dataset)}: {doubt.message}; ask for other elements, or convert the dataset first "
                    "(--actions, --declare)",
                )
            message = f"{dataset}: {doubt.message} (--declare {action}:KEY=VALUE when it is converted says more)"
            yield Finding(where=action, code="convention", elements=tuple(a for a, _ in pairs), message=message)


def _unlike(schemas: Mapping[str, Schema], names: Sequence[str] | None) -> Iterator[Finding]:
    shared = set.intersection(*({*schema.features} for schema in schemas.values()))
    for feature in sorted(shared if names is None else shared & {*names}):
        for text in differences({name: _elements(schema, feature) for name, schema in schemas.items()}):
            message = f"{feature} of the datasets is taken together, but {text}; convert them first (--actions)"
            yield Finding(where=feature, code="convention", elements=(), message=message)


def _elements(schema: Schema, name: str) -> Elements:
    feature = schema.features.get(name)
    if feature is None:
        return ()
    width = feature.shape[0] if feature.shape else 1
    return elements(Convention.from_json(feature.convention) if feature.convention else None, width)


def _schema(source: Source) -> Schema | None:
    try:
        return schema_of(source)
    except UsageError:  # of no episode; it is told where they are counted
        return None
