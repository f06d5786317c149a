"""Whether what a trainer's statistics do with numbers goes with what is declared of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vla_data.actions.agreement import Elements, differences, elements, subtraction
from vla_data.actions.convention import Convention
from vla_data.core import Schema, Source
from vla_data.core.findings import Finding
from vla_data.errors import UsageError
from vla_data.safety.text import show
from vla_data.selection.mapping import schema_of
from vla_data.statistics.trainers import Writer


def check(sources: Mapping[str, Source], writer: Writer, *, pooled: bool) -> list[Finding]:
    """What speaks against statistics of these sources, where it may be meant so.

    Args:
        sources: by the name of their dataset.
        writer: of the trainer.
        pooled: whether all are taken together.

    Raises:
        UsageError: E232, the declared meanings contradict what is asked for.
    """
    if not writer.subtracted and not (pooled and len(sources) > 1):
        return []
    schemas = {name: schema for name, source in sources.items() if (schema := _schema(source)) is not None}
    found = [finding for name, schema in schemas.items() for finding in _subtractions(name, schema, writer)]
    if pooled and len(schemas) > 1:
        found += _unlike(schemas, writer.names)
    return found


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
