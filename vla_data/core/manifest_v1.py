"""Recipes of version 1, which are the ``repr`` of a source, of steps and of a sink, as JSON.

A ``repr`` is data and not code: it is parsed, and nothing is evaluated.
"""

from __future__ import annotations

import ast
from typing import Any, Final

from vla_data.core import Json
from vla_data.core.provenance import to_json

_LONGEST: Final = 1 << 20


def provenance_of(recipe: Any) -> Json:
    """``{"source", "recipe", "sink"}`` of the ``recipe`` of a manifest of version 1, or None for anything else.

    The ``repr`` of a class that is not of ours may be any text; one that is not of the form ``Name(option=value)``
    becomes ``{"repr": text}``.
    """
    try:
        return {
            "source": _read(recipe["source"]),
            "recipe": [_read(text) for text in recipe["steps"]],
            "sink": _read(recipe["sink"]),
        }
    except (KeyError, TypeError):
        return None


def _read(text: Any) -> Json:
    if not isinstance(text, str):
        raise TypeError("no text")
    try:
        if len(text) > _LONGEST:
            raise ValueError("too long")
        found = _json(ast.parse(text, mode="eval").body)
        if not isinstance(found, dict):
            raise ValueError("no call")
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return {"repr": text}
    return found


def _json(node: ast.expr) -> Json:
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, ast.Tuple | ast.List) and any(isinstance(item, ast.Call) for item in node.elts):
        return [_json(item) for item in node.elts]
    return to_json(ast.literal_eval(node))


def _call(node: ast.Call) -> Json:
    if not isinstance(node.func, ast.Name) or node.args:
        raise ValueError("not of the form Name(option=value)")
    options: dict[str, Json] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in options:
            raise ValueError("not of the form Name(option=value)")
        options[keyword.arg] = _json(keyword.value)
    return {"type": node.func.id, **options}
