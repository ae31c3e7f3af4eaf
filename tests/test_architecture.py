"""The floors hold: imports point down, side by side rooms are strangers, nothing goes in circles.

A room is a module or package right under s3dest_dagster. Imports inside functions and for type checking count too.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "s3dest_dagster"
ROOT = Path(__file__).resolve().parent.parent

FLOORS = {
    "errors": 0,
    "printable": 0,
    "stream": 0,
    "batch": 0,
    "lineage": 0,
    "keys": 0,
    "settings": 1,
    "columns": 2,
    "formats": 3,
    "storage": 3,
    "commit": 4,
    "sources": 4,
    "ingest": 5,
    "inspection": 6,
    "dagster": 7,
    "cli": 8,
    "definitions": 9,
    PACKAGE: 9,
}
"""Every room and its floor; the package itself is the front door, through which nobody inside goes."""

NEIGHBOURS = {
    ("errors", "printable"),
    ("stream", "errors"),
    ("stream", "settings"),
    ("batch", "errors"),
    ("batch", "stream"),
    ("keys", "errors"),
    ("keys", "stream"),
    ("keys", "settings"),
}
"""The only ways between rooms of one floor: plain values that others on it are made of, and settings read and shown."""

OUTSIDE = {
    "dagster": {"dagster", "definitions"},
    "dagster_aws": {"dagster.resource"},
    "boto3": {"storage"},
    "botocore": {"storage"},
    "pyarrow": {
        "batch",
        "columns",
        "formats",
        "sources",
        "ingest.segment_writer",
        "inspection.read",
        "dagster.loading",
    },
    "fastavro": {"formats", "sources.files"},
    "click": {"cli"},
}
"""Which rooms (or modules of a room) may import what is expensive or knows too much."""

FORBIDDEN_NAMES = {"util", "utils", "helper", "helpers", "common", "misc", "base", "manager", "handler", "processor"}

Edge = tuple[str, str]


def modules(package: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported(path: Path) -> tuple[str, ...]:
    """The dotted names that a file imports, as far as the text tells: `from a import b` is a and a.b."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they point"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(found)


def edges(package: Path) -> set[Edge]:
    """Which module imports which, inside the package. A name that is no module stands for the module it comes from."""
    known = modules(package)
    found = set()
    for module, path in known.items():
        for name in imported(path):
            target = name if name in known else name.rpartition(".")[0]
            if target in known and target != module:
                found.add((module, target))
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def wrong_ways(package: Path, floors: dict[str, int], allowed: set[Edge]) -> list[str]:
    """The imports that point up or sideways."""
    wrong = []
    for source, target in sorted(edges(package)):
        here, there = room(source), room(target)
        if here != there and floors[there] >= floors[here] and (here, there) not in allowed:
            wrong.append(f"{source} (floor {floors[here]}) imports {target} (floor {floors[there]})")
    return wrong


def circles(package: Path) -> list[str]:
    """The modules that import themselves by way of others."""
    graph: dict[str, set[str]] = {}
    for source, target in edges(package):
        graph.setdefault(source, set()).add(target)
    return sorted(module for module in graph if module in reachable(graph, module))


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph.get(start, ()))
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(graph.get(module, ()))
    return seen


def test_every_room_has_a_floor():
    rooms = {room(module) for module in modules(ROOT / PACKAGE)}
    assert rooms <= FLOORS.keys(), f"give {rooms - FLOORS.keys()} a floor"


def test_imports_point_down_only():
    assert wrong_ways(ROOT / PACKAGE, FLOORS, NEIGHBOURS) == []


def test_nothing_is_imported_in_circles():
    assert circles(ROOT / PACKAGE) == []


@pytest.mark.parametrize("library", OUTSIDE)
def test_libraries_stay_in_their_rooms(library):
    strangers = []
    for module, path in modules(ROOT / PACKAGE).items():
        inside = module.removeprefix(f"{PACKAGE}.")
        allowed = any(inside == each or inside.startswith(f"{each}.") for each in OUTSIDE[library])
        if not allowed and any(name.split(".")[0] == library for name in imported(path)):
            strangers.append(module)
    assert strangers == []


def test_no_module_is_named_after_nothing():
    names = {part for module in modules(ROOT / PACKAGE) for part in module.split(".")}
    assert names & FORBIDDEN_NAMES == set()


def _reads_our_class(call: ast.Call) -> bool:
    """Whether a call decodes to a class of ours and prepares it at that moment, as `decode(text, type=Head)` does."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "decode":
        return False
    return any(
        each.arg == "type" and isinstance(each.value, ast.Name) and each.value.id != "Raw" for each in call.keywords
    )


def test_decoders_of_our_classes_are_made_when_a_module_is_imported():
    """msgspec prepares a class at its first use, and two threads that do so at once crash the process."""
    assert [
        f"{module}:{node.lineno}"
        for module, path in modules(ROOT / PACKAGE).items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _reads_our_class(node)
    ] == []


def test_every_module_says_what_it_is_for():
    silent = [
        module for module, path in modules(ROOT / PACKAGE).items() if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_the_project_is_known_to_its_code_location_only():
    users = [
        module
        for module, path in modules(ROOT / PACKAGE).items()
        if any(name.split(".")[0] in ("assets", "resources") for name in imported(path))
    ]
    assert set(users) <= {f"{PACKAGE}.definitions"}


@pytest.mark.parametrize("module", [PACKAGE, f"{PACKAGE}.cli"])
def test_importing_the_library_or_its_command_does_not_import_dagster(module):
    if module not in modules(ROOT / PACKAGE):
        pytest.skip(f"{module} does not exist")
    code = f"import sys, {module}; print(*(name for name in sys.modules if name.split('.')[0].startswith('dagster')))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


class TestTheTestItself:
    @pytest.fixture
    def house(self, tmp_path):
        def build(**files):
            package = tmp_path / "house"
            for name, text in files.items():
                path = package / (name.replace("__", "/", 1) + ".py")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return package

        return build

    FLOORS = {"cellar": 0, "kitchen": 1, "hall": 1, "house": 2}  # noqa: RUF012

    def test_down_is_right(self, house):
        package = house(cellar="", kitchen="from house.cellar import wine\nfrom house import cellar\n")
        assert edges(package) == {("house.kitchen", "house.cellar")}
        assert wrong_ways(package, self.FLOORS, set()) == []

    @pytest.mark.parametrize(
        "text", ["from house import kitchen", "import house.kitchen", "from house.kitchen import x"]
    )
    def test_up_is_wrong_also_inside_a_function(self, house, text):
        assert wrong_ways(house(cellar=f"def f():\n    {text}\n", kitchen=""), self.FLOORS, set())

    def test_sideways_is_wrong_unless_allowed(self, house):
        package = house(kitchen="import house.hall\n", hall="")
        assert wrong_ways(package, self.FLOORS, set())
        assert wrong_ways(package, self.FLOORS, {("kitchen", "hall")}) == []

    def test_circles_inside_one_room_are_found(self, house):
        package = house(
            hall__one="from house.hall import two\n",
            hall__two="import house.hall.three\n",
            hall__three="import house.hall.one\n",
        )
        assert len(circles(package)) == 3
