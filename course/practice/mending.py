"""Judges a mended copy: its lesson passes, and still notices what would be wrong."""

from __future__ import annotations

import ast
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from course.practice.bugs import (
    Bug,
    bug_folder,
    is_caught,
    mutated_file,
    mutation_of,
    mutations_in,
    put_in,
    run_offline,
    script_of,
)
from course.practice.verdicts import ZERO_BYTES

CHECKERS = ("course/claims.py", "course/console.py")  # what every claim goes through
RUNS_AT_ONCE = 2  # runs of a lesson
DEMO_LIMIT = 8.0  # seconds for one demo; with RUN_LIMIT, a check takes 30 at most


def reasons_against(root: Path, bug: Bug) -> list[str]:
    """Return why the learner's copy is not mended yet; nothing if it is."""
    mutation = mutation_of(root, bug)
    folder = bug_folder(root)
    return (
        broken_syntax(root, folder)
        or edited_checks(root, folder, bug, mutation)
        or failures(folder, bug, mutation, "--only", mutation.demo)
        or failures(folder, bug, mutation)
        or unnoticed(root, folder, bug, mutation)
    )


def changed_files(root: Path, folder: Path) -> list[str]:
    """Return which files of the copy are not as they are in the project."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        original = root / name
        if not original.is_file() or path.read_bytes() != original.read_bytes():
            found.append(name)
    return found


def broken_syntax(root: Path, folder: Path) -> list[str]:
    """Return where the copy is no Python."""
    for name in changed_files(root, folder):
        content = (folder / name).read_bytes()
        if b"\0" in content:
            return [f"{name}: {ZERO_BYTES}"]
        try:
            content.decode("utf-8")
            ast.parse(content)
        except UnicodeDecodeError:
            return [f"{name}: it is not UTF-8, as it was: save it as that"]
        except SyntaxError as error:
            return [f"{name}:{error.lineno}: SyntaxError: {error.msg}"]
        except ValueError as error:
            return [f"{name}: {error}"]
    return []


def check_calls(path: Path) -> list[str]:
    """Return the calls of `check` in a file, without their layout."""
    tree = ast.parse(path.read_bytes())
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="check")):
                found.append(ast.dump(node))
    return sorted(found)


def meanings_of_check(path: Path) -> list[str]:
    """Return what a file calls `check`: an import, or a function of its own."""
    found = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.ImportFrom() | ast.Import():
                if any("check" in (one.name, one.asname) for one in node.names):
                    found.append(f"an import of {getattr(node, 'module', None)}")
            case ast.FunctionDef(name="check") | ast.ClassDef(name="check"):
                found.append(ast.dump(node))
            case ast.Name(id="check", ctx=ast.Store()) | ast.arg(arg="check"):
                found.append("a variable")
    return sorted(found)


def demo_in(path: Path, name: str) -> tuple[str, str]:
    """Return a demo of a lesson, without its layout, and its text."""
    text = path.read_text("utf-8-sig")  # an editor may write the mark of UTF-8
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.dump(node), ast.get_source_segment(text, node) or ""
    return "", ""


def edited_checks(root: Path, folder: Path, bug: Bug, mutation: Any) -> list[str]:
    """Return what was changed that judges: a check, or the demo around it."""
    for name in changed_files(root, folder):
        original = root / name
        if mutation.file != name and name in CHECKERS:
            return [f"{name} is changed: it is what checks the claims"]
        if not original.is_file():  # such as a learner's own copy
            continue
        if check_calls(folder / name) != check_calls(original):
            return [f"{name}: a call of `check` is changed; mend what it checks"]
        if meanings_of_check(folder / name) != meanings_of_check(original):
            return [f"{name}: `check` is another function there; mend what it checks"]
    script = script_of(root, bug.lesson)
    before, text = demo_in(script, mutation.demo)
    is_in_demo = not mutation.file and mutation.old in text
    after, _ = demo_in(script_of(folder, bug.lesson), mutation.demo)
    if not is_in_demo and before != after:
        return [f"the demo `{mutation.demo}` is changed, and the bug is not in it"]
    return []


def failures(folder: Path, bug: Bug, mutation: Any, *options: str) -> list[str]:
    """Run the lesson; return the claims that fail, or why it does not end.

    With `--only` and the demo of the bug, what is not mended is told within seconds.
    """
    run = run_offline(folder, bug.lesson, *options)
    failed = [f"[FAIL] {line}" for line in run.lines_with("[FAIL]")]
    if run.code is None:
        return [*failed, f"the lesson was stopped: {run.complaint}; it takes 5 to 10"]
    if failed:
        return failed
    if run.code != 0:
        lines = run.complaint.strip().splitlines() or [f"exit code {run.code}"]
        return [f"the lesson does not run to its end: {lines[-1].strip()}"]
    # A row of a table may look like the rest of a broken line, and follow it here.
    said = [line for line in run.lines_with("[ok]") if line.startswith(mutation.claim)]
    if not said:
        return [f"the lesson does not say [ok] {mutation.claim}"]
    return []


def unnoticed(root: Path, folder: Path, bug: Bug, mutation: Any) -> list[str]:
    """Return that a mutation of the same claim is not caught any more, if one is not.

    The bug itself is among them: it has to be caught where it is put in again.
    """
    same = [
        other
        for other in mutations_in(root, bug.lesson)
        if other.claim == mutation.claim and not other.live
    ]
    with ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
        caught = [*pool.map(partial(still_caught, folder, bug.lesson), same)]
    if all(caught):
        return []
    return [f"the lesson does not notice any more where this is wrong: {same[0].claim}"]


def still_caught(folder: Path, lesson: str, mutation: Any) -> bool:
    """Tell whether a mutation, put into a copy of the copy, makes its claim fail.

    Where what it changes stands there no more, there is nothing to be caught.
    """
    with tempfile.TemporaryDirectory(
        prefix="module8-practice-", ignore_cleanup_errors=True
    ) as name:
        copy = Path(name) / "copy"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if not mutated_file(copy, lesson, mutation).is_file():
            return True
        if not put_in(copy, lesson, mutation):
            return True
        run = run_offline(copy, lesson, "--only", mutation.demo, limit=DEMO_LIMIT)
        return is_caught(run, mutation)
