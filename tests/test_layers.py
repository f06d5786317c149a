"""The rooms of the house: which may import which, and which may import what is heavy.

Every import counts: at the top of a file, inside a function, and for type checkers alone.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGES = ("vla_data", "converters", "training_adapters", "builders")

ROOMS = (
    *("_version", "errors", "former_names", "options", "names", "installed", "safety", "media", "files", "core"),
    *(
        "actions",
        "steps",
        "remote",
        "formats",
        "recording",
        "jobs",
        "selection",
        "dynamics",
        "statistics",
        "measuring",
    ),
    *(
        "advantages",
        "verification",
        "report",
        "hub",
        "mixtures",
        "preparing",
        "viewing",
        "vla_data",
        "cli",
        "__main__",
    ),
    *("converters", "training_adapters", "builders"),
)
"""From the ground up: a room imports from those before it and never from those after it."""

TABLES = ("vla_data/formats/tables.py", "vla_data/former_names.py")
"""The files of `vla_data` that name the packages above it, as strings."""

HEAVY: Mapping[str, tuple[str, ...]] = {
    "apache_beam": ("vla_data/jobs/beam/",),
    "av": ("vla_data/media/video.py", "vla_data/media/mp4.py", "vla_data/media/packets.py", "converters/lerobot/"),
    "fsspec": ("vla_data/remote/",),
    "h5py": (
        "vla_data/safety/hdf5.py",
        "vla_data/safety/hdf5_places.py",
        "vla_data/safety/hdf5_types.py",
        "converters/hdf5/",
        "converters/rdt/",
        "converters/robomimic/",
    ),
    "huggingface_hub": ("vla_data/hub/client.py",),
    "imagecodecs": ("vla_data/safety/zarr_array.py",),
    "jax": ("training_adapters/",),
    "lerobot": ("training_adapters/lerobot/",),
    "numcodecs": ("vla_data/safety/zarr_array.py",),
    "pandas": (),
    "pyarrow": (
        *("vla_data/files/arrow.py", "vla_data/files/tables.py", "vla_data/advantages/", "vla_data/media/"),
        *("converters/lerobot/", "training_adapters/"),
    ),
    "tensorflow": ("training_adapters/", "builders/"),
    "tensorflow_datasets": ("training_adapters/", "builders/"),
    "torch": ("training_adapters/",),
    "zarr": (),
}
"""Package -> the files and folders that may import it."""


def files() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Every module that a file imports anywhere; of ``from a import b`` the module ``a.b`` where there is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


def graph(extra: Mapping[str, str] | None = None) -> dict[str, set[str]]:
    """Module -> ours that it imports; ``extra`` has further lines for modules."""
    known = {module_of(path) for path in files()}
    out: dict[str, set[str]] = {}
    for path in files():
        name = module_of(path)
        tree = ast.parse(path.read_text() + extra[name]) if extra and name in extra else tree_of(path)
        out[name] = {found for found in imports(tree, known) if found.split(".")[0] in PACKAGES} - {name}
    return out


def room(module: str) -> str:
    package, _, rest = module.partition(".")
    return (rest.split(".")[0] or package) if package == "vla_data" else package


def upward(edges: Mapping[str, set[str]]) -> list[str]:
    rank = {name: at for at, name in enumerate(ROOMS)}
    return sorted(
        f"{module} -> {other}"
        for module, others in edges.items()
        for other in others
        if rank[room(other)] > rank[room(module)]
    )


def circles(edges: Mapping[str, set[str]]) -> list[set[str]]:
    """Sets of modules that import each other (Tarjan). A package's ``__init__`` counts by what it imports."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in edges.get(module, ()):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = set()
            while True:
                group.add(stack.pop())
                if module in group:
                    break
            if len(group) > 1:
                found.append(group)

    for module in edges:
        if module not in index:
            visit(module)
    return found


def test_imports_are_absolute() -> None:
    """But in the folder of a dataset, whose copy must have its own definition."""
    found = [
        str(path.relative_to(ROOT))
        for path in files()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert [path for path in found if not re.fullmatch(r"builders/(\w+)/\1_dataset_builder\.py", path)] == []


def test_every_room_is_in_the_list() -> None:
    assert {room(module) for module in graph()} - set(ROOMS) == set()


def test_no_import_runs_upward() -> None:
    assert upward(graph()) == []


def test_no_modules_import_each_other() -> None:
    assert circles(graph()) == []


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        ("vla_data.core.episode", "import vla_data.jobs.run", "vla_data.core.episode -> vla_data.jobs.run"),
        (
            "vla_data.files.write",
            "def later():\n    from vla_data.core.ledger import Ledger",
            "vla_data.files.write -> vla_data.core.ledger",
        ),
        (
            "vla_data.steps.length",
            "if TYPE_CHECKING:\n    from converters.lerobot.sink import LerobotSink",
            "vla_data.steps.length -> converters.lerobot.sink",
        ),
    ],
)
def test_an_edge_that_runs_upward_is_found(module: str, line: str, found: str) -> None:
    assert upward(graph({module: f"\n{line}\n"})) == [found]


def test_a_circle_is_found() -> None:
    extra = {"vla_data.safety.unpickle": "\nfrom vla_data.safety import npy\n"}
    (group,) = circles(graph(extra))
    assert group == {"vla_data.safety.npy", "vla_data.safety.unpickle"}


def test_the_library_names_the_packages_above_it_in_its_tables_alone() -> None:
    names = re.compile(r"(converters|training_adapters|builders)\.[a-z_]+[.:\w]*")
    found = [
        f"{path.relative_to(ROOT)}: {node.value}"
        for path in files()
        if path.is_relative_to(ROOT / "vla_data") and str(path.relative_to(ROOT)) not in TABLES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and names.fullmatch(node.value)
    ]
    assert found == []


@pytest.mark.parametrize("package", HEAVY)
def test_heavy_packages_are_imported_in_their_rooms_alone(package: str) -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in files()
        if any(name.split(".")[0] == package for name in imports(tree_of(path), set()))
    ]
    assert [path for path in found if not path.startswith(HEAVY[package])] == []


PROBED = re.compile(r"^(self\._?)?(source|sink|step|engine|whole|writer|plugin)$")


def probes(tree: ast.AST) -> Iterator[str]:
    """``getattr`` and ``hasattr`` with a literal name on what a contract describes."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "hasattr")
            and isinstance(node.args[1], ast.Constant)
            and PROBED.match(ast.unparse(node.args[0]).replace("self.", "self._").replace("__", "_"))
        ):
            yield ast.unparse(node)


def test_contracts_are_not_probed() -> None:
    found = [f"{path.relative_to(ROOT)}: {text}" for path in files() for text in probes(tree_of(path))]
    assert found == []


@pytest.mark.parametrize(
    "text", ["getattr(source, 'root', None)", "hasattr(step, 'lost')", "getattr(self._source, 'facts', None)"]
)
def test_a_probe_is_found(text: str) -> None:
    assert list(probes(ast.parse(text))) == [text]


def test_files_are_short() -> None:
    """One noun a file: a stranger holds 130 lines in mind, and over 400 are two things."""
    lengths: dict[str, int] = defaultdict(int)
    for path in files():
        lengths[str(path.relative_to(ROOT))] = path.read_text().count("\n")
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) // 2] <= 130
    assert {path: n for path, n in lengths.items() if n > 400} == {}
