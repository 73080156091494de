"""Refuses folders of which something would be left out in silence.

A part whose files are of another kind, a class without images, images of a kind that is not read.
Knows names. Does not read files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluators.data.files.parts import HIDDEN, named_parts, visible_files
from evaluators.data.pixels import IMAGE_ENDINGS
from search_spaces.errors import UserError

COMPANIONS = frozenset(
    {".cfg", ".csv", ".db", ".html", ".ini", ".json", ".jsonl", ".log", ".mat", ".md", ".pdf"}
    | {".py", ".rst", ".text", ".toml", ".tsv", ".txt", ".url", ".xml", ".yaml", ".yml"}
)
"""Endings of files beside images that describe them."""


def check_parts(root: Path, used: Sequence[Path]) -> None:
    """Check that each part that a name below a folder names has files that are read.

    Raises:
        UserError: for a part that would be missing.
    """
    _check_parts(root, used, visible_files(root))


def _check_parts(root: Path, used: Sequence[Path], files: Sequence[Path], depth: int = 99) -> None:
    read = {part for file in used for part in _named(file, root, depth)}
    for path in (*files, *_empty_folders(root, files)):
        for part in sorted(_named(path, root, depth) - read - {"train"}):
            raise UserError(f"{path} names the {part} part, but no file that is read is of it")


def check_images(root: Path, used: Sequence[Path]) -> None:
    """Check that the folders of classes hold images of kinds that are read, and nothing else.

    Raises:
        UserError: for an empty folder, or a file that is neither an image nor describes images.
    """
    files = visible_files(root)
    _check_parts(root, used, files, depth=1)
    for folder in _empty_folders(root, files):
        raise UserError(f"{folder} is empty: expected images of a class, or no such folder")
    known = set(used)
    for file in files:
        if file in known or file.parent == root or file.suffix.lower() in COMPANIONS:
            continue
        if file.suffix or _is_image(file):
            raise UserError(f"{file} is no image of a kind that is read: convert or remove it")


def check_rows_only(root: Path) -> None:
    """Check that a folder of Parquet files has no folder of images, which would not be read.

    Raises:
        UserError: for an image below a folder; pictures at the top may describe the data.
    """
    for file in visible_files(root, IMAGE_ENDINGS):
        if file.parent != root:
            raise UserError(
                f"{root} holds Parquet files and images such as {file.relative_to(root)}: keep one "
                "of the two, or give the Parquet file"
            )


def _is_image(file: Path) -> bool:
    """Whether a file without an ending has the content of an image."""
    from PIL import Image

    try:
        with Image.open(file):
            return True
    except Exception:
        return False


def _named(path: Path, root: Path, depth: int) -> set[str]:
    """The part that the topmost folder names, of the first few, or else the file at the top."""
    *folders, last = path.relative_to(root).parts
    if path.is_dir():
        folders.append(last)
    for folder in folders[:depth]:
        found = named_parts(folder)
        if len(found) == 1:
            return found
    found = set() if path.is_dir() or len(folders) >= depth else named_parts(path.stem)
    return found if len(found) == 1 else set()


def _empty_folders(root: Path, files: Sequence[Path]) -> list[Path]:
    """Folders below the root that hold no visible file."""
    holding = {folder for file in files for folder in file.parents}
    return [folder for folder in _folders(root) if folder not in holding]


def _folders(root: Path) -> list[Path]:
    found = []
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.name.startswith(HIDDEN):
            found += [entry, *_folders(entry)]
    return found
