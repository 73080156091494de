"""Every command and snippet of the site runs, page after page, as a reader would run them.

`bash` blocks run line by line and `python` blocks as programs, all in one folder; a `python` block
with a title is written to that file instead. A comment before a block says what is special about
it: `exits with 2`, or `read, not run` for what needs a cluster, a hub or a board; then its commands
must at least be ours, with options that exist. The pages of jobs are followed each in a folder of
its own, which holds the user's data alone.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml

from nas.cli import app
from pictures import picture, write_pictures

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
JOBS = ("photos.md", "own-script.md", "language-model.md")
"""Pages that are followed by themselves, from an empty folder with the user's own data."""

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


@pytest.mark.slow
def test_the_site_is_followed_from_its_first_page_to_its_last(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    follow([page for page in pages() if page not in JOBS], tmp_path)


@pytest.mark.parametrize("page", JOBS)
def test_a_job_takes_at_most_ten_commands(page: str) -> None:
    found = snippets(page)
    assert sum(len(one.commands) for one in found if one.language == "bash") <= 10
    assert all(one.title for one in found if one.language == "python")  # files of the user's


@pytest.mark.slow
def test_a_classifier_of_photos_by_its_page_alone(tmp_path: Path) -> None:
    """Photos of three classes, of many sizes and modes, some turned by EXIF."""
    write_pictures(tmp_path / "photos", 60, seed=0, shapes=("cross", "disc", "gradient"))
    picture("disc", np.random.default_rng(5)).save(tmp_path / "mine.jpg")
    printed = follow(["photos.md"], tmp_path)
    ours = printed["nas predict classifier mine.jpg photos"].splitlines()
    (mine,) = [line for line in ours if line.startswith("mine.jpg")]
    apart = printed["python classifier/app/predict.py mine.jpg"]
    label = mine.split()[1]
    assert label in ("cross", "disc", "gradient")
    assert label in apart
    assert len(ours) >= 181  # a line for each picture
    right = sum(f"photos/{line.split()[1]}/" in line for line in ours[1:])
    assert right > 90  # a guess has 60
    assert (tmp_path / "runs" / "photos" / "report.html").is_file()


@pytest.mark.slow
def test_a_network_in_a_script_by_its_page_alone(tmp_path: Path) -> None:
    printed = follow(["own-script.md"], tmp_path)
    rows = {printed[f"python {name}.py"] for name in ("with_torch", "with_onnxruntime")}
    (row,) = rows  # both say the same
    guessed, labels = (half.split(",") for half in row.strip("[]\n").split("] ["))
    assert sum(map(str.__eq__, guessed, labels)) >= 7


@pytest.mark.slow
def test_a_language_model_by_its_page_alone(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = ["the cat", "the dog", "a bird", "sees", "hears", "and", "the night", "the rain"]
    text = ". ".join(" ".join(draw.choices(words, k=9)) for _ in range(3000))
    (tmp_path / "mine.txt").write_text(text)
    printed = follow(["language-model.md"], tmp_path)
    for command in ('nas predict runs/mine --text "the " --tokens 200', "python write.py"):
        written = printed[command].rstrip("\n")
        assert written.startswith("the ")
        assert len(written) >= 200
        known = sum(any(word in whole for whole in words) for word in written.split())
        assert known >= len(written.split()) * 0.8
