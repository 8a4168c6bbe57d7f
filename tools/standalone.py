"""Writes each lesson as a single file that contains the parts of course/ it uses.

Run:  python tools/standalone.py [--into FOLDER] [SCRIPT ...]     (make standalone)

Nothing is packed, and nothing executed from strings: the text of each module is put
between the lesson's header and the lesson, in the order of the imports. All top-level
names then share one namespace. Where two of them clash, or where an import cannot just
be left out, this fails with one line that names the place.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START = "course.start"
LEFT_OUT = "course.integrated"  # needs all lessons; the single file says so
DATA = {"05": "data/cdnow_sample.csv"}  # what has to lie beside the file
LINE = 88  # columns of a line of imports
MARKER = re.compile(r"^ *# (region|endregion|%%|isort:).*\n", re.MULTILINE)
STATEMENTS_WITH_BODY = ast.If | ast.Try | ast.With | ast.For | ast.While


class CannotInline(Exception):
    """Raised for code that would mean something else in a single file."""


@dataclass(frozen=True)
class Import:
    """A name that an import binds, and what it stands for.

    `import a.b` binds `a`: it is (module "a.b", name "", bound "a").
    """

    module: str
    name: str
    bound: str

    @property
    def meaning(self) -> tuple[str, str]:
        """Return what the bound name is; two imports of one meaning are no clash."""
        if self.name:
            return self.module, self.name
        is_root = self.bound == self.module.partition(".")[0]
        return (self.bound if is_root else self.module), ""


class Part:
    """The text of the lesson or of a module, and what it imports and defines."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.text = path.read_text("utf-8")
        self.tree = ast.parse(self.text, path.name)
        self.is_lesson = not name.startswith("course")
        self.used: list[str] = []  # modules of course/
        self.future: set[str] = set()
        self.imports: list[Import] = []  # of others
        self.taken: list[tuple[ast.ImportFrom, str]] = []  # names of modules of course/
        self.removed: list[ast.stmt] = []  # from this part's text
        self._read_imports()
        self._check_the_rest()

    def refuse(self, node: ast.AST, why: str) -> CannotInline:
        """Return the complaint about a place in this part."""
        line = getattr(node, "lineno", 1)
        return CannotInline(f"{self.path.name}:{line}: {why}")

    def _read_imports(self) -> None:
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                self.future |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and is_ours(node):
                self._take_from_course(node)
            elif isinstance(node, ast.ImportFrom):
                self.imports += imports_from(node)
            elif isinstance(node, ast.Import):
                self._import_modules(node)
            else:
                continue
            self.removed.append(node)

    def _take_from_course(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if node.level or alias.name == "*":
                raise self.refuse(node, "write `from course.x import name`")
            if alias.asname:
                raise self.refuse(node, f"`{alias.name}` must keep its name")
            self.taken.append((node, alias.name))
        self.used.append(node.module or "")

    def _import_modules(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name == START and self.is_lesson:
                continue
            if alias.name.partition(".")[0] == "course":
                raise self.refuse(node, f"write `from {alias.name} import name`")
            bound = alias.asname or alias.name.partition(".")[0]
            self.imports.append(Import(alias.name, "", bound))

    def _check_the_rest(self) -> None:
        """Refuse imports of ours inside blocks, and code that asks for its file."""
        for node in ast.walk(self.tree):
            if node not in self.removed:
                self._check_inner_import(node)
                self._check_name(node)

    def _check_inner_import(self, node: ast.AST) -> None:
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = ["course" if node.level else node.module or ""]
        for module in modules:
            if within(module, "course") and not within(module, LEFT_OUT):
                raise self.refuse(node, "import it at the top of the file")

    def _check_name(self, node: ast.AST) -> None:
        if not isinstance(node, ast.Name) or node.id != "__file__":
            return
        if self.is_lesson:
            raise self.refuse(node, "a lesson does not know its file")
        if self.name != "course.services":
            raise self.refuse(node, "only course.services knows where the files are")

    def check_no_main(self) -> None:
        """Refuse code under `if __name__ == ...`: in the single file it would run."""
        for node in self.tree.body:
            if isinstance(node, ast.If) and "__name__" in ast.dump(node.test):
                raise self.refuse(node, "a module of course/ is not a program")

    def defined(self) -> dict[str, ast.AST]:
        """Return the names that the part itself binds at its top level."""
        found: dict[str, ast.AST] = {}
        for node in top_level(self.tree.body):
            for name in names_bound_by(node):
                found.setdefault(name, node)
        return found

    def first_line_of_code(self) -> int:
        """Return the index of the first line behind the docstring and its header."""
        for node in self.tree.body:
            if not is_docstring(node):
                return node.lineno - 1
        return len(self.text.splitlines())

    def header(self) -> str:
        """Return the docstring and the comments before the first statement."""
        lines = self.text.splitlines(keepends=True)
        return "".join(lines[: self.first_line_of_code()]).rstrip() + "\n"

    def body(self) -> str:
        """Return the text behind the header, without the imports that are hoisted."""
        lines = self.text.splitlines(keepends=True)
        for node in self.removed:
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
        text = "".join(lines[self.first_line_of_code() :])
        if not self.is_lesson:
            text = MARKER.sub("", text)
        text = re.sub(r"^# isort:.*\n", "", text, flags=re.MULTILINE)
        return re.sub(r"\n{4,}", "\n\n\n", text).strip() + "\n"

    def titled_body(self) -> str:
        """Return the body of a module under a comment that says where it is from."""
        docstring = ast.get_docstring(self.tree) or ""
        title = [f"# {self.path.name}", *docstring.splitlines()]
        rule = "# " + "-" * (LINE - 2)
        about = [f"# {line}".rstrip() for line in title[1:]]
        where = f"# {self.name.replace('.', '/')}.py"
        return "\n".join([rule, where, "#", *about, rule, "", "", self.body()])


def is_ours(node: ast.ImportFrom) -> bool:
    """Tell whether an import is of course/, or relative to a module of it."""
    return node.level > 0 or within(node.module or "", "course")


def within(module: str, package: str) -> bool:
    """Tell whether a module is a package or belongs to it."""
    return module == package or module.startswith(package + ".")


def is_docstring(node: ast.stmt) -> bool:
    """Tell whether a statement is nothing but a string."""
    if not isinstance(node, ast.Expr):
        return False
    return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def imports_from(node: ast.ImportFrom) -> list[Import]:
    """Return what a `from` statement imports."""
    found = []
    for alias in node.names:
        bound = alias.asname or alias.name
        found.append(Import(node.module or "", alias.name, bound))
    return found


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module's own namespace, those in `if` and `try` too."""
    for node in body:
        yield node
        if isinstance(node, STATEMENTS_WITH_BODY):
            for inner in ("body", "orelse", "finalbody"):
                yield from top_level(getattr(node, inner, []))
            for handler in getattr(node, "handlers", []):
                yield from top_level(handler.body)


def names_bound_by(node: ast.stmt) -> list[str]:
    """Return the names that a statement binds; those of imports are hoisted."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return []
    parts: list[ast.AST] = [node]
    if isinstance(node, STATEMENTS_WITH_BODY):
        heads = ("test", "target", "iter")
        parts = [getattr(node, head) for head in heads if hasattr(node, head)]
        parts += getattr(node, "items", [])
    found = []
    for part in parts:
        for inner in ast.walk(part):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                found.append(inner.id)
    return found


def module_path(name: str, root: Path) -> Path:
    """Return where a module of course/ is."""
    return root / (name.replace(".", "/") + ".py")


def parts_of(script: Path, root: Path) -> list[Part]:
    """Return the lesson and the modules it uses, each behind those that it uses."""
    ordered: list[Part] = []
    done: set[str] = set()

    def add(part: Part, above: tuple[str, ...]) -> None:
        for name in part.used:
            if name in above:
                circle = " -> ".join([*above, name])
                raise CannotInline(f"{script.name}: a circle of imports: {circle}")
            path = module_path(name, root)
            if not path.is_file():
                raise CannotInline(
                    f"{part.path.name}: {name} is not a module of course/"
                )
            if name not in done:
                done.add(name)
                add(Part(name, path), (*above, name))
        ordered.append(part)

    add(Part(script.stem, script), ())
    return ordered


def check_names(parts: list[Part]) -> None:
    """Refuse two meanings of one name, and names that a module does not define."""
    meaning: dict[str, object] = {}
    place: dict[str, str] = {}
    defined = {part.name: part.defined() for part in parts}
    for part in parts:
        found: list[tuple[str, object]] = []
        found += [(one.bound, one.meaning) for one in part.imports]
        found += [(name, part.name) for name in defined[part.name]]
        for name, what in found:
            if name in vars(builtins):
                node = defined[part.name].get(name, part.tree)
                raise part.refuse(node, f"`{name}` hides Python's own")
            if meaning.setdefault(name, what) != what:
                raise CannotInline(
                    f"{part.path.name}: `{name}` is something else in {place[name]}"
                )
            place.setdefault(name, part.path.name)
        for statement, name in part.taken:
            if name not in defined[statement.module or ""]:
                raise part.refuse(statement, f"{statement.module} defines no `{name}`")


def hoisted(imports: list[Import]) -> str:
    """Return the import statements of all parts: one block, sorted, nothing twice."""
    plain: set[str] = set()
    by_module: dict[str, set[str]] = {}
    for one in imports:
        if one.name:
            alias = one.name if one.bound == one.name else f"{one.name} as {one.bound}"
            by_module.setdefault(one.module, set()).add(alias)
        elif one.bound == one.module.partition(".")[0]:
            plain.add(one.module)
        else:
            plain.add(f"{one.module} as {one.bound}")
    blocks: dict[bool, list[str]] = {True: [], False: []}
    for module in sorted(plain):
        blocks[is_standard(module)].append(f"import {module}")
    for module, names in sorted(by_module.items()):
        blocks[is_standard(module)].append(from_import(module, sorted(names)))
    return "\n\n".join(
        "\n".join(blocks[kind]) for kind in (True, False) if blocks[kind]
    )


def is_standard(module: str) -> bool:
    """Tell whether a module comes with Python."""
    return re.split(r"[. ]", module)[0] in sys.stdlib_module_names


def from_import(module: str, names: list[str]) -> str:
    """Return a `from` statement, a name a line where it is too long for one."""
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= LINE:
        return line
    listed = "".join(f"    {name},\n" for name in names)
    return f"from {module} import (\n{listed})"


def standalone(script: Path, root: Path = ROOT) -> str:
    """Return the text of one file that does what the lesson does.

    Raises:
        CannotInline: a name has two meanings, or an import is not of the plain form.
    """
    *modules, lesson = parts_of(script, root)
    start = Part(START, module_path(START, root))
    modules = [part for part in modules if part.name != START]
    check_names([start, *modules, lesson])
    for part in modules:
        part.check_no_main()
        if part.future != lesson.future:
            raise CannotInline(
                f"{part.path.name}: needs the lesson's `from __future__`"
            )
    imports = []
    for part in (*modules, lesson):
        imports += [one for one in part.imports if one not in start.imports]
    future = from_import("__future__", sorted(lesson.future))
    pieces = [
        lesson.header(),
        f"{future}\n\n{hoisted(start.imports)}\n",
        start.titled_body(),
        f"{hoisted(imports)}\n",
        *(part.titled_body() for part in modules),
        lesson.body(),
    ]
    text = "\n\n".join(pieces)
    compile(text, script.name, "exec")
    return text


def write_one(script: Path, into: Path) -> str:
    """Write the single file of a lesson, and its data; return what to say about it."""
    text = standalone(script)
    into.mkdir(parents=True, exist_ok=True)
    (into / script.name).write_text(text, "utf-8")
    said = f"{into / script.name}: {len(text.splitlines()):,} lines"
    data = DATA.get(script.name[:2])
    if data:
        (into / data).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / data, into / data)
        said += f", with {into / data}"
    return said


def main(argv: list[str] | None = None) -> int:
    """Write the files; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--into", type=Path, default=ROOT / "dist", metavar="FOLDER")
    parser.add_argument("scripts", nargs="*", type=Path, metavar="SCRIPT")
    args = parser.parse_args(argv)
    failed = 0
    for script in args.scripts or sorted(ROOT.glob("0[1-5]_*.py")):
        try:
            print(write_one(script, args.into))
        except (CannotInline, OSError) as problem:
            print(problem, file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
