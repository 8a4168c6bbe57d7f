"""How long a text of the guide takes to read, and the line that says so.

    <!-- reading time -->   under the heading of each lesson's chapter

`tools/sync_guide.py` fills the line; a chapter that lacks it gets it.
"""

from __future__ import annotations

import re

# What is read in a minute: prose is read, a listing is followed, an output looked at.
WORDS = 220
CODE_LINES = 15
OUTPUT_LINES = 40

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WORD = re.compile(r"\S*\w\S*")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
STATED = re.compile(
    r"<!-- reading time -->\n(?P<line>.*?)\n<!-- /reading time -->\n\n", re.DOTALL
)
# The heading of a lesson's chapter, the line below it, and the rest of the chapter.
CHAPTER = re.compile(
    r"^(?P<heading>## [1-5]\. [^\n]+\n\n)"
    rf"(?:{STATED.pattern})?(?P<text>.*?)(?=^## |\Z)",
    re.DOTALL | re.MULTILINE,
)


def prose_of(text: str) -> str:
    """Return a text without its listings, outputs, pictures and markers."""
    return COMMENT.sub("", FENCED.sub("", STATED.sub("", text)))


def without_code(text: str) -> str:
    """Return a text of the same length, in which no line of code is a heading."""
    return FENCED.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)


def words_in(text: str) -> int:
    """Return the number of words of the prose; the bars of a table are none."""
    return len(WORD.findall(prose_of(text)))


def lines_in(text: str) -> tuple[int, int]:
    """Return the lines of code and those of output; diagrams are drawn, not read."""
    code = 0
    output = 0
    for language, lines in FENCED.findall(text):
        if language == "text":
            output += lines.count("\n")
        elif language != "mermaid":
            code += lines.count("\n")
    return code, output


def minutes_to_read(text: str) -> float:
    """Return how long a text takes, with the listings and outputs in it."""
    code, output = lines_in(text)
    return words_in(text) / WORDS + code / CODE_LINES + output / OUTPUT_LINES


def reading_line(text: str) -> str:
    """Return the sentence for a chapter, to the nearest five minutes."""
    code, output = lines_in(text)
    minutes = max(5, 5 * round(minutes_to_read(text) / 5))
    return (
        f"*About {minutes} minutes: {words_in(text):,} words, {code:,} lines of code, "
        f"{output:,} lines of output.*"
    )


def with_reading_times(guide: str) -> str:
    """Return the guide with the line under the heading of each lesson's chapter."""

    def stated(chapter: re.Match[str]) -> str:
        line = reading_line(chapter["text"])
        block = f"<!-- reading time -->\n{line}\n<!-- /reading time -->\n\n"
        return chapter["heading"] + block + chapter["text"]

    return CHAPTER.sub(stated, guide)
