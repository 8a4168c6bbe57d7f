"""Lesson 05: no output overwrites an input, follows a link, or prints an escape."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from lesson_05.logs import SCRIPT, lesson, orders, write
from lessons import run

from course.analytics.output import check_outputs, save
from course.columns import visible
from course.errors import BadInput

KEPT = b"kept"


def the_input(folder: Path) -> Path:
    return folder / "orders.csv"


def by_another_way(folder: Path) -> Path:
    (folder / "sub").mkdir()
    return folder / "sub" / ".." / "orders.csv"


def a_hard_link(folder: Path) -> Path:
    (folder / "twin.html").hardlink_to(folder / "orders.csv")
    return folder / "twin.html"


def a_link_to_the_input(folder: Path) -> Path:
    (folder / "link.html").symlink_to(folder / "orders.csv")
    return folder / "link.html"


def a_link(folder: Path) -> Path:
    (folder / "kept.html").write_bytes(KEPT)
    (folder / "link.html").symlink_to(folder / "kept.html")
    return folder / "link.html"


def a_link_to_nothing(folder: Path) -> Path:
    (folder / "link.html").symlink_to(folder / "made.html")
    return folder / "link.html"


def without_a_parent(folder: Path) -> Path:
    return folder / "missing" / "page.html"


def a_folder(folder: Path) -> Path:
    (folder / "page.html").mkdir()
    return folder / "page.html"


OUTPUTS = [
    the_input,
    by_another_way,
    a_hard_link,
    a_link_to_the_input,
    a_link,
    a_link_to_nothing,
    without_a_parent,
    a_folder,
]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("output", OUTPUTS)
def test_what_must_not_be_written_is_refused_before_any_work(
    output: Callable[[Path], Path], force: bool, tmp_path: Path
) -> None:
    source = write(tmp_path / "orders.csv", orders())
    path = output(tmp_path)
    before = {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}
    options = ["--transactions", str(source), "--report", str(path)]
    done = run(SCRIPT, *options, *["--force"] * force)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout[:200]
    assert len(done.stderr.splitlines()) == 1
    after = {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}
    assert after == before


def test_the_sample_is_an_input_too() -> None:
    before = lesson.SAMPLE.read_bytes()
    done = run(SCRIPT, "--json", "--force", "--report", str(lesson.SAMPLE))
    assert done.returncode == 2
    assert lesson.SAMPLE.read_bytes() == before


def test_an_existing_page_needs_force_and_is_private(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(KEPT)
    page.chmod(0o644)
    done = run(SCRIPT, "--json", "--report", str(page))
    assert (done.returncode, done.stdout) == (2, "")
    assert "--force" in done.stderr
    assert page.read_bytes() == KEPT
    assert run(SCRIPT, "--json", "--report", str(page), "--force").returncode == 0
    assert page.read_bytes().startswith(b"<!DOCTYPE")
    assert page.stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other.html"
    assert run(SCRIPT, "--json", "--report", str(other)).returncode == 0
    assert other.stat().st_mode & 0o777 == 0o600
    assert {p.name for p in tmp_path.iterdir()} == {"page.html", "other.html"}


def test_pictures_go_into_a_folder_whose_parent_is_there(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run(SCRIPT, "--json", "--plots", str(tmp_path / "a" / "b"))
    assert (done.returncode, done.stdout) == (2, "")
    assert not list(tmp_path.iterdir())
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert run(SCRIPT, "--json", "--plots", str(tmp_path / "link")).returncode == 2
    assert not list((tmp_path / "real").iterdir())
    folder = str(tmp_path / "real")
    assert run(SCRIPT, "--json", "--plots", folder).returncode == 0
    again = run(SCRIPT, "--json", "--plots", folder)
    assert (again.returncode, again.stdout) == (2, "")
    assert "--force" in again.stderr


def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    real = os.fdopen

    def slow(number: int, mode: str) -> object:
        page.write_bytes(KEPT)
        return real(number, mode)

    monkeypatch.setattr(os, "fdopen", slow)
    with pytest.raises(BadInput, match=r"page\.html"):
        save(page, b"new")
    assert page.read_bytes() == KEPT
    assert list(tmp_path.iterdir()) == [page]


ESCAPES = "\x1b[31mred\x1b]0;title\x07\u202e"


def test_escapes_in_names_and_options_are_printed_escaped(tmp_path: Path) -> None:
    path = write(tmp_path / f"{ESCAPES}.csv", orders())
    shown = run(SCRIPT, "--transactions", str(path))
    assert shown.returncode == 0, shown.stderr
    broken = run(SCRIPT, "--transactions", f"{path}\n{ESCAPES}")
    column = run(SCRIPT, "--transactions", str(path), "--columns", ESCAPES)
    option = run(SCRIPT, f"--{ESCAPES}")
    demo = run(SCRIPT, "--only", ESCAPES)
    output = run(SCRIPT, "--report", f"{tmp_path}/no/{ESCAPES}")
    for done in (option, demo):  # what is typed in the wrong place is not repeated
        assert "***" in done.stderr
        assert "\x1b" not in done.stderr
    for done in (shown, broken, column, output):
        printed = done.stdout + done.stderr
        assert "\\x1b[31mred" in printed or "x1b[31mred" in printed
        assert not {"\x1b", "\x07", "\u202e"} & set(printed)
    for done in (broken, column, option, demo, output):
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
    assert visible("Zoë, 你好") == "Zoë, 你好"


def test_a_header_with_escapes_is_named_escaped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", orders(), f"customer,date,{ESCAPES}")
    done = run(SCRIPT, "--transactions", str(path))
    assert done.returncode == 2
    assert not {"\x1b", "\x07"} & set(done.stderr)
    taken = write(tmp_path / "b.csv", orders(), f"customer,date,amount,{ESCAPES}")
    assert run(SCRIPT, "--transactions", str(taken)).returncode == 0


def test_no_picture_overwrites_the_input(tmp_path: Path) -> None:
    source = write(tmp_path / "alive.svg", orders())
    kept = source.read_bytes()
    with pytest.raises(BadInput, match=r"alive\.svg: it is the input"):
        check_outputs([], tmp_path, ["lift.svg", "alive.svg"], [source], True)
    options = ("--json", "--plots", str(tmp_path), "--force")
    done = run(SCRIPT, "--transactions", str(source), *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert source.read_bytes() == kept


def test_nothing_is_written_if_a_picture_cannot_be(tmp_path: Path) -> None:
    page, folder = tmp_path / "page.html", tmp_path / "drawn"
    folder.mkdir()
    (folder / "lift.svg").write_bytes(KEPT)
    with pytest.raises(BadInput, match=r"lift\.svg: it exists"):
        check_outputs([page], folder, ["alive.svg", "lift.svg"], [], False)
    (folder / "lift.svg").unlink()
    for path in (folder / "alive.svg", folder):
        with pytest.raises(BadInput, match=r"two outputs|it is a folder"):
            check_outputs([path], folder, ["alive.svg"], [], False)
    later = tmp_path / "later"
    with pytest.raises(BadInput, match="two outputs, one file"):
        check_outputs([later], later, ["alive.svg"], [], False)


@pytest.mark.parametrize("option", ["--report", "--plots"])
def test_a_dash_is_no_file(option: str, tmp_path: Path) -> None:
    done = run(SCRIPT, "--json", option, "-", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.rstrip().rpartition(": -: ")[2].startswith("name a f")
    assert not list(tmp_path.iterdir())
