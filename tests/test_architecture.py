"""The walls of the house: import direction, borders, sizes, light imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "deepfeatures").rglob("*.py"), *(ROOT / "app").rglob("*.py")])

FLOORS = [
    {"__init__", "settings", "bands", "aoi", "tiles", "errors", "days", "grid"},
    {
        "contract",
        "clouds",
        "collinearity",
        "pictures",
        "indices",
        "latent",
        "radar",
        "render",
        "simulate",
        "embed.model",
        "embed.fusion",
        "embed.temporal",
        "embed.cleaning",
        "embed.coding",
        "embed.sensors",
        "meteo",
        "nbar",
        "extremes",
        "frames",
        "sites",
        "find",
        "seasons",
    },
    {
        "stac",
        "rasters",
        "grd",
        "foreign",
        "store",
        "catalogue",
        "export",
        "predictor",
        "featurecube",
        "fit",
        "runs",
        "embed.inputs",
        "embed.losses",
        "embed.recipe",
        "embed.data",
        "reading",
        "survey",
        "backend",
        "cards",
        "weather",
        "granule",
        "safe",
        "vectors",
        "areas",
        "places",
        "space",
    },
    {"embed", "infer", "makers", "work", "layers", "mapping", "finding", "gpp", "compress"},
    {"cube", "minicube"},
    {"jobs", "kinds", "worker", "serve"},
    {"cli", "progress", "__main__"},
]
"""A room may import rooms of its own floor and of those above it in this list."""

BORDERS = {
    "pystac": {"stac"},
    "pystac_client": {"stac"},
    "planetary_computer": {"stac"},
    "distributed": {"work"},
    "s3fs": {"store"},
    "botocore": {"store"},
    "onnxruntime": {"clouds"},
    "ukis_csmask": {"clouds"},
    "zarr": {"store", "reading", "export", "foreign"},
    "intake": {"catalogue"},
    "sklearn": {"find", "gpp"},
    "torch": {"embed", "fit", "predictor", "infer", "indices", "gpp", "compress"},
    "llvmlite": {"indices"},
    "matplotlib": {"pictures", "render", "runs", "embed", "gpp"},
    "tornado": {"serve"},
    "prometheus_client": {"serve"},
    "sqlite3": {"jobs"},
    "pyogrio": {"vectors"},
    "PIL": {"frames", "render"},
    "av": {"frames"},
    "umap": {"space"},
    "pyarrow": {"export", "vectors", "gpp"},
    "defusedxml": {"granule", "grd"},
}
"""Outside thing -> the rooms that may know it."""


def room(path: Path) -> str:
    """Name of a module's room: its place below the package, ``embed.model`` with both parts."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)[1:]
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    return ".".join(parts)


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    """Full names of what a module imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def floor(name: str) -> int:
    """Number of the floor on which a room lies; a package's modules lie with the package."""
    for number, rooms in enumerate(FLOORS):
        if name in rooms:
            return number
    for number, rooms in enumerate(FLOORS):
        if name.split(".")[0] in rooms:
            return number
    raise AssertionError(f"the room {name!r} is on no floor")


def rooms_used(path: Path) -> set[str]:
    """Rooms of the package that a module imports anywhere."""
    known = {room(file) for file in FILES if file.is_relative_to(ROOT / "deepfeatures")}
    used = set()
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "deepfeatures":
            continue
        candidates = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
        used |= {next((c for c in candidates if c in known), "__init__")}
    return used


PACKAGE = [file for file in FILES if file.is_relative_to(ROOT / "deepfeatures")]


@pytest.mark.parametrize("path", PACKAGE, ids=room)
def test_imports_go_down_only(path):
    here = floor(room(path))
    above = {name for name in rooms_used(path) if floor(name) > here}
    assert not above, f"{room(path)} imports {above} from above"


@pytest.mark.parametrize("path", PACKAGE, ids=room)
def test_each_outside_thing_has_its_border(path):
    family = room(path).split(".")[0]
    for name in imports(path):
        assert name.split(".")[0] not in {"app", "panel", "bokeh", "holoviews", "param"}
        for outside, allowed in BORDERS.items():
            if name == outside or name.startswith(f"{outside}."):
                assert family in allowed, f"{room(path)} knows {outside}"


@pytest.mark.parametrize("path", [f for f in FILES if f not in PACKAGE], ids=str)
def test_the_page_computes_no_science(path):
    banned = {"torch", "zarr", "intake", "pystac", "pystac_client", "odc", "rasterio", "spyndex"}
    assert not {name.split(".")[0] for name in imports(path)} & banned


def test_no_cycles():
    graph = {room(path): rooms_used(path) - {room(path)} for path in PACKAGE}
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in graph.get(name, ()):
                walk(other, (*trail, name))
            done.add(name)

    for name in graph:
        walk(name, ())


@pytest.mark.parametrize("path", FILES, ids=str)
def test_sizes_stay_readable(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert code_lines(tree) <= 400, "split it along a second reason to change"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert code_lines(node) <= 60, f"{node.name} is too long"


def code_lines(node: ast.AST) -> int:
    """Lines with code in them: no blanks, comments or docstrings."""
    lines: set[int] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.expr | ast.stmt | ast.arg | ast.keyword):
            text = isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
            if not text and not (isinstance(part, ast.Constant) and isinstance(part.value, str)):
                lines |= {part.lineno, part.end_lineno or part.lineno}
    return len(lines)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_dangerous(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}
    assert not {n.split(".")[0] for n in imports(path)} & {
        "pickle",
        "dill",
        "cloudpickle",
        "joblib",
    }


def test_importing_the_package_is_light():
    script = (
        "import sys, deepfeatures\n"
        "print([name for name in ('torch', 'panel', 'xarray') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
