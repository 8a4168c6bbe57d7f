"""Builds the guide as a site, into site/: a page per chapter, search, dark mode.

Run:  python tools/build_site.py [--output FOLDER]

Settings, from the environment:

    REPO_URL    where the code is shown; without it, links to code are plain text
    MERMAID_JS  a mermaid.min.js that draws the diagrams; without it, npm fetches one.
                With neither, diagrams are shown as code.

A page makes no request to another host.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.site_pages import (  # noqa: E402
    FIGURES,
    Links,
    Page,
    SiteError,
    all_pages,
)

BASE = ROOT / "tools" / "site"
MERMAID = "mermaid@11.6.0"
PACKED = "package/dist/mermaid.min.js"
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# A diagram keeps its size, and scrolls where it is wider than the page.
KINDS = ("er", "flowchart", "sequence")
SIZE = json.dumps({kind: {"useMaxWidth": False} for kind in KINDS})
FETCH_LIMIT = 90.0  # seconds; without a network, npm gives up earlier
RUN_LIMIT = 600.0
REPORT = "report.html"
LESSON = "05_realworld_data_science.py"


def fetched_mermaid(folder: Path) -> str:
    """Fetch mermaid by npm into a folder; return why not, or nothing."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not on the PATH"
    command = [npm, "pack", MERMAID, "--silent", "--fetch-retries=0"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=FETCH_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"npm took longer than {FETCH_LIMIT:.0f} seconds"
    packed = list(folder.glob("mermaid-*.tgz"))
    if done.returncode or not packed:
        return f"npm could not fetch {MERMAID}"
    with tarfile.open(packed[0]) as archive:
        script = archive.extractfile(PACKED) if PACKED in archive.getnames() else None
        if script is None:
            return f"{MERMAID} has no {PACKED}"
        (folder / "mermaid.min.js").write_bytes(script.read())
    return ""


def put_mermaid(assets: Path) -> bool:
    """Put mermaid.min.js into the assets; say so if there is none."""
    given = os.environ.get("MERMAID_JS", "")
    if given:
        if not Path(given).is_file():
            raise SiteError(f"MERMAID_JS: no file {given}")
        shutil.copy(given, assets / "mermaid.min.js")
        return True
    with tempfile.TemporaryDirectory() as folder:
        problem = fetched_mermaid(Path(folder))
        if not problem:
            shutil.copy(Path(folder) / "mermaid.min.js", assets)
            return True
    print(f"Diagrams are shown as code: {problem}, and MERMAID_JS is not set.")
    return False


def put_report(file: Path) -> None:
    """Write the report of lesson 05 on its sample."""
    done = subprocess.run(
        [sys.executable, LESSON, "--json", "--report", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT,
        check=False,
    )
    if done.returncode:
        raise SiteError(f"{LESSON} --report: {done.stderr.strip()}")


def menu(pages: list[Page]) -> list[object]:
    """Return the menu: pages of no group by themselves, the others in their group."""
    entries: list[object] = []
    groups: dict[str, list[object]] = {}
    for page in pages:
        entry = {page.title: page.path}
        if not page.group:
            entries.append(entry)
            continue
        if page.group not in groups:
            groups[page.group] = []
            entries.append({page.group: groups[page.group]})
        groups[page.group].append(entry)
    entries.append({"A report of lesson 05": REPORT})
    return entries


def with_diagrams(text: str, drawn: bool) -> str:
    """Return a page's text with its diagrams in a box that scrolls, or as code."""

    def diagram(block: re.Match[str]) -> str:
        if not drawn:
            return f"```text\n{block[1]}```"
        code = f"```mermaid\n%%{{init: {SIZE}}}%%\n{block[1]}```"
        return f'<div class="diagram" markdown>\n\n{code}\n\n</div>'

    return DIAGRAM.sub(diagram, text)


def write_pages(folder: Path, pages: list[Page], repository: str, drawn: bool) -> None:
    """Write the pages and figures that mkdocs reads."""
    links = Links(ROOT, pages, repository)
    for page in pages:
        text = links.rewritten(page)
        text = with_diagrams(text, drawn)
        file = folder / page.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    shutil.copytree(ROOT / FIGURES, folder / "figures")


def repository_url() -> str:
    """Return the setting REPO_URL."""
    url = os.environ.get("REPO_URL", "")
    if url and not re.fullmatch(r"https?://[\w.:-]+(/[\w./~-]*)?", url):
        raise SiteError("REPO_URL has to look like https://host/owner/project")
    return url


def may_be_emptied(output: Path) -> bool:
    """Tell whether a folder is new, empty, or a site that was built before."""
    if not output.exists():
        return True
    if not output.is_dir():
        return False
    return (output / "sitemap.xml").exists() or not any(output.iterdir())


def build(output: Path) -> None:
    """Build the site into a folder, which is emptied first."""
    if not may_be_emptied(output):
        raise SiteError(f"{output} exists and is not a site")
    repository = repository_url()
    pages = all_pages(ROOT)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        source = work / "docs"
        assets = source / "assets"
        assets.mkdir(parents=True)
        shutil.copy(BASE / "site.css", assets)
        drawn = put_mermaid(assets)
        write_pages(source, pages, repository, drawn)
        put_report(source / REPORT)
        settings = {
            "INHERIT": str(BASE / "mkdocs.yml"),
            "docs_dir": str(source),
            "site_dir": str(output.resolve()),
            "theme": {"custom_dir": str(BASE / "theme")},
            "nav": menu(pages),
        }
        config = work / "mkdocs.yml"
        config.write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
        run_mkdocs(config)


def run_mkdocs(config: Path) -> None:
    """Run mkdocs, for which a broken link is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--config-file", str(config)],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT,
        check=False,
    )
    if done.returncode:
        raise SiteError(f"mkdocs: {done.stdout}{done.stderr}".strip())


def main(argv: list[str] | None = None) -> int:
    """Build the site; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "site", metavar="FOLDER")
    args = parser.parse_args(argv)
    try:
        build(args.output)
    except SiteError as problem:
        print(problem, file=sys.stderr)
        return 2
    print(f"{args.output / 'index.html'}: make serve shows it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
