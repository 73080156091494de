"""Reading texts: parts, tokens and errors."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from evaluators.data.files import text as text_files
from evaluators.data.files.text import load_text
from evaluators.data.text import TextData
from search_spaces.errors import UserError

SENTENCE = "The quick brown fox jumps over the lazy dog. "


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def said(data: TextData, ids: Tensor) -> str:
    return "".join(data.vocabulary.characters[i] for i in ids.tolist())


def parts(data: TextData) -> list[str]:
    return [said(data, ids) for ids in (data.train, data.validation, data.test)]


def test_a_file_is_cut_into_contiguous_parts_that_do_not_overlap(tmp_path: Path) -> None:
    whole = "".join(chr(33 + i % 90) + SENTENCE for i in range(40))
    (tmp_path / "a.txt").write_text(whole)
    data = load_text(str(tmp_path / "a.txt"))
    assert "".join(parts(data)) == whole
    held = round(0.1 * len(whole))
    assert [len(p) for p in parts(data)] == [len(whole) - 2 * held, held, held]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=10, max_size=60))
def test_characters_are_numbered_in_their_order_and_read_back(text: str) -> None:
    vocabulary, tokens = text_files._characters({"train": text})
    assert vocabulary.characters == "".join(sorted(set(text)))
    assert vocabulary.size == len(set(text))
    assert "".join(vocabulary.characters[i] for i in tokens["train"].tolist()) == text


def test_a_folder_of_parts_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "train-0.txt").write_text("ab" * 50)
    (tmp_path / "train-1.txt").write_text("cd" * 50)
    (tmp_path / "test.txt").write_text("eeee")
    data = load_text(str(tmp_path))
    train, validation, test = parts(data)
    assert train + validation == "ab" * 50 + "cd" * 50
    assert len(validation) == 20
    assert test == "eeee"
    assert data.vocabulary.characters == "abcde"
    assert data.description == {"vocabulary": 5, "characters": "abcde"}
    assert data.files == {}


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_rows_of_a_column_of_text_are_lines(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    rows = [f"row {i}" for i in range(30)]
    if ending == "parquet":
        pq.write_table(pa.table({"id": range(30), "text": rows}), path)
    elif ending == "csv":
        path.write_text("id,text\n" + "".join(f"{i},{row}\n" for i, row in enumerate(rows)))
    else:
        path.write_text("".join(f'{{"text": "{row}"}}\n' for row in rows))
    assert "".join(parts(load_text(str(path)))) == "".join(f"{row}\n" for row in rows)


def test_a_tokenizer_in_the_folder_makes_the_tokens(tmp_path: Path) -> None:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=300, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([SENTENCE * 20], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "train.txt").write_text(SENTENCE * 50)
    data = load_text(str(tmp_path))
    assert data.space_options == {"vocabulary": tokenizer.get_vocab_size()}
    whole = tokenizer.encode(SENTENCE * 50).ids
    assert [*data.train.tolist(), *data.validation.tolist(), *data.test.tolist()] == whole
    assert len(whole) < len(SENTENCE * 50)
    assert Tokenizer.from_str(data.files["tokenizer.json"]).encode("lazy").ids


def test_a_tokenizer_for_sentences_reads_the_whole_text(tmp_path: Path) -> None:
    """Its file says to what length it cuts them, and up to which it fills them up."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "a": 1, "few": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding(length=128)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "train.txt").write_text("a few " * 500)
    (tmp_path / "test.txt").write_text("few a " * 50)
    data = load_text(str(tmp_path))
    assert len(data.train) + len(data.validation) == 1000
    assert data.test.tolist() == [2, 1] * 50


def test_tinyshakespeare_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "input.txt"
    source.write_text(SENTENCE * 50)
    monkeypatch.setattr(text_files, "TINY_SHAKESPEARE", source.as_uri())
    first = load_text("tinyshakespeare")
    source.unlink()
    again = load_text("tinyshakespeare")
    assert "".join(parts(first)) == "".join(parts(again)) == SENTENCE * 50
    monkeypatch.setattr(text_files, "TINY_SHAKESPEARE", (tmp_path / "gone").as_uri())
    with pytest.raises(UserError, match=r"cannot fetch file:.*; give a text file instead"):
        load_text("tinyshakespeare")


def test_errors_of_text_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00\xd8")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "none").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.txt").write_text(SENTENCE)
    (tmp_path / "broken" / "tokenizer.json").write_text("{}")
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "numbers.parquet")
    for name, message in (
        ("bytes.txt", "is not a text file in UTF-8"),
        ("empty.txt", "the train part is empty, expected text"),
        ("none", r"has no text files \(\*\.txt\)"),
        ("broken", "tokenizer.json is not a tokenizer"),
        ("numbers.parquet", r"has no text column \(its columns are a; expected one of"),
        ("gone.txt", "no data at .*gone.txt': expected a text file"),
    ):
        with pytest.raises(UserError, match=message):
            load_text(str(tmp_path / name))
    with pytest.raises(UserError, match="unknown text 'tinyshakespear': did you mean 'tinyshakes"):
        load_text("tinyshakespear")
