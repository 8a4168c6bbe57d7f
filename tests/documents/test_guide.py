"""The documents: generated where they can be, and every name in them resolves."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lessons import ROOT, SCRIPTS, VARIABLES, load, path_of, run, unbroken

from tools.draw_figures import DARK

DOCUMENTS = sorted(
    path for path in ROOT.rglob("*.md") if not {".venv", ".git"} & set(path.parts)
)
GUIDE = ROOT / "COMPREHENSIVE_GUIDE.md"
FULL = (GUIDE, ROOT / "README.md")  # which have all kinds of what is looked for
SYNC = [sys.executable, str(ROOT / "tools" / "sync_guide.py")]
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def prose(path: Path) -> str:
    """Return a document without its code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    lowered = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in lowered}


@functools.cache
def demos(lesson: str) -> frozenset[str]:
    """Return the names of a lesson's demos."""
    return frozenset(load(lesson).lesson.demos)


@pytest.mark.slow
def test_the_guide_says_what_the_scripts_do() -> None:
    done = subprocess.run(
        [*SYNC, "--check"], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


@every_document
def test_every_relative_link_resolves(path: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(path))
    assert targets or path not in FULL
    for target in targets:
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name) if name else path
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@every_document
def test_every_script_and_demo_that_is_named_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    there = {script.name for script in SCRIPTS}
    scripts = set(re.findall(r"\b0\d_\w+\.py\b", text))
    assert scripts or path not in FULL
    assert scripts <= there
    shown = re.findall(r"\b(0\d)_\w+\.py[^\n]*?--only ([\w ]+)", text)
    assert shown or path not in FULL
    for script, names in shown:
        assert set(names.split()) & demos(script), names


@every_document
def test_every_make_target_that_is_named_exists(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", path.read_text("utf-8")))
    assert named or path not in FULL
    assert named <= targets


# What the guide says beyond what is generated.
QUIET = os.environ | dict.fromkeys(VARIABLES, "")
QUIET["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
MARKED = re.findall(r"^<!-- run -->\n```sh\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
# | `python 01_... ` | `what is seen` | ... |
SEEN = re.findall(r"^\| `(python 0\d_[^`]+)` \| `([^`]+)` \|", GUIDE.read_text(), re.M)


def chapters(path: Path) -> dict[str, str]:
    """Return the text under each heading of the second level."""
    parts = re.split(r"^## (.+)$", path.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def inherited(files: list[Path]) -> set[str]:
    """Return Class.method for all methods of the classes in files, inherited too."""
    bases: dict[str, set[str]] = {}
    methods: dict[str, set[str]] = {}
    for path in files:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                names = {base.id for base in node.bases if isinstance(base, ast.Name)}
                own = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
                bases.setdefault(node.name, set()).update(names)
                methods.setdefault(node.name, set()).update(own)
    found = set()
    for name in methods:
        line = [name]
        for ancestor in line:  # grows while it is walked
            found |= {f"{name}.{method}" for method in methods.get(ancestor, ())}
            line += sorted(bases.get(ancestor, set()) - set(line))
    return found


def shown_by(text: str) -> list[tuple[str, str]]:
    """Return the demos that a text names as `01 loading`: (lesson, demo)."""
    return re.findall(r"`(0\d) ([a-z]+)`", text)


@pytest.mark.parametrize("block", MARKED, ids=lambda block: block.split("\n")[0])
def test_every_marked_block_runs(block: str) -> None:
    done = subprocess.run(
        ["sh", "-eu", "-c", block],
        cwd=ROOT,
        env=QUIET,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("command", "seen"), SEEN, ids=[row[0] for row in SEEN])
def test_every_trouble_is_seen_as_it_is_written(command: str, seen: str) -> None:
    done = subprocess.run(
        [sys.executable, *command.split()[1:]],
        cwd=ROOT,
        env=QUIET,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    pattern = ".*".join(re.escape(part) for part in seen.split("..."))
    printed = unbroken(done.stdout + done.stderr)
    assert re.search(pattern, printed), printed


@pytest.mark.parametrize(
    ("lesson", "url"),
    [
        ("01", "postgresql://u:s3cret@127.0.0.1:1/db"),
        ("02", "mongodb://u:s3cret@127.0.0.1:1/"),
        ("03", "redis://u:s3cret@127.0.0.1:1/0"),
        ("04", "amqp://u:s3cret@127.0.0.1:1/"),
    ],
)
def test_no_password_is_shown_even_in_the_logs(lesson: str, url: str) -> None:
    done = run(path_of(lesson), "--verbose", "--require-live", "--url", url)
    assert done.returncode == 3
    assert "s3cret" not in done.stdout + done.stderr


@every_document
def test_every_demo_that_is_named_exists(path: Path) -> None:
    shown = shown_by(path.read_text("utf-8"))
    assert shown or path != GUIDE
    for script, name in shown:
        assert name in demos(script), f"{script} {name}"


def test_every_method_that_the_guide_names_exists() -> None:
    there = inherited([*SCRIPTS, *ROOT.glob("course/**/*.py")])
    named = re.findall(r"`([A-Z][a-z]\w+\.[a-z_]\w*)`", GUIDE.read_text("utf-8"))
    assert named
    assert set(named) <= there


@every_document
def test_every_path_that_is_named_exists(path: Path) -> None:
    folders = "benchmarks|course|data|docs|examples|exercises|tests|tools"
    names = re.findall(rf"`((?:{folders})/[\w./*-]*)`", path.read_text("utf-8"))
    assert names or path not in FULL
    for name in names:
        assert list(ROOT.glob(name.replace("0N", "0?").rstrip("/"))), name


def test_every_exception_that_the_guide_names_exists() -> None:
    packages = "sqlalchemy|pymongo|redis|pika"
    text = GUIDE.read_text("utf-8")
    named = re.findall(rf"`((?:{packages})\.[a-z.]+)\.([A-Z]\w+)`", text)
    assert named
    for module, name in named:
        assert issubclass(getattr(importlib.import_module(module), name), Exception)


def test_the_performance_checklist_has_fifteen_items_with_a_demo_each() -> None:
    _, _, text = GUIDE.read_text("utf-8").partition("### Performance checklist")
    items = re.findall(
        r"^(\d+)\. (.+?)(?=^\d+\. |^#)", text.partition("\n## ")[0] + "#", re.M | re.S
    )
    assert [int(number) for number, _ in items] == list(range(1, 16))
    assert all(shown_by(item) for _, item in items)


def test_every_exercise_names_what_is_there_and_what_judges_it() -> None:
    plan = chapters(GUIDE)["16. Five days: a plan with exercises"]
    named = set(re.findall(r"\b0[1-5]_\d+_[a-z0-9_]+\b", plan))
    folders = {path.parent.name for path in ROOT.glob("exercises/*/check.py")}
    assert named == folders


def test_the_pictures_are_what_the_script_draws() -> None:
    pytest.importorskip("matplotlib", reason="it is in requirements-dev.txt")
    draw = [sys.executable, str(ROOT / "tools" / "draw_figures.py"), "--check"]
    done = subprocess.run(draw, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("docs/figures/*.svg")), ids=lambda path: path.name
)
def test_every_colour_of_a_picture_has_another_on_a_dark_page(path: Path) -> None:
    drawn = path.read_text("utf-8").partition("</style>")[2]
    colours = re.findall(r"(?:fill|stroke): ?(#\w+)", drawn)
    assert colours
    assert set(colours) <= set(DARK)


def test_every_picture_is_shown_with_a_text_for_who_cannot_see_it() -> None:
    shown = re.findall(r"!\[(.+)\]\((docs/figures/.+)\)", GUIDE.read_text("utf-8"))
    drawn = {f"docs/figures/{path.name}" for path in ROOT.glob("docs/figures/*")}
    assert {name for _, name in shown} == drawn
    assert all(len(text) > 20 for text, _ in shown)


PEERS = {
    "bench_01_sqlalchemy": "add_all, Core, COPY, OFFSET, key, driver, unnest, "
    "COPY BINARY, asyncpg, ADBC, read_sql",
    "bench_02_mongodb": "raw, $lookup, $in, RawBSONDocument, pymongoarrow, decode_all",
    "bench_03_caching": "functools, cachetools, cachebox, dogpile.cache, redis-py, "
    "moka_py, theine, client-side cache",
    "bench_04_rabbitmq": "a window by hand, a window of py-amqp, aio-pika, kombu, "
    "amqpstorm, transactions, SelectConnection, rstream, AMQP 1.0 client",
    "bench_05_customer_value": "lifetimes, tutorial, distinct rows, clvkit",
    "bench_05_integrated": "one worker, two",
}


@pytest.mark.parametrize("part", PEERS)
def test_the_page_of_benchmarks_lacks_no_part_and_no_peer(part: str) -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    block = re.search(rf"<!-- output: \S+/{part}.py -->(.*?)<!-- /output", page, re.S)
    assert block and block[1].count("| ---") > 0
    assert [peer for peer in PEERS[part].split(", ") if peer not in block[1]] == []


VERSIONS = {
    "bench_01_sqlalchemy": "sqlalchemy, psycopg, asyncpg, adbc-driver-postgresql",
    "bench_02_mongodb": "pymongo, pymongoarrow, pandas, pyarrow",
    "bench_03_caching": "cachetools, cachebox, dogpile.cache, moka-py, theine, redis",
    "bench_04_rabbitmq": "pika, aio-pika, kombu, amqp, amqpstorm, rstream, "
    "rabbitmq-amqp-python-client",
    "bench_05_customer_value": "lifetimes, clvkit, scipy, pandas",
}


@pytest.mark.parametrize("part", VERSIONS)
def test_the_page_of_benchmarks_names_the_version_of_each_peer(part: str) -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    block = re.search(rf"<!-- output: \S+/{part}.py -->(.*?)<!-- /output", page, re.S)
    assert block
    for package in VERSIONS[part].split(", "):
        named = rf"[ ,]{re.escape(package)} \d+\.\d+"
        assert re.search(named, block[1]), package


def test_every_benchmark_is_on_its_page() -> None:
    assert {path.stem for path in ROOT.glob("benchmarks/bench_*.py")} == set(PEERS)


def test_the_consoles_are_where_the_stack_puts_them() -> None:
    example = (ROOT / ".env.example").read_text("utf-8")
    named = re.findall(r"<http://127\.0\.0\.1:(\d+)>", GUIDE.read_text("utf-8"))
    tools = ("PGADMIN", "MONGO_EXPRESS", "REDISINSIGHT", "RABBITMQ_UI")
    assert [re.findall(rf"^{tool}_PORT=(\d+)$", example, re.M) for tool in tools] == [
        [port] for port in named
    ]


def test_drawings_fit_a_page() -> None:
    by_hand = re.sub(
        r"<!-- output.*?<!-- /output -->", "", GUIDE.read_text(), flags=re.S
    )
    for block in re.findall(r"^```text\n(.*?)^```$", by_hand, re.M | re.S):
        if "+--" in block:
            assert max(map(len, block.splitlines())) <= 88
