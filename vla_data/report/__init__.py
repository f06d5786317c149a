"""What a dataset looks like, for a person.

from vla_data.report import report

report("aligned", against="rollouts")     # shows itself in a notebook
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vla_data import former_names

if TYPE_CHECKING:
    from vla_data.report.make import Page


def report(address: str, **options: Any) -> Page:
    """The page of `vla_data.report.make.make_page`, with its options; it shows itself in a notebook."""
    from vla_data.report.make import make_page  # loads pyarrow and more, which `import vla_data` does without

    return make_page(address, **options)


def __getattr__(name: str) -> object:
    return former_names.member(__name__, name)
