"""A text file of rows: packed or not, its encoding, its separator, its lines."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import wrap_file

from course.columns import visible
from course.errors import BadInput

BIG_FILE = 20_000_000  # bytes; above, show progress
LONGEST_LINE = 1 << 20  # characters; a file without line ends never fills the memory
FILE_HEAD = 1 << 16  # bytes that tell the encoding
HIGHEST_ROWS = 30  # lines among which the header is; above it stand titles, remarks
MOST_HEADER_LINES = 10  # lines, where names in quotes hold line ends
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


class Header(NamedTuple):
    """The names of columns, as some line of a file has them."""

    names: list[str]
    separator: str
    ends: int  # how many lines there are up to its last


Places = Mapping[str, int]  # of columns, by role


class Rows:
    """The rows of a text file under its header."""

    def __init__(
        self, path: Path, text: Lines, find: Callable[[Sequence[str]], Places]
    ) -> None:
        """Find the header, by `find`: it returns where each role stands, or raises."""
        self.path = path
        top = list(islice(text.lines, HIGHEST_ROWS))
        check_text(path, next(filter(str.strip, top), ""))
        headers = list(headers_of(top))
        if not headers:
            said = "no column names; is the file empty?"
            raise BadInput(f"{visible(str(path))}: {said}")
        header, self.at = found_header(headers, find)
        self.names = header.names
        self.separator = header.separator
        self.above = header.ends  # lines above the first row
        self.titles = header.ends - headers[0].ends
        lines: Iterator[str] = chain(top[header.ends :], text.lines)
        if self.separator == " ":
            lines = (" ".join(line.split()) for line in lines)
        self.rows: Any = csv.reader(lines, delimiter=self.separator)

    @property
    def line(self) -> int:
        """The line of the file that was read last."""
        return int(self.rows.line_num) + self.above

    def __iter__(self) -> Iterator[Sequence[str]]:
        """Yield the rows that are not empty."""
        try:
            yield from filter(None, self.rows)
        except csv.Error as problem:
            where = f"{visible(str(self.path))}, line {self.line}"
            raise BadInput(f"{where}: {problem}") from None


def check_text(path: Path, first: str) -> None:
    """Raise BadInput for a file whose first line is no text."""
    if "\0" in first:
        kind = "a spreadsheet or an archive" if first[:2] == "PK" else "no text"
        said = f"it is {kind}; CSV, gzipped or not, and Parquet are read"
        raise BadInput(f"{visible(str(path))}: {said}")


def headers_of(top: Sequence[str]) -> Iterator[Header]:
    """Yield what may be a header: the first line, or one below titles and remarks."""
    # As Excel writes it, so that Excel in another country can read it.
    told = re.fullmatch(r'"?sep=(.)"?\s*', top[0] if top else "", re.IGNORECASE)
    begin = 1 if told else 0
    while begin < len(top):
        first = top[begin].strip("\r\n\ufeff")
        end = begin + 1
        if first.strip():
            separator = told[1] if told else separator_of(first)
            # A name in quotes may have several lines.
            lines = [first + "\n", *top[end : begin + MOST_HEADER_LINES]]
            names, count = first_row(lines, separator)
            if count == len(lines):
                names, count = first_row([first], separator)  # one quote, not two
            end = begin + count
            if any(names):
                yield Header(names, separator, end)
        begin = end


def first_row(lines: Sequence[str], separator: str) -> tuple[list[str], int]:
    """Return the first row of these lines, in plain blanks, and how many it takes."""
    if separator == " ":
        lines = [" ".join(line.split()) for line in lines]
    reader = csv.reader(lines, delimiter=separator)
    with suppress(csv.Error):
        row = next(reader, [])
        return [plain_name(name) for name in row], max(reader.line_num, 1)
    return [], 1


def plain_name(name: str) -> str:
    """Return a column's name on one line, with single blanks."""
    return " ".join(name.strip("\ufeff").split())


def found_header(
    headers: Sequence[Header], find: Callable[[Sequence[str]], Places]
) -> tuple[Header, Places]:
    """Return the first header that names the columns, and where they stand.

    Raises the BadInput of the first line if none does.
    """
    why: BadInput | None = None
    for header in headers:
        try:
            return header, find(header.names)
        except BadInput as problem:
            why = why or problem
    raise why or BadInput("no column names")


def separator_of(header: str) -> str:
    """Return what stands between the names of columns; blanks, if nothing else does."""
    outside = re.sub(r'"[^"]*"', "", header)
    best = max(",;\t|", key=outside.count)
    return best if best in outside else " "
