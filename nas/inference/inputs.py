"""Finds the image files and the labelled samples that a user names.

Knows files, folders and patterns. Does not open images.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluators.data.files.parts import by_class, visible_files
from evaluators.data.files.unread import check_images, check_parts
from evaluators.data.pixels import IMAGE_ENDINGS
from search_spaces.errors import UserError

MAX_LISTED = 8
"""Most classes that an error lists."""


def image_files(given: Iterable[str | Path]) -> list[Path]:
    """The image files that are named by files, folders and patterns, in order, each once.

    A folder stands for the images below it. A file is taken whatever its ending. Of files alone
    each is taken as often as it is named, so that what is found for them is in the caller's rows.

    Raises:
        UserError: for a name without a file, a pattern without a match, or a folder without images.
    """
    names = list(map(str, given))
    if names and all(Path(name).is_file() for name in names):
        return list(map(Path, names))
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            files = visible_files(path, IMAGE_ENDINGS)
            if not files:
                raise UserError(
                    f"{path} has no images: expected files that end with {', '.join(IMAGE_ENDINGS)}"
                )
        elif path.exists():
            files = [path]
        else:
            files = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
            files = [file for file in files if file.is_file()]
            if not files:
                is_pattern = glob.has_magic(name)
                raise UserError(f"no file {'matches' if is_pattern else 'at'} '{name}'")
        found |= dict.fromkeys(files)
    return list(found)


@dataclass(frozen=True)
class Labelled:
    """Samples with their classes: image files, or sentences."""

    inputs: Sequence[Path | str]
    labels: Sequence[str]
    names: Sequence[str]


def labelled_images(folder: Path) -> Labelled:
    """The images of a folder with one folder per class; of its test part if it has one.

    Raises:
        UserError: for a folder without such images, or with files that would be left out.
    """
    images = visible_files(folder, IMAGE_ENDINGS) if folder.is_dir() else []
    if not images:
        raise UserError(f"{folder} has no images: expected a folder of images per class")
    grouped = by_class(images, folder)
    check_images(folder, images)
    chosen = grouped.get("test") or [pair for part in grouped.values() for pair in part]
    return Labelled(
        [image for image, _ in chosen],
        [label for _, label in chosen],
        [image.relative_to(folder).as_posix() for image, _ in chosen],
    )


def labelled_sentences(path: Path) -> Labelled:
    """The sentences of a table, or of a folder of tables; of the test part if there is one.

    Raises:
        UserError: if rows have no text or no label, or a part has no file that is read.
    """
    from evaluators.data.files.parts import by_part
    from evaluators.data.files.tables import (
        TABLE_ENDINGS,
        TEXT_COLUMNS,
        by_column,
        checked_labels,
        column_of,
        from_files,
        label_column,
        label_titles,
        labelled,
        values_of,
    )

    files = visible_files(path, TABLE_ENDINGS) if path.is_dir() else [path]
    if not files or not path.exists() or files[0].suffix.lower() not in TABLE_ENDINGS:
        raise UserError(f"no table of sentences at {path}: expected {', '.join(TABLE_ENDINGS)}")
    if path.is_dir():
        check_parts(path, files)
    parts = by_part(files, path, "sentences") if path.is_dir() else {"train": files}
    tables = by_column(from_files(parts, path), str(path))
    tables = labelled(tables, str(path)) if "train" in tables else tables
    chosen = {"test": tables["test"]} if "test" in tables else tables
    texts: list[str] = []
    labels: list[str] = []
    for part, table in chosen.items():
        column = label_column(table, str(path))
        checked_labels(table, column, part, str(path))
        found = values_of(table, column_of(table, TEXT_COLUMNS, "text", str(path)))
        wrong = next((row for row, text in enumerate(found) if not isinstance(text, str)), None)
        if wrong is not None:
            raise UserError(f"{path}: row {wrong} of {part} has no text")
        texts += found
        labels += label_titles(table, column, values_of(table, column))
    return Labelled(texts, labels, texts)


def class_indices(labels: Sequence[str], classes: Sequence[str], where: str) -> list[int]:
    """The index of each label among the classes of a network.

    Raises:
        UserError: for a label that the network does not have.
    """
    index = {name: i for i, name in enumerate(classes)}
    wrong = next((label for label in labels if label not in index), None)
    if wrong is not None:
        known = ", ".join(classes[:MAX_LISTED]) + (", ..." if len(classes) > MAX_LISTED else "")
        raise UserError(f"{where}: class '{wrong}' is none of the network's: {known}")
    return [index[label] for label in labels]
