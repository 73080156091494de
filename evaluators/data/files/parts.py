"""Which file belongs to which part of a data set, and which folder is a class.

One rule for all kinds of files: a part's name as a whole word of a folder below the root, the
topmost first, or else of a file's name; a file that names none is of the training part. Folders of
images are classes, unless all of them are named after parts and hold the class folders. The name of
an image never matters. Does not read files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from unicodedata import normalize

from search_spaces.errors import UserError

PART_OF_WORD = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""Part that a word names."""

UNSURE = frozenset({"eval", "evaluation", "holdout", "heldout"})
"""Words for samples that are not for training, of the validation part in some data sets and of the
test part in others."""

HIDDEN = (".", "__MACOSX")
"""Beginnings of the names of files and folders that are no data."""

_LETTERS = re.compile(r"[^\W\d_]+")
_INNER_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def named_parts(name: str) -> set[str]:
    """The parts that a name has as whole words: `ptb.valid.txt` names one, `latest` none."""
    return set(_naming_words(name))


def _naming_words(name: str) -> dict[str, str]:
    """The words of a name that name parts, by part."""
    words = _LETTERS.findall(_INNER_CAPITAL.sub(" ", name))
    return {PART_OF_WORD[w.lower()]: w for w in words if w.lower() in PART_OF_WORD}


def visible_files(root: Path, endings: Iterable[str] = ()) -> list[Path]:
    """The files below a folder with one of the endings, sorted, without hidden ones.

    Links are followed.

    Args:
        endings: of files to return; all files by default.

    Raises:
        UserError: for a folder that cannot be read, a link to itself, a link to nothing, or a name
            that is not in UTF-8.
    """
    wanted = {ending.lower() for ending in endings}
    found = (file for file in _walk(root, ()) if not wanted or file.suffix.lower() in wanted)
    return sorted(file for file in found if _is_file(file))


def are_classes(root: Path, endings: Iterable[str]) -> bool:
    """Whether files with one of the endings lie in several folders below a folder, as classes do.

    Texts and tables beside them describe them: `README.txt`, `labels.csv`.
    """
    return len({file.parent for file in visible_files(root, endings)} - {root}) > 1


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """What is below a folder, without folders and without what is hidden."""
    place = folder.resolve()
    if place in above:
        raise UserError(f"{folder} is a link to a folder that holds it")
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(HIDDEN)]
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror or error}") from error
    for entry in visible:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{folder} has the name {entry.name!a}, which is not in UTF-8: rename it"
            ) from None
        if entry.is_dir():
            yield from _walk(folder / entry.name, (*above, place))
        else:
            yield folder / entry.name


def _is_file(path: Path) -> bool:
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link to a file that does not exist")
    return path.is_file()


def by_part(files: Sequence[Path], root: Path, what: str) -> dict[str, list[Path]]:
    """Group files by the part that they belong to, training part first.

    Args:
        root: the folder that holds them, or the only file.
        what: the samples, for the message of the error.

    Raises:
        UserError: if there is no training file, or a name has the words of two parts.
    """
    parts: dict[str, list[Path]] = {}
    unsure = [file for file in files if _names_unknown_part(file, root)]
    if 0 < len(unsure) < len(files):
        raise UserError(
            f"{unsure[0]} may be for training or testing: expected train, validation or test in "
            "its name"
        )
    for file in files:
        parts.setdefault(_part_of(file, root), []).append(file)
    if "train" not in parts:
        found = ", ".join(f.name for chosen in parts.values() for f in chosen)
        raise UserError(f"no training {what}: expected a file train* beside {found}")
    return {part: parts[part] for part in ("train", "validation", "test") if part in parts}


def _names_unknown_part(file: Path, root: Path) -> bool:
    """Whether a name has a word for testing that does not say which part is meant."""
    names = [*file.relative_to(root).parts[:-1], file.stem] if root.is_dir() else []
    words = {word.lower() for name in names for word in _LETTERS.findall(name)}
    return bool(words & UNSURE) and not any(named_parts(name) for name in names)


def _part_of(file: Path, root: Path) -> str:
    for folder in _folders(file, root):
        found = named_parts(folder)
        if len(found) == 1:
            return found.pop()
    found = named_parts(file.stem)
    if len(found) > 1:
        if not root.is_dir():
            return "train"  # all there is
        raise UserError(f"{file} names two parts, {' and '.join(sorted(found))}: rename it")
    return found.pop() if found else "train"


def origins(parts: Mapping[str, Sequence[Path]], root: Path) -> dict[str, str]:
    """Where each part comes from, to be shown; nothing where the files name no parts."""
    if len(parts) == 1:
        return {}
    return {part: origin(files, root) for part, files in parts.items()}


def reasons(parts: Mapping[str, Sequence[Path]], root: Path) -> dict[str, str]:
    """Why the files of each part belong to it, in words."""
    return {part: _reason(part, files, root) for part, files in parts.items()}


def _reason(part: str, files: Sequence[Path], root: Path) -> str:
    folders = {f for file in files for f in _folders(file, root) if named_parts(f) == {part}}
    names = {f.stem for f in files if named_parts(f.stem) == {part}} if not folders else set()
    words = sorted({_naming_words(name)[part] for name in folders | names})
    if not words or not root.is_dir():
        return "no name of a file or folder names a part"
    what = "the folder's name" if folders else "the file's name"
    return f"{what} has the word {' or '.join(repr(word) for word in words[:3])}"


def _folders(file: Path, root: Path) -> tuple[str, ...]:
    """Names of the folders below the root that hold a file."""
    return file.relative_to(root).parts[:-1] if root.is_dir() else ()


def origin(files: Sequence[Path], root: Path) -> str:
    """Where a part comes from: a file, a folder, or a number of files."""
    if not root.is_dir():
        return root.name
    relative = [file.relative_to(root) for file in files]
    if len(relative) == 1:
        return relative[0].as_posix()
    tops = sorted({f"{path.parts[0]}/" for path in relative if len(path.parts) > 1})
    if len(tops) == 1 and all(len(path.parts) > 1 for path in relative):
        return tops[0]
    return f"{len(relative):,} files"


def by_class(images: Sequence[Path], root: Path) -> dict[str, list[tuple[Path, str]]]:
    """Group images by part, each with the name of its class folder.

    Returns:
        `train` alone where the folders below the root are classes.

    Raises:
        UserError: for images outside class folders, or deeper than these.
    """
    relative = [image.relative_to(root) for image in images]
    loose = [path for path in relative if len(path.parts) == 1]
    tops = sorted({path.parts[0] for path in relative if len(path.parts) > 1})
    if loose and not tops:
        raise UserError(
            f"{root} has images but no folders of classes: expected one folder per class, "
            f"such as {root / 'cat' / loose[0].name}"
        )
    if loose:
        raise UserError(
            f"{root / loose[0]} belongs to no class: expected all images in folders of classes, "
            f"as those in {tops[0]}/"
        )
    parts = _parts_of_folders(tops, relative, root)
    depth = 2 if parts else 1
    grouped: dict[str, list[tuple[Path, str]]] = {}
    for image, path in zip(images, relative, strict=True):
        folders = path.parts[:-1]
        if len(folders) < depth:
            raise UserError(
                f"{image} belongs to no class: expected folders of classes in {folders[0]}/"
            )
        if len(folders) > depth:
            raise UserError(_too_deep(folders, depth, image, tops, root))
        part = parts[folders[0]] if parts else "train"
        # One word may be written as other characters on other systems.
        grouped.setdefault(part, []).append((image, normalize("NFC", folders[-1])))
    if "train" not in grouped:
        raise UserError(f"{root} has no training images: expected a folder train/ beside {tops[0]}")
    return {part: grouped[part] for part in ("train", "validation", "test") if part in grouped}


def _parts_of_folders(tops: Sequence[str], images: Sequence[Path], root: Path) -> dict[str, str]:
    """Part of each folder below the root; empty if these are classes."""
    found = {top: named_parts(top) for top in tops}
    named = {top: parts.pop() for top, parts in found.items() if len(parts) == 1}
    if len(named) == len(tops):
        return named
    nested = {path.parts[0] for path in images if len(path.parts) > 2}
    others = [top for top in tops if top not in named]
    if nested & set(named) and nested & set(others):
        beside = " and ".join(f"{top}/" for top in named)
        raise UserError(
            f"{root / others[0]} names no part, and lies beside {beside}: expected train/, "
            "validation/ and test/ only"
        )
    return {}


def _too_deep(
    folders: Sequence[str], depth: int, image: Path, tops: Sequence[str], root: Path
) -> str:
    if depth == 1 and len(tops) == 1:
        return f"all images are in {root / tops[0]}: give that folder instead of {root}"
    held = "/".join(folders[:depth])
    return (
        f"{image} lies in a folder of its own below {held}/: expected all images of a class "
        "directly in the folder of the class"
    )
