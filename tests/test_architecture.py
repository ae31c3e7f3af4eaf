"""The layers are respected: imports point down, rooms on the same floor do not import each other, and there are no
cycles.

A room is a module or package directly below s3dest_dagster. Imports inside functions and for type checking count
too.
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
    "settings.fields": 1,
    "settings.schema_contract": 1,
    "settings.field_paths": 1,
    "settings.formats": 2,
    "settings.partition_fields": 2,
    "settings.stream_settings": 2,
    "record_changes": 3,
    "stream": 3,
    "batch": 4,
    "keys": 4,
    "settings": 5,
    "columns": 6,
    "formats": 7,
    "storage": 7,
    "commit": 8,
    "sources": 8,
    "ingest": 9,
    "adoption": 10,
    "inspection": 10,
    "shards": 10,
    "engines": 11,
    "local": 11,
    "dagster": 12,
    "cli": 13,
    "airbyte": 14,
    "definitions": 14,
    PACKAGE: 14,
}
"""Every room and its floor. Some modules of `settings` are below the others: the fields of settings, the paths of
fields, the formats, and the settings of a stream.

The package itself is the front door, through which nobody inside goes.
"""

NEIGHBOURS = {("errors", "printable"), ("settings.stream_settings", "settings.partition_fields")}
"""The only allowed imports between rooms of one floor."""

OUTSIDE = {
    "dagster": {"dagster", "definitions"},
    "dagster_shared": {"dagster"},
    "dagster_aws": {"dagster.resource"},
    "boto3": {"storage"},
    "botocore": {"storage"},
    "pyarrow": {
        "batch",
        "columns",
        "formats",
        "sources",
        "ingest.segment_writer",
        "inspection.portable",
        "inspection.landed_scopes",
        "inspection.read",
        "inspection.record_selection",
        "inspection.stream_reader",
        "dagster.loading",
        "engines",
    },
    "dask": {"engines.dask", "engines.loading"},
    "ray": {"engines.ray", "engines.loading"},
    "pyspark": {"engines.spark", "engines.loading"},
    "fastavro": {"formats", "sources.files"},
    "click": {"cli"},
}
"""Which rooms (or modules of a room) may import expensive or specialised libraries."""

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
    """The dotted names that a file imports, as far as the text shows: `from a import b` means a and a.b."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they point"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(found)


def edges(package: Path) -> set[Edge]:
    """Which module imports which, inside the package. A name that is not a module represents the module that it
    comes from."""
    known = modules(package)
    found = set()
    for module, path in known.items():
        for name in imported(path):
            target = name if name in known else name.rpartition(".")[0]
            if target in known and target != module:
                found.add((module, target))
    return found


def room(module: str) -> str:
    """The module's room: its package below the library's, or the module itself if it has its own floor."""
    parts = module.split(".")
    two = ".".join(parts[1:3])
    return two if two in FLOORS else parts[1] if len(parts) > 1 else parts[0]


def wrong_ways(package: Path, floors: dict[str, int], allowed: set[Edge]) -> list[str]:
    """The imports that point up or sideways."""
    wrong = []
    for source, target in sorted(edges(package)):
        here, there = room(source), room(target)
        if here != there and floors[there] >= floors[here] and (here, there) not in allowed:
            wrong.append(f"{source} (floor {floors[here]}) imports {target} (floor {floors[there]})")
    return wrong


def circles(package: Path) -> list[str]:
    """The modules that import themselves through others."""
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


def test_there_are_no_import_cycles():
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


def test_only_public_modules_of_dagster_are_imported():
    private = [
        f"{module}: {name}"
        for module, path in modules(ROOT / PACKAGE).items()
        for name in imported(path)
        if name.startswith("dagster") and any(part.startswith("_") for part in name.split("."))
    ]
    assert private == []


def test_no_module_has_a_meaningless_name():
    names = {part for module in modules(ROOT / PACKAGE) for part in module.split(".")}
    assert names & FORBIDDEN_NAMES == set()


def _reads_our_class(call: ast.Call) -> bool:
    """Whether a call decodes to one of our classes and prepares it at that moment, as `decode(text, type=Head)`
    does."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "decode":
        return False
    return any(
        each.arg == "type" and isinstance(each.value, ast.Name) and each.value.id != "Raw" for each in call.keywords
    )


def test_decoders_of_our_classes_are_made_when_a_module_is_imported():
    """msgspec prepares a class at its first use, and two threads that do so at the same time crash the process."""
    assert [
        f"{module}:{node.lineno}"
        for module, path in modules(ROOT / PACKAGE).items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _reads_our_class(node)
    ] == []


def function_lengths() -> dict[str, int]:
    """The lines of every function, from `def` to its end, without its docstring."""
    lengths = {}
    for module, path in modules(ROOT / PACKAGE).items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    docstring = node.body[0]
                    assert docstring.end_lineno is not None
                    lines -= docstring.end_lineno - docstring.lineno + 1
                lengths[f"{module}:{node.lineno} {node.name}"] = lines
    return lengths


def test_functions_are_short():
    lengths = function_lengths()
    assert [name for name, lines in lengths.items() if lines > 50] == []
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) // 2] <= 6
    assert ordered[len(ordered) * 9 // 10] <= 25


def test_modules_are_neither_too_small_nor_too_large():
    lines = {module: len(path.read_text("utf-8").splitlines()) for module, path in modules(ROOT / PACKAGE).items()}
    packages = {module for module, path in modules(ROOT / PACKAGE).items() if path.name == "__init__.py"}
    own = {f"{PACKAGE}.definitions", f"{PACKAGE}.cli.__main__"}
    assert {module for module, count in lines.items() if count < 50} - packages - own == set()
    assert {module: count for module, count in lines.items() if count > 450} == {}


def test_adapters_of_engines_are_short():
    """So that another engine needs no more than another such module."""
    lines = {path.stem: len(path.read_text("utf-8").splitlines()) for path in (ROOT / PACKAGE / "engines").glob("*.py")}
    assert max(lines[name] for name in ("dask", "ray", "spark")) < 60


def test_every_module_describes_its_purpose():
    silent = [
        module for module, path in modules(ROOT / PACKAGE).items() if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_only_the_code_location_knows_the_project():
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


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import s3dest_dagster", set()),
        ("from s3dest_dagster.cli import entry; entry.run(['--help'])", {"click"}),
        ("import s3dest_dagster.local.sample_source", set()),
    ],
    ids=["the package", "the help of the command", "the sample source"],
)
def test_little_is_imported_before_there_is_work(code, allowed):
    """So that both take a few hundredths of a second. Which modules an interpreter brings itself does not matter."""
    ask = "print(*sorted({name.partition('.')[0] for name in sys.modules} - before))"
    before = "import sys; before = {name.partition('.')[0] for name in sys.modules}"
    answer = subprocess.run(
        [sys.executable, "-c", f"{before}\n{code}\n{ask}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = set(answer.stdout.splitlines()[-1].split()) - sys.stdlib_module_names
    assert imported - {PACKAGE} == allowed


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

    def test_imports_down_are_right(self, house):
        package = house(cellar="", kitchen="from house.cellar import wine\nfrom house import cellar\n")
        assert edges(package) == {("house.kitchen", "house.cellar")}
        assert wrong_ways(package, self.FLOORS, set()) == []

    @pytest.mark.parametrize(
        "text", ["from house import kitchen", "import house.kitchen", "from house.kitchen import x"]
    )
    def test_imports_up_are_wrong_even_inside_a_function(self, house, text):
        assert wrong_ways(house(cellar=f"def f():\n    {text}\n", kitchen=""), self.FLOORS, set())

    def test_imports_sideways_are_wrong_unless_allowed(self, house):
        package = house(kitchen="import house.hall\n", hall="")
        assert wrong_ways(package, self.FLOORS, set())
        assert wrong_ways(package, self.FLOORS, {("kitchen", "hall")}) == []

    def test_cycles_inside_one_room_are_found(self, house):
        package = house(
            hall__one="from house.hall import two\n",
            hall__two="import house.hall.three\n",
            hall__three="import house.hall.one\n",
        )
        assert len(circles(package)) == 3
