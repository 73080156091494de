"""The shape of the repository: import directions, circles, sizes of folders, machine paths."""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each package imports only itself and those left of it.
LAYERS = ("search_spaces", "hardware_profiles", "evaluators", "nas")
# Tops of the tree, which no package imports.
OUTSIDE = ("run_search", "tests", "benchmarks", "examples")
# Rooms of nas by level: a room imports itself and rooms of lower levels.
LEVELS = (
    ("exports",),
    ("run", "inference"),
    ("training", "strategies", "progress"),
    ("supernet", "pruning"),
    ("workers", "dynamic"),
    ("task",),
    ("timed",),
    ("engine", "studies"),
    ("report", "release"),
    ("commands",),
    ("cli", "api"),
    ("classifier", "__main__"),
)
LONGEST_MODULE = 400
MOST_MODULES = 13
"""Modules in one folder, `__init__.py` aside."""

# Put together from parts, so that this file does not find itself.
FORBIDDEN = (
    *("/" + folder + "/" for folder in ("work", "root", "opt")),
    "py" + "pi.org",
    "python" + "hosted.org",
    "download." + "pytorch.org",
    "conda" + ".anaconda.org",
)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_modules(source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of each absolute import, wherever in the file it stands.

    For `from a.b import c` that is `a.b.c`, which may be a module or a name in `a.b`.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name
            case ast.ImportFrom(module=str(module), names=names, level=0):
                for alias in names:
                    yield node.lineno, f"{module}.{alias.name}"
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield node.lineno, module


def imported_names(source: str) -> Iterator[tuple[int, str]]:
    """Line and top-level name of each absolute import."""
    for line, name in imported_modules(source):
        yield line, name.partition(".")[0]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_graph(sources: Mapping[str, str]) -> nx.DiGraph:
    """Modules by name as nodes; an edge for each import of one by another.

    An import inside a function or under TYPE_CHECKING counts: it ties two modules all the same.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(sources)
    for name, source in sources.items():
        for _, full in imported_modules(source):
            target = full if full in sources else full.rpartition(".")[0]
            if target in sources and target != name:
                graph.add_edge(name, target)
    return graph


def all_sources() -> dict[str, str]:
    return {
        module_name(path): path.read_text(encoding="utf-8")
        for package in LAYERS
        for path in modules(package)
    }


def room(module: str, sources: Mapping[str, str]) -> str:
    """The folder of a module; a module directly in a package is a room by itself."""
    is_folder = any(other.startswith(f"{module}.") for other in sources)
    folder = module if is_folder else module.rpartition(".")[0]
    return module if folder in LAYERS else folder


def room_graph(graph: nx.DiGraph, sources: Mapping[str, str]) -> nx.DiGraph:
    rooms = nx.DiGraph()
    for source, target in graph.edges:
        ends = room(source, sources), room(target, sources)
        if ends[0] != ends[1]:
            rooms.add_edge(*ends)
    return rooms


def circles(graph: nx.DiGraph) -> list[list[str]]:
    return [sorted(c) for c in nx.strongly_connected_components(graph) if len(c) > 1]


def upward(graph: nx.DiGraph) -> list[str]:
    """Imports inside nas of a room that is not of a lower level."""
    level = {name: index for index, names in enumerate(LEVELS) for name in names}
    wrong = []
    for source, target in graph.edges:
        if not (source.startswith("nas.") and target.startswith("nas.")):
            continue
        here, there = source.split(".")[1], target.split(".")[1]
        if here != there and level[here] <= level[there]:
            wrong.append(f"{source} imports {target}")
    return sorted(wrong)


def wrong_arrows(package: str, source: str) -> list[str]:
    """Imports in `source`, a module of `package`, that point to the right or out of the layers."""
    forbidden = {*LAYERS[LAYERS.index(package) + 1 :], *OUTSIDE}
    return [
        f"line {line}: {package} imports {name}"
        for line, name in sorted(imported_names(source))
        if name in forbidden
    ]


def offending_lines(text: str, forbidden: tuple[str, ...] = FORBIDDEN) -> list[str]:
    # A path begins where a word does not go on: `https://host/work/` and `net/work/` are none.
    pattern = "|".join(
        (r"(?<![\w.-])" if word.startswith("/") else "") + re.escape(word) for word in forbidden
    )
    found = re.compile(pattern, re.IGNORECASE)
    return [
        f"line {number}: {line.strip()[:120]}"
        for number, line in enumerate(text.splitlines(), start=1)
        if found.search(line)
    ]


def repository_files() -> list[Path]:
    """Files that are tracked or could be added; skips the test where there is no git checkout."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip(f"git cannot list this checkout: {listing.stderr.decode().strip()}")
    paths = (ROOT / name for name in listing.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file()]  # deleted files are still listed


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(module_graph(all_sources())) == []


def test_no_folders_import_each_other_in_a_circle() -> None:
    sources = all_sources()
    assert circles(room_graph(module_graph(sources), sources)) == []


def test_rooms_of_nas_import_only_rooms_of_lower_levels() -> None:
    assert upward(module_graph(all_sources())) == []


def test_circles_and_upward_imports_are_found_wherever_they_stand() -> None:
    sources = {
        "nas.run.study": "def later():\n    from nas.workers.pool import open_workers",
        "nas.workers.pool": "from nas.run import folder",
        "nas.run.folder": "import evaluators.sizes",
        "evaluators.sizes": "",
    }
    graph = module_graph(sources)
    assert circles(graph) == []
    assert circles(room_graph(graph, sources)) == [["nas.run", "nas.workers"]]
    assert upward(graph) == ["nas.run.study imports nas.workers.pool"]
    sources["nas.run.folder"] = "import nas.run.study"
    assert circles(module_graph(sources)) == [
        ["nas.run.folder", "nas.run.study", "nas.workers.pool"]
    ]


@pytest.mark.parametrize("package", LAYERS)
def test_folders_hold_few_modules_and_all_have_a_docstring(package: str) -> None:
    counts: dict[Path, int] = {}
    for path in modules(package):
        counts[path.parent] = counts.get(path.parent, 0) + (path.name != "__init__.py")
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path}: docstring"
        assert (path.parent / "__init__.py").exists(), f"{path.parent}: the wheel would lack it"
    crowded = {str(path.relative_to(ROOT)): n for path, n in counts.items() if n > MOST_MODULES}
    assert not crowded, f"more than {MOST_MODULES} modules: {crowded}"


@pytest.mark.parametrize("package", LAYERS)
def test_the_test_tree_mirrors_the_package(package: str) -> None:
    for path in (ROOT / "tests" / package).rglob("test_*.py"):
        mirrored = ROOT / path.parent.relative_to(ROOT / "tests")
        assert mirrored.is_dir(), f"{path.relative_to(ROOT)} mirrors no folder"


@pytest.mark.parametrize("package", LAYERS)
def test_packages_import_only_themselves_and_those_left_of_them(package: str) -> None:
    files = modules(package)
    assert files, f"no modules found in {ROOT / package}"
    wrong = [
        f"{path.relative_to(ROOT)} {arrow}"
        for path in files
        for arrow in wrong_arrows(package, path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


def test_wrong_arrows_are_found_wherever_they_stand() -> None:
    source = """\
from typing import TYPE_CHECKING
import search_spaces.space as spaces, numpy
from . import nas
from evaluators import costs
if TYPE_CHECKING:
    from nas.study import Study
def later():
    import run_search
    import importlib
    importlib.import_module("tests.nas")
"""
    assert wrong_arrows("evaluators", source) == [
        "line 6: evaluators imports nas",
        "line 8: evaluators imports run_search",
        "line 10: evaluators imports tests",
    ]
    assert wrong_arrows("hardware_profiles", source)[0] == (
        "line 4: hardware_profiles imports evaluators"
    )
    assert "line 2: search_spaces imports search_spaces" not in wrong_arrows(
        "search_spaces", source
    )


def test_no_file_names_a_machine_path_or_a_registry_host() -> None:
    offences = [
        f"{path.relative_to(ROOT)} {line}"
        for path in repository_files()
        for line in offending_lines(path.read_bytes().decode("utf-8", errors="replace"))
    ]
    assert not offences, "\n".join(offences)


@pytest.mark.parametrize("word", FORBIDDEN)
def test_forbidden_words_are_found(word: str) -> None:
    assert offending_lines(f"first\nsee '{word}' there\n") == [f"line 2: see '{word}' there"]


def test_a_word_within_a_longer_path_is_not_forbidden() -> None:
    assert offending_lines("see example.org/a" + FORBIDDEN[0] + " there") == []


@pytest.mark.parametrize("package", LAYERS)
def test_no_module_is_too_long(package: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in modules(package)
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE}
    assert not too_long, f"longer than {LONGEST_MODULE} lines: {too_long}"
