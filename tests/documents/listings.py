"""What the guide consists of: chapters, sections, listings and the names in them."""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass

from tools.reading_time import FENCED, without_code

IDENTIFIER = re.compile(r"[^\W\d]\w*")
BUILT_IN = frozenset(dir(builtins)) | {"__name__", "__file__"}
Function = ast.FunctionDef | ast.AsyncFunctionDef
# What binds the name that its attribute `name` holds.
Naming = Function | ast.ClassDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar


@dataclass(frozen=True)
class Section:
    """A part of a chapter; what comes before the first heading has no title."""

    title: str
    text: str

    @property
    def number(self) -> str:
        """Return what the title begins with: "1.4", or another word."""
        return self.title.partition(" ")[0]


def split_at(heading: str, text: str) -> list[Section]:
    """Return the parts of a text that begin with a heading such as "###"."""
    found = list(re.finditer(rf"^{heading} (.+)\n", without_code(text), re.MULTILINE))
    starts = [0, *(one.end() for one in found)]
    ends = [*(one.start() for one in found), len(text)]
    titles = ["", *(one[1] for one in found)]
    parts = zip(titles, starts, ends, strict=True)
    return [Section(title, text[start:end]) for title, start, end in parts]


def listings(text: str) -> list[tuple[str, str]]:
    """Return the fenced blocks: language and text."""
    return FENCED.findall(text)


def explained(text: str) -> set[str]:
    """Return the names that stand in backticks in the prose."""
    spans = re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
    return {name for span in spans for name in IDENTIFIER.findall(span)}


def imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Return the names that an import binds."""
    return {(one.asname or one.name).partition(".")[0] for one in node.names}


def bound(tree: ast.AST) -> set[str]:
    """Return every name that is bound anywhere in a listing, parameters too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= imported(node)
        elif isinstance(node, Naming) and node.name:
            names.add(node.name)
    return names


def shown(tree: ast.AST) -> set[str]:
    """Return what a listing shows to those after it: all but what is local."""
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {node.name} | shown(node)
        elif isinstance(node, ast.stmt):
            names |= bound(node)
    return names


def used(tree: ast.AST) -> set[str]:
    """Return the names that a listing reads; attributes are none."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def unknown_names(chapter: str) -> list[str]:
    """Return "section: name" for each name in a listing that a reader cannot know.

    Known is what is built in, what this listing binds, what an earlier listing of the
    chapter shows, and what the prose has in backticks, up to the end of the section.
    """
    known = set(BUILT_IN)
    unknown = []
    for section in split_at("###", chapter):
        known |= explained(section.text)
        for language, code in listings(section.text):
            if language != "python":
                continue
            tree = ast.parse(code)
            missing = used(tree) - bound(tree) - known
            unknown += [f"{section.number}: {name}" for name in sorted(missing)]
            known |= shown(tree)
    return unknown
