"""write_whole: the old file or the new one, for whoever looks at any moment."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from course.files import write_whole


def test_a_file_is_written_over_another_one(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)  # what lies beside it meanwhile has a shorter name
    write_whole(path, b"old\r\n\xff")
    write_whole(path, b"new\r\n\xff")
    assert path.read_bytes() == b"new\r\n\xff"
    assert [*tmp_path.iterdir()] == [path]


def test_what_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"old")

    def fail(beside: Path, target: Path) -> None:
        assert (beside.parent, target, beside.read_bytes()) == (tmp_path, path, b"new")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new", fail)
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.skipif(os.name == "nt", reason="platform: Windows has no such modes")
def test_the_umask_cuts_the_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "usual", b"")
        write_whole(tmp_path / "private", b"", mode=0o600)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in sorted(tmp_path.iterdir())]
    assert modes == [0o600, 0o640]
