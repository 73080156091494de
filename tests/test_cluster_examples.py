"""The files of examples/cluster: as Ray and Kubernetes read them, with commands that exist."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from nas.cli import app

FOLDER = Path(__file__).parents[1] / "examples" / "cluster"


def job() -> dict[str, Any]:
    content: dict[str, Any] = next(yaml.safe_load_all((FOLDER / "rayjob.yaml").read_text()))
    return content


def machines() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "ray.yaml").read_text())
    return content


def commands() -> Iterator[str]:
    yield job()["spec"]["entrypoint"]
    text = (FOLDER / "README.md").read_text()
    yield from re.findall(r"^    (nas .*)$", text, re.MULTILINE)
    yield from re.findall(r"'(nas .*)'", text)


def parsed(command: str) -> tuple[str, dict[str, Any]]:
    """The name of a command of ours and its options.

    Raises whatever the command line raises for options that it does not have.
    """
    program, name, *arguments = shlex.split(command)
    assert program == "nas"
    group: Any = typer.main.get_command(app)
    options = group.commands[name].make_context(name, arguments).params
    return name, options


def test_every_command_line_is_one_of_ours() -> None:
    found = [parsed(command) for command in commands()]
    assert [name for name, _ in found].count("search") >= 4
    assert {name for name, _ in found} == {"search", "train"}
    assert {options["ray_address"] for _, options in found} == {"auto"}


def test_an_option_that_is_none_of_ours_is_noticed() -> None:
    with pytest.raises(Exception, match="--ray-addres"):
        parsed("nas search --ray-addres auto")


def test_as_many_workers_are_asked_for_as_there_are_processors() -> None:
    (group,) = job()["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    pods = group["replicas"] * int(group["rayStartParams"]["num-cpus"])
    worker = machines()["available_node_types"]["worker"]
    cloud = worker["min_workers"] * worker["resources"]["CPU"]
    asked = {parsed(command)[1]["workers"] for command in commands()}
    assert asked == {pods} == {cloud}


def test_only_the_head_of_the_job_has_the_volume_that_the_run_is_on() -> None:
    _, options = parsed(job()["spec"]["entrypoint"])
    spec = job()["spec"]["rayClusterSpec"]
    head, workers = spec["headGroupSpec"]["template"], spec["workerGroupSpecs"][0]["template"]
    (mount,) = head["spec"]["containers"][0]["volumeMounts"]
    assert options["out"].is_relative_to(mount["mountPath"])
    assert options["resume"]
    assert "volumes" not in workers["spec"]
    _, claim = yaml.safe_load_all((FOLDER / "rayjob.yaml").read_text())
    (volume,) = head["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_the_machines_are_what_ray_up_reads() -> None:
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    content = machines()
    jsonschema.validate(content, schema)
    assert content["head_node_type"] in content["available_node_types"]
    for kind in content["available_node_types"].values():
        assert set(kind) <= {"node_config", "resources", "min_workers", "max_workers"}


def test_all_files_are_of_the_ray_that_is_pinned() -> None:
    constraints = (FOLDER.parents[1] / "constraints.txt").read_text()
    pinned = re.findall(r"^ray==(\S+)$", constraints, re.MULTILINE)
    assert [job()["spec"]["rayClusterSpec"]["rayVersion"]] == pinned
    assert f"rayproject/ray:{pinned[0]}-py311" in (FOLDER / "Dockerfile").read_text()
