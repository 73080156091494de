"""Files are written whole, through links and devices, and read in any encoding."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from search_spaces.errors import UserError
from search_spaces.files import read_text, write_text


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("a")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "b")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "b"
    (tmp_path / "new").symlink_to(tmp_path / "nothing yet")
    write_text(tmp_path / "new", "c")
    assert (tmp_path / "nothing yet").read_text() == "c"


def test_a_device_stays_a_device() -> None:
    before = os.stat(os.devnull)
    write_text(Path(os.devnull), "a")
    assert os.stat(os.devnull).st_rdev == before.st_rdev


def test_a_pipe_gets_the_content(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "a report")
    reader.join(10)
    assert read == ["a report"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_in_the_encoding_of_its_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t").write_bytes("Straße".encode(encoding))
    assert read_text(tmp_path / "t") == "Straße"


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"\xe4\xff\x00")
    with pytest.raises(UserError, match="not a text file in UTF-8"):
        read_text(tmp_path / "t")
    with pytest.raises(UserError, match="cannot read"):
        read_text(tmp_path / "none")


def piped(content: bytes) -> Path:
    """The path of a pipe with some content, as a shell gives one for `<(command)`."""
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return Path(f"/dev/fd/{reader}")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_nothing_of_a_pipe_is_lost(encoding: str) -> None:
    text = "".join(f"{i} ä\n" for i in range(3000))
    assert read_text(piped(text.encode(encoding))) == text
    assert read_text(piped(b"")) == ""


def test_a_device_without_an_end_is_not_read() -> None:
    with pytest.raises(UserError, match="/dev/zero: it is a device, expected a file"):
        read_text(Path("/dev/zero"))
