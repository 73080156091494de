"""Every command and snippet of the site runs, page after page, as a reader would run them.

`bash` blocks run line by line and `python` blocks as programs, all in one folder; a `python` block
with a title is written to that file instead. A comment before a block says what is special about
it: `exits with 2`, or `read, not run` for what needs a cluster, a hub or a board; then its commands
must at least be ours, with options that exist.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from nas.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OTHERS = ("cat", "head", "ls", "python")
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


def ours(command: str) -> bool:
    """Whether a command is one of ours with options that exist; raises what typer raises."""
    program, *arguments = shlex.split(command.split(">")[0].split("|")[0])
    if program != "nas":
        return False
    group: Any = typer.main.get_command(app)
    while hasattr(group, "commands"):
        name, *arguments = arguments
        group = group.commands[name]
    group.make_context(group.name, arguments)
    return True


def test_every_page_is_in_the_navigation_and_has_its_fences_closed() -> None:
    assert sorted(pages()) == sorted(path.name for path in DOCS.glob("*.md"))
    for page in pages():
        assert (DOCS / page).read_text().count("```") % 2 == 0


@pytest.mark.parametrize("page", pages())
def test_commands_are_ours_with_options_that_exist(page: str) -> None:
    for snippet in snippets(page):
        if snippet.language == "bash":
            assert snippet.note in (None, "exits with 2", "read, not run")
            for command in snippet.commands:
                assert ours(command) or command.split()[0] in OTHERS, command


def test_a_command_with_an_option_that_is_none_of_ours_is_noticed() -> None:
    with pytest.raises(Exception, match="--max-flop"):
        ours("nas search --max-flop 3M")


@pytest.mark.slow
def test_the_site_is_followed_from_its_first_page_to_its_last(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = {
        **os.environ,
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_HOME": str(tmp_path / "home" / ".config"),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    (tmp_path / "home").mkdir()
    for page in pages():
        program = ""
        for snippet in snippets(page):
            where = f"docs/{page}:\n{snippet.text}"
            if snippet.note == "read, not run":
                continue
            if snippet.title is not None:
                (tmp_path / snippet.title).write_text(snippet.text)
                continue
            if snippet.language == "python":
                # What a page's earlier snippets have imported and made is there for later ones.
                program += snippet.text
                runs = [[sys.executable, "-c", program]]
            else:
                runs = [["bash", "-c", command] for command in snippet.commands]
            for run in runs:
                done = subprocess.run(
                    run, cwd=tmp_path, env=environment, capture_output=True, text=True
                )
                expected = 2 if snippet.note == "exits with 2" else 0
                assert done.returncode == expected, f"{where}\n{done.stdout}\n{done.stderr}"
                if expected:
                    assert len(done.stderr.strip().splitlines()) == 1, where
