"""The command line: registers the commands of `nas/commands`, and ends with an exit code.

A `UserError`, or an option that does not exist, becomes one line and exit code 2 here and nowhere
else. Commands are imported when they run; torch and Ray only inside those that need them.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from nas.commands.layout import HeadedGroup, Headings
from search_spaces.errors import UserError

COMMANDS: Headings = {
    "Search": {
        "search": "nas.commands.search:search",
        "runs": "nas.commands.runs:runs",
        "frontier": "nas.commands.runs:frontier",
        "show": "nas.commands.runs:show",
        "diff": "nas.commands.runs:diff",
        "report": "nas.commands.runs:report",
        "leaderboard": "nas.commands.runs:leaderboard",
        "curves": "nas.commands.export:curves",
        "space": "nas.commands.space:app",
    },
    "Networks of a run": {
        "train": "nas.commands.train:train",
        "fidelity": "nas.commands.train:fidelity",
        "export": "nas.commands.export:export",
        "compare": "nas.commands.export:compare",
        "dynamic": "nas.commands.dynamic:dynamic",
        "adapt": "nas.commands.dynamic:adapt",
    },
    "Costs": {
        "count": "nas.commands.count:count",
        "profile": "nas.commands.count:profile",
        "device": "nas.commands.device:app",
        "carbon": "nas.commands.carbon:carbon",
    },
}
"""Every command: where its function is."""

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class Commands(HeadedGroup):
    """The commands of `nas`."""

    headings = COMMANDS


app = typer.Typer(
    name="nas",
    cls=Commands,
    help="Neural architecture search under a compute budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Typer brings its own click since 0.26 and uses the installed one before: take the class from
# what typer itself raises.
UsageProblem: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Exits with 0; with 1 when a search found nothing (every evaluation failed, or nothing evaluated
    is within the budget); with 2 for wrong input; with 130 when interrupted.
    """
    # Threads that spin at a barrier slow training tenfold on a machine that is not idle. The
    # OpenMP runtime reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(args=arguments, prog_name="nas", standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except UsageProblem as error:
        message = error.format_message()  # type: ignore[attr-defined]
        if type(error).__name__ == "NoArgsIsHelpError":
            print(message, file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        _fail(message)
    except (KeyboardInterrupt, typer.Abort):
        print(
            "nas: interrupted; repeat the command to continue (nas search with --resume)",
            file=sys.stderr,
        )
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror or error}{place}")
    else:
        sys.exit(code or 0)


def _fail(message: str) -> None:
    print("nas: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


def _print_version(wanted: bool) -> None:
    if wanted:
        from nas import __version__

        print(f"nas {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
