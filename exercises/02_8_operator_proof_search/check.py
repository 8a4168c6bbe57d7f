"""Judges search_listings() by honest bodies, and by those that carry something else."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from course.claims import is_a
from course.mongo.codec import Document
from course.mongo.counting import CommandCounter
from course.practice.checking import Refused, Words, expect
from course.practice.noted import NotedCollection
from course.standins.mongodb import StandInDatabase

CITIES = ("Kyiv", "kyiv", "Kyiv region", "Львів", "")
TAGS = ("new", "sale", "wood", "red", "big", "$gt", "a.b", "", "öko")
NAMES = ("ann", "ben", "", "$where", "zoë")
COUNTRIES = ("UA", "DE", "")
TEN_TAGS = [f"tag {number}" for number in range(10)]
DIGITS = "9" * 400
OPERATORS = (
    *('{"$ne": null}', '{"$gt": ""}', '{"$regex": ".*"}', '{"$exists": true}'),
    *('{"$in": ["Kyiv"]}', '{"$not": {"$eq": 1}}', '{"$where": "1"}', "{}"),
)
NO_TEXTS = ("null", "true", "false", "0", "5", "1.5", "NaN", "[]", '["Kyiv"]')
HALF = ('"\\ud800"', '"Kyiv\\udc00"')  # as JSON has them
NO_NUMBERS = ("null", "true", "false", '"5"', '""', "[]", "[5]", "[[]]")
NOT_FOR_BSON = (
    *("NaN", "Infinity", "-Infinity", "1e999", str(2**63), str(-(2**63) - 1)),
    *(str(2**64), DIGITS, f"-{DIGITS}"),
)


def drawn_listings(rng: random.Random) -> list[Document]:
    """Return listings of all kinds; most of them are published."""
    listings: list[Document] = []
    for key in rng.sample(range(1, 1_000), 60):
        owner = {"name": rng.choice(NAMES), "country": rng.choice(COUNTRIES)}
        owner["phone"] = f"+380 {rng.randrange(1_000)}"
        turned = list(owner.items())
        rng.shuffle(turned)
        listing = {
            "_id": key,
            "status": rng.choice(["published"] * 4 + ["draft", "sold"]),
            "city": rng.choice(CITIES),
            "price": rng.choice([0, 5, 10, 10.5, 20, 99.99, -1]),
            "tags": rng.sample(TAGS, rng.randrange(5)),
            "owner": dict(turned),
        }
        if rng.random() < 0.2:
            del listing[rng.choice(["city", "price", "tags", "owner"])]
        listings.append(listing)
    tags = rng.sample(TEN_TAGS, 10)
    listings.append({"_id": 2_000, "status": "published", "tags": tags})
    listings.append({"_id": 2_001, "status": "draft", "tags": tags})
    listings.append({"_id": 2_002, "city": "Kyiv", "price": 5})
    return listings


def matches(listing: Document, body: Document) -> bool:
    """Tell whether a listing is published and is what an honest body asks for."""
    owner = listing.get("owner", {})
    asked = body.get("owner", {})
    is_owned = all(owner.get(name) == value for name, value in asked.items())
    return (
        is_owned
        and listing.get("status") == "published"
        and body.get("city") in (None, listing.get("city"))
        and set(body.get("tags", [])) <= set(listing.get("tags", []))
        and is_priced(listing, body.get("price", {}))
    )


def is_priced(listing: Document, bounds: Document) -> bool:
    """Tell whether the price of a listing is within bounds, if there are any."""
    if not bounds:
        return True
    price = listing.get("price")
    low = bounds.get("from", -math.inf)
    return price is not None and low <= price < bounds.get("to", math.inf)


class Market:
    """A collection of listings, and the answer that searches it."""

    def __init__(self, answer: ModuleType, rng: random.Random) -> None:
        database: Any = StandInDatabase(CommandCounter())
        self.answer = answer
        self.listings = drawn_listings(rng)
        self.stored = NotedCollection(database["listings"])
        self.stored.inner.insert_many(copy.deepcopy(self.listings))

    def find(self, text: str, hint: int) -> None:
        """Judge what an honest body finds."""
        body = json.loads(text)
        tried = f"the body {shown(text)}"
        try:
            found = self.answer.search_listings(self.stored, body)
        except ValueError as error:
            raised = Words(f"{type(error).__name__}: {error}")
            raise Refused(tried, raised, Words("listings"), hint) from error
        wanted = [each for each in self.listings if matches(each, json.loads(text))]
        wanted.sort(key=lambda each: int(each["_id"]))
        expect(f"{tried}; what is returned", found, is_a(list), 1)
        for each in found:
            expect(f"{tried}; a listing", each, is_a(dict), 1)
        keys = [each.get("_id", Words("no _id")) for each in found]
        wanted_keys = [each["_id"] for each in wanted]
        more = [key for key in keys if key not in wanted_keys]
        expect(f"{tried}; the _id of what should not be found", more[:5], [], hint)
        lost = [key for key in wanted_keys if key not in keys]
        expect(f"{tried}; the _id of what is not found", lost[:5], [], hint)
        expect(f"{tried}; the _id of what is found", keys, wanted_keys, hint)
        for each, listing in zip(found, wanted, strict=True):
            words = f"{tried}; listing {listing['_id']}, whole"
            expect(words, each, listing, 1)
        expect(f"{tried}; the body afterwards", body, json.loads(text), 3)

    def refuse(self, text: str, hint: int) -> None:
        """Judge that a body is refused before the collection is asked."""
        body = json.loads(text)
        tried = f"the body {shown(text)}"
        self.stored.asked.clear()
        try:
            found = self.answer.search_listings(self.stored, body)
        except NotImplementedError:
            raise
        except ValueError:
            found = None
        except Exception as error:
            raised = Words(f"{type(error).__name__}: {error}")
            raise Refused(tried, raised, Words("ValueError"), hint) from error
        else:
            raise Refused(tried, returned(found), Words("ValueError"), hint)
        sent = len(self.stored.asked)
        expect(f"{tried}; how often the collection is asked", sent, 0, 3)
        # As JSON: NaN equals nothing, itself included.
        words = f"{tried}; the body afterwards is as before"
        expect(words, json.dumps(body) == json.dumps(json.loads(text)), True, 3)


def returned(found: Any) -> Words:
    """Return in words what came instead of an error."""
    if isinstance(found, list):
        return Words(f"no error, but {len(found)} listings")
    return Words(f"no error, but {type(found).__name__}")


def shown(text: str) -> str:
    """Return a body in short."""
    return text if len(text) <= 90 else f"{text[:60]} ... {text[-8:]}"


def as_json(value: Any) -> str:
    """Return a value as JSON, with its letters as they are."""
    return json.dumps(value, ensure_ascii=False)


def honest_bodies(rng: random.Random) -> Iterator[str]:
    """Yield bodies of the allowed fields, first one at a time."""
    yield "{}"
    for city in (*CITIES, "Nowhere", "$ne", "a.b"):
        yield as_json({"city": city})
    for price in ({"from": 5}, {"to": 20}, {"from": 5, "to": 20}, {"from": 10.5}):
        yield as_json({"price": price})
    for price in ({"from": 0}, {"to": 0}, {"from": 0, "to": 10}, {"from": -1, "to": 0}):
        yield as_json({"price": price})
    for tags in (["new"], ["sale", "new"], ["$gt"], [""], ["new", "new"], ["none"]):
        yield as_json({"tags": tags})
    yield as_json({"tags": rng.sample(TEN_TAGS, 10)})
    for name in (*NAMES, "nobody"):
        yield as_json({"owner": {"name": name}})
    for country in COUNTRIES:
        yield as_json({"owner": {"country": country}})
    for owner in ({"name": "ann", "country": "UA"}, {"country": "DE", "name": "ben"}):
        yield as_json({"owner": owner})
    for _ in range(25):
        yield as_json(drawn_body(rng))
    for bound in (2**63 - 1, -(2**63), 1e308, 2**53 + 1, -0.0):
        yield as_json({"price": {"from": bound}})
        yield as_json({"price": {"to": bound}})
    yield '{"city": "\\ud83d\\ude00"}'  # two halves that are one character


def drawn_body(rng: random.Random) -> Document:
    """Return an honest body of some fields."""
    low = rng.randrange(-2, 20)
    whole: Document = {
        "city": rng.choice(CITIES),
        "price": {"from": low, "to": low + rng.randrange(1, 99)},
        "tags": rng.sample(TAGS, rng.randrange(1, 3)),
        "owner": {"name": rng.choice(NAMES), "country": rng.choice(COUNTRIES)},
    }
    for part in ("price", "owner"):
        if rng.random() < 0.5:
            whole[part].pop(rng.choice(list(whole[part])))
    names = rng.sample(list(whole), rng.randrange(1, 4))
    return {name: whole[name] for name in names}


def operator_bodies() -> Iterator[str]:
    """Yield operators in every place where a value is expected."""
    for operator in OPERATORS:
        yield f'{{"city": {operator}}}'
        yield f'{{"owner": {{"name": {operator}}}}}'
        yield f'{{"owner": {{"name": "ann", "country": {operator}}}}}'
        yield f'{{"tags": {operator}}}'
        yield f'{{"tags": [{operator}]}}'
        yield f'{{"tags": ["new", {operator}]}}'
        yield f'{{"price": {operator}}}'
        yield f'{{"price": {{"from": {operator}}}}}'
        yield f'{{"price": {{"from": 5, "to": {operator}}}}}'
        yield f'{{"owner": {operator}}}'
    yield '{"price": {"from": 5, "$ne": null}}'
    yield '{"price": {"$gte": 5}}'
    yield '{"owner": {"name": "ann", "$ne": null}}'
    yield '{"tags": {"$all": ["new"]}}'
    yield '{"tags": {"0": "new"}}'


def field_bodies() -> Iterator[str]:
    """Yield fields that nobody may ask for."""
    yield '{"status": "draft"}'
    yield '{"status": "published"}'
    yield '{"_id": 5}'
    yield '{"$or": [{"status": "draft"}]}'
    yield '{"$where": "true"}'
    yield '{"city": "Kyiv", "status": {"$ne": null}}'
    yield '{"owner": {"phone": "+380 5"}}'
    yield '{"owner": {"name": "ann", "phone": "+380 5"}}'
    yield '{"owner": {"name": "ann", "name.x": "ann"}}'
    yield '{"owner.phone": "+380 5"}'
    yield '{"owner.name": "ann"}'
    yield '{"price.from": 5}'
    yield '{"tags.0": "new"}'
    yield '{"price": {"min": 5}}'
    yield '{"price": {"from": 5, "step": 1}}'
    yield '{"City": "Kyiv"}'
    yield '{"": "Kyiv"}'
    yield '{"\\ud800": "Kyiv"}'


def typed_bodies() -> Iterator[str]:
    """Yield values of other types, at every depth."""
    for value in NO_TEXTS:
        yield f'{{"city": {value}}}'
        yield f'{{"owner": {{"name": {value}}}}}'
        yield f'{{"owner": {{"country": {value}, "name": "ann"}}}}'
        yield f'{{"tags": ["new", {value}]}}'
        yield f'{{"tags": [{value}]}}'
    for value in NO_NUMBERS:
        yield f'{{"price": {{"from": {value}}}}}'
        yield f'{{"price": {{"from": 5, "to": {value}}}}}'
    for value in ("null", "true", "5", '"5"', '[["from", 5]]', '["from"]', "[5, 20]"):
        yield f'{{"price": {value}}}'
    for value in ("null", "true", "5", '"ann"', '["name"]', '[{"name": "ann"}]'):
        yield f'{{"owner": {value}}}'
    for value in ("null", "true", "5", '"new"', '""', '{"new": 1}'):
        yield f'{{"tags": {value}}}'


def other_bodies() -> Iterator[str]:
    """Yield what is empty, too long, or no object at all."""
    for text in ('{"price": {}}', '{"owner": {}}', '{"tags": []}'):
        yield text
    yield as_json({"tags": [*TEN_TAGS, "new"]})
    yield as_json({"tags": ["new"] * 11})
    for text in ("null", "[]", "true", "5", '"city"', '""', "0", "1.5", "NaN"):
        yield text
    for text in ('["city"]', '[{"city": "Kyiv"}]', '[["city", "Kyiv"]]'):
        yield text


def half_and_huge_bodies() -> Iterator[str]:
    """Yield half characters, and numbers for which BSON has no place."""
    for half in HALF:
        yield f'{{"city": {half}}}'
        yield f'{{"tags": ["new", {half}]}}'
        yield f'{{"owner": {{"name": {half}}}}}'
        yield f'{{"owner": {{"country": {half}, "name": "ann"}}}}'
    for number in NOT_FOR_BSON:
        yield f'{{"price": {{"from": {number}}}}}'
        yield f'{{"price": {{"from": 5, "to": {number}}}}}'


def hidden_bodies(rng: random.Random) -> Iterator[str]:
    """Yield bodies that are honest but for one part."""
    odd = [*operator_bodies(), *typed_bodies(), *half_and_huge_bodies()]
    for text in rng.sample(odd, 40):
        body = json.loads(text)
        whole = drawn_body(rng) | body
        yield json.dumps(whole)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Search honestly, then by bodies that carry something else."""
    market = Market(answer, rng)
    for text in honest_bodies(rng):
        market.find(text, 1)
    for text in operator_bodies():
        market.refuse(text, 1)
    for text in field_bodies():
        market.refuse(text, 2)
    for text in typed_bodies():
        market.refuse(text, 2)
    for text in other_bodies():
        market.refuse(text, 2)
    for text in half_and_huge_bodies():
        market.refuse(text, 3)
    for text in hidden_bodies(rng):
        market.refuse(text, 2)
    stored = list(market.stored.inner.find().sort("_id", 1))
    by_key = sorted(market.listings, key=lambda each: int(each["_id"]))
    expect("the listings afterwards are as before", stored == by_key, True, 3)
