"""Labels of tables: words that look like gaps, gaps, numbers, and encodings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from evaluators.data.dataset import PARTS
from evaluators.data.files.kinds import kind_of_data
from evaluators.data.files.sentences import load_sentences
from evaluators.data.files.tables import (
    _by_part_of_hub,
    column_of,
    from_files,
    label_column,
    label_titles,
    label_values,
    labelled,
    values_of,
)
from evaluators.data.files.text import load_text
from search_spaces.errors import UserError


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def rows(first: str, second: str, n: int = 20) -> str:
    sides = [("north", first), ("south", second)] * n
    return "text,label\n" + "".join(f"a shipment to the {s},{label}\n" for s, label in sides)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_sentences(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("word", ["NA", "None", "null", "nan", "N/A"])
def test_words_for_nothing_are_labels(tmp_path: Path, word: str) -> None:
    (tmp_path / "d.csv").write_text(rows(word, "EU"))
    assert load_sentences(str(tmp_path / "d.csv")).classes == tuple(sorted([word, "EU"]))


def test_an_empty_cell_is_a_gap(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(rows("1", "0") + "a letter to the east,\n")
    assert "row 40 of train has no label in column 'label'" in refusal(tmp_path / "d.csv")


def test_a_null_is_a_gap_and_a_word_is_not(tmp_path: Path) -> None:
    lines = [{"text": f"letter {i}", "label": ["null", "EU"][i % 2]} for i in range(40)]
    file = tmp_path / "d.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    assert load_sentences(str(file)).classes == ("EU", "null")
    file.write_text("\n".join(map(json.dumps, [*lines, {"text": "a", "label": None}])))
    assert "row 40 of train has no label" in refusal(file)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_encodings_of_windows_are_read(tmp_path: Path, encoding: str, ending: str) -> None:
    lines = [{"text": f"Straße {i}", "label": ["ä", "ö"][i % 2]} for i in range(40)]
    content = {
        ".csv": rows("ä", "ö").replace("\n", "\r\n"),
        ".jsonl": "\r\n".join(map(json.dumps, lines)),
    }
    file = tmp_path / f"d{ending}"
    file.write_bytes(content[ending].encode(encoding))
    assert load_sentences(str(file)).classes == ("ä", "ö")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8"])
def test_a_byte_order_mark_is_no_character(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "d.txt").write_bytes(("abba" * 50).encode(encoding))
    assert load_text(str(tmp_path / "d.txt")).vocabulary.characters == "ab"


def table(labels: list[Any]) -> Any:
    return datasets.Dataset.from_dict({"text": ["a"] * len(labels), "label": labels})


def values(**parts: list[Any]) -> list[Any]:
    tables = {part: table(labels) for part, labels in parts.items()}
    return label_values(tables, dict.fromkeys(tables, "label"), "data")


def test_whole_numbers_may_be_stored_as_fractions() -> None:
    found = values(train=[0.0, 2.0, 1.0], test=[2.0])
    assert label_titles(table([0.0, 2.0]), "label", found) == ("0", "1", "2")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"train": [0.0, float("nan"), 1.0]}, "row 1 of train has no label"),
        ({"train": ["a", "b"], "test": ["a", None]}, "row 1 of test has no label"),
        ({"train": [0.0, 0.37]}, "has the number 0.37, expected classes"),
        ({"train": ["a", "b"], "test": [0, 1]}, "numbers in one part and words in another"),
        ({"train": ["a", "b"], "test": ["a", "c"]}, "label 'c' of test is not in the training"),
        ({"train": ["a", "a"]}, "has only one label, 'a'"),
        ({"train": ["a", "", "b"]}, "row 1 of train has no label"),
        ({"train": ["a", "b", " "]}, "row 2 of train has no label"),
        ({"train": [b"a", b"b"]}, "column 'label' is binary, expected a number or a word"),
        ({"train": ["cat", "cat ", "dog"]}, "labels 'cat' and 'cat ' look alike"),
        ({"train": ["\xe9", "dog"], "test": ["e\u0301"]}, r"'e\\u0301' and '\\xe9' look alike"),
    ],
)
def test_labels_that_are_no_classes_are_refused(parts: dict[str, list[Any]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        values(**parts)


def test_secret_labels_leave_a_part_out() -> None:
    tables = {"train": table([0, 1]), "test": table([-1, -1])}
    assert list(labelled(tables, "data")) == ["train"]


def test_splits_of_the_hub_belong_to_parts_by_their_words() -> None:
    names = ("train", "validation_matched", "validation_mismatched", "dev", "extra")
    found = _by_part_of_hub({name: table([0] * (i + 1)) for i, name in enumerate(names)})
    assert {part: len(t) for part, t in found.items()} == {"train": 1, "validation": 9, "extra": 5}


def test_kinds_of_files_do_not_mix_in_a_part(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(rows("x", "y"))
    (tmp_path / "b.jsonl").write_text('{"text": "a", "label": "x"}\n')
    assert "the train part has files .csv, .jsonl: keep one kind" in refusal(tmp_path)


def test_labels_of_csv_files_are_words_until_all_are_whole_numbers(tmp_path: Path) -> None:
    file = tmp_path / "d.csv"
    for cells, classes in {
        ("10", "9", "-1"): ("-1", "9", "10"),
        ("007", "7", "07"): ("007", "07", "7"),
        ("1.0", "0.0", "2"): ("0", "1", "2"),
        ("1.5", "x", "inf"): ("1.5", "inf", "x"),
        ("True", "False", "true"): ("False", "True", "true"),
        ("9007199254740993", "9007199254740992", "1"): (
            "1",
            "9007199254740992",
            "9007199254740993",
        ),
    }.items():
        lines = [f"letter {i},{cells[i % 3]}\n" for i in range(60)]
        file.write_text("text,label\n" + "".join(lines))
        assert load_sentences(str(file)).classes == classes


def test_texts_of_digits_are_texts(tmp_path: Path) -> None:
    lines = [f"{i:03},{'xy'[i % 2]}\n" for i in range(40)]
    (tmp_path / "d.csv").write_text("text,label\n" + "".join(lines))
    assert load_sentences(str(tmp_path / "d.csv")).extent("train") == 32


def test_rows_longer_than_the_header_are_refused(tmp_path: Path) -> None:
    lines = [f"letter {i}, in short,{'xy'[i % 2]}\n" for i in range(40)]
    (tmp_path / "d.csv").write_text("text,label\n" + "".join(lines))
    assert "d.csv has rows with more cells than its header" in refusal(tmp_path / "d.csv")


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    lines = [f"letter {i},{'xy'[i % 2]},{'vw'[i % 2]}\n" for i in range(40)]
    (tmp_path / "d.csv").write_text("text,label,label\n" + "".join(lines))
    assert "d.csv has two columns 'label'" in refusal(tmp_path / "d.csv")


@pytest.mark.parametrize(("row", "line"), [(3, 5), (39, 41)])
def test_a_quotation_mark_that_is_left_open_is_refused(tmp_path: Path, row: int, line: int) -> None:
    """Rows up to the next mark, or to the end, would be one cell."""
    lines = [f"letter {i},{'xy'[i % 2]}\n" for i in range(40)]
    lines[row] = f'"letter {row},{"xy"[row % 2]}\n'
    lines[20] = '"letter, 20",x\n'
    (tmp_path / "d.csv").write_text("text,label\n" + "".join(lines))
    assert f"d.csv, line {line}: a cell opens with a quotation mark" in refusal(tmp_path / "d.csv")


@pytest.mark.parametrize(
    ("ending", "separator"), [("csv", ";"), ("csv", "\t"), ("tsv", "\t"), ("csv", ", ")]
)
@pytest.mark.parametrize("names", [("text", "label"), ("Text", "LABEL")])
def test_cells_may_be_separated_otherwise_and_columns_written_in_any_case(
    tmp_path: Path, ending: str, separator: str, names: tuple[str, str]
) -> None:
    lines = [separator.join(names), *(f"00{i}{separator}{'xy'[i % 2]}" for i in range(40))]
    path = tmp_path / f"d.{ending}"
    path.write_text("\n".join(lines))
    table = from_files({"train": [path]}, tmp_path)["train"]
    assert (column_of(table, ["text"], "text", ""), label_column(table, "")) == names
    assert values_of(table, names[0])[:2] == ["000", "001"]
    assert values_of(table, names[1])[:2] == ["x", "y"]


def test_a_space_is_kept_where_only_a_cell_begins_with_one(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text,label\n a,x\nb,y\n")
    assert from_files({"train": [tmp_path / "d.csv"]}, tmp_path)["train"]["text"][:] == [" a", "b"]


def test_files_whose_cells_are_separated_differently_are_refused(tmp_path: Path) -> None:
    for name, separator in (("a.csv", ","), ("b.csv", ";")):
        (tmp_path / name).write_text(f"text{separator}label\na{separator}x\n")
    with pytest.raises(UserError, match=r"cells of a.csv and of b.csv are separated differently"):
        from_files({"train": [tmp_path / "a.csv", tmp_path / "b.csv"]}, tmp_path)


def test_of_columns_that_differ_in_case_the_one_in_lower_case_is_read(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("Text,text,label\na,b,x\n")
    table = from_files({"train": [tmp_path / "d.csv"]}, tmp_path)["train"]
    assert column_of(table, ["text"], "text", "") == "text"


def test_rows_of_parquet_are_sentences_whatever_the_case_of_their_columns(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"Text": ["a", "b"] * 20, "Label": ["x", "y"] * 20})
    rows.to_parquet(tmp_path / "d.parquet")
    assert kind_of_data(str(tmp_path / "d.parquet")) == "sentences"
    assert load_sentences(str(tmp_path / "d.parquet")).classes == ("x", "y")


def test_cells_of_several_lines_and_marks_within_a_line_are_read(tmp_path: Path) -> None:
    lines = [f"letter {i},{'xy'[i % 2]}\n" for i in range(40)]
    lines[3] = '"letter 3\nof two ""lines""",y\n'
    lines[5] = '5" nails,y\n'
    lines[7] = f'"{"long " * 40_000}",y\n'
    (tmp_path / "d.csv").write_text("text,label\n" + "".join(lines))
    data = load_sentences(str(tmp_path / "d.csv"))
    assert sum(data.extent(part) for part in ("train", "validation", "test")) == 40


@pytest.mark.parametrize("name", ["d[1]", "d?", "d*", "{d1,d2}", "d%31", "d#", "d 1", "d\n1"])
@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_the_file_of_a_name_is_read_and_no_other(tmp_path: Path, name: str, ending: str) -> None:
    for folder, word in (("d1", "other"), (name, "own")):
        (tmp_path / folder).mkdir()
        lines = [{"text": f"letter {i}", "label": ["EU", word][i % 2]} for i in range(40)]
        table = "\n".join(map(json.dumps, lines)) if ending == ".jsonl" else rows("EU", word)
        (tmp_path / folder / f"a{ending}").write_text(table)
    for path in (tmp_path / name, tmp_path / name / f"a{ending}"):
        data = load_sentences(str(path))
        assert data.classes == ("EU", "own")
        assert sum(map(data.extent, PARTS)) == 40


def test_a_path_that_stands_for_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv::b").mkdir()
    (tmp_path / "a.csv").write_text(rows("EU", "other"))
    (tmp_path / "a.csv::b" / "c.csv").write_text(rows("EU", "own"))
    assert "has '::' in its path" in refusal(tmp_path / "a.csv::b" / "c.csv")


def divided(path: Path, part: str, rows: range, split: Any) -> None:
    lines = [{"text": f"{part} {i}", "label": "xy"[i % 2], "split": split(i)} for i in rows]
    path.write_text("\n".join(map(json.dumps, lines)))


def test_a_column_may_name_the_parts_of_rows(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    divided(file, "row", range(60), lambda i: "train" if i < 40 else "Test" if i < 50 else "dev")
    data = load_sentences(str(file))
    assert [data.extent(part) for part in ("train", "validation", "test")] == [40, 10, 10]
    divided(file, "row", range(60), lambda i: "train" if i < 40 else "rest")
    assert "column 'split' has 'rest', expected train, validation or test" in refusal(file)
    divided(file, "row", range(60), lambda i: ["north", "south"][i % 2])
    assert load_sentences(str(file)).extent("train") == 48


def test_rows_of_another_part_than_their_file_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "d"
    root.mkdir()
    divided(root / "train.jsonl", "train", range(40), lambda i: "train")
    divided(root / "test.jsonl", "test", range(20), lambda i: "test")
    assert load_sentences(str(root)).extent("test") == 20
    divided(root / "test.jsonl", "test", range(20), lambda i: "train" if i < 3 else "test")
    assert "rows of test are of train by their column 'split'" in refusal(root)


def of_names(names: list[str], values: list[int]) -> datasets.Dataset:
    kinds = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
    )
    texts = [f"letter {i}" for i in range(len(values))]
    return datasets.Dataset.from_dict({"text": texts, "label": values}, features=kinds)


def test_numbers_of_other_names_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "d"
    root.mkdir()
    of_names(["cat", "dog"], [0, 1] * 20).to_parquet(root / "train.parquet")
    of_names(["cat", "dog", "eel"], [0, 1] * 5).to_parquet(root / "test.parquet")
    assert load_sentences(str(root)).classes == ("cat", "dog")
    of_names(["dog", "cat"], [0, 1] * 5).to_parquet(root / "test.parquet")
    assert "test has the class 0 'dog', in train it is 'cat'" in refusal(root)
    (root / "test.parquet").rename(root / "train-2.parquet")
    assert "has other classes in 'label' than" in refusal(root)


def test_a_number_without_a_name_is_no_label(tmp_path: Path) -> None:
    of_names(["cat", "dog"], [0, 1] * 20 + [-1]).to_parquet(tmp_path / "d.parquet")
    said = refusal(tmp_path / "d.parquet")
    assert "row 40 of train has the label -1 in column 'label', which has no name" in said


def test_a_test_part_of_the_class_minus_1_is_kept() -> None:
    kept = datasets.Dataset.from_dict({"label": [-1, -1]})
    for first, parts in ((-1, {"train", "test"}), (0, {"train"})):
        train = datasets.Dataset.from_dict({"label": [first, 1]})
        assert set(labelled({"train": train, "test": kept}, "d")) == parts


def test_endless_numbers_are_no_labels() -> None:
    parts = {"train": datasets.Dataset.from_dict({"label": [1.0, float("inf")]})}
    with pytest.raises(UserError, match="has the number inf"):
        label_values(parts, {"train": "label"}, "d")
