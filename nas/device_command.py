"""The command line's `nas device`: what is known of devices, and how to measure one's latency."""

from __future__ import annotations

import typer

from nas.search_command import Json

app = typer.Typer(
    name="device",
    help="Devices: what they can do, and what networks take on them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_devices(as_json: Json = False) -> None:
    """Print every known device and what its latencies come from."""
    from nas.device_show import print_devices

    print_devices(as_json=as_json)


@app.command()
def show(
    name: str = typer.Argument(help="A device's name, or the path of its file."),
    as_json: Json = False,
) -> None:
    """Print a device's figures, each with its source and year."""
    from nas.device_show import print_device

    print_device(name, as_json=as_json)
