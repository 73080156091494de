"""Reads labelled sentences from files of rows or the hub, and trains a tokenizer on them.

Knows files, columns and word pieces. Does not know how sentences are batched and scored
(`sentences.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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

from evaluators.data.files.parts import by_part, origins, reasons, visible_files
from evaluators.data.files.tables import (
    TABLE_ENDINGS,
    TEXT_COLUMNS,
    column_of,
    from_files,
    from_hub,
    in_order,
    is_hub_name,
    label_column,
    label_titles,
    label_values,
    labelled,
    values_of,
)
from evaluators.data.files.unread import check_parts
from evaluators.data.held_out import HELD_OUT, SPLIT_SEED, held_out, origins_of
from evaluators.data.sentences import SentenceData, Sentences
from search_spaces.errors import UserError

MAX_VOCABULARY = 8_192
"""Most word pieces of a tokenizer."""

MAX_TOKENS = 128
"""Most tokens of a sentence."""

COVERED = 0.95
"""Share of the training sentences that are not truncated."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
"""Special tokens by id; the first is the padding."""

MIN_PIECE_COUNT = 2
"""Fewest occurrences of a word piece."""


def load_sentences(name: str) -> SentenceData:
    """Load labelled sentences by name or from a path.

    Word pieces are learned from the training sentences. Sentences are padded and truncated to one
    length, a multiple of 8 up to `MAX_TOKENS` that covers the share `COVERED` of them.

    Args:
        name: any `owner/name` of the Hugging Face hub, a Parquet, CSV or JSON-lines file, or a
            folder of them (`train*`, optionally `validation*` and `test*`), with a column of text
            and one of labels.

    Raises:
        UserError: for an unknown name, or rows that are not sentences with labels.
    """
    found = find_sentences(name)
    raw = {
        part: _Texts(np.array(texts, dtype=object), torch.tensor(found.labels[part]))
        for part, texts in found.texts.items()
    }
    shown = origins_of(raw, found.origins)
    raw = held_out(raw, name, found.classes, found.share, SPLIT_SEED, "sentences")
    tokenizer = train_tokenizer(raw["train"].texts.tolist(), MAX_VOCABULARY)
    lengths = [len(e.ids) for e in tokenizer.encode_batch(raw["train"].texts.tolist())]
    covering = int(np.quantile(lengths, COVERED, method="higher"))
    set_length(tokenizer, min(MAX_TOKENS, -(-covering // 8) * 8))
    parts = {part: _encoded(tokenizer, texts) for part, texts in raw.items()}
    # Mistakes on the test part are named; of the other parts nothing is.
    train, validation = (replace(parts[part], texts=None) for part in ("train", "validation"))
    return SentenceData(
        name,
        train,
        validation,
        parts["test"],
        found.classes,
        tokenizer.get_vocab_size(),
        tokenizer.to_str(),
        shown,
    )


@dataclass(frozen=True)
class FoundSentences:
    """Sentences with labels by part as files have them, none held out yet."""

    name: str
    texts: Mapping[str, list[str]]
    labels: Mapping[str, list[int]]
    """Index of the class of each sentence."""
    classes: tuple[str, ...]
    origins: Mapping[str, str]
    """File or folder of each part, where it has one."""
    reasons: Mapping[str, str]
    """Why it is of that part, where files are."""
    share: float = HELD_OUT
    """Share of all sentences that is held out for each part that is missing."""

    def sample_name(self, part: str, row: int) -> str:
        """The part and row of a sentence."""
        return f"{part}: row {row}"


def find_sentences(name: str) -> FoundSentences:
    """Find sentences with labels by name or path; see `load_sentences`.

    Raises:
        UserError: for an unknown name, or rows that are not sentences with labels.
    """
    path = Path(name)
    known, why = dict[str, str](), dict[str, str]()
    if path.exists():
        files = visible_files(path, TABLE_ENDINGS) if path.is_dir() else [path]
        if not files or files[0].suffix.lower() not in TABLE_ENDINGS:
            raise UserError(f"no table of sentences at {path}: expected {', '.join(TABLE_ENDINGS)}")
        chosen = by_part(files, path, "sentences")
        if path.is_dir():
            check_parts(path, files)
        tables = from_files(chosen, path)
        known, why = origins(chosen, path), reasons(chosen, path)
    elif is_hub_name(name):
        tables = from_hub(name, "a parquet, CSV or JSON-lines file")
    else:
        raise UserError(f"no data at '{name}': expected a file, a folder or owner/name of the hub")
    tables = labelled(in_order(tables, name), name)
    columns = {part: label_column(table, name) for part, table in tables.items()}
    values = label_values(tables, columns, name)
    index = {value: i for i, value in enumerate(values)}
    texts = {part: _texts(table, part, name) for part, table in tables.items()}
    labels = {
        part: [index[value] for value in values_of(table, columns[part])]
        for part, table in tables.items()
    }
    classes = label_titles(tables["train"], columns["train"], values)
    return FoundSentences(name, texts, labels, classes, known, why)


def _texts(table: Any, part: str, name: str) -> list[str]:
    texts = values_of(table, column_of(table, TEXT_COLUMNS, "text", name))
    wrong = next((row for row, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise UserError(f"{name}: row {wrong} of {part} has no text")
    return texts


class _Texts:
    """Untokenised sentences with labels `(n,)`."""

    def __init__(self, texts: Any, labels: torch.Tensor) -> None:
        self.texts = texts
        self.labels = labels

    def __getitem__(self, indices: torch.Tensor) -> _Texts:
        return _Texts(self.texts[indices.numpy()], self.labels[indices])


def _encoded(tokenizer: Any, texts: _Texts) -> Sentences:
    ids: Sequence[Sequence[int]] = [e.ids for e in tokenizer.encode_batch(texts.texts.tolist())]
    return Sentences(torch.tensor(ids, dtype=torch.int32), texts.labels, texts.texts)


def train_tokenizer(sentences: Sequence[str], size: int) -> Tokenizer:
    """Train a WordPiece tokenizer of about `size` pieces at most, with all characters among them.

    The trainer numbers characters within words in the order of a hash map, which differs between
    processes, and breaks ties of equally frequent pairs by these numbers. For determinism they are
    numbered beforehand, as special tokens of the trainer; in the result they are ordinary pieces.
    """
    untrained = _tokenizer(WordPiece(unk_token="[UNK]"))
    normalizer = BertNormalizer()
    characters = sorted({c for s in sentences for c in normalizer.normalize_str(s)} - {" "})
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=MIN_PIECE_COUNT,
        special_tokens=[*SPECIAL_TOKENS, *(f"##{character}" for character in characters)],
        show_progress=False,
    )
    untrained.train_from_iterator(sentences, trainer)
    tokenizer = _tokenizer(WordPiece(untrained.get_vocab(), unk_token="[UNK]"))
    begin, end = (SPECIAL_TOKENS.index(token) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = BertProcessing(("[SEP]", end), ("[CLS]", begin))
    return tokenizer


def _tokenizer(model: WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


def set_length(tokenizer: Tokenizer, tokens: int) -> Tokenizer:
    """Make a tokenizer pad and truncate every sentence to `tokens` tokens; in place."""
    tokenizer.enable_padding(length=tokens, pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(tokens)
    return tokenizer
