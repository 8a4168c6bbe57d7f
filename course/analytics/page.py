"""A report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping

from course.analytics.arrays import Grid
from course.analytics.grids import cells

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:auto}
div{overflow-x:auto}td,th{padding:.2rem .6rem;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}img{width:100%}body{padding:1rem}"""
HEAD = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,"><title>Customers</title>"""


def as_html(title: str, grid: Grid) -> str:
    """Return a grid as a table of HTML."""
    rows = []
    for row in cells(title, grid):
        escaped = [html.escape(text) for text in row]
        rows.append(f"<tr><td>{'<td>'.join(escaped)}")
    return f"<div><table>{''.join(rows)}</table></div>"


def page(
    facts: Iterable[tuple[str, str]],
    sentences: Iterable[str],
    pictures: Mapping[str, bytes],
    grids: Mapping[str, Grid],
) -> str:
    """Return a report as a page whose policy forbids requests; all text is escaped."""
    parts = [f"{HEAD}<style>{STYLE}</style></head><body><h1>Customers</h1><dl>"]
    for name, text in facts:
        parts.append(f"<dt>{html.escape(name)}<dd>{html.escape(text)}")
    parts.append("</dl><ul>")
    for line in sentences:
        parts.append(f"<li>{html.escape(line)}")
    parts.append("</ul>")
    for name, svg in pictures.items():
        data = base64.b64encode(svg).decode()
        parts.append(f'<img alt="{name}" src="data:image/svg+xml;base64,{data}">')
    for title, grid in grids.items():
        parts.append(as_html(title, grid))
    parts.append("</body></html>\n")
    return "".join(parts)
