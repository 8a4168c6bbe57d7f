"""A text file of rows: packed or not, its encoding, its separator, its lines."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import wrap_file

from course.columns import visible
from course.errors import BadInput

BIG_FILE = 20_000_000  # bytes; above, show progress
LONGEST_LINE = 1 << 20  # characters; a file without line ends never fills the memory
FILE_HEAD = 1 << 16  # bytes that tell the encoding
PARQUET = b"PAR1"
GZIP = b"\x1f\x8b"
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", " ": "blanks"}
MARKED = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # it begins as that of UTF-16 does
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text that begins like this."""
    for mark, name in MARKED.items():
        if head.startswith(mark):
            return name
    # UTF-16 without a mark: of digits, commas and line ends, one byte of two is 0, and
    # it is always the same one.
    first = head[0::2].count(0)
    second = head[1::2].count(0)
    if first + second > 0.1 * len(head):
        if first < 0.02 * second:
            return "utf-16-le"
        if second < 0.02 * first:
            return "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        # As Excel saves CSV in Europe. What holds control characters is no text.
        is_text = not re.search(rb"[\x00-\x08\x0e-\x1f]", head)
        return "cp1252" if is_text else "utf-8"
    return "utf-8"


class Lines(NamedTuple):
    """The lines of a text file, and its encoding."""

    lines: Iterator[str]
    encoding: str


def is_parquet(path: Path) -> bool:
    """Tell whether a file is Parquet; a file that cannot be read is not."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == PARQUET
    except OSError:
        return False


@contextmanager
def lines_of(path: Path) -> Iterator[Lines]:
    """Open a text file, gzipped or not, as lines; a big one shows progress."""
    name = visible(str(path))
    try:
        with ExitStack() as stack:
            raw: Any = stack.enter_context(path.open("rb", buffering=FILE_HEAD))
            head = raw.peek(FILE_HEAD)
            size = path.stat().st_size
            if size > BIG_FILE:
                bar = Console(stderr=True)
                raw = stack.enter_context(wrap_file(raw, size, console=bar))
            if head.startswith(GZIP):
                raw = stack.enter_context(gzip.open(raw))
                head = raw.peek(FILE_HEAD)
            encoding = encoding_of(head[:FILE_HEAD])
            text = io.TextIOWrapper(raw, encoding, "backslashreplace", newline="")
            # Bytes that are no text stay visible: a row is refused, not the file.
            yield Lines(iter(lambda: text.readline(LONGEST_LINE), ""), encoding)
    except (OSError, EOFError, zlib.error) as problem:
        why = getattr(problem, "strerror", None) or "not a whole gzip file"
        raise BadInput(f"{name}: {why}") from None
    except UnicodeError:
        raise BadInput(f"{name}: it breaks off within a character") from None


class Rows:
    """The rows of a text file under its header."""

    def __init__(self, path: Path, text: Lines) -> None:
        self.path = path
        self.skipped = 1  # lines above the first row
        first = next(text.lines, "")
        # As Excel writes it, so that Excel in another country can read it.
        told = re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE)
        if told:
            self.skipped = 2
            first = next(text.lines, "")
        while first and not first.strip():
            self.skipped += 1
            first = next(text.lines, "")
        header = first.strip("\r\n\ufeff")
        name = visible(str(path))
        if "\0" in header:
            kind = "a spreadsheet or an archive" if header[:2] == "PK" else "no text"
            raise BadInput(
                f"{name}: it is {kind}; CSV, gzipped or not, and Parquet are read"
            )
        if not header.strip():
            raise BadInput(f"{name}: no column names; is the file empty?")
        self.separator = told[1] if told else separator_of(header)
        lines = text.lines
        if self.separator == " ":
            header = " ".join(header.split())
            lines = (" ".join(line.split()) for line in lines)
        self.names = [name.strip() for name in next(self.split([header]))]
        self.rows: Any = self.split(lines)

    def split(self, lines: Any) -> Any:
        """Return a reader that splits lines."""
        return csv.reader(lines, delimiter=self.separator)

    @property
    def line(self) -> int:
        """The line of the file that was read last."""
        return int(self.rows.line_num) + self.skipped

    def __iter__(self) -> Iterator[Sequence[str]]:
        """Yield the rows that are not empty."""
        try:
            yield from filter(None, self.rows)
        except csv.Error as problem:
            where = f"{visible(str(self.path))}, line {self.line}"
            raise BadInput(f"{where}: {problem}") from None


def separator_of(header: str) -> str:
    """Return what stands between the names of columns; blanks, if nothing else does."""
    outside = re.sub(r'"[^"]*"', "", header)
    best = max(",;\t|", key=outside.count)
    return best if best in outside else " "
