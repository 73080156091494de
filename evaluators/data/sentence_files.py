"""Reading labelled sentences: a file of rows, a folder of them by part, or a data set of the hub.

Knows files and columns. Does not know networks (`sentences.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordPieceTrainer

from evaluators.data.held_out import held_out
from evaluators.data.sentences import SentenceData, Sentences
from evaluators.data.table_files import (
    TABLE_ENDINGS,
    Tables,
    column_of,
    from_files,
    from_hub,
    is_hub_name,
    label_column,
    label_titles,
    label_values,
)
from evaluators.data.text_files import TEXT_COLUMNS
from search_spaces.errors import UserError

SPLIT_SEED = 0
"""Of the parts that the data do not bring; not the run's, as with all data."""

HELD_OUT = 0.1
VOCABULARY = 8_192
"""Word pieces at most."""

LONGEST = 128
"""Tokens of a sentence at most."""

COVERED = 0.95
"""Share of the training sentences that are not cut."""

NO_LABEL = -1
"""What the hub's sets write for a test part whose labels are secret."""


def load_sentences(name: str) -> SentenceData:
    """Load labelled sentences by name or from a path.

    The word pieces are learnt from the training sentences, and so is their length, a multiple of 8
    up to `LONGEST`; longer ones are cut.

    Args:
        name: any `owner/name` of the Hugging Face hub, a parquet, CSV or JSON-lines file, or a
            folder of them (`train*`, perhaps `validation*` and `test*`), with a column of text and
            one of labels.

    Raises:
        UserError: for a name that is neither, or rows that are not sentences with labels.
    """
    path = Path(name)
    if path.exists():
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        files = [f for f in files if f.suffix.lower() in TABLE_ENDINGS]
        if not files:
            raise UserError(f"{path} is no table of sentences: expected {', '.join(TABLE_ENDINGS)}")
        tables = from_files(files, path, "sentences")
    elif is_hub_name(name):
        tables = from_hub(name, "a parquet, CSV or JSON-lines file")
    else:
        raise UserError(f"no data at '{name}': expected a file, a folder or owner/name of the hub")
    return _data(_labelled(tables, name), name)


def _labelled(tables: Tables, name: str) -> Tables:
    """The parts that have labels, in the order of their use."""
    if "train" not in tables:
        raise UserError(f"{name} has no training part (it has {', '.join(tables)})")
    parts = {part: tables[part] for part in ("train", "validation", "test") if part in tables}
    return {
        part: table
        for part, table in parts.items()
        if part == "train" or set(table.unique(label_column(table, name))) != {NO_LABEL}
    }


def _data(tables: Tables, name: str) -> SentenceData:
    columns = {part: label_column(table, name) for part, table in tables.items()}
    values = label_values(tables, columns, name)
    classes = label_titles(tables["train"], columns["train"], values)
    if len(classes) < 2:
        raise UserError(f"{name} has one label only, '{classes[0]}': expected two or more")
    index = {value: i for i, value in enumerate(values)}
    raw = {}
    for part, table in tables.items():
        texts = list(table[column_of(table, TEXT_COLUMNS, "text", name)])
        wrong = next((row for row, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise UserError(f"{name}: row {wrong} of {part} has no text")
        labels = torch.tensor([index[value] for value in table[columns[part]]])
        raw[part] = _Texts(np.array(texts, dtype=object), labels)
    raw = held_out(raw, name, classes, HELD_OUT, SPLIT_SEED, "sentences")
    tokenizer = learnt(raw["train"].texts.tolist(), VOCABULARY)
    lengths = [len(e.ids) for e in tokenizer.encode_batch(raw["train"].texts.tolist())]
    covering = int(np.quantile(lengths, COVERED, method="higher"))
    with_length(tokenizer, min(LONGEST, -(-covering // 8) * 8))
    parts = {part: _encoded(tokenizer, texts) for part, texts in raw.items()}
    return SentenceData(
        name,
        parts["train"],
        parts["validation"],
        parts["test"],
        classes,
        tokenizer.get_vocab_size(),
        tokenizer.to_str(),
    )


class _Texts:
    """Sentences before they are tokens, with labels `(n,)`."""

    def __init__(self, texts: Any, labels: torch.Tensor) -> None:
        self.texts = texts
        self.labels = labels

    def __getitem__(self, indices: torch.Tensor) -> _Texts:
        return _Texts(self.texts[indices.numpy()], self.labels[indices])


def _encoded(tokenizer: Any, texts: _Texts) -> Sentences:
    ids: Sequence[Sequence[int]] = [e.ids for e in tokenizer.encode_batch(texts.texts.tolist())]
    return Sentences(torch.tensor(ids, dtype=torch.int32), texts.labels)


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
"""Of which the first is what sentences are filled up with, id 0."""

LEAST_COUNT = 2
"""How often a piece must be there to be one."""


def learnt(sentences: Sequence[str], size: int) -> Tokenizer:
    """A tokenizer of at most about `size` pieces, and all characters that there are.

    The trainer numbers the pieces that go on within a word in the order of a hash map, another one
    in each process, and takes lower numbers first where pairs are as frequent. So they are numbered
    before: named as special ones, which they are no longer in what is returned.
    """
    learning = _tokenizer(WordPiece(unk_token="[UNK]"))
    normalizer = BertNormalizer()
    characters = sorted({c for s in sentences for c in normalizer.normalize_str(s)} - {" "})
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=LEAST_COUNT,
        special_tokens=[*SPECIAL, *(f"##{character}" for character in characters)],
        show_progress=False,
    )
    learning.train_from_iterator(sentences, trainer)
    tokenizer = _tokenizer(WordPiece(learning.get_vocab(), unk_token="[UNK]"))
    begin, end = (SPECIAL.index(token) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = BertProcessing(("[SEP]", end), ("[CLS]", begin))
    return tokenizer


def _tokenizer(model: WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


def with_length(tokenizer: Tokenizer, tokens: int) -> Tokenizer:
    """The tokenizer, in place, so that it fills up or cuts every sentence to so many tokens."""
    tokenizer.enable_padding(length=tokens, pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(tokens)
    return tokenizer
