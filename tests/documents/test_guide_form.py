"""The form of the guide: sections, listings to be read alone, length, pictures."""

from __future__ import annotations

import functools
import re

import pytest
from documents.listings import Section, listings, split_at, unknown_names
from lessons import ROOT, folder_of

from tools.reading_time import with_reading_times, words_in

GUIDE = (ROOT / "COMPREHENSIVE_GUIDE.md").read_text("utf-8")
CHAPTERS = [part for part in split_at("##", GUIDE) if part.title]
LESSONS = ("1", "2", "3", "4", "5")
# In this order, in each section that a demo belongs to.
BOLD = ("**What to notice.**", "**What it costs.**", "**When not to.**")
each_lesson = pytest.mark.parametrize("number", LESSONS)
each_chapter = pytest.mark.parametrize("part", CHAPTERS, ids=lambda part: part.title)


@functools.cache
def chapter(number: str) -> str:
    """Return the text of a lesson's chapter."""
    (text,) = [part.text for part in CHAPTERS if part.title.startswith(f"{number}. ")]
    return text


def sections(number: str) -> list[Section]:
    """Return the sections of a lesson's chapter, without its opening."""
    return split_at("###", chapter(number))[1:]


def demo_titles(number: str) -> list[str]:
    """Return the titles that the demos of a lesson print."""
    golden = (folder_of(f"0{number}") / "golden.txt").read_text("utf-8")
    return re.findall(r"^\d+\. (.+)$", golden, re.MULTILINE)


def of_demos(number: str) -> list[Section]:
    """Return the sections that a demo belongs to: they come first."""
    return sections(number)[: len(demo_titles(number))]


@each_lesson
def test_sections_are_numbered_as_the_run_numbers_its_demos(number: str) -> None:
    parts = sections(number)
    count = len(parts)
    assert [part.number for part in parts] == [
        f"{number}.{place}" for place in range(1, count + 1)
    ]
    titles = demo_titles(number)
    assert titles
    subjects = [title.partition(":")[0] for title in titles]
    named = [part.title.partition(" ")[2].partition(":")[0] for part in parts]
    assert named[: len(subjects)] == subjects


@each_lesson
def test_each_section_begins_with_a_sentence(number: str) -> None:
    for part in [Section("opening", chapter(number)), *sections(number)]:
        text = with_no_reading_time(part.text).lstrip()
        assert re.match(r"[A-Z`*\"“].*[a-z]", text), part.title
        assert not re.match(r"\*\*What|\* ", text), part.title
        assert text.split("\n\n")[0].rstrip().endswith((".", ":", "?")), part.title


def with_no_reading_time(text: str) -> str:
    """Return a text without the line that says how long it takes."""
    return re.sub(
        r"<!-- reading time -->.*?<!-- /reading time -->", "", text, flags=re.S
    )


@each_lesson
def test_listings_fit_a_page(number: str) -> None:
    long = []
    for part in split_at("###", chapter(number)):
        for language, code in listings(part.text):
            if language in ("text", "mermaid"):
                continue
            lines = code.splitlines()
            if len(lines) > 40:
                long.append(f"{part.number}: {len(lines)} lines, {lines[0]}")
            long += [f"{part.number}: {line}" for line in lines if len(line) > 84]
    assert long == []


@each_lesson
def test_each_section_with_a_demo_has_the_same_bold_words(number: str) -> None:
    parts = of_demos(number)
    assert parts
    for part in parts:
        found = re.findall(r"^\*\*(?:What|When) .+?\*\*", part.text, re.MULTILINE)
        assert tuple(found) == BOLD, part.title
        assert part.text.index("<!-- output: ") < part.text.index(BOLD[0]), part.title


@each_lesson
def test_a_chapter_is_not_too_long(number: str) -> None:
    assert words_in(chapter(number)) <= 2000


def test_the_guide_is_not_too_long() -> None:
    assert words_in(GUIDE) <= 16_000


@each_lesson
def test_each_name_in_a_listing_is_shown_or_explained(number: str) -> None:
    assert unknown_names(chapter(number)) == []


UNKNOWN = """\
`LIMIT` is 10 seconds.

```python
import json as reader
from pathlib import Path

SIZE = 1


def first(given: Path, *others: str) -> int:
    with given.open() as file:
        text = reader.load(file)
    return sum(len(other.strip()) for other in others) + LIMIT + hidden
```

### 1.1 Later

```python
class Second(Base):
    limit = SIZE

    def third(self) -> int:
        return first(text) + late_one + limit
```

The last is `late_one`.
"""


def test_names_that_a_listing_does_not_explain_are_found() -> None:
    assert unknown_names(UNKNOWN) == [": hidden", "1.1: Base", "1.1: text"]


@each_lesson
def test_each_exercise_is_named_in_its_section(number: str) -> None:
    folders = sorted(path.name for path in ROOT.glob(f"exercises/0{number}_*"))
    assert folders
    texts = {part.number: part.text for part in sections(number)}
    for folder in folders:
        _, place, name = folder.split("_", 2)
        line = rf"^\*\*Exercises?\.\*\* (?:.+\n)*?.*\b{name}\b"
        text = texts[f"{number}.{place}"]
        assert re.search(line, text, re.MULTILINE), folder


@each_lesson
def test_the_reading_time_of_a_chapter_is_counted(number: str) -> None:
    stated = r"<!-- reading time -->\n\*About \d+ minutes: .+\n<!-- /reading time -->"
    assert re.match(rf"\n{stated}\n", chapter(number)), "make guide"
    synced = split_at("##", with_reading_times(GUIDE))
    assert chapter(number) in [part.text for part in synced], "make guide"


@each_chapter
def test_each_picture_says_in_words_what_it_shows(part: Section) -> None:
    images = re.findall(r"!\[([^\]]*)\]\(", part.text)
    assert [text for text in images if len(text.split()) < 5] == []
    diagrams = [code for language, code in listings(part.text) if language == "mermaid"]
    for code in diagrams:
        assert re.search(r"^ +accTitle: .+\n +accDescr: .{20,}$", code, re.MULTILINE)
