"""Aggregation pipelines of the MongoDB stand-in, on mongomock's stages.

What mongomock lacks or does too slowly is done here, for our client only: the library
itself stays as it is. Its private functions are called because it has no public ones
for a single expression and for a group's totals.
"""

from __future__ import annotations

import decimal
import itertools
import math
import operator
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import bson
import mongomock
import mongomock.aggregate

EARTH_DIAMETER = 2 * 6_378_100.0  # metres, of the sphere that MongoDB measures on
NUMBERS = (int, float, bson.Decimal128)
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
        elif "$bucket" in stage:
            rows = bucket(rows, stage["$bucket"])
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
        same = hashable(key)
        keys.setdefault(same, key)
        groups[same].append(row)
    found = []
    for same, members in groups.items():
        totals = totals_of(options, members)
        found.append({"_id": keys[same]} | totals)  # first, as a server has it
    return found


def bucket(rows: Rows, options: BsonRow) -> Rows:
    """Group by bands of numbers, where mongomock cannot compare Decimal128."""
    names = {"groupBy", "boundaries", "default", "output"}
    if options.keys() != names:
        raise NotImplementedError(f"this is not emulated: {options}")
    bands: dict[Any, Rows] = {band: [] for band in options["boundaries"]}
    others: Rows = []
    for row in rows:
        numbers = values_of(options["groupBy"], [row])
        band = None
        for low, high in itertools.pairwise(options["boundaries"]):
            if numbers and low <= in_python(numbers[0]) < high:
                band = low
        (others if band is None else bands[band]).append(row)
    found = []
    for band, members in [*bands.items(), (options["default"], others)]:
        if members:
            found.append({"_id": band} | totals_of(options["output"], members))
    return found


def in_python(number: Any) -> Any:
    """Return a number that Python can compare and add; it cannot with Decimal128."""
    return number.to_decimal() if isinstance(number, bson.Decimal128) else number


def hashable(key: Any) -> Any:
    """Return a key as a server compares it: 1 is 1.0, and not True."""
    if isinstance(key, dict):
        return tuple((name, hashable(value)) for name, value in key.items())
    if isinstance(key, list):
        return ("list", *map(hashable, key))
    return isinstance(key, bool), in_python(key)


def totals_of(options: BsonRow, members: Rows) -> BsonRow:
    """Return what a group adds up to; mongomock cannot add Decimal128."""
    found = {}
    for field, total in options.items():
        if field == "_id":
            continue
        ((name, expression),) = total.items()
        if name in ("$sum", "$avg"):
            found[field] = sum_or_mean(name, values_of(expression, members))
        else:
            accumulate = Mocked.aggregate._accumulate_group
            found |= accumulate({field: total}, members)
    return found


def values_of(expression: Any, members: Rows) -> list[Any]:
    """Return the numbers of a group; a server passes over all else."""
    found = []
    for row in members:
        try:
            value = Mocked.aggregate._parse_expression(expression, row)
        except KeyError:
            continue
        if isinstance(value, NUMBERS) and not isinstance(value, bool):
            found.append(value)
    return found


def sum_or_mean(name: str, values: list[Any]) -> Any:
    """Return a sum or a mean: a Decimal128 as soon as one of the numbers is."""
    if name == "$avg" and not values:
        return None
    count = len(values)
    if not any(isinstance(value, bson.Decimal128) for value in values):
        total = sum(values)
        return total / count if name == "$avg" else total
    context = bson.decimal128.create_decimal128_context()
    exact = decimal.Decimal(0)
    for value in values:
        exact = context.add(exact, decimal.Decimal(str(value)))
    if name == "$avg":
        exact = context.divide(exact, decimal.Decimal(count))
    return bson.Decimal128(exact)


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
