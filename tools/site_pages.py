"""The pages of the site: the guide by chapters, the exercises, the pages for teachers.

`tools/build_site.py` writes them. Links between the documents become links between
pages. Links to code lead to REPO_URL, and are plain text without it.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.reading_time import FENCED, without_code

GUIDE = "COMPREHENSIVE_GUIDE.md"
FIGURES = "docs/figures"
COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
HEADING = re.compile(r"^(#{1,5}) (.+)$", re.MULTILINE)
# A link, or code in a line, in which nothing is a link.
LINK = re.compile(
    r"\[(?P<text>(?:`[^`]*`|[^\[\]`])*)\]\((?P<target>[^()\s]+)\)|`[^`\n]*`"
)


class SiteError(Exception):
    """A link leads nowhere, or a setting is malformed."""


@dataclass(frozen=True)
class Page:
    """A page: where it stands in the site, and which document it comes from."""

    path: str
    group: str
    title: str
    source: str  # from the project's root
    text: str


# Headings


def anchor_of(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def plain(heading: str) -> str:
    """Return a heading as a menu shows it."""
    return heading.replace("`", "")


def outside_code(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the pieces of a text in order: (is it prose, the piece)."""
    end = 0
    for block in FENCED.finditer(text):
        yield True, text[end : block.start()]
        yield False, block[0]
        end = block.end()
    yield True, text[end:]


def with_anchors(text: str, levels_up: int) -> str:
    """Return a text whose headings have GitHub's anchors, and stand levels higher."""
    seen: Counter[str] = Counter()

    def heading(found: re.Match[str]) -> str:
        level = max(1, len(found[1]) - levels_up)
        anchor = anchor_of(found[2])
        number = seen[anchor]
        seen[anchor] += 1
        if number:
            anchor = f"{anchor}-{number}"
        return f"{'#' * level} {found[2]} {{ #{anchor} }}"

    pieces = []
    for is_prose, piece in outside_code(text):
        shown = HEADING.sub(heading, COMMENT.sub("", piece)) if is_prose else piece
        pieces.append(shown)
    return "".join(pieces)


# Documents


def chapters_of(guide: str) -> list[tuple[str, str]]:
    """Return (title, text) of what comes before the chapters, and of each chapter."""
    hidden = without_code(guide)
    starts = [0]
    titles = ["Start"]
    for found in re.finditer(r"^## (.+)$", hidden, re.MULTILINE):
        if found[1] == "Contents":  # a part of the first page
            continue
        starts.append(found.start())
        titles.append(found[1])
    ends = [*starts[1:], len(guide)]
    parts = [guide[start:end] for start, end in zip(starts, ends, strict=True)]
    return list(zip(titles, parts, strict=True))


def guide_pages(root: Path) -> list[Page]:
    """Return a page for what comes before the chapters, and one for each chapter."""
    pages = []
    for title, text in chapters_of((root / GUIDE).read_text("utf-8")):
        number = re.match(r"\d+", title)
        if number is None:
            group = ""
        elif int(number[0]) <= 5:
            group = "The lessons"
        else:
            group = "The whole"
        first = title == "Start"
        path = "index.md" if first else f"{anchor_of(title)}.md"
        shown = with_anchors(text, levels_up=0 if first else 1)
        pages.append(Page(path, group, plain(title), GUIDE, shown))
    return pages


def document_page(root: Path, source: str, path: str, group: str) -> Page:
    """Return a page with a whole document, which begins with its title."""
    text = (root / source).read_text("utf-8")
    title = HEADING.match(text)
    if title is None:
        raise SiteError(f"{source} does not begin with a heading")
    return Page(path, group, plain(title[2]), source, with_anchors(text, 0))


def exercise_pages(root: Path) -> list[Page]:
    """Return a page for each task; hints and answers stay with practice.py."""
    pages = [
        document_page(root, "exercises/README.md", "exercises/index.md", "Exercises")
    ]
    for folder in sorted(root.glob("exercises/0*/")):
        source = f"exercises/{folder.name}/task.md"
        page = document_page(root, source, f"exercises/{folder.name}.md", "Exercises")
        call = f"```sh\npython practice.py start {folder.name}\n```\n"
        text = page.text.rstrip() + f"\n\n{call}"
        pages.append(Page(page.path, page.group, page.title, source, text))
    return pages


def teaching_pages(root: Path) -> list[Page]:
    """Return the pages for instructors, if there are any."""
    pages = []
    for file in sorted(root.glob("docs/teaching/*.md"), reverse=True):
        name = "index.md" if file.name == "README.md" else file.name
        source = f"docs/teaching/{file.name}"
        page = document_page(root, source, f"teaching/{name}", "For instructors")
        pages.append(page)
    return sorted(pages, key=lambda page: not page.path.endswith("index.md"))


def all_pages(root: Path) -> list[Page]:
    """Return all pages in the order of the menu."""
    measured = document_page(
        root, "benchmarks/README.md", "benchmarks.md", "Measurements"
    )
    versions = document_page(root, "docs/versions.md", "versions.md", "Measurements")
    return [
        *guide_pages(root),
        *exercise_pages(root),
        *teaching_pages(root),
        measured,
        versions,
    ]


# Links


def anchors_in(text: str) -> set[str]:
    """Return the anchors that a page's headings have."""
    return set(re.findall(r"^#+ .* \{ #(\S+) \}$", text, re.MULTILINE))


class Links:
    """Where each link of a document leads in the site."""

    def __init__(self, root: Path, pages: list[Page], repository: str) -> None:
        self.root = root
        self.repository = repository.rstrip("/")
        self.documents = {page.source: page for page in pages if page.source != GUIDE}
        self.anchors: dict[str, Page] = {"": pages[0]}
        for page in pages:
            if page.source == GUIDE:
                self.anchors |= dict.fromkeys(anchors_in(page.text), page)

    def followed(self, page: Page, target: str) -> str | None:
        """Return where a link of a page leads, or None if it has to be left out."""
        if re.match(r"(https?|mailto):", target):
            return target
        name, _, anchor = target.partition("#")
        folder = posixpath.dirname(page.source)
        source = posixpath.normpath(posixpath.join(folder, name))
        if not name:
            source = page.source
        if source == GUIDE:
            if anchor not in self.anchors:
                raise SiteError(f"{page.source}: no heading for {target}")
            return self.relative(page, self.anchors[anchor].path, anchor)
        if source in self.documents:
            return self.relative(page, self.documents[source].path, anchor)
        if not (self.root / source).exists():
            raise SiteError(f"{page.source}: no file for {target}")
        if source.startswith(f"{FIGURES}/"):
            return self.relative(page, source.removeprefix("docs/"), "")
        if not self.repository:
            return None
        kind = "tree" if (self.root / source).is_dir() else "blob"
        fragment = f"#{anchor}" if anchor else ""
        return f"{self.repository}/{kind}/HEAD/{source}{fragment}"

    def relative(self, page: Page, path: str, anchor: str) -> str:
        """Return the way from one page to another, or to a file of the site."""
        way = posixpath.relpath(path, posixpath.dirname(page.path) or ".")
        return f"{way}#{anchor}" if anchor else way

    def rewritten(self, page: Page) -> str:
        """Return the text of a page with its links changed."""

        def link(found: re.Match[str]) -> str:
            if found["target"] is None:
                return found[0]
            target = self.followed(page, found["target"])
            if target is None:
                return found["text"]
            return f"[{found['text']}]({target})"

        pieces = []
        for is_prose, piece in outside_code(page.text):
            pieces.append(LINK.sub(link, piece) if is_prose else piece)
        return "".join(pieces)
