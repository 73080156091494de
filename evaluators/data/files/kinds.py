"""Tells what kind of samples data are, images, text or sentences, by their name and their files.

Opens no sample. Does not know which spaces take them.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from evaluators.data.files.images import IMAGE_COLUMNS, IMAGE_SETS
from evaluators.data.files.parts import are_classes, visible_files
from evaluators.data.files.tables import (
    LABEL_COLUMNS,
    TABLE_ENDINGS,
    TEXT_COLUMNS,
    from_hub,
    is_hub_name,
    plain_name,
)
from evaluators.data.files.text import TEXT_SETS, is_text
from evaluators.data.pixels import IMAGE_ENDINGS
from search_spaces.catalogue import Samples
from search_spaces.errors import UserError, unknown


def kind_of_data(name: str) -> Samples:
    """The kind of samples of data by name or path.

    Raises:
        UserError: for a name that is unknown, and a path that holds nothing of any kind.
    """
    path = Path(name)
    if name in IMAGE_SETS:
        return "images"
    if is_text(name):
        return "text"
    if path.exists():
        return _kind_of_path(path)
    if is_hub_name(name):
        features = from_hub(name, "files")["train"].features
        words = {"bytes"} if any(_is_image(kind) for kind in features.values()) else set()
        return _kind_of_columns({*features, *words})
    if "/" in name or "." in name:
        raise UserError(f"no data at '{name}': expected a file, a folder, or a name")
    raise unknown("data", name, (*IMAGE_SETS, *TEXT_SETS))


def _kind_of_path(path: Path) -> Samples:
    files = [path] if path.is_file() else visible_files(path, TABLE_ENDINGS)
    if not files and path.is_dir():
        if not visible_files(path, IMAGE_ENDINGS):
            raise UserError(f"{path} has no images, tables or texts")
        return "images"
    if not files or files[0].suffix.lower() not in TABLE_ENDINGS:
        raise UserError(f"{path} is no table or text; images are in a folder or a Parquet file")
    if files[0].suffix.lower() != ".parquet":
        described = path.is_dir() and are_classes(path, IMAGE_ENDINGS)
        return "images" if described else "sentences"
    try:
        schema = pq.read_schema(files[0])
    except Exception as error:
        raise UserError(f"cannot read {files[0]}: {str(error).splitlines()[0]}") from error
    inner = {f.name for column in schema if hasattr(column.type, "fields")
             for f in column.type.fields}  # fmt: skip
    return _kind_of_columns({*schema.names, *inner})


def _is_image(kind: object) -> bool:
    import datasets

    return isinstance(kind, datasets.Image)


def _kind_of_columns(columns: set[str]) -> Samples:
    """The kind of a table's rows, by the names of its columns and of the fields in them."""
    columns = {plain_name(column) for column in columns}
    if columns & {"bytes", *IMAGE_COLUMNS} or not columns & set(TEXT_COLUMNS):
        return "images"
    return "sentences" if columns & set(LABEL_COLUMNS) else "text"
