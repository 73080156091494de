"""Writes blocks as classes: blocks that differ only in numbers share a class with arguments.

Knows the ops of blocks. Does not know how blocks are joined (`network_class.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas.exports.source.python_rules import RULES, Argument, Code, Written
from nas.exports.source.source_text import call, camel, docstring, identifier, literal, member
from search_spaces.errors import UserError
from search_spaces.ops import Op, Zero

FACTORS = (2, 3, 4)
VARIABLES = "xyzuvw"
NAMED_RESULTS = ("query", "key", "value", "qkv", "ids")
"""Ops whose results are variables of the same name."""

MAX_SUFFIX = 24
LIST_WIDTH = 80

SIZES = (
    *("in_channels", "channels", "groups", "in_features", "features", "width", "head_width"),
    *("positions", "vocabulary"),
)
"""Roles whose values are sizes of tensors: two that are equal in all blocks are one argument."""


@dataclass(frozen=True)
class Step:
    """An op of a block: its source form, and the positions of its inputs.

    `reads` has indices of ops, or -1, -2, ... for inputs of the block.
    """

    name: str
    written: Written
    reads: tuple[int, ...]
    zero: bool
    shape: tuple[int, ...] = field(compare=False)


@dataclass(frozen=True)
class BlockForm:
    """The ops of a block without their numbers; equal for all blocks of one class."""

    steps: tuple[Step, ...]
    inputs: int

    @property
    def stateful(self) -> bool:
        """Whether the block contains a module."""
        return any(step.written.made for step in self.steps)


def block_form(ops: Sequence[Op]) -> tuple[BlockForm, list[str]]:
    """The form of a block, and the names of its inputs: `input` or `@block`.

    Raises:
        UserError: for an op type that has no rule.
    """
    places: dict[str, int] = {}
    inputs: list[str] = []
    steps = []
    for index, op in enumerate(ops):
        rule = RULES.get(type(op))
        if rule is None:
            raise UserError(
                f"op type {type(op).__name__} cannot be written as plain PyTorch: add a rule to "
                "nas.exports.source.python_rules.RULES"
            )
        for tensor in op.inputs:
            if tensor.name not in places:
                inputs.append(tensor.name)
                places[tensor.name] = -len(inputs)
        reads = tuple(places[tensor.name] for tensor in op.inputs)
        steps.append(Step(op.name, rule(op), reads, isinstance(op, Zero), op.out_shape))
        places[op.name] = index
    return BlockForm(tuple(steps), len(inputs)), inputs


class Arguments:
    """Constructor arguments of a class: what differs between its blocks, a value per block."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, tuple[Any, ...]], str] = {}
        """Names by kind and values: arguments of one kind with equal values are the same."""

    def expression(
        self, values: tuple[Any, ...], role: str, op: str, kind: str | None = None
    ) -> str:
        """Source of a value: a literal, an argument, or an expression of one.

        Args:
            values: the value in each block.
        """
        if len({(type(v), v) for v in values}) == 1:
            return literal(values[0])
        kind = kind or ("size" if role in SIZES else role)
        if (kind, values) in self.names:
            return self.names[kind, values]
        for (of, known), name in self.names.items():
            if role == "padding" and of == "kernel" and values == tuple(v // 2 for v in known):
                return f"{name} // 2"
            for factor in FACTORS if kind == of == "size" else ():
                if values == tuple(factor * v for v in known):
                    return f"{factor} * {name}"
        taken = set(self.names.values())
        named = role in taken or (role in SIZES and not role.startswith("in_") and bool(taken))
        name = identifier(f"{op}_{role}") if named else role
        while name in taken:
            name += "_"
        self.names[kind, values] = name
        return name

    def annotated(self) -> list[str]:
        """The arguments in the signature of a constructor, with types."""
        return [f"{name}: {_type(values[0])}" for (_, values), name in self.names.items()]

    def given(self, block: int) -> list[str]:
        """Source of the values of one block, in the order of the constructor."""
        return [literal(values[block]) for _, values in self.names]

    def size(self, values: tuple[int, ...]) -> str | None:
        """The name of the argument with these sizes; None if there is none."""
        return self.names.get(("size", values))


def _type(value: Any) -> str:
    if isinstance(value, Code):
        return "Callable[[Tensor], Tensor]"
    return type(value).__name__


def written_arguments(
    steps: Sequence[Step], known: Arguments, attributes: set[str] | None = None
) -> dict[str, str]:
    """Source of the arguments of one op by role, without defaults.

    Args:
        steps: the op in each block of the class.
        attributes: if given, arguments are written as `self.NAME` and their names added here.
    """
    result = {}
    for position, argument in enumerate(steps[0].written.arguments):
        values = tuple(step.written.arguments[position].value for step in steps)
        if all(value == argument.default for value in values):
            continue
        text = known.expression(values, argument.role, steps[0].name)
        if attributes is not None:
            for name in known.names.values():
                if re.search(rf"\b{name}\b", text) and not text.startswith(('"', "F.", "torch.")):
                    attributes.add(name)
                    text = re.sub(rf"\b{name}\b", f"self.{name}", text)
        result[argument.role] = text
    return result


def listed(arguments: Sequence[Argument], given: Mapping[str, str]) -> list[str]:
    """Source of the arguments in a call, by keyword if they have one."""
    return [
        f"{argument.keyword}={given[argument.role]}" if argument.keyword else given[argument.role]
        for argument in arguments
        if argument.role in given
    ]


@dataclass
class BlockClass:
    """The class of all blocks of one form."""

    name: str
    form: BlockForm
    forms: list[BlockForm]
    """The form of each block, equal to `form` but with the block's numbers."""
    places: list[str]
    """Names of the blocks."""

    def __post_init__(self) -> None:
        """Collect the arguments and write the source."""
        self.arguments = Arguments()
        self._attributes: set[str] = set()
        self.source = self._write()

    def made(self, block: str) -> str:
        """Source of the call that constructs a block."""
        return f"{self.name}({', '.join(self.arguments.given(self.places.index(block)))})"

    def _steps(self, index: int) -> list[Step]:
        return [form.steps[index] for form in self.forms]

    def _write(self) -> str:
        ops = []
        for index, step in enumerate(self.form.steps):
            if step.written.made:
                given = written_arguments(self._steps(index), self.arguments)
                head = f"{literal(step.name)}: {step.written.made}("
                ops.append(call(4, head, listed(step.written.arguments, given), "),"))
        inputs, body = statements(self, member_of="self.ops")
        held = "".join(
            f"        self.{name} = {name}\n"
            for name in self.arguments.names.values()
            if name in self._attributes
        )
        signature = call(1, "def __init__(", ["self", *self.arguments.annotated()], ") -> None:")
        taken = ", ".join(f"{name}: Tensor" for name in inputs)
        shapes = [self._shape([form.steps[-1].shape for form in self.forms])]
        made = "\n".join(ops)
        return (
            f"class {self.name}(nn.Module):\n"
            + docstring(1, f"{'Blocks' if len(self.places) > 1 else 'Block'} {some(self.places)}.")
            + f"\n\n{signature}\n        super().__init__()\n{held}"
            + f"        self.ops = nn.ModuleDict(\n            {{\n{made}\n            }}\n"
            + "        )\n"
            + f"\n    def forward(self, {taken}) -> Tensor:\n"
            + docstring(2, f"Return `(batch, {shapes[0]})`.")
            + "\n"
            + "\n".join(body)
        )

    def _shape(self, shapes: Sequence[tuple[int, ...]]) -> str:
        """A shape over all blocks: equal sizes as numbers, others as arguments or letters."""
        if len({len(shape) for shape in shapes}) > 1:
            return "..."
        letters = iter("hwstuv")
        unnamed: dict[tuple[int, ...], str] = {}
        sizes = []
        for values in zip(*shapes, strict=True):
            if len(set(values)) == 1:
                sizes.append(str(values[0]))
            elif (name := self.arguments.size(values)) is not None:
                sizes.append(name)
            else:
                if values not in unnamed:
                    unnamed[values] = next(letters)
                sizes.append(unnamed[values])
        return ", ".join(sizes)

    def argument(self, index: int) -> dict[str, str]:
        """Source of the arguments of an op in `forward`, by role."""
        return written_arguments(self._steps(index), self.arguments, self._attributes)


def statements(block: BlockClass, member_of: str) -> tuple[list[str], list[str]]:
    """The parameters of a block's `forward`, and its lines; the last one is the return."""
    form = block.form
    inputs = list(VARIABLES[: form.inputs]) if form.inputs <= len(VARIABLES) else []
    inputs = inputs or [f"x{index}" for index in range(form.inputs)]
    writer = Expressions(form, inputs, block.argument, member_of)
    lines = []
    for target, text, index in writer.assignments():
        shape = block._shape([other.steps[index].shape for other in block.forms])
        if target is None:
            lines.append(call(2, f"return {text}", [], ""))
        else:
            lines.append(call(2, f"{target} = {text}", [], "", shape))
    return inputs, lines


class Expressions:
    """Turns the ops of a block into assignments; a chain of ops shares one line."""

    def __init__(
        self, form: BlockForm, inputs: Sequence[str], argument: Any, member_of: str
    ) -> None:
        self.form = form
        self.argument = argument
        self.member_of = member_of
        self.readers: dict[int, int] = {}
        self.last: dict[int, int] = {}
        for index, step in enumerate(form.steps):
            for read in step.reads:
                self.readers[read] = self.readers.get(read, 0) + 1
                self.last[read] = index
        self.variables = {-1 - place: name for place, name in enumerate(inputs)}
        self.zeros: set[int] = set()

    def assignments(self) -> Iterator[tuple[str | None, str, int]]:
        """`(variable, expression, op)` of each line; the variable of the last is None."""
        final = len(self.form.steps) - 1
        pending: tuple[int, str, bool] | None = None
        reads: set[int] = set()
        for index in range(len(self.form.steps)):
            step = self.form.steps[index]
            nested = self._nests(pending, step, index)
            if pending is not None and not nested:
                yield self._assigned(pending[0], pending[1], reads)
                pending, reads = None, set()
            text, atomic = self._text(index, pending)
            reads |= {read for read in step.reads if pending is None or read != pending[0]}
            pending = (index, text, atomic)
        assert pending is not None
        yield None, pending[1], final

    def _nests(self, pending: tuple[int, str, bool] | None, step: Step, index: int) -> bool:
        """Whether an op is written into the expression of the op before it."""
        if pending is None or pending[0] not in step.reads or self.readers[pending[0]] > 1:
            return False
        joins = not step.written.made and not step.written.atomic
        # Characters that the op adds: its name, `self.ops` and brackets, or a function name.
        more = len(step.name) + len(self.member_of) + 3 if step.written.made else 14
        room = len(pending[1]) + more < 84
        return (step.written.light or joins) and room and "..." not in pending[1]

    def _text(self, index: int, pending: tuple[int, str, bool] | None) -> tuple[str, bool]:
        step = self.form.steps[index]
        read = []
        for source in step.reads:
            if pending is not None and source == pending[0]:
                alone = pending[2] or step.written.made or step.written.text.endswith("...)")
                read.append(pending[1] if alone else f"({pending[1]})")
            else:
                read.append(self.variables[source])
        if step.written.made:
            return f"{member(self.member_of, step.name)}({', '.join(read)})", True
        given = self.argument(index)
        return expression(step.written, read, given), step.written.atomic

    def _assigned(self, index: int, text: str, reads: set[int]) -> tuple[str, str, int]:
        """An assignment; its variable is one that is no longer read, or a new one."""
        step = self.form.steps[index]
        free = [
            self.variables[read]
            for read in sorted(reads, key=lambda r: self.variables.get(r, ""))
            if self.last[read] <= index and (self.readers[read] == 1 or not step.written.made)
        ]
        live = {self.variables[r] for r in self.variables if self.last.get(r, -1) > index}
        free = [name for name in free if name not in live and name in VARIABLES]
        if step.name in NAMED_RESULTS:
            name = step.name
        elif free:
            name = free[0]
        else:
            letters = [letter for letter in VARIABLES if letter not in live]
            name = letters[0] if letters else identifier(step.name)
        self.variables[index] = name
        return name, text, index


def expression(written: Written, read: Sequence[str], given: Mapping[str, str]) -> str:
    """Source of an op without a module, an expression of its inputs `read`."""
    text = written.text
    used = {a.role for a in written.arguments if f"{{{a.role}}}" in text}
    rest = listed([a for a in written.arguments if a.role not in used], given)
    text = text.replace("...", ", ".join(rest)) if rest else text.replace(", ...", "")
    return text.format(*read, **{role: given[role] for role in used})


def class_names(forms: Mapping[BlockForm, Sequence[str]]) -> dict[BlockForm, str]:
    """A class name for each form: its blocks' common name, with the ops that set it apart."""
    bases = {form: camel(_stem(names[0])) or "Block" for form, names in forms.items()}
    result: dict[BlockForm, str] = {}
    for form, base in bases.items():
        parts_of = [_parts(other) for other, name in bases.items() if name == base]
        common = set.intersection(*map(set, parts_of))
        distinct = (
            [part for part in _parts(form) if part not in common] if len(parts_of) > 1 else []
        )
        suffix = "".join(camel(part) for part in distinct)
        name = base + (suffix if len(suffix) <= MAX_SUFFIX else "")
        taken = set(result.values())
        number = 2
        while (candidate := name if number == 2 else f"{name}{number - 1}") in taken:
            number += 1
        result[form] = candidate
    return result


def some(names: Sequence[str], width: int = LIST_WIDTH) -> str:
    """The names, shortened to `width` characters with the number of omitted ones."""
    text = ", ".join(names)
    if len(text) <= width:
        return text
    kept = text[: width - 12].rpartition(",")[0].split(", ")
    return f"{', '.join(kept)} and {len(names) - len(kept)} more"


def _stem(name: str) -> str:
    """Convert `stage0_layer1` to `layer`, which is common to blocks of a kind."""
    words = [re.sub(r"\d+$", "", part) for part in name.split("_")]
    words = [word for word in words if word]
    return words[-1] if words else name


def _parts(form: BlockForm) -> list[str]:
    """First words of the names of a block's ops, without repetitions."""
    return list(dict.fromkeys(step.name.split("_")[0] for step in form.steps))
