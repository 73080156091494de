"""The shape of the repository: who may import whom, no traces of a machine, no overlong module."""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each package imports only itself and those left of it.
LAYERS = ("search_spaces", "hardware_profiles", "evaluators", "nas")
# Tops of the tree, which no package imports.
OUTSIDE = ("run_search", "tests", "benchmarks", "examples")
LONGEST_MODULE = 400

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


def imported_names(source: str) -> Iterator[tuple[int, str]]:
    """Line and top-level name of each absolute import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield node.lineno, alias.name.partition(".")[0]
            case ast.ImportFrom(module=str(module), level=0):
                yield node.lineno, module.partition(".")[0]
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield node.lineno, module.partition(".")[0]


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
