"""A report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from course.analytics.arrays import Grid
from course.analytics.grids import cell, column_names

STYLE = """:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#fff;
--line:#d0d7de;--band:#f3f5f7;--link:#0550ae}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#a5afba;--paper:#0f141a;
--line:#39424d;--band:#1a2129;--link:#79b8ff}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:62rem;margin:auto;padding:1rem;overflow-wrap:anywhere}
a{color:var(--link)}h1{line-height:1.2;margin:.2rem 0}h2{margin:2.2rem 0 .5rem}
.soft,caption,figcaption{color:var(--soft)}nav ul{padding:0;list-style:none}
nav li{display:inline-block;margin-right:1rem}li{margin:.35rem 0}
.scroll{overflow-x:auto;margin:1rem 0}table{border-collapse:collapse;
font-variant-numeric:tabular-nums}caption{text-align:left;padding:.3rem 0}
th,td{padding:.25rem .6rem;text-align:right;white-space:nowrap;
border-bottom:1px solid var(--line)}thead th{background:var(--band)}
tbody th{text-align:left;font-weight:500}th:first-child{text-align:left}
.fits{width:100%}.fits th,.fits td{white-space:normal;overflow-wrap:normal}
h3::first-letter{text-transform:uppercase}figure{margin:1.5rem 0}
img{display:block;width:100%;max-width:44rem;background:#fff;
border-radius:.4rem}dt{font-weight:600}dd{margin:0 0 .5rem}
@media(max-width:40rem){.fits{font-size:.78rem}.fits th,.fits td{padding:.2rem .25rem}}
@media print{nav{display:none}body{max-width:none;padding:0}
figure,tr{break-inside:avoid}.scroll{overflow:visible}}"""
HEAD = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">"""
UNITS = {1_000_000_000: "bn", 1_000_000: "M"}


class Table(NamedTuple):
    """A grid with a caption; which of its columns are shares, and where it stands."""

    title: str
    caption: str
    grid: Grid
    shares: frozenset[str] | None = frozenset()  # None: all figures are shares
    fits: bool = False  # lines may break, so that a phone shows all columns


class Shown(NamedTuple):
    """A picture, or its absence, and what it says in words."""

    title: str
    says: str
    svg: bytes | None


class Report(NamedTuple):
    """All that a page shows, in its order."""

    name: str  # of the log
    subject: str  # as of which day, for which days
    sentences: Sequence[str]
    segments: Table
    pictures: Sequence[Shown]
    missing: str | None  # why there are no pictures
    tables: Sequence[Table]
    facts: Iterable[tuple[str, str]]


def as_percent(value: Any) -> str:
    """Return a share as 33 %, an interval as 31 to 35 %; - for what is not known."""
    if isinstance(value, tuple | list):
        ends = [as_percent(end).removesuffix(" %") for end in value]
        return f"{' to '.join(ends)} %"
    if value is None or not math.isfinite(value):
        return "-"
    percent = 100 * value
    # 99.96 is not 100, and 0.04 is not 0.
    digits = 1 if 0 < percent < 1 or 99 < percent < 100 else 0
    return f"{percent:.{digits}f} %"


def as_figure(value: Any) -> str:
    """Return a figure as people write it: 12,345, or 1.23 M for millions."""
    if isinstance(value, tuple | list):
        return " to ".join(map(as_figure, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return cell(value)
    for unit, name in UNITS.items():
        if abs(value) >= unit and math.isfinite(value):
            return f"{value / unit:,.2f} {name}"
    return f"{value:,}" if isinstance(value, int) else cell(value)


def as_html(table: Table) -> str:
    """Return a table of HTML: a caption, names of columns and of rows, figures."""
    names = column_names(table.grid)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    corner = f'<th scope="col">{html.escape(table.title)}</th>'
    body = []
    for row_name, row in table.grid.items():
        figures = []
        for name in names:
            value = row.get(name)
            # A share is named by its column, or by its row where figures go down.
            named = table.shares is None or not table.shares.isdisjoint(
                {
                    name,
                    row_name,
                }
            )
            text = as_percent(value) if named else as_figure(value)
            figures.append(f"<td>{html.escape(text)}</td>")
        body.append(
            f'<tr><th scope="row">{html.escape(row_name)}</th>{"".join(figures)}</tr>'
        )
    caption = html.escape(table.caption)
    kind = ' class="fits"' if table.fits else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">'
        f"<table{kind}><caption>{caption}</caption>"
        f"<thead><tr>{corner}{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def as_figure_of(shown: Shown) -> str:
    """Return a picture of HTML, with what it says for those who do not see it."""
    says = html.escape(shown.says)
    title = html.escape(shown.title)
    if shown.svg is None:
        return f"<h3>{title}</h3><p>{says}</p>"
    data = base64.b64encode(shown.svg).decode()
    image = f'<img alt="{says}" src="data:image/svg+xml;base64,{data}">'
    return f"<h3>{title}</h3><figure>{image}<figcaption>{says}</figcaption></figure>"


def page(report: Report) -> str:
    """Return a report as a page whose policy forbids requests; all text is escaped."""
    name = html.escape(report.name)
    items = "".join(f"<li>{html.escape(line)}</li>" for line in report.sentences)
    parts = {"In short": f"<ul>{items}</ul>", "Segments": as_html(report.segments)}
    if report.missing:
        parts["Pictures"] = f"<p>{html.escape(report.missing)}</p>"
    if report.pictures:
        drawn = "".join(map(as_figure_of, report.pictures))
        parts["Pictures"] = parts.get("Pictures", "") + drawn
    parts["Models and figures"] = "".join(map(as_html, report.tables))
    facts = []
    for fact_name, text in report.facts:
        facts.append(f"<dt>{html.escape(fact_name)}</dt><dd>{html.escape(text)}</dd>")
    parts["The log and the fits"] = f"<dl>{''.join(facts)}</dl>"
    contents = []
    sections = []
    for place, (heading, content) in enumerate(parts.items()):
        contents.append(f'<li><a href="#s{place}">{heading}</a></li>')
        sections.append(f'<section id="s{place}"><h2>{heading}</h2>{content}</section>')
    return (
        f"{HEAD}<title>Customers: {name}</title><style>{STYLE}</style></head><body>"
        f'<header><h1>Customers: {name}</h1><p class="soft">'
        f"{html.escape(report.subject)}</p></header>"
        f'<nav aria-label="Contents"><ul>{"".join(contents)}</ul></nav>'
        f"<main>{''.join(sections)}</main></body></html>\n"
    )
