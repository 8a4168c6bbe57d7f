"""Aggregation pipelines of the MongoDB stand-in, on mongomock's stages.

What mongomock lacks or does too slowly is done here, for our client only: the library
itself stays as it is. Its private functions are called because it has no public ones
for a single expression and for a group's totals.
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import mongomock
import mongomock.aggregate

EARTH_DIAMETER = 2 * 6_378_100.0  # metres, of the sphere that MongoDB measures on
BsonRow = dict[str, Any]
Rows = list[BsonRow]
Mocked: Any = mongomock  # its annotations are PyMongo's, which its classes do not keep


def refuse_others(options: BsonRow, emulated: BsonRow) -> None:
    """Raise NotImplementedError for options that are not these; ... is any value."""
    unknown = options.keys() ^ emulated.keys()  # too many, or too few
    for name in emulated.keys() & options.keys():
        if emulated[name] not in (..., options[name]):
            unknown.add(name)
    if unknown:
        raise NotImplementedError(f"this is not emulated: {options}")


def run_stages(rows: Rows, database: Any, pipeline: Sequence[Any]) -> Rows:
    """Run the stages of a pipeline one after the other."""
    for stage in pipeline:
        if "$group" in stage:
            rows = group(rows, database, stage["$group"])
        elif "$facet" in stage:  # whose pipelines may group, too
            rows = facet(rows, database, stage["$facet"])
        else:
            rows = by_mongomock(rows, database, stage)
    return rows


def by_mongomock(rows: Rows, database: Any, stage: BsonRow) -> Rows:
    """Run one stage as mongomock does it."""
    run = Mocked.aggregate.process_pipeline
    return list(run(rows, database, [stage], None))


def facet(rows: Rows, database: Any, pipelines: BsonRow) -> Rows:
    """Run several pipelines over the same rows."""
    found = {}
    for name, pipeline in pipelines.items():
        found[name] = run_stages(rows, database, pipeline)
    return [found]


def group(rows: Rows, database: Any, options: BsonRow) -> Rows:
    """Group by a dict, where mongomock sorts all documents by their keys.

    mongomock also takes True for 1, and a document with 1 between two with True for a
    group of its own.
    """
    groups: dict[Any, Rows] = defaultdict(list)
    keys: dict[Any, Any] = {}
    for row in rows:
        key = group_key(options["_id"], row)
        if isinstance(key, dict | list):
            return by_mongomock(rows, database, {"$group": options})
        same = (isinstance(key, bool), key)  # 1 is 1.0, and not True
        keys.setdefault(same, key)
        groups[same].append(row)
    found = []
    for same, members in groups.items():
        totals = Mocked.aggregate._accumulate_group(options, members)
        found.append({"_id": keys[same]} | totals)  # first, as a server has it
    return found


def group_key(expression: Any, row: BsonRow) -> Any:
    """Return what a document is grouped by; a server counts what is missing as null."""
    parse = Mocked.aggregate._parse_expression
    try:
        return parse(expression, row, ignore_missing_keys=True)
    except KeyError:
        return None


def geo_near(rows: Rows, options: BsonRow) -> Rows:
    """Return the documents within a distance, nearest first, each with its metres."""
    emulated = {
        "near": ...,
        "maxDistance": ...,
        "distanceField": "metres",
        "key": "geo",
    }
    refuse_others(options, emulated)
    centre = options["near"]["coordinates"]
    found = []
    for row in rows:
        if "geo" in row:
            row["metres"] = metres(row["geo"]["coordinates"], centre)
            if row["metres"] <= options["maxDistance"]:
                found.append(row)
    return sorted(found, key=operator.itemgetter("metres"))


def on_sphere(place: Sequence[float]) -> tuple[float, float, float]:
    """Return a place as a point of the sphere with radius 1."""
    east, north = map(math.radians, place)
    across = math.cos(north)
    x = across * math.cos(east)
    y = across * math.sin(east)
    return x, y, math.sin(north)


def metres(one: Sequence[float], other: Sequence[float]) -> float:
    """Return a distance by the chord between two points, not as haversine does it."""
    chord = math.dist(on_sphere(one), on_sphere(other))
    return EARTH_DIAMETER * math.asin(min(1, chord / 2))


def merge(rows: Rows, database: Any, options: BsonRow) -> None:
    """Put documents into another collection, in place of those with their _id."""
    refuse_others(options, {"into": ..., "whenMatched": "replace"})
    target = database[options["into"]]
    for row in rows:
        same = {"_id": row["_id"]}
        target.replace_one(same, row, upsert=True)
