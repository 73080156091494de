"""Reading labelled sentences (columns, parts, lengths, errors), and their word pieces."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from evaluators.data.files.sentences import (
    MAX_TOKENS,
    SPECIAL_TOKENS,
    load_sentences,
    set_length,
    train_tokenizer,
)
from evaluators.data.sentences import Sentences
from search_spaces.errors import UserError

SENTENCES = [
    "The theory of the thing is that the other things gather.",
    "Neither weather nor leather bothers the mother of the brother.",
    "Gathering together, they thought of rather lengthy methods.",
] * 3

ROWS = [(f"this is number {i} and it is {'good' if i % 2 else 'bad'}", i % 2) for i in range(60)]


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def written(
    path: Path, rows: Sequence[tuple[object, object]], names: tuple[str, str] = ("text", "label")
) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        columns = [list(column) for column in zip(*rows, strict=True)]
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([names, *rows])
    else:
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines) + "\n")
    return str(path)


def texts(sentences: Sentences, tokenizer: str) -> list[str]:
    """Decoded sentences without special tokens and padding."""
    pieces = Tokenizer.from_str(tokenizer).id_to_token
    said = [
        " ".join(pieces(i) for i in ids if i not in (0, 2, 3)) for ids in sentences.ids.tolist()
    ]
    return [text.replace(" ##", "") for text in said]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_file_of_rows_is_held_out_by_class(tmp_path: Path, ending: str) -> None:
    data = load_sentences(written(tmp_path / f"all.{ending}", ROWS))
    parts = (data.train, data.validation, data.test)
    assert [len(p) for p in parts] == [48, 6, 6]
    assert all(int(p.labels.sum()) * 2 == len(p) for p in parts)
    assert data.classes == ("0", "1")
    found = [t for p in parts for t in texts(p, data.tokenizer)]
    assert sorted(found) == sorted(text for text, _ in ROWS)
    label = dict(ROWS)
    for part in parts:
        assert [label[t] for t in texts(part, data.tokenizer)] == part.labels.tolist()


def test_the_same_file_is_read_alike(tmp_path: Path) -> None:
    path = written(tmp_path / "all.csv", ROWS)
    first, again = load_sentences(path), load_sentences(path)
    assert first.train.ids.equal(again.train.ids)
    assert first.tokenizer == again.tokenizer


def test_a_folder_of_parts_keeps_them_and_its_columns_go_by_other_names(tmp_path: Path) -> None:
    named = ("sentence", "target")
    written(tmp_path / "train.parquet", [(t, ("no", "yes")[k]) for t, k in ROWS], named)
    written(tmp_path / "validation.parquet", [("it is good", "yes"), ("it is bad", "no")], named)
    data = load_sentences(str(tmp_path))
    assert data.classes == ("no", "yes")
    assert [len(p) for p in (data.train, data.validation, data.test)] == [54, 2, 6]
    assert texts(data.validation, data.tokenizer) == ["it is good", "it is bad"]


def test_a_test_part_whose_labels_are_secret_is_held_out_instead(tmp_path: Path) -> None:
    written(tmp_path / "train.parquet", ROWS)
    written(tmp_path / "test.parquet", [("this is good", -1), ("this is bad", -1)])
    data = load_sentences(str(tmp_path))
    assert data.classes == ("0", "1")
    assert len(data.test) == 6


def test_sentences_are_as_long_as_nearly_all_of_them(tmp_path: Path) -> None:
    rows = [("word " * 9, i % 2) for i in range(58)] + [("word " * 200, i) for i in range(2)]
    data = load_sentences(written(tmp_path / "some.csv", rows))
    assert data.sequence == 16
    assert (data.train.ids[:, 0] == 2).all()
    rows = [("word " * 300, i % 2) for i in range(60)]
    assert load_sentences(written(tmp_path / "all.csv", rows)).sequence == MAX_TOKENS


def test_word_pieces_are_learned_from_the_training_part_alone(tmp_path: Path) -> None:
    written(tmp_path / "train.csv", ROWS)
    written(tmp_path / "test.csv", [("zzz", 0), ("zzz", 1), ("zzz", 1)])
    data = load_sentences(str(tmp_path))
    assert "zz" not in json.loads(data.tokenizer)["model"]["vocab"]


def test_errors_of_sentence_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty.csv").write_text("text,label\n")
    (tmp_path / "empty.jsonl").write_text("")
    for path, message in (
        (str(tmp_path / "notes.txt"), "expected .parquet"),
        (str(tmp_path / "broken.parquet"), "cannot read"),
        (str(tmp_path / "empty.csv"), "the train part has no rows"),
        (str(tmp_path / "empty.jsonl"), "empty.jsonl is empty, expected a file of rows"),
        (written(tmp_path / "a.csv", ROWS, ("words", "label")), "has no text column"),
        (written(tmp_path / "b.csv", ROWS, ("text", "mark")), "has no label column"),
        (written(tmp_path / "c.csv", [("a b", 1)] * 9), "has only one label, '1'"),
        (written(tmp_path / "d.jsonl", [*ROWS, (None, 1)]), "row 60 of train has no text"),
        (written(tmp_path / "e.csv", [("a", 0), ("b", 1)]), "class '0' has too few sentences"),
        (str(tmp_path / "gone.csv"), "no data at"),
    ):
        with pytest.raises(UserError, match=message):
            load_sentences(path)
    written(tmp_path / "only" / "test.csv", ROWS)
    with pytest.raises(UserError, match="no training sentences: expected a file train"):
        load_sentences(str(tmp_path / "only"))


def test_frequent_words_become_whole_and_rare_ones_pieces() -> None:
    tokenizer = train_tokenizer(SENTENCES, 120)
    assert tokenizer.encode("the").tokens == ["[CLS]", "the", "[SEP]"]
    _, *pieces, _ = tokenizer.encode("rebother").tokens
    assert len(pieces) > 1
    assert "".join(pieces).replace("##", "") == "rebother"
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]


def test_the_same_sentences_give_the_same_pieces_in_every_process() -> None:
    """The trainer alone numbers pieces in the order of a hash map, different in each process."""
    code = (
        "from evaluators.data.files.sentences import train_tokenizer\n"
        f"print(sorted(train_tokenizer({SENTENCES!r}, 150).get_vocab().items()))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in range(4)
    }
    assert len(found) == 1


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=40))
def test_no_character_of_the_training_sentences_is_unknown(text: str) -> None:
    tokenizer = train_tokenizer([text, text], 30)
    assert "[UNK]" not in tokenizer.encode(text).tokens


def test_brackets_and_hashes_in_a_text_are_ordinary_pieces() -> None:
    tokenizer = train_tokenizer(["a ##b [CLS] here ##b"] * 2, 200)
    tokens = tokenizer.encode("##b [CLS]").tokens
    assert tokens == ["[CLS]", "#", "#", "b", "[", "cls", "]", "[SEP]"]


def test_sentences_are_padded_and_truncated() -> None:
    tokenizer = set_length(train_tokenizer(SENTENCES, 120), 6)
    short, long = tokenizer.encode_batch(["the", " ".join(SENTENCES)])
    assert short.tokens == ["[CLS]", "the", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert short.ids[3:] == [0, 0, 0]
    assert len(long.ids) == 6
    assert (long.tokens[0], long.tokens[-1]) == ("[CLS]", "[SEP]")
