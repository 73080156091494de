"""Every command and snippet of the site runs, page after page, as a reader would run them.

What is read and not run must at least be ours, with options that exist. The pages of jobs are
followed in `test_jobs.py`.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from nas.cli import app
from site_pages import DOCS, JOBS, ROOT, follow, pages, snippets

OTHERS = ("cat", "head", "ls", "python")


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
    follow([page for page in pages() if page not in JOBS], tmp_path)
