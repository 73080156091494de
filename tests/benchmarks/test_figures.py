"""docs/figures.md and the README's table are what `benchmarks/figures.py` makes of the results."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, loaded from its path; its modules lie beside it, as when it is run."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("figures", BENCHMARKS / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def elsewhere(figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script's files in a folder that a test may change."""
    (tmp_path / "docs").mkdir()
    shutil.copytree(BENCHMARKS / "results", tmp_path / "results")
    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(figures, "PAGE", tmp_path / "docs" / "figures.md")
    monkeypatch.setattr(figures, "README", tmp_path / "README.md")
    return tmp_path


def test_the_page_and_the_readme_are_what_the_script_writes(figures: ModuleType) -> None:
    results = figures.load(BENCHMARKS / "results")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert (ROOT / "docs" / "figures.md").read_text(encoding="utf-8") == figures.page(results)
    assert readme == figures.readme(readme, results)
    assert figures.main(["--check"]) == 0


def test_every_result_is_on_the_page_with_its_command(figures: ModuleType) -> None:
    results = figures.load(BENCHMARKS / "results")
    read = set()

    class Watched(dict):  # type: ignore[type-arg]
        def __getitem__(self, name: str) -> object:
            read.add(name)
            return super().__getitem__(name)

    topics = [topic(Watched(results)) for topic in figures.TOPICS]
    page = "".join(figures.table(topic.rows) + "".join(topic.remarks) for topic in topics)

    assert read == {path.stem for path in (BENCHMARKS / "results").glob("*.json")}
    for result in results.values():
        assert f"`{result.command}`" in page


def test_a_changed_result_makes_the_page_stale_until_it_is_written_again(
    figures: ModuleType, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures.main([])
    assert figures.main(["--check"]) == 0
    path = elsewhere / "results" / "pays.json"
    content = json.loads(path.read_text())
    cell = {"side": "engine", "budget": "3M", "minutes": 15.0}
    rows = [r for r in content["rows"] if {key: r[key] for key in cell} == cell]
    assert rows
    for row in rows:
        row["test accuracy"] = 0.8765
    path.write_text(json.dumps(content))
    capsys.readouterr()

    assert figures.main(["--check"]) == 1
    assert capsys.readouterr().out.count("is stale") == 2
    assert "87.7 %" not in (elsewhere / "README.md").read_text()

    assert figures.main([]) == 0
    assert figures.main(["--check"]) == 0
    for name in ("docs/figures.md", "README.md"):
        assert "87.7 %" in (elsewhere / name).read_text()


def test_an_ambiguous_row_is_refused(figures: ModuleType) -> None:
    results = figures.load(BENCHMARKS / "results")

    with pytest.raises(LookupError, match="21 rows"):
        results["latency_fit"].row()
    with pytest.raises(LookupError, match="0 rows"):
        results["counting"].row("no such counter")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("fixed(0.495, 2)", "0.50"),  # half up from the decimal, not from its binary neighbour
        ("fixed(1234567.8)", "1,234,568"),
        ("percent(0.7908)", "79.1 %"),
        ("sized(3000000)", "3M"),
        ("sized(2999114)", "3.00M"),
        ("sized(161783)", "162k"),
        ("sized(5.1)", "5.1"),
        ("span([0.634, 0.714])", "0.63 to 0.71"),
        ("span([1.0, 1.0], 0)", "1"),
        ("spread([0.7368, 0.6954, 0.7262])", "71.9 ± 2.2 %"),
    ],
)
def test_numbers_are_written_as(figures: ModuleType, written: str, expected: str) -> None:
    import figures_format

    assert eval(written, vars(figures_format)) == expected
