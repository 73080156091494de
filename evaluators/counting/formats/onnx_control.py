"""Counts the subgraphs of ONNX: the branch of an If, and each step of a Loop or Scan.

Knows control flow. Does not know the operators within (`onnx_counter.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper

from evaluators.counting.counts import Count, Node
from evaluators.counting.formats.onnx_values import UnknownShape, Values

LARGER = "onnx::If on values of the input, counted by its larger branch"
ONCE = "onnx::Loop with an unknown number of steps, counted as far as they are known"
AT_MOST = "onnx::Loop that values of the input may end earlier, counted to its last step"
UNBOUNDED = 2**31
"""Number of steps from which it is no bound: exporters write the largest integer for none."""
MOST_STEPS = 4096
"""Steps that are counted one by one where their shapes change."""


class GraphCounter(Protocol):
    """Counts a graph."""

    model: ModelProto
    gaps: Count

    def count(self, graph: GraphProto, values: Values, root: Node) -> None:
        """Add the work of all nodes to a tree."""
        ...


def count_control(node: NodeProto, values: Values, place: Node, counter: GraphCounter) -> str:
    """Add the work of an If, Loop or Scan to its node, and set the shapes of its results.

    Returns:
        What is not known about it; empty if all is.
    """
    count = {"If": _count_if, "Loop": _count_loop, "Scan": _count_scan}[node.op_type]
    return count(node, values, place, counter)


def _graph(node: NodeProto, name: str) -> GraphProto:
    return next(a.g for a in node.attribute if a.name == name)


def _run(graph: GraphProto, inner: Values, counter: GraphCounter) -> Node:
    """The work of one run of a subgraph."""
    tree = Node(graph.name)
    counter.count(graph, inner, tree)
    return tree


def _add(place: Node, tree: Node, times: int = 1) -> None:
    """Add a tree to another one, so many times."""
    for kind, macs in tree.macs.items():
        place.macs[kind] += times * macs
    place.elementwise += times * tree.elementwise
    place.activation_bytes += times * tree.activation_bytes
    place.traffic_bytes += times * tree.traffic_bytes
    place.calls += times * tree.calls
    place.type = place.type or tree.type
    place.details = place.details or tree.details
    for name, child in tree.children.items():
        _add(place.child(name), child, times)


def _hand_over(node: NodeProto, graph: GraphProto, inner: Values, values: Values) -> None:
    """Give the results of a subgraph to the operator's."""
    for name, result in zip(node.output, graph.output, strict=False):
        values.set_type(name, inner.type_of(result.name))
        known = inner.known(result.name)
        if known is not None:
            values.know(name, known)


def _count_if(node: NodeProto, values: Values, place: Node, counter: GraphCounter) -> str:
    branches = [_graph(node, "then_branch"), _graph(node, "else_branch")]
    scopes = [Values(counter.model, branch, values) for branch in branches]
    values.inner.extend(scopes)
    known = values.known(node.input[0])
    taken = None if known is None else int(not bool(np.all(known)))
    trees = []
    for index, run in enumerate(zip(branches, scopes, strict=True)):
        gaps = copy.deepcopy(counter.gaps.uncounted)
        trees.append(_run(*run, counter))  # the branch that is not taken has parameters as well
        if taken not in (None, index):
            counter.gaps.uncounted = gaps
    work = [tree.total().own_macs for tree in trees]
    chosen = int(work[1] > work[0]) if taken is None else taken
    _add(place, trees[chosen])
    _hand_over(node, branches[chosen], scopes[chosen], values)
    return LARGER if known is None and work[0] != work[1] else ""


def _count_loop(node: NodeProto, values: Values, place: Node, counter: GraphCounter) -> str:
    body = _graph(node, "body")
    steps, sure = _steps_of_loop(node, values)
    carried = list(node.input[2:])
    types = [values.type_of(name) for name in carried]

    def step(number: int) -> tuple[Node, Values]:
        inner = Values(counter.model, body, values)
        first, goes_on, *names = [value.name for value in body.input]
        inner.know(first, np.array(number, dtype=np.int64))
        inner.know(goes_on, np.array(True))
        for name, kind in zip(names, types, strict=False):
            inner.set_type(name, kind)
        return _run(body, inner, counter), inner

    done, before, ended = 0, None, steps == 0
    inner = None
    if ended:  # a body that never runs has parameters as well
        gaps = copy.deepcopy(counter.gaps.uncounted)
        values.inner.append(step(0)[1])
        counter.gaps.uncounted = gaps
    while not ended:
        tree, inner = step(done)
        if done == 0:
            values.inner.append(inner)
        goes_on = inner.known(body.output[0].name)
        _add(place, tree)
        done += 1
        after = [inner.type_of(value.name) for value in body.output[1 : 1 + len(carried)]]
        same, types = [str(t) for t in after] == [str(t) for t in types], after
        work = tree.total().own_macs
        sure = sure and goes_on is not None
        if steps is None or done == MOST_STEPS:
            break
        if same and work == before and _goes_on(step(steps - 1), body, work):
            _add(place, tree, steps - done)
            done = steps
        before = work
        ended = done == steps or not (goes_on is None or bool(np.all(goes_on)))
    for name, kind in zip(node.output, types, strict=False):
        values.set_type(name, kind)
    if inner is not None and ended and sure:
        scanned = body.output[1 + len(carried) :]
        for name, result in zip(node.output[len(carried) :], scanned, strict=False):
            _stack(name, result.name, inner, values, done)
    if not ended:
        return ONCE
    return "" if sure else AT_MOST


def _goes_on(step: tuple[Node, Values], body: GraphProto, work: int) -> bool:
    """Whether a step does the same work as others, and is not known to end the loop."""
    tree, inner = step
    goes_on = inner.known(body.output[0].name)
    return tree.total().own_macs == work and (goes_on is None or bool(np.all(goes_on)))


def _steps_of_loop(node: NodeProto, values: Values) -> tuple[int | None, bool]:
    """Most steps of a loop, if there is a bound, and whether it is known that it begins."""
    most = values.known(node.input[0]) if node.input[0] else None
    begins = values.known(node.input[1]) if len(node.input) > 1 and node.input[1] else True
    if begins is not None and not bool(np.all(begins)):
        return 0, True
    steps = None if most is None else max(0, int(np.ravel(most)[0]))
    return (None if steps is None or steps >= UNBOUNDED else steps), begins is not None


def _stack(
    name: str, result: str, inner: Values, values: Values, steps: int, axis: int = 0
) -> None:
    """Set the shape of the results of all steps."""
    kind = inner.type_of(result)
    if kind is None:
        return
    try:
        shape = list(inner.shape(result))
    except UnknownShape:
        return
    shape.insert(axis % (len(shape) + 1), steps)
    values.set_type(name, helper.make_tensor_type_proto(kind.tensor_type.elem_type, shape))


def _count_scan(node: NodeProto, values: Values, place: Node, counter: GraphCounter) -> str:
    body = _graph(node, "body")
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name != "body"}
    scans = int(attributes["num_scan_inputs"])
    states = list(node.input[: len(node.input) - scans])
    scanned = list(node.input[len(node.input) - scans :])
    axes: Sequence[int] = attributes.get("scan_input_axes") or [0] * scans
    inner = Values(counter.model, body, values)
    values.inner.append(inner)
    names = [value.name for value in body.input]
    for name, start in zip(names, states, strict=False):
        inner.set_type(name, values.type_of(start))
    steps = None
    for name, whole, axis in zip(names[len(states) :], scanned, axes, strict=True):
        shape = list(values.shape(whole))
        steps = shape.pop(axis)
        inner.set_shape(name, shape, like=whole)
    assert steps is not None  # a scan has an input to scan
    _add(place, _run(body, inner, counter), steps)
    for name, result in zip(node.output, body.output[: len(states)], strict=False):
        values.set_type(name, inner.type_of(result.name))
    results = body.output[len(states) :]
    over: Sequence[int] = attributes.get("scan_output_axes") or [0] * len(results)
    for name, result, axis in zip(node.output[len(states) :], results, over, strict=False):
        _stack(name, result.name, inner, values, steps, axis)
    return ""
