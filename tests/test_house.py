"""The house: an arrow between its rooms goes down only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pythermo"
# Top floor first; rooms of one floor do not know each other.
FLOORS = (
    ("cli",),
    ("studies",),
    ("reports",),
    ("bench", "figures", "integrations"),
    ("sweeps",),
    ("analysis",),
    ("training",),
    ("sphere",),
    ("models",),
    ("estimators",),
    ("optim",),
    ("ops",),
    ("config", "data"),
    ("_checks", "_parameters", "_progress"),
    ("_core",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The facade, which loads what is asked for, and `python -m pythermo`.
DOORS = ("__init__", "__main__", "__init__ (stub)", "_core (stub)")


def modules() -> dict[str, Path]:
    """Return the files of the package by the names of their modules, without the package's own."""
    named = {path: path.relative_to(PACKAGE).with_suffix("").parts for path in PACKAGE.rglob("*.py*")}
    return {
        ".".join(parts).removesuffix(".__init__") + (" (stub)" if path.suffix == ".pyi" else ""): path
        for path, parts in named.items()
        if path.suffix in (".py", ".pyi")
    }


def imported(path: Path, known: set[str]) -> set[str]:
    """Return the modules of the package that a file imports, inside functions and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            assert "pythermo" not in names, f"{path}: the package as a whole hides what is meant of it"
        elif isinstance(node, ast.ImportFrom):
            base = ["pythermo", *path.relative_to(PACKAGE).parts[: -node.level]] if node.level else []
            whole = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{whole}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            assert "import_module" not in ast.unparse(node.func), f"{path}: imports in a way that is not seen"
            continue
        else:
            continue
        for name in names:
            package, _, inner = name.partition(".")
            if package == "pythermo":
                found.add(inner if inner in known else inner.rpartition(".")[0] or inner)
    return found - {""}


def room(module: str) -> str:
    return module.partition(".")[0].partition(" ")[0]


GRAPH = {name: imported(path, set(modules())) for name, path in modules().items() if name not in DOORS}


def test_each_room_has_a_floor():
    assert {room(name) for name in GRAPH} <= set(FLOOR)


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_arrows_go_down(module):
    for target in GRAPH[module]:
        if target == "__version__" or room(target) == room(module):
            continue
        assert FLOOR[room(target)] > FLOOR[room(module)], f"{module} imports {target}, which is not below it"


def test_no_circle():
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join((*way, module))}"
        if module not in done:
            for target in GRAPH.get(module, ()):
                visit(target, (*way, module))
            done.add(module)

    for module in GRAPH:
        visit(module, ())


def test_the_test_sees_what_it_is_for(tmp_path):
    """An import inside a function, of a name and of a module."""
    path = tmp_path / "module.py"
    path.write_text("def f():\n    from pythermo import figures\n    from pythermo.sweeps.run import run\n")
    assert imported(path, {"figures", "sweeps.run"}) == {"figures", "sweeps.run"}
    for hidden in ("import pythermo", "import importlib\nimportlib.import_module('pythermo.cli')"):
        path.write_text(hidden)
        with pytest.raises(AssertionError, match=r"module\.py"):
            imported(path, set())
