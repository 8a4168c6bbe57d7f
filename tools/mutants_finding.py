"""Finds the mutants of the course: one function, one small change of its code.

The changes are those of Cosmic Ray's operators (https://cosmic-ray.readthedocs.io), and
one that it lacks: a statement is left out. What nobody would notice is no mutant:
annotations, docstrings, texts for a log, `__all__`, demos (they are claims themselves).
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, product, zip_longest
from pathlib import Path
from random import Random
from typing import Any

import parso
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

ROOT = Path(__file__).resolve().parent.parent
NEED_ARGUMENTS = {"VariableReplacer", "VariableInserter"}
GROUPS = {  # the first that a path begins with
    "01_": "01",
    "02_": "02",
    "03_": "03",
    "04_": "04",
    "05_": "05",
    "course/sql/": "01",
    "course/mongo/": "02",
    "course/standins/amqp": "04",
    "course/standins/": "02",
    "course/caching/": "03",
    "course/amqp/": "04",
    "course/analytics/": "05",
    "course/integrated/": "integrated",
    "course/": "core",
}
LOGS = re.compile(r"\s*(self\.)?_?(log|logger|logging)\.\w+\(")
NODES = {  # families with many operators: what kinds of nodes they change
    "ReplaceBinaryOperator": ("operator",),
    "ReplaceComparisonOperator": ("comparison",),
    "ReplaceUnaryOperator": ("factor", "not_test"),
}
NOT_THE_SUBJECT = {"main"}
RARER = 0.5  # LeaveOut is possible nearly everywhere
ROUNDS = 4  # how often a function is asked for another mutant
TRIES = 20  # drawn until one is a change of what the code does


EFFECTS = ("atom_expr", "power", "raise_stmt", "del_stmt")


def changes_something(assignment: Any) -> bool:
    """Tell whether an assignment changes an object, or a variable that is there."""
    target, how = assignment.children[:2]
    is_augmented = how.type == "operator" and how.value != "="
    return target.type in ("atom_expr", "power") or is_augmented


class LeaveOut(Operator):  # type: ignore[misc]
    """Leave out a statement that is there for its effect."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Yield where a call, a raise or an assignment to an attribute stands."""
        if node.parent is None or node.parent.type != "simple_stmt":
            return
        if "NotImplementedError" in node.get_code():
            return
        if node.type in EFFECTS or (
            node.type == "expr_stmt" and changes_something(node)
        ):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Return `pass`, which takes the statement's place."""
        prefix = node.get_first_leaf().prefix
        return parso.python.tree.Keyword("pass", node.start_pos, prefix)

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        """Return none: tests/tools/test_mutants.py has them."""
        return ()


@cache
def operators() -> dict[str, list[Operator]]:
    """Return all operators by their families: ReplaceBinaryOperator, AddNot, ..."""
    provider = OperatorProvider()
    found: dict[str, list[Operator]] = {}
    for name in provider:
        if name not in NEED_ARGUMENTS:
            found.setdefault(name.split("_")[0], []).append(provider[name]())
    found["LeaveOut"] = [LeaveOut()]
    return found


@dataclass(frozen=True)
class Function:
    """A function of the course: its file, its name with its class, its lines."""

    file: str
    name: str
    first: int  # with its decorators
    body: int  # the first behind the def
    last: int

    @property
    def group(self) -> str:
        """Whose it is: "01" to "05", "integrated" or "core"."""
        return next(GROUPS[start] for start in GROUPS if self.file.startswith(start))


@dataclass(frozen=True)
class Mutant:
    """A changed function; `text` is the whole file with the change in it."""

    function: Function
    family: str
    line: int
    before: str
    after: str
    text: str
    key: str  # the same as long as the function has the same text
    turn: int  # with the seed, what makes it again

    @property
    def label(self) -> str:
        """Return where it is and what changes, on one line."""
        place = f"{self.function.file}:{self.line} {self.function.name}"
        return f"{place}: {self.before.strip()}  ->  {self.after.strip()}"


class OneChange(Visitor):  # type: ignore[misc]
    """Applies an operator to one node."""

    def __init__(self, chosen: Any, change: Callable[[Any], Any]) -> None:
        self.chosen = chosen
        self.change = change

    def visit(self, node: Any) -> Any:
        """Return the node, changed if it is the chosen one."""
        return self.change(node) if node is self.chosen else node


def sources() -> list[str]:
    """Return the files whose code is mutated, as paths from the root."""
    found = chain(ROOT.glob("0[1-5]_*.py"), ROOT.glob("course/**/*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def is_subject(node: ast.FunctionDef) -> bool:
    """Tell whether a function is what a lesson is about, and not a demo or main."""
    if node.name in NOT_THE_SUBJECT:
        return False
    return not any(ast.unparse(one).endswith(".demo") for one in node.decorator_list)


def functions_in(body: Iterable[ast.AST], file: str, within: str) -> Iterator[Function]:
    """Yield the functions and methods of a module's or a class's body."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from functions_in(node.body, file, f"{within}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and is_subject(node):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            last = node.end_lineno or 0
            name = f"{within}{node.name}"
            yield Function(file, name, first, node.body[0].lineno, last)


@cache
def text_of(file: str) -> str:
    """Return the text of a file, as it is when first asked for."""
    return (ROOT / file).read_text("utf-8")


@cache
def functions_of(file: str) -> tuple[Function, ...]:
    """Return all functions of a file."""
    return tuple(functions_in(ast.parse(text_of(file)).body, file, ""))


def is_left_alone(node: Any) -> bool:
    """Tell whether a part of the code is an annotation or a text for a log."""
    parent = node.parent
    if node.type == "annassign":
        return False
    if parent is not None and parent.type == "annassign":
        return bool(parent.children[1] is node)
    if parent is not None and parent.type == "tfpdef":
        return bool(parent.children[-1] is node)
    if parent is not None and parent.type == "funcdef":
        return bool(parent.annotation is node)
    return node.type in ("atom_expr", "power") and bool(LOGS.match(node.get_code()))


def visible(node: Any) -> Iterator[Any]:
    """Yield the nodes of a function that may change."""
    if is_left_alone(node):
        return
    yield node
    for child in getattr(node, "children", ()):
        yield from visible(child)


def positions(family: str, part: Any) -> list[tuple[Operator, Any, int]]:
    """Return how the operators of a family can change a node."""
    return [
        (operator, part, index)
        for operator in operators()[family]
        for index, _ in enumerate(operator.mutation_positions(part))
    ]


def candidates(tree: Any) -> dict[str, list[tuple[Operator, Any, int]]]:
    """Return what could change in a function, by families of operators."""
    found: dict[str, list[tuple[Operator, Any, int]]] = {}
    for part in visible(tree):
        if part.type in ("name", "newline", "string"):
            continue
        for family in operators():
            # Only for speed: the other nodes have no positions for them.
            if part.type in NODES.get(family, (part.type,)):
                places = positions(family, part)
                if places:
                    found.setdefault(family, []).extend(places)
    return found


def one_of(tree: Any, chance: Random) -> tuple[str, Operator, Any, int] | None:
    """Return a random change: a family of operators first, so that none is rare."""
    by_family = candidates(tree)
    if len(by_family) > 1 and chance.random() < RARER:
        by_family.pop("LeaveOut", None)
    if not by_family:
        return None
    family = chance.choice(sorted(by_family))
    return (family, *chance.choice(by_family[family]))


def meaning_of(text: str) -> str | None:
    """Return the structure of a text, None where it is not Python."""
    try:
        return ast.dump(ast.parse(text))
    except SyntaxError:
        return None


def difference(old: str, new: str) -> tuple[int, str, str]:
    """Return the first line in which two texts differ: its number, and both."""
    pairs = zip_longest(old.splitlines(), new.splitlines(), fillvalue="")
    for number, (before, after) in enumerate(pairs, 1):
        if before != after:
            return number, before, after
    return 0, "", ""


def key_of(function: Function, before: str, after: str) -> str:
    """Return a name for a change that holds as long as the function's text does."""
    told = repr((function.file, function.name, before, after))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def mutant_of(function: Function, seed: int, turn: int) -> Mutant | None:
    """Return a random mutant of a function, None if it seems to have none."""
    chance = Random(f"{seed} {function.file} {function.name} {turn}")
    lines = text_of(function.file).splitlines(keepends=True)
    own = "".join(lines[function.first - 1 : function.last])
    head = "if True:\n" if own[0] == " " else ""  # so that a method can be parsed
    meaning = meaning_of(head + own)
    for _ in range(TRIES):
        tree = get_ast(head + own)
        found = one_of(tree, chance)
        if found is None:
            return None
        family, operator, chosen, index = found
        change = OneChange(chosen, partial(operator.mutate, index=index))
        new = change.walk(tree).get_code().removeprefix(head)
        if meaning_of(head + new) in (None, meaning):
            continue
        number, before, after = difference(own, new)
        text = "".join((*lines[: function.first - 1], new, *lines[function.last :]))
        line = function.first + number - 1
        key = key_of(function, own, new)
        return Mutant(function, family, line, before, after, text, key, turn)
    return None


def in_order(seed: int, functions: Iterable[Function]) -> list[Function]:
    """Return functions shuffled, in an order that a new function does not upset."""

    def place(function: Function) -> bytes:
        told = f"{seed} {function.file} {function.name}"
        return hashlib.sha256(told.encode()).digest()

    return sorted(functions, key=place)


def alternating(*rows: list[Any]) -> list[Any]:
    """Return the items of some lists in turn: the first of each, the second ..."""
    turns = chain.from_iterable(zip_longest(*rows))
    return [one for one in turns if one is not None]


def order_of_functions(seed: int) -> list[Function]:
    """Return all functions: the groups in turn, in each the lesson and its part."""
    every = [one for file in sources() for one in functions_of(file)]
    groups: list[list[Function]] = []
    for group in sorted(set(GROUPS.values())):
        its = [one for one in every if one.group == group]
        lesson = [one for one in its if not one.file.startswith("course/")]
        behind = [one for one in its if one.file.startswith("course/")]
        groups.append(alternating(in_order(seed, lesson), in_order(seed, behind)))
    return alternating(*groups)


def sample(seed: int, count: int) -> Iterator[Mutant]:
    """Yield so many mutants; a larger count continues what a smaller one has begun."""
    seen: set[str] = set()
    functions = order_of_functions(seed)
    for turn, function in product(range(ROUNDS), functions):
        if len(seen) >= count:
            return
        mutant = mutant_of(function, seed, turn)
        if mutant and mutant.key not in seen:
            seen.add(mutant.key)
            yield mutant
