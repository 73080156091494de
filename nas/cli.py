"""The command line: registers the commands of `nas/commands`, and ends with an exit code.

A `UserError`, or an option that does not exist, becomes one line and exit code 2 here and nowhere
else. Commands are imported when they run; torch and Ray only inside those that need them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from typing import Annotated, NoReturn

import typer

from nas.commands.layout import HeadedGroup, Headings
from nas.commands.show.result import only_json
from search_spaces.errors import Interrupted, UserError

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
        "data": "nas.commands.data.command:data",
    },
    "Networks of a run": {
        "train": "nas.commands.train:train",
        "fidelity": "nas.commands.train:fidelity",
        "export": "nas.commands.export:export",
        "compare": "nas.commands.export:compare",
        "predict": "nas.commands.using.predict:predict",
        "scores": "nas.commands.using.scores:scores",
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

THREAD_SECONDS = 2.0
"""Time that threads have to end after a command."""


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
    is within the budget), or `nas data` found that a search would refuse the data; with 2 for
    wrong input; with 130 when interrupted, by SIGTERM too.
    """
    # Threads that spin at a barrier slow training tenfold on a machine that is not idle. The
    # OpenMP runtime reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:] if arguments is None else arguments
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _interrupt)
        atexit.register(_ignore_signals)  # before all others, so that it runs last
    _end(_run(arguments))


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    """Let a signal that comes after the result was printed leave the exit code as it is.

    Python gives up its handlers before it has unloaded torch.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _run(arguments: list[str]) -> int:
    """Run a command; returns the exit code."""
    broken = next((text for text in arguments if not _is_unicode(text)), None)
    if broken is not None:
        return _failed(f"{broken!a} is not in UTF-8: expected another name")
    try:
        with only_json() if "--json" in arguments else contextlib.nullcontext():
            code = app(args=arguments, prog_name="nas", standalone_mode=False) or 0
    except UserError as error:
        return _failed(str(error))
    except Interrupted as error:
        return _failed(str(error), EXIT_INTERRUPTED)
    except UsageProblem as error:
        message = error.format_message()  # type: ignore[attr-defined]
        if type(error).__name__ == "NoArgsIsHelpError":
            print(message, file=sys.stderr)
            return EXIT_USER_ERROR
        return _failed(message)
    except SystemExit as error:  # of users' code: this program's own functions return codes
        if "_NAS_COMPLETE" in os.environ:  # or of typer, when a shell asks for completions
            return int(error.code or 0)
        return _failed(f"the command ended early, by sys.exit({error.code!r}) in code that it ran")
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        return _failed(f"{error.strerror or error}{place}")
    if code == EXIT_INTERRUPTED:  # as typer says it
        return _failed("interrupted; repeat the command to continue", EXIT_INTERRUPTED)
    return int(code)


def _is_unicode(text: str) -> bool:
    """Whether a text can be written and printed: names of files may be of any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _failed(message: str, code: int = EXIT_USER_ERROR) -> int:
    print("nas: " + " ".join(message.split()), file=sys.stderr)
    return code


def _end(code: int) -> NoReturn:
    """Leave the program, also if a user's code left threads behind that would keep it alive."""
    me = threading.current_thread()
    others = [t for t in threading.enumerate() if t is not me and not t.daemon]
    for thread in others:
        thread.join(THREAD_SECONDS / len(others))
    if any(thread.is_alive() for thread in others):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


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
