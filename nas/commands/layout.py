"""Layout of the command line: options and commands under headings, built when they are needed.

A command's options are read from the signature of its function only when the command runs or
prints its help, so that commands do not wait for each other. Knows typer. Does not know what
commands do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

Function = TypeVar("Function", bound=Callable[..., None])

_MORE = "__more_options__"

Headings = dict[str, dict[str, str]]
"""Commands by heading and name, each as `module:attribute`."""


def with_options(make: Callable[[], Sequence[inspect.Parameter]]) -> Callable[[Function], Function]:
    """Give a command options that are made when it is built; its function gets them as `**`.

    Args:
        make: returns keyword-only parameters, as typer reads them from a signature.
    """

    def decorate(function: Function) -> Function:
        setattr(function, _MORE, make)
        return function

    return decorate


def _with_more(function: Callable[..., None]) -> Callable[..., None]:
    """The function of a command with the options of `with_options` in its signature."""
    more = getattr(function, _MORE, None)
    if more is None:
        return function
    own = inspect.signature(function, eval_str=True)
    kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]

    def call(**values: Any) -> None:
        function(**values)

    call.__doc__ = function.__doc__
    call.__signature__ = own.replace(parameters=[*more(), *kept])  # type: ignore[attr-defined]
    return call


class HeadedCommand(TyperCommand):
    """A command whose help has the options under their headings, in order of first use.

    An option without a heading of its own is under the heading of the option before it.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then options heading by heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                sections.setdefault("Arguments", []).append(record)
                continue
            heading = getattr(parameter, "rich_help_panel", None) or heading
            place = "Options" if parameter.name == "help" and "Options" in sections else heading
            sections.setdefault(place, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Deferred(TyperCommand):
    """A command, or a group of commands, that is imported and built when it is used."""

    def __init__(self, name: str, reference: str) -> None:
        super().__init__(name)
        self.reference = reference

    @cached_property
    def _found(self) -> Any:
        module, _, name = self.reference.partition(":")
        return getattr(import_module(module), name)

    @cached_property
    def built(self) -> Any:
        """The command with its options."""
        if isinstance(self._found, typer.Typer):
            return typer.main.get_command(self._found)
        function = _with_more(self._found)
        app = typer.Typer(
            add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
        )
        app.command(self.name, cls=HeadedCommand)(function)
        return typer.main.get_command(app)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the command's arguments."""
        return self.built.make_context(*arguments, **options)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first line of the help."""
        found = self._found
        text = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
        return str(text or "").partition("\n")[0].removesuffix(".")

    def __getattr__(self, name: str) -> Any:
        """Anything else, such as `commands` of a group, is the built command's."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.built, name)


class HeadedGroup(TyperGroup):
    """A group whose commands are listed under headings."""

    headings: Headings
    """Set by subclasses."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for commands in self.headings.values():
            for name, reference in commands.items():
                self.commands[name] = Deferred(name, reference)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands heading by heading, each with the first line of its help."""
        for heading, commands in self.headings.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(name, self.commands[name].get_short_help_str()) for name in commands]
                )
