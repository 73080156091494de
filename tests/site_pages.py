"""The pages of the site: their snippets, and a reader who follows them.

`bash` blocks run line by line and `python` blocks as programs, all in one folder; a `python` block
with a title is written to that file instead. A comment before a block says what is special about
it: `exits with 2`, or `read, not run` for what needs a cluster, a hub or a board.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
JOBS = ("photos.md", "own-script.md", "language-model.md")
"""Pages that are followed by themselves, from an empty folder with the user's own data."""

FENCE = re.compile(
    r"(?:<!-- (?P<note>.*?) -->\n)?```(?P<language>\w+)(?: title=\"(?P<title>.*?)\")?\n"
    r"(?P<text>.*?)```",
    re.DOTALL,
)


@dataclass(frozen=True)
class Snippet:
    page: str
    language: str
    text: str
    title: str | None
    note: str | None

    @property
    def commands(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip()]


def pages() -> list[str]:
    """Files of the site, in the order of its navigation."""

    def files(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        values = entry if isinstance(entry, list) else list(entry.values())
        return [name for value in values for name in files(value)]

    text = re.sub(r"!!python/name:\S+", "''", (ROOT / "mkdocs.yml").read_text())
    return files(yaml.safe_load(text)["nav"])


def snippets(page: str) -> list[Snippet]:
    text = (DOCS / page).read_text()
    return [
        Snippet(page, m["language"], m["text"], m["title"], m["note"])
        for m in FENCE.finditer(text)
        if m["language"] in ("bash", "python")
    ]


def follow(names: list[str], folder: Path) -> dict[str, str]:
    """Run the pages' snippets in a folder, and return what each command printed."""
    (folder / "home").mkdir()
    environment = {
        **os.environ,
        "HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(folder / "home" / ".config"),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    printed = {}
    for page in names:
        program = ""
        for snippet in snippets(page):
            where = f"docs/{page}:\n{snippet.text}"
            if snippet.note == "read, not run":
                continue
            if snippet.title is not None:
                (folder / snippet.title).write_text(snippet.text)
                continue
            if snippet.language == "python":
                # What a page's earlier snippets have imported and made is there for later ones.
                program += snippet.text
                runs = [[sys.executable, "-c", program]]
            else:
                runs = [["bash", "-c", command] for command in snippet.commands]
            for run in runs:
                done = subprocess.run(
                    run, cwd=folder, env=environment, capture_output=True, text=True
                )
                expected = 2 if snippet.note == "exits with 2" else 0
                assert done.returncode == expected, f"{where}\n{done.stdout}\n{done.stderr}"
                if expected:
                    assert len(done.stderr.strip().splitlines()) == 1, where
                printed[run[-1]] = done.stdout
    return printed
