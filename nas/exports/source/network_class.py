"""Writes the class `Network`: its blocks in order, with loops where blocks or cells repeat.

Cells of one form (`network_cells.py`) share a pair of functions. Knows how blocks are joined. Does
not know what is in a block (`block_classes.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nas.exports.source.block_classes import (
    Arguments,
    BlockClass,
    BlockForm,
    class_names,
    expression,
    some,
)
from nas.exports.source.network_cells import MIN_REPEATS, BlockNode, Cell, block_nodes, cells_of
from nas.exports.source.source_text import INDENT, call, identifier, literal
from search_spaces.networks.modules import ties
from search_spaces.serial import Blocks


class NetworkClass:
    """The source of a network's classes and functions.

    Raises:
        UserError: for an op type that cannot be written.
    """

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.nodes = block_nodes(blocks)
        self.parts = cells_of(self.nodes)
        placed: dict[BlockForm, list[BlockNode]] = {}
        for node in self.nodes:
            if node.form.stateful:
                placed.setdefault(node.form, []).append(node)
        names = class_names({form: [n.name for n in of] for form, of in placed.items()})
        self.classes: dict[BlockForm, BlockClass] = {
            form: BlockClass(names[form], form, [n.form for n in of], [n.name for n in of])
            for form, of in placed.items()
        }
        self._cells: dict[Any, list[Cell]] = {}
        for part in self.parts:
            if isinstance(part, Cell):
                self._cells.setdefault(part.form, []).append(part)
        self._functions = self._cell_names()
        self._known = {form: Arguments() for form in self._cells}
        self._running = {form: Arguments() for form in self._cells}
        self.functions = [self._cell_source(form) for form in self._cells]

    def source(self, about: Sequence[str], argument: str, shape: Sequence[int]) -> str:
        """The class `Network`.

        Args:
            about: lines of its docstring.
            argument: name of the input.
            shape: shape of one sample of the input.
        """
        first, *rest = about
        body = "\n".join(f"{INDENT}{line}".rstrip() for line in rest)
        doc = f'{INDENT}"""{first}\n\n{body}\n{INDENT}"""' if rest else f'{INDENT}"""{first}"""'
        made = "\n".join([*self._made(), *self._tied()])
        taken = f"(batch, {', '.join(map(str, shape))})"
        out = f"(batch, {', '.join(map(str, self.nodes[-1].shape))})"
        return (
            f"class Network(nn.Module):\n{doc}\n\n"
            "    def __init__(self) -> None:\n        super().__init__()\n"
            f"        blocks: dict[str, nn.Module] = {{}}\n{made}\n"
            f"    def forward(self, {argument}: Tensor) -> Tensor:\n"
            f'        """Map `{taken}` to `{out}`."""\n' + "\n".join(self._forward(argument))
        )

    def _made(self) -> list[str]:
        """Lines that construct the blocks."""
        entries: list[tuple[str, str, str]] = []
        for part in self.parts:
            if isinstance(part, Cell):
                if any(node.form.stateful for node in part.nodes):
                    arguments = self._known[part.form]
                    given = arguments.given(self._cells[part.form].index(part))
                    function = f"make_{self._functions[part.form]}"
                    text = f"blocks |= {function}({', '.join(['@', *given])})"
                    entries.append((part.name, text, _shape(part.nodes[-1].shape)))
            elif part.form.stateful:
                made = self.classes[part.form].made(part.name)
                entries.append((part.name, f"blocks[@] = {made}", _shape(part.shape)))
        lines = []
        for texts in _repeats(entries, key=lambda e: (e[0], e[1:])):
            name, text, shape = texts[0]
            if len(texts) >= MIN_REPEATS:
                stem, first = _numbered(name)
                count = f"{first}, {first + len(texts)}" if first else f"{len(texts)}"
                lines.append(f"        for index in range({count}):")
                text = text.replace("@", f'f"{stem}{{index}}"')
                lines.append(_called(3, text, shape))
            else:
                lines += [
                    _called(2, other.replace("@", literal(of)), size) for of, other, size in texts
                ]
        return [*lines, "        self.blocks = nn.ModuleDict(blocks)"]

    def _tied(self) -> list[str]:
        """Lines that assign the embeddings' weights to tied layers."""
        lines = []
        for layer, source in ties(self.blocks):
            (block, op), (of, table) = layer.split("/"), source.split("/")
            lines.append(f"        shared = {_reach(of, table)}")
            lines.append(f"        {_reach(block, op)}.weight = shared.weight")
        return [*lines, ""]

    def _forward(self, argument: str) -> list[str]:
        chain = [None, *(node.name for node in self.nodes)]
        plain = all(node.reads == (chain[i],) for i, node in enumerate(self.nodes))
        if plain and all(node.form.stateful for node in self.nodes):
            return [
                f"        x = {argument}",
                "        for block in self.blocks.values():",
                "            x = block(x)",
                "        return x",
            ]
        values: dict[str | None, str] = {None: argument}
        zeros: set[str | None] = set()
        lines: list[tuple[str, str]] = []
        for index, part in enumerate(self.parts):
            last = part.nodes[-1].name if isinstance(part, Cell) else part.name
            follows = self.parts[index + 1 :]
            later = [p for p in follows if last in p.reads]
            target = "x" if later == follows[:1] else identifier(last)
            if isinstance(part, Cell):
                read = [values[source] for source in part.reads]
                read += self._running[part.form].given(self._cells[part.form].index(part))
                text = f"run_{self._functions[part.form]}(self.blocks, {', '.join(['@', *read])})"
                lines.append((part.name, f"{target} = {text}"))
                values[last] = target
            else:
                text = self._block(part, values, zeros, "self.blocks[@]")
                if (text in values.values() and text != "x") or part.name in zeros:
                    values[last] = text
                    continue
                lines.append((part.name, f"{target} = {text}"))
                values[last] = target
        result = []
        for texts in _repeats(lines, key=lambda line: (line[0], line[1])):
            name, text = texts[0]
            if len(texts) >= MIN_REPEATS:
                stem, first = _numbered(name)
                count = f"{first}, {first + len(texts)}" if first else f"{len(texts)}"
                result.append(f"        for index in range({count}):")
                result.append(_called(3, text.replace("@", f'f"{stem}{{index}}"')))
            else:
                result += [_called(2, t.replace("@", literal(of))) for of, t in texts]
        final = values[self.nodes[-1].name]
        if len(texts) < MIN_REPEATS and result[-1].startswith(f"        {final} = "):
            return [*result[:-1], result[-1].replace(f"{final} = ", "return ", 1)]
        return [*result, f"        return {final}"]

    def _block(
        self,
        node: BlockNode,
        values: Mapping[str | None, str],
        zeros: set[str | None],
        of: str,
        known: Arguments | None = None,
        peers: Sequence[BlockNode] = (),
    ) -> str:
        """The output of a block as an expression; adds its name to `zeros` if it is all zeros."""
        if node.form.stateful:
            return f"{of}({', '.join(values[source] for source in node.reads)})"
        names = {-1 - i: source for i, source in enumerate(node.reads)}
        texts = {place: values[source] for place, source in names.items()}
        zero_ops = {place for place, source in names.items() if source in zeros}
        atomic = dict.fromkeys(texts, True)
        for index, step in enumerate(node.form.steps):
            read = [r for r in step.reads if r not in zero_ops] or list(step.reads[:1])
            if step.zero:
                zero_ops.add(index)
            if step.written.text.startswith("{0} +"):
                if all(r in zero_ops for r in step.reads):
                    zero_ops.add(index)
                texts[index] = " + ".join(texts[r] for r in read)
                atomic[index] = len(read) == 1
                continue
            steps = [peer.form.steps[index] for peer in peers] or [step]
            given = _given(steps, known or Arguments())
            parts = [texts[r] if atomic[r] else f"({texts[r]})" for r in step.reads]
            texts[index] = expression(step.written, parts, given)
            atomic[index] = step.written.atomic
        final = len(node.form.steps) - 1
        if final in zero_ops:
            zeros.add(node.name)
        return texts[final]

    def _cell_names(self) -> dict[Any, str]:
        names: dict[Any, str] = {}
        for form, cells in self._cells.items():
            base = identifier(re.sub(r"\d+", "", cells[0].name).split("_")[-1]) or "cell"
            name, number = base, 1
            while name in names.values():
                number += 1
                name = f"{base}{number}"
            names[form] = name
        return names

    def _cell_source(self, form: Any) -> str:
        """Source of a cell's functions: one constructs its blocks, one runs them."""
        cells, known, running = self._cells[form], self._known[form], self._running[form]
        name, cell = self._functions[form], cells[0]
        inputs = [f"x{i}" if len(cell.reads) > 1 else "x" for i in range(len(cell.reads))]
        values: dict[str | None, str] = dict(zip(cell.reads, inputs, strict=True))
        zeros: set[str | None] = set()
        made, run = [], []
        for position, node in enumerate(cell.nodes):
            peers = [other.nodes[position] for other in cells]
            key = f'f"{{name}}{cell.suffix(node.name)}"' if cell.suffix(node.name) else "name"
            if node.form.stateful:
                block = self.classes[node.form]
                given = _cell_arguments(block, peers, known)
                made.append(call(2, f"{key}: {block.name}(", given, "),"))
            text = self._block(node, values, zeros, f"blocks[{key}]", running, peers)
            if position < len(cell.nodes) - 1 and (text in values.values() or node.name in zeros):
                values[node.name] = text
                continue
            target = identifier(cell.suffix(node.name).strip("_") or "x")
            lead = "return " if position == len(cell.nodes) - 1 else f"{target} = "
            run.append((lead, text, node.form.stateful))
            values[node.name] = target
        taken = ["blocks: nn.ModuleDict", "name: str", *(f"{i}: Tensor" for i in inputs)]
        taken += running.annotated()
        named = some([c.name for c in cells], 60)
        source = ""
        if made:
            signature = call(
                0,
                f"def make_{name}(",
                ["name: str", *known.annotated()],
                ") -> dict[str, nn.Module]:",
            )
            blocks = "\n".join(made)
            source = (
                f'{signature}\n    """Construct the blocks of {named}."""\n'
                f"    return {{\n{blocks}\n    }}\n\n\n"
            )
        signature = call(0, f"def run_{name}(", taken, ") -> Tensor:")
        lines = [call(1, f"{lead}{text}", [], "", note) for lead, text, note in _used_lines(run)]
        return source + f'{signature}\n    """Run a cell."""\n' + "\n".join(lines)


def _used_lines(lines: Sequence[tuple[str, str, bool]]) -> list[tuple[str, str, str]]:
    """Assignments `(target, expression, comment)` without those whose results are unused.

    A block with weights always runs, even if its result is unused: it is part of the network and
    counts towards its FLOPs.
    """
    kept: list[tuple[str, str, str]] = []
    later = ""
    for lead, text, stateful in reversed(lines):
        used = lead == "return " or re.search(rf"\b{lead.removesuffix(' = ')}\b", later)
        if used or stateful:
            kept.append((lead if used else "", text, "" if used else "result unused"))
            later += f" {text}"
    return kept[::-1]


def _given(steps: Sequence[Any], known: Arguments) -> dict[str, str]:
    """Source of the arguments of an op outside of a class, by role, without defaults."""
    result = {}
    for position, argument in enumerate(steps[0].written.arguments):
        found = tuple(step.written.arguments[position].value for step in steps)
        if not all(value == argument.default for value in found):
            result[argument.role] = known.expression(found, argument.role, steps[0].name)
    return result


def _cell_arguments(block: BlockClass, peers: Sequence[BlockNode], known: Arguments) -> list[str]:
    """Source of the arguments of a block's class inside the function of its cell."""
    rows = [block.places.index(peer.name) for peer in peers]
    return [
        known.expression(tuple(values[row] for row in rows), name, name, kind)
        for (kind, values), name in block.arguments.names.items()
    ]


def _repeats(entries: Sequence[Any], key: Any) -> list[list[Any]]:
    """Group neighbours that differ only in a consecutive number at the end of their names."""
    runs: list[list[Any]] = []
    for entry in entries:
        name, rest = key(entry)
        stem, number = _numbered(name)
        if runs:
            last_name, last_rest = key(runs[-1][-1])
            last_stem, last_number = _numbered(last_name)
            if (stem, rest) == (last_stem, last_rest) and number == last_number + 1 and stem:
                runs[-1].append(entry)
                continue
        runs.append([entry])
    return runs


def _numbered(name: str) -> tuple[str, int]:
    """Split `block12` into `("block", 12)`; `("", -1)` if there is no number."""
    found = re.fullmatch(r"(.*?)(\d+)", name)
    return (found[1], int(found[2])) if found else ("", -1)


def _called(indent: int, text: str, comment: str = "") -> str:
    """A statement; if it ends with a call, broken at the arguments where it is too long."""
    head, bracket, arguments = text.partition("(")
    whole = bracket and text.endswith(")") and _balanced(arguments[:-1])
    if not whole:
        return call(indent, text, [], "", comment)
    return call(indent, head + bracket, [arguments[:-1]], ")", comment)


def _balanced(text: str) -> bool:
    """Whether all brackets in a text are matched."""
    depth = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if depth < 0:
            return False
    return depth == 0


def _reach(block: str, op: str) -> str:
    return f"self.blocks[{literal(block)}].ops[{literal(op)}]"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
