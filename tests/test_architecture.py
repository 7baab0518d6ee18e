"""The page on the architecture says what the tree is like, and imports keep to its order."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text()
PACKAGES = ("profiles", "client", "server", "simulations")
MOST_ARROWS = 45

Arrows = dict[str, set[str]]


def source(package: str) -> Path:
    return ROOT / package / "fieldtune" / package


def rooms_of_the_tree() -> set[str]:
    """``server/costs`` and its like: folders that are packages, below the four."""
    return {
        f"{package}/{folder.parent.relative_to(source(package))}"
        for package in PACKAGES
        for folder in source(package).rglob("*/__init__.py")
    }


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
LISTED = {quoted(row[0])[0]: row[1:] for row in ROWS if quoted(row[0])}
WAY = [(quoted(row[-2])[0], quoted(row[-1])) for row in ROWS if ".py`" in row[-2]]


def imported(file: Path) -> set[str]:
    """Dotted names that a file imports from fieldtune, the ``from`` part and what is taken."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix("fieldtune.") for name in names if name.startswith("fieldtune.")}


@cache
def arrows() -> Arrows:
    """Room -> rooms, or bare packages, that its modules import."""
    rooms = rooms_of_the_tree()
    found: Arrows = defaultdict(set)
    for room in rooms:
        package, _, folder = room.partition("/")
        for file in (source(package) / folder).glob("*.py"):
            for name in imported(file):
                parts = name.split(".")
                inside = ("/".join(parts[:n]) for n in range(len(parts), 1, -1))
                target = next((each for each in inside if each in rooms), parts[0])
                found[room] |= {target} - {room}
    return found


def of_the_server() -> Arrows:
    """Arrows between the server's rooms, a room's own sub-rooms counted as the room."""
    found: Arrows = defaultdict(set)
    for room, targets in arrows().items():
        start = "/".join(room.split("/")[:2])
        ends = {"/".join(target.split("/")[:2]) for target in targets}
        if start.startswith("server/"):
            found[start] |= {end for end in ends if end.startswith("server/")} - {start}
    return found


def test_every_room_is_listed_with_its_purpose_and_nothing_else_is() -> None:
    assert set(LISTED) == rooms_of_the_tree()
    assert all(purpose for purpose, _ in LISTED.values())


def test_a_room_imports_only_what_its_row_allows() -> None:
    for room, targets in arrows().items():
        allowed = quoted(LISTED[room][1])
        for target in targets:
            named = target in allowed or target.partition("/")[0] in allowed
            assert named, f"docs/architecture.md does not allow {room} to import {target}"


def test_a_row_allows_nothing_that_its_room_does_not_import() -> None:
    for room, targets in arrows().items():
        for allowed in quoted(LISTED[room][1]):
            used = any(target == allowed or target.startswith(f"{allowed}/") for target in targets)
            assert used, f"{room} does not import {allowed}: remove it from docs/architecture.md"


def test_every_step_of_a_trial_names_functions_that_exist() -> None:
    assert WAY
    for path, functions in WAY:
        package, _, rest = path.partition("/")
        defined = set()
        for node in ast.parse((source(package) / rest).read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                body = node.body if isinstance(node, ast.ClassDef) else []
                methods = [each.name for each in body if isinstance(each, ast.FunctionDef)]
                defined |= {node.name, *(f"{node.name}.{method}" for method in methods)}
        assert functions, path
        assert set(functions) <= defined, path


def test_imports_between_the_servers_rooms_form_no_circle() -> None:
    TopologicalSorter(of_the_server()).prepare()  # raises CycleError


def test_imports_between_the_servers_rooms_go_down_the_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (
        each["layers"]
        for each in contracts["contracts"]
        if each.get("containers") == ["fieldtune.server"]
    )
    floor = {
        f"server/{room.strip()}": len(layers) - number
        for number, layer in enumerate(layers)
        for room in layer.split("|")
    }
    for room, targets in of_the_server().items():
        for target in targets:
            assert floor[target] < floor[room], f"{room} imports {target}"


def test_few_pairs_of_the_servers_rooms_are_connected() -> None:
    assert sum(map(len, of_the_server().values())) <= MOST_ARROWS
