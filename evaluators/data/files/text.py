"""Reads text for language models: a file, a folder of files by part, or a data set of the hub.

Knows files, tokens and where a text is cut into parts. Does not know windows (`text.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import torch
from torch import Tensor

from evaluators.data.files.parts import are_classes, by_part, origins, visible_files
from evaluators.data.files.tables import (
    TABLE_ENDINGS,
    TEXT_COLUMNS,
    Tables,
    column_of,
    from_files,
    from_hub,
    in_order,
    is_hub_name,
    reason,
)
from evaluators.data.files.unread import check_parts
from evaluators.data.held_out import HELD_OUT, origins_of
from evaluators.data.pixels import IMAGE_ENDINGS
from evaluators.data.text import TextData, Vocabulary
from search_spaces.errors import UserError, unknown
from search_spaces.files import read_text, write_text

TINY_SHAKESPEARE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
"""A million characters (Karpathy, "The unreasonable effectiveness of recurrent neural networks",
2015)."""

TEXT_SETS = ("tinyshakespeare",)
"""Texts known by name."""

TEXT_ENDINGS = (".txt", ".text", ".md")
"""Endings of text files, whose data need no name of a space."""

TOKENIZER = "tokenizer.json"

TIMEOUT_SECONDS = 30.0
"""Timeout for fetching a text from the web."""


def is_text(name: str) -> bool:
    """Return whether data can only be text: a text known by name, a text file, a folder of them.

    A text beside folders of images is about these.
    """
    path = Path(name)
    if path.is_dir():
        return any(path.glob("*.txt")) and not are_classes(path, IMAGE_ENDINGS)
    return name in TEXT_SETS or (path.suffix.lower() in TEXT_ENDINGS and path.is_file())


def load_text(name: str) -> TextData:
    """Load a text by name or from a path.

    Args:
        name: `tinyshakespeare`, any `owner/name` of the Hugging Face hub that has a column of text,
            a text file, a Parquet, CSV or JSON-lines file with such a column, or a folder of text
            files (`train*.txt`, optionally `validation*` and `test*`). Tokens are characters, or,
            with a Hugging Face `tokenizer.json` in the folder, the pieces of that tokenizer.

    Raises:
        UserError: for an unknown name, or files without text.
    """
    path = Path(name)
    tokenizer, known = "", dict[str, str]()
    if path.is_dir():
        files = _folder(path)
        texts = {part: "".join(map(read_text, of_part)) for part, of_part in files.items()}
        known = origins(files, path)
        if (path / TOKENIZER).is_file():
            tokenizer = read_text(path / TOKENIZER)
    elif path.suffix.lower() in TABLE_ENDINGS and path.is_file():
        texts = _joined(from_files({"train": [path]}, path), name)
    elif path.exists():
        texts = {"train": read_text(path)}
    elif name in TEXT_SETS:
        texts = {"train": _fetched(TINY_SHAKESPEARE)}
    elif is_hub_name(name):
        texts = _joined(from_hub(name, "a text file"), name)
    elif "/" in name or "." in name:
        raise UserError(f"no data at '{name}': expected a text file, a folder of them, or a name")
    else:
        raise unknown("text", name, TEXT_SETS)
    for part, text in texts.items():
        if not text:
            raise UserError(f"{name}: the {part} part is empty, expected text")
    vocabulary, tokens = _pieces(texts, tokenizer, name) if tokenizer else _characters(texts)
    whole = _complete(tokens)
    return TextData(
        name,
        whole["train"],
        whole["validation"],
        whole["test"],
        vocabulary,
        origins=origins_of(tokens, known),
    )


def _folder(path: Path) -> dict[str, list[Path]]:
    files = visible_files(path, [".txt"])
    if not files:
        raise UserError(f"{path} has no text files (*.txt)")
    check_parts(path, files)
    return by_part(files, path, "text")


def _fetched(address: str) -> str:
    """Fetch a text from the web, or read it from the cache of `datasets`."""
    from datasets import config

    name = address.rpartition("://")[2].replace("/", "-")
    cached = Path(config.HF_DATASETS_CACHE) / "texts" / name
    if not cached.exists():
        try:
            with urlopen(address, timeout=TIMEOUT_SECONDS) as response:
                text = response.read().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"cannot fetch {address} ({reason(error)}); give a text file instead"
            ) from error
        write_text(cached, text)
    return read_text(cached)


def _joined(tables: Tables, name: str) -> dict[str, str]:
    """Join the rows of each part as lines of one text."""
    texts: dict[str, str] = {}
    for part, table in in_order(tables, name).items():
        rows = table[column_of(table, TEXT_COLUMNS, "text", name)]
        if not all(isinstance(row, str) for row in rows):
            raise UserError(f"{name}: a row of {part} has no text")
        texts[part] = "".join(row if row.endswith("\n") else row + "\n" for row in rows)
    return texts


def _characters(texts: dict[str, str]) -> tuple[Vocabulary, dict[str, Tensor]]:
    """Number the characters of all parts in order, as tokens."""
    points = {part: np.frombuffer(t.encode("utf-32-le"), np.uint32) for part, t in texts.items()}
    alphabet = np.unique(np.concatenate(list(points.values())))
    tokens = {
        part: torch.from_numpy(np.searchsorted(alphabet, p).astype(np.int32))
        for part, p in points.items()
    }
    return Vocabulary(len(alphabet), "".join(map(chr, alphabet))), tokens


def _pieces(
    texts: dict[str, str], tokenizer: str, name: str
) -> tuple[Vocabulary, dict[str, Tensor]]:
    from tokenizers import Tokenizer

    try:
        read: Any = Tokenizer.from_str(tokenizer)
    except Exception as error:
        raise UserError(f"{name}/{TOKENIZER} is not a tokenizer: {reason(error)}") from error
    # Of many the file says to what length sentences are cut and filled up; a text is one piece.
    read.no_truncation()
    read.no_padding()
    tokens = {
        part: torch.tensor(read.encode(text, add_special_tokens=False).ids, dtype=torch.int32)
        for part, text in texts.items()
    }
    return Vocabulary(read.get_vocab_size(), tokenizer=tokenizer), tokens


def _complete(tokens: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cut missing parts off the end of the training part, each a share `HELD_OUT` of it."""
    held = round(HELD_OUT * len(tokens["train"]))
    for missing in ("test", "validation"):
        if missing not in tokens:
            train = tokens["train"]
            rest = len(train) - held
            tokens = {**tokens, "train": train[:rest], missing: train[rest:]}
    return tokens
