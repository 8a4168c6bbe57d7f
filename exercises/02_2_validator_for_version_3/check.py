"""Judges user_schemas() by users that must be stored, and by users that must not."""

from __future__ import annotations

import copy
import random
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import bson

from course.claims import at_least, is_a, one_of
from course.mongo.codec import Document
from course.practice.checking import Words, expect
from course.standins.bson_schema import breaches

KEYWORDS = (
    *("bsonType", "enum", "minimum", "pattern", "minItems", "maxItems"),
    *("items", "properties", "required", "additionalProperties"),
)
TYPES = (
    *("double", "string", "object", "array", "binData", "objectId", "bool", "date"),
    *("null", "int", "long", "decimal", "number", "regex", "timestamp"),
)
REMOVED = object()  # stands for a field that is taken away


@dataclass
class Case:
    """A user, and whether it must be stored."""

    words: str
    user: Document
    stored: bool
    hint: int


@dataclass
class Users:
    """A whole user of either version, from which the cases are made by one change."""

    two: Document
    three: Document
    rng: random.Random

    def good(self, words: str, hint: int, path: str, value: Any) -> Case:
        """Return a user of version 3 that must be stored after one change."""
        return Case(words, changed(self.three, path, value), True, hint)

    def bad(self, words: str, hint: int, path: str, value: Any) -> Case:
        """Return a user of version 3 that must be refused after one change."""
        return Case(words, changed(self.three, path, value), False, hint)

    def old_good(self, words: str, hint: int, path: str, value: Any) -> Case:
        """Return a user of version 2 that must be stored after one change."""
        return Case(words, changed(self.two, path, value), True, hint)

    def old_bad(self, words: str, hint: int, path: str, value: Any) -> Case:
        """Return a user of version 2 that must be refused after one change."""
        return Case(words, changed(self.two, path, value), False, hint)


def changed(user: Document, path: str, value: Any) -> Document:
    """Return a copy of a user with another value at a path, such as emails.0.since."""
    whole = copy.deepcopy(user)
    *way, last = path.split(".")
    inner: Any = whole
    for name in way:
        inner = inner[int(name)] if isinstance(inner, list) else inner[name]
    if isinstance(inner, list):
        inner[int(last)] = value
    elif value is REMOVED:
        del inner[last]
    else:
        inner[last] = value
    return whole


def moment(rng: random.Random) -> datetime:
    """Return some second of the year 2025."""
    return datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10**7))


def drawn_users(rng: random.Random) -> Users:
    """Return a user of each version that has all fields it may have."""
    name = rng.choice(["olha", "ann", "bohdan", "zoe"]) + str(rng.randrange(100))
    shared = {
        "_id": rng.randrange(1, 10**6),
        "username": name,
        "created_at": moment(rng),
    }
    rest = {"expertise": "senior", "projects": rng.randrange(50)}
    two = shared | {
        "schema_version": 2,
        "email": f"{name}@example.org",
        "profile": {"interests": ["sql", "maths"]} | rest,
    }
    emails: list[Document] = []
    for number in range(3):
        address = f"{name}@{number}.example.org"
        emails.append({"address": address, "verified": number == 0})
    emails[1]["since"] = moment(rng)
    weights = rng.sample([1, 0.5, 3, 12, 0.25], 2)
    interests = [
        {"topic": "sql", "weight": weights[0]},
        {"topic": "maths", "weight": weights[1]},
    ]
    three = shared | {
        "schema_version": 3,
        "emails": emails,
        "points": rng.randrange(1, 10**4),
        "balance": bson.Decimal128(f"{rng.randrange(1, 10**4)}.50"),
        "profile": {"interests": interests} | rest,
    }
    return Users(two, three, rng)


def whole_cases(users: Users) -> Iterator[Case]:
    """Yield users that have all fields, or only those that they must have."""
    yield Case("a user of version 2 with all fields", users.two, True, 1)
    yield Case("a user of version 3 with all fields", users.three, True, 1)
    must = ("_id", "schema_version", "username", "created_at")
    two = {name: users.two[name] for name in (*must, "email")}
    yield Case("a user of version 2 without profile", two, True, 1)
    three = {name: users.three[name] for name in (*must, "emails", "points")}
    three["emails"] = [{"address": "a@b.c", "verified": False}]
    words = "a user of version 3 with only what it must have, and one address"
    yield Case(words, three, True, 1)


def version_3_cases(users: Users) -> Iterator[Case]:
    """Yield what each of the changes demands."""
    good = users.good
    bad = users.bad
    for name in ("emails", "points", "username", "created_at", "schema_version"):
        yield bad(f"a user of version 3 without {name}", 1, name, REMOVED)
    entries = users.three["emails"]
    yield good("two addresses", 1, "emails", entries[:2])
    yield bad("emails without an entry", 1, "emails", [])
    yield bad("four addresses", 1, "emails", [*entries, entries[0]])
    for name in ("address", "verified"):
        words = f"an address (the second of three) without {name}"
        yield bad(words, 2, f"emails.1.{name}", REMOVED)
    yield bad("an address without @", 1, "emails.2.address", "example.org")
    yield bad("verified as a text", 1, "emails.0.verified", "yes")
    yield bad("verified as 1", 1, "emails.0.verified", 1)
    yield bad("verified null", 1, "emails.0.verified", None)
    yield bad("the since of an address as a text", 1, "emails.0.since", "2025-01-01")
    yield good("0 points", 1, "points", 0)
    yield bad("points below 0", 1, "points", -1)
    yield good("a balance below 0", 1, "balance", bson.Decimal128("-12.30"))
    yield good("no balance", 1, "balance", REMOVED)
    yield good("no interests", 1, "profile.interests", [])
    yield bad("a profile without interests", 1, "profile.interests", REMOVED)
    yield good("no profile", 1, "profile", REMOVED)
    for name in ("topic", "weight"):
        words = f"an interest (the second of two) without {name}"
        yield bad(words, 2, f"profile.interests.1.{name}", REMOVED)
    yield bad("an empty topic", 1, "profile.interests.0.topic", "")
    yield bad("a topic of 201 letters", 1, "profile.interests.0.topic", "x" * 201)
    yield bad("a topic that is a number", 1, "profile.interests.1.topic", 5)
    yield good("a weight of 0", 1, "profile.interests.0.weight", 0)
    yield bad("a weight below 0", 1, "profile.interests.0.weight", -0.5)
    yield bad("a weight as a text", 1, "profile.interests.0.weight", "1")


def number_cases(users: Users) -> Iterator[Case]:
    """Yield numbers, as PyMongo sends them."""
    good = users.good
    bad = users.bad
    power = users.rng.randrange(32, 60)
    yield good("2**31 points", 2, "points", 2**31)
    yield good(f"2**{power} points", 2, "points", 2**power)
    yield good("points as an Int64", 2, "points", bson.Int64(7))
    for name, path in (("points", "points"), ("projects", "profile.projects")):
        for value in (1.0, True, "1", None, bson.Decimal128("1")):
            yield bad(f"{name} as {value!r}", 2, path, value)
    yield good("2**31 projects", 2, "profile.projects", 2**31)
    weight = "profile.interests.1.weight"
    yield good("a weight of 2**40", 2, weight, 2**40)
    for fine in (1, 0.5, bson.Decimal128("0.25"), bson.Int64(2)):
        yield good(f"a weight of {fine!r}", 2, weight, fine)
    for odd in (True, None, bson.Decimal128("-0.1"), [1]):
        yield bad(f"a weight of {odd!r}", 2, weight, odd)
    for other in (5, 2**40, 5.5, "5.50", True, None):
        yield bad(f"a balance of {other!r}", 2, "balance", other)
    yield bad("the version True", 2, "schema_version", True)


def unnamed_cases(users: Users) -> Iterator[Case]:
    """Yield fields that nobody has named, at every depth."""
    bad = users.bad
    yield bad("a field is_admin", 2, "is_admin", True)
    yield bad("a field is_admin in the profile", 2, "profile.is_admin", True)
    yield bad("a field label in the first address", 2, "emails.0.label", "home")
    yield bad("a field label in the last address", 2, "emails.2.label", "home")
    path = "profile.interests.1.since"
    yield bad("a field since in an interest", 2, path, users.two["created_at"])
    yield users.old_bad("a user of version 2 with a field is_admin", 1, "is_admin", 1)
    words = "a user of version 2 with a field is_admin in the profile"
    yield users.old_bad(words, 1, "profile.is_admin", True)


def mixed_cases(users: Users) -> Iterator[Case]:
    """Yield users of one version with something of the other."""
    two = users.two
    three = users.three
    profile = three["profile"]
    old_profile = two["profile"]
    lately = "a user of version 3 with"
    before = "a user of version 2 with"
    yield users.bad(f"{lately} email as well", 2, "email", two["email"])
    without = changed(three, "emails", REMOVED)
    mixed = changed(without, "email", two["email"])
    yield Case(f"{lately} email instead of emails", mixed, False, 2)
    path = "profile.interests"
    yield users.bad(f"{lately} texts as interests", 2, path, ["sql"])
    both = [profile["interests"][0], "sql"]
    yield users.bad(f"{lately} an interest and a text", 2, path, both)
    yield Case("a user of version 2 that calls itself 3", two | version(3), False, 2)
    yield Case("a user of version 3 that calls itself 2", three | version(2), False, 2)
    for name in ("emails", "points", "balance"):
        yield users.old_bad(f"{before} {name}", 2, name, three[name])
    without = changed(two, "email", REMOVED)
    mixed = changed(without, "emails", three["emails"])
    yield Case(f"{before} emails instead of email", mixed, False, 2)
    yield users.old_bad(f"{before} interests of version 3", 2, "profile", profile)
    both = [*old_profile["interests"], profile["interests"][0]]
    yield users.old_bad(f"{before} a text and an interest of 3", 2, path, both)
    for number in (1, 4, "3", None):
        words = f"a user of version 3 with the schema_version {number!r}"
        yield Case(words, three | version(number), False, 2)
        words = f"a user of version 2 with the schema_version {number!r}"
        yield Case(words, two | version(number), False, 2)


def version(number: Any) -> Document:
    """Return the field that tells the versions apart."""
    return {"schema_version": number}


def version_2_cases(users: Users) -> Iterator[Case]:
    """Yield users of version 2, who are accepted and refused as before."""
    good = users.old_good
    bad = users.old_bad
    name = "a user of version 2"
    for field in ("username", "email", "created_at", "schema_version"):
        yield bad(f"{name} without {field}", 1, field, REMOVED)
    yield bad(f"{name} without interests", 1, "profile.interests", REMOVED)
    yield good(f"{name} with no interests", 1, "profile.interests", [])
    yield good(f"{name} without expertise", 1, "profile.expertise", REMOVED)
    yield good(f"{name} with 2**40 projects", 1, "profile.projects", 2**40)
    for value in (-1, 1.0, True):
        yield bad(f"{name} with {value!r} projects", 1, "profile.projects", value)
    yield bad(f"{name} with the email 'x y@z'", 1, "email", "x y@z")
    yield bad(f"{name} with an empty interest", 1, "profile.interests.0", "")
    yield bad(f"{name} with a text as created_at", 1, "created_at", "2025-01-01")


def odd_cases(users: Users) -> Iterator[Case]:
    """Yield values of quite another type, and all kinds of keys."""
    bad = users.bad
    entry = users.three["emails"][0]
    for value in (None, 5, "ann@example.org", entry, [[entry]], ["ann@example.org"]):
        yield bad(f"emails as {shown(value)}", 3, "emails", value)
    yield bad("an empty entry of emails", 3, "emails.1", {})
    yield bad("an address with a blank", 3, "emails.1.address", "ann lee@example.org")
    yield bad("the since of an address as null", 3, "emails.1.since", None)
    path = "profile.interests"
    one = users.three["profile"]["interests"][0]
    for value in (None, 5, "sql", one, [[one]], [None], [{}]):
        yield bad(f"interests as {shown(value)}", 3, path, value)
    for value in (None, 5, [], [users.three["profile"]], {}):
        yield bad(f"a profile of {shown(value)}", 3, "profile", value)
    yield bad("an expertise of 201 letters", 3, "profile.expertise", "x" * 201)
    alone = {"interests": users.three["profile"]["interests"]}
    yield users.good("a profile with interests alone", 3, "profile", alone)
    yield bad("a username of 5", 3, "username", 5)
    yield bad("a username of 201 letters", 3, "username", "x" * 201)
    yield bad("created_at as a text", 3, "created_at", "2025-01-01")
    fixed = uuid.UUID(int=users.rng.getrandbits(128))
    keys = (0, 2**40, "u-7", bson.ObjectId(b"a" * 12), fixed)
    for key in keys:
        words = f"the _id as {type(key).__name__}"
        yield users.good(f"{words}, version 3", 3, "_id", key)
        yield users.old_good(f"{words}, version 2", 3, "_id", key)
    for odd in (-1, 1.5, True, None, [1]):
        yield bad(f"the _id {odd!r}, version 3", 3, "_id", odd)
        yield users.old_bad(f"the _id {odd!r}, version 2", 3, "_id", odd)


def shown(value: Any) -> str:
    """Return a value in short: an object by its fields."""
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {shown(value[0])}" if value else "an empty list"
    return "null" if value is None else repr(value)


def readable(schema: Any, where: str) -> Document:
    """Return a schema as the stand-in reads it; refuse what it would pass over."""
    expect(where, schema, is_a(dict), 1)
    for name in schema:
        expect(f"a keyword in {where}", name, one_of(*KEYWORDS), 1)
    found = readable_types(schema, where)
    enum = schema.get("enum", [2])
    expect(f"enum in {where}", enum, is_a(list), 1)
    if bool in map(type, enum):
        wanted = Words("bsonType: the stand-in has no True in enum")
        expect(f"enum in {where}", enum, wanted, 1)
    for name in ("minItems", "maxItems"):
        expect(f"{name} in {where}", schema.get(name, 0), is_a(int), 1)
    expect(f"minimum in {where}", schema.get("minimum", 0), is_a(int, float), 1)
    expect(f"pattern in {where}", schema.get("pattern", ""), is_a(str), 1)
    others = schema.get("additionalProperties", False)
    expect(f"additionalProperties in {where}", others, is_a(bool), 1)
    expect(f"required in {where}", schema.get("required", []), is_a(list), 1)
    if "items" in schema:
        found["items"] = readable(schema["items"], f"items of {where}")
    inner = schema.get("properties", {})
    expect(f"properties in {where}", inner, is_a(dict), 1)
    if inner:
        found["properties"] = {
            name: readable(each, f"{name} of {where}") for name, each in inner.items()
        }
    return found


def readable_types(schema: Document, where: str) -> Document:
    """Return a schema with its types first, as a list; a server takes a text, too."""
    kinds = schema.get("bsonType", [])
    if isinstance(kinds, str):
        kinds = [kinds]
    expect(f"bsonType in {where}", kinds, is_a(list), 1)
    for kind in kinds:
        expect(f"a bsonType in {where}", kind, one_of(*TYPES), 1)
    rest = {name: value for name, value in schema.items() if name != "bsonType"}
    return {"bsonType": kinds} | rest if kinds else rest


def broken_by(schema: Document, user: Document) -> list[str]:
    """Return what of a user breaks a schema, by path."""
    try:
        return sorted(set(breaches(schema, user)))
    except TypeError:  # minItems of a number; a server passes over it there
        return []
    except re.error:
        return ["a pattern that cannot be read"]


def judge_user(schemas: list[Document], case: Case) -> None:
    """Refuse the answer if it stores, or does not store, what it should not."""
    broken = [broken_by(schema, case.user) for schema in schemas]
    is_stored = not all(broken)
    if is_stored == case.stored:
        return
    wanted = Words("stored" if case.stored else "refused")
    observed = Words("stored")
    if not is_stored:
        # Of the schema that is nearest; the others are of another version.
        nearest = min(broken, key=len)
        paths = ", ".join(path or "the user" for path in nearest)
        number = broken.index(nearest) + 1
        observed = Words(f"refused; it breaks schema {number} by {paths}")
    expect(case.words, observed, wanted, case.hint)


def all_cases(users: Users) -> Iterator[Case]:
    """Yield all users, the plain ones first."""
    yield from whole_cases(users)
    yield from version_3_cases(users)
    yield from unnamed_cases(users)
    yield from number_cases(users)
    yield from mixed_cases(users)
    yield from version_2_cases(users)
    yield from odd_cases(users)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Read the schemas, try a user after the other, and call a second time."""
    before = copy.deepcopy(getattr(answer, "VERSION_2", None))
    given = answer.user_schemas()
    expect("what user_schemas() returns", given, is_a(list), 1)
    expect("how many schemas user_schemas() returns", len(given), at_least(1), 1)
    schemas = []
    for place, schema in enumerate(given, start=1):
        schemas.append(readable(schema, f"schema {place}"))
    first = copy.deepcopy(given)
    for case in all_cases(drawn_users(rng)):
        judge_user(schemas, case)
    again = answer.user_schemas()
    expect("a second call returns the same", again == first, True, 3)
    is_kept = before == getattr(answer, "VERSION_2", None)
    expect("VERSION_2 is as it was, after two calls", is_kept, True, 3)
