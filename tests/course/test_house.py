"""The plan of the house: arrows one way, no circle, and imports without an effect."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from lessons import ROOT, SCRIPTS

HOUSE = ROOT / "course"
CORE = {
    "bets",
    "betting",
    "claims",
    "columns",
    "console",
    "ending",
    "errors",
    "files",
    "lab",
    "listeners",
    "naming",
    "network",
    "options",
    "services",
    "start",
    "sweeping",
    "urls",
    "watching",
}
PART_OF = {
    "01": {"sql"},
    "02": {"mongo", "standins.mongodb"},
    "03": {"caching"},
    "04": {"amqp", "standins.amqp"},
    "05": {"analytics"},
}
STAND_IN_OF = {"mongo": "standins.mongodb", "amqp": "standins.amqp"}
LONGEST = {"course/standins/amqp.py": 560}
USUAL_LIMIT = 400  # lines of a module


def module_name(path: Path) -> str:
    """Return the dotted name of a module of course/."""
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(HOUSE.rglob("*.py"))}
INTEGRATED = "course.integrated"  # the part that may use all others, and the lessons
every_module = pytest.mark.parametrize("name", MODULES)
every_other_module = pytest.mark.parametrize(
    "name", [name for name in MODULES if not name.startswith(INTEGRATED)]
)
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def imported_by(path: Path) -> set[str]:
    """Return the names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            found.add(node.module or "")
    return found


def of_the_house(path: Path) -> set[str]:
    """Return which modules of course/ a file imports, without `course.` before them."""
    names = imported_by(path)
    assert "course" not in names, f"{path.name}: import a name of a module"
    return {
        name.removeprefix("course.") for name in names if name.startswith("course.")
    }


def behind(path: Path) -> set[Path]:
    """Return the files that an import of this one runs, itself among them."""
    found: set[Path] = set()
    todo = [path]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            for name in of_the_house(one):
                # Lesson 05 imports that part only where --integrated asks for it.
                if not (one in SCRIPTS and name.startswith("integrated")):
                    todo.append(MODULES[f"course.{name}"])
    return found


def strangers(paths: set[Path]) -> set[str]:
    """Return the modules of others that files import."""
    names = {name for path in paths for name in imported_by(path)}
    return {name for name in names if not name.startswith(("course.", "__future__"))}


def strangers_with_submodules(paths: set[Path]) -> set[str]:
    """Return these, and what may be a module of them: `orm` of `sqlalchemy`."""
    found = set(strangers(paths))
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in found:
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_allowed(name: str, homes: set[str]) -> bool:
    """Tell whether a module is of the core, or of one of the parts."""
    if name in CORE:
        return True
    return any(name == home or name.startswith(f"{home}.") for home in homes)


# Arrows


@every_script
def test_a_lesson_uses_its_own_part_and_the_core(script: Path) -> None:
    homes = PART_OF[script.name[:2]]
    if script.name.startswith("05"):
        homes = homes | {"integrated"}
    assert [one for one in of_the_house(script) if not is_allowed(one, homes)] == []


@every_other_module
def test_a_module_uses_its_own_part_and_the_core(name: str) -> None:
    own = name.removeprefix("course").removeprefix(".").split(".")[0]
    homes: set[str] = set()
    if own not in CORE:
        homes = {own} | {STAND_IN_OF.get(own, own)}
    found = of_the_house(MODULES[name])
    assert [one for one in found if not is_allowed(one, homes)] == []


def test_modules_form_no_circle() -> None:
    arrows = {
        name: {f"course.{one}" for one in of_the_house(path)}
        for name, path in MODULES.items()
    }
    assert set().union(*arrows.values()) <= set(MODULES)
    TopologicalSorter(arrows).prepare()  # raises CycleError, which names the circle


@every_other_module
def test_only_the_integrated_part_loads_lessons(name: str) -> None:
    text = MODULES[name].read_text("utf-8")
    for loader in ("importlib.import_module", "importlib.util", "runpy", "__import__"):
        assert loader not in text or name in LOADS_OTHER_FILES
    assert not re.search(r"^ *(import|from) +0\d_", text, re.MULTILINE)


LOADS_OTHER_FILES = {"course.practice.judge"}  # by `loaded_file`, and no lesson


def test_practice_loads_answers_checks_and_mutations_only() -> None:
    calls = set()
    for name, path in MODULES.items():
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "loaded_file":
                calls.add((name, ast.unparse(call)))
    assert calls == {
        ("course.practice.judge", "loaded_file('answer', answer)"),
        ("course.practice.judge", "loaded_file('check', check)"),
        (
            "course.practice.bugs",
            "loaded_file(f'mutations_of_{lesson}', path)",  # in tests/lesson_0N/
        ),
    }


@every_script
def test_a_lesson_asks_for_what_its_parts_import(script: Path) -> None:
    header = re.search(
        r"^# /// script\n(.+?)^# ///$", script.read_text("utf-8"), re.M | re.S
    )
    assert header
    asked = {
        re.split(r"[^\w.-]", one)[0].lower()
        for one in re.findall(r'"([^"]+)"', header[1].partition("dependencies")[2])
    }
    for name in list(asked):  # pymongo brings dns along, which 02 imports
        brought = importlib.metadata.requires(name) or []
        asked |= {re.split(r"[^\w.-]", one)[0].lower() for one in brought}
    packages = importlib.metadata.packages_distributions()
    for name in strangers(behind(script)):
        root = name.split(".")[0]
        if root in sys.stdlib_module_names:
            continue
        distributions = {one.lower() for one in packages.get(root, [])}
        optional = root in OPTIONAL
        assert optional or distributions & asked, f"{root} is in nobody's header"


OPTIONAL = {"matplotlib", "pandas", "polars", "pyarrow"}  # used where they are there


# Sizes


@every_module
def test_a_module_says_what_it_is_and_fits_on_a_few_pages(name: str) -> None:
    path = MODULES[name]
    text = path.read_text("utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring and docstring.splitlines()[0].endswith((".", ":"))
    limit = LONGEST.get(str(path.relative_to(ROOT)), USUAL_LIMIT)
    assert len(text.splitlines()) <= limit
    if path.name == "__init__.py":
        assert len(ast.parse(text).body) == 1  # nothing but the docstring


def test_every_folder_of_the_house_is_a_package() -> None:
    folders = {path.parent for path in MODULES.values()}
    assert [one for one in folders if not (one / "__init__.py").is_file()] == []


# Effects

PROBE = """
import atexit, gc, importlib, os, signal, sys, threading

names, *others = sys.argv[1:]
for other in others:
    try:
        importlib.import_module(other)
    except ImportError:
        pass  # the name of a function

def contents():
    "Return what the modules of others, and their classes and tables, consist of."
    found = {}
    for module in [*sys.modules.values()]:
        of = getattr(module, "__name__", "")
        if of.split(".")[0] not in WATCHED:
            continue
        for key, value in [*vars(module).items()]:
            if isinstance(value, type(sys)):
                continue
            found[of, key] = value
            if isinstance(value, type) and value.__module__ == of:
                for inner, held in [*vars(value).items()]:
                    found[of, key, inner] = held
            elif type(value) is dict and not key.startswith("__"):
                for inner, held in [*value.items()]:
                    found[of, key, str(inner)] = held
    return found

WATCHED = {other.split(".")[0] for other in others} - set(sys.stdlib_module_names)
WATCHED |= {"threading", "socket", "signal", "json", "logging", "asyncio"}
effects = []
FORBIDDEN = {
    "os.fork", "os.mkdir", "os.remove", "os.rename",
    "os.system", "signal.pthread_kill", "socket.bind", "socket.connect",
    "socket.getaddrinfo", "subprocess.Popen", "tempfile.mkdtemp", "tempfile.mkstemp",
}

def watch(event, args):
    if event in FORBIDDEN or event.startswith("socket.__new__"):
        effects.append(event)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        effects.append(f"{event} {args[0]}")

handlers = [signal.getsignal(number) for number in signal.valid_signals()]

def at_fork(**_):
    if sys._getframe(1).f_globals["__name__"].startswith("course"):
        effects.append("os.register_at_fork")

os.register_at_fork = at_fork
before = contents()
at_exit = atexit._ncallbacks()
environment = dict(os.environ)
sys.addaudithook(watch)
for name in names.split():
    importlib.import_module(name)
after = contents()
for key, value in before.items():
    if after.get(key) is not value:
        effects.append(f"changed {'.'.join(key)}")
there = {key[0] for key in before}  # modules
for key in after:
    if key[0] in there and key not in before and len(key) > 2:
        effects.append(f"added {'.'.join(key)}")
if [signal.getsignal(number) for number in signal.valid_signals()] != handlers:
    effects.append("signal handlers")
if atexit._ncallbacks() != at_exit:
    effects.append("atexit")
if dict(os.environ) != environment:
    effects.append("os.environ")
if threading.active_count() != 1:
    effects.append("threads")
print(*effects, sep="\\n", end="")
"""


def part_of(name: str) -> str:
    """Return the part of the house that a module is in, "" for the core."""
    inside = name.removeprefix("course").removeprefix(".")
    return inside.split(".")[0] if "." in inside else ""


@pytest.mark.parametrize("part", sorted({part_of(name) for name in MODULES}))
def test_imports_have_no_effect(part: str, tmp_path: Path) -> None:
    names = [name for name in MODULES if part_of(name) == part]
    done = effects_of(names, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def effects_of(
    names: list[str], folder: Path, root: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Import modules in a fresh process, behind those of others; it prints effects."""
    paths: set[Path] = set()
    for name in names:
        paths |= behind(root / MODULES[name].relative_to(ROOT))
    others = sorted(strangers_with_submodules(paths))
    code = f"import sys; sys.path.insert(0, {str(root)!r})\n{PROBE}"
    return subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", code, " ".join(names), *others],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


WITH_EFFECTS = [
    ("print('hello')", "hello"),
    ("import threading\nthreading.Timer(9, print).start()", "threads"),
    ("import socket\nsocket.socket().close()", "socket.__new__"),
    ("open('left', 'w').close()", "open left"),
    ("import dotenv\ndotenv.main.logger = None", "changed dotenv.main.logger"),
    ("import atexit\natexit.register(print)", "atexit"),
    ("import os\nos.environ['A'] = 'b'", "os.environ"),
    ("import os\nos.register_at_fork(before=print)", "os.register_at_fork"),
    ("import signal\nsignal.signal(signal.SIGTERM, print)", "signal handlers"),
    (
        "import json\njson.JSONEncoder.default = None",
        "changed json.encoder.JSONEncoder.default",
    ),
]


@pytest.mark.parametrize(
    ("code", "effect"), WITH_EFFECTS, ids=[r[1] for r in WITH_EFFECTS]
)
def test_an_effect_would_be_seen(
    code: str, effect: str, small_lesson: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(small_lesson.parent, root)
    text = (root / "course" / "services.py").read_text("utf-8")
    (root / "course" / "services.py").write_text(f"{text}\n\n{code}\n", "utf-8")
    done = effects_of(["course.services"], tmp_path, root)
    assert effect in done.stdout
