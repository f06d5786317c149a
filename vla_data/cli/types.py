"""What options and arguments of commands may be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import click

from vla_data.errors import UsageError
from vla_data.formats.tables import FORMATS, FORMER, Role, foreign_trainers, trainer, trainers
from vla_data.remote.address import is_url, local, plain


# click.ParamType is generic from 8.5 on, and was not before.
class FloatOrNone(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number, or the word ``none``."""

    name = "float|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """See `click.ParamType`."""
        if value is None or str(value).lower() == "none":
            return None
        return Number().convert(value, param, ctx)


class Number(click.FloatRange):
    """A number in a range; NaN, which no comparison refuses, is none."""

    def _describe_range(self) -> str:
        """What help says of the range; click shows one without ends as ``x<=None``."""
        return "" if self.min is None and self.max is None else super()._describe_range()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType`."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Height and width, as ``480x640``."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """See `click.ParamType`."""
        try:
            height, width = (int(n) for n in str(value).lower().split("x"))
        except ValueError:
            self.fail(f"{value!r} is not a height and width like 480x640", param, ctx)
        return height, width


class Target(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Where a dataset will be: a path, or a URL as it was typed."""

    name = "path|url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """See `click.ParamType`."""
        return value if isinstance(value, Path) or is_url(value) else Path(plain(value))


FOLDER: Final = "vla_data.output_is_a_folder"
"""Key of a context's ``meta``: the path of an `Output` was typed as a folder's."""


class Output(click.Path):  # type: ignore[type-arg,unused-ignore]
    """A file on this machine, or a folder for a file of the usual name; `FOLDER` says that it was typed as one."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        if ctx is not None and str(value).endswith("/"):
            ctx.meta[FOLDER] = True
        return super().convert(local(value), param, ctx)


class Local(click.Path):  # type: ignore[type-arg,unused-ignore]
    """A path on this machine; a URL is refused in words that say so."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        return super().convert(local(value), param, ctx)


class TrainerName(click.Choice):  # type: ignore[type-arg,unused-ignore]
    """A trainer that has something for ``role``, also one of another distribution; or one of ``others``."""

    def __init__(self, role: Role, *others: str) -> None:
        super().__init__([*trainers(role), *others])
        self._role = role

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType`."""
        name = FORMER.get(value, value)
        if name not in self.choices:
            try:
                trainer(name, self._role)
            except UsageError as error:
                if error.code != "E002":
                    raise
                known = (*self.choices, *foreign_trainers(self._role))
                self.fail(f"{value!r} is not one of {', '.join(map(repr, known))}", param, ctx)
        return str(name)


class FormatName(click.Choice):  # type: ignore[type-arg,unused-ignore]
    """A format that is written: one of these, one of another distribution, or a sink of a user's own as
    ``module:Class`` or ``file.py:Class``.
    """

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """What help shows."""
        return f"[{'|'.join(self.choices)}|CLASS]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType`."""
        name = str(value)
        if name in self.choices or ":" in name:
            return name
        foreign = [each for each in FORMATS.names() if each not in list(FORMATS)]
        if name not in foreign:
            known = ", ".join(map(repr, (*self.choices, *foreign)))
            self.fail(
                f"{value!r} is not one of {known}, nor a sink of your own as module:Class or file.py:Class",
                param,
                ctx,
            )
        return name
