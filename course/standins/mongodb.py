"""A stand-in for MongoDB: mongomock, with what lesson 02 needs and it lacks.

It adds validators, fast unique keys, bulk writes, raw batches, $geoNear, $merge, locks,
and a count of the commands that would go to a server. It overrides private methods of
mongomock because inserts and updates of all kinds come together there. An option that
it does not know raises NotImplementedError: no answer is invented.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import bson
import pymongo.errors
from bson.codec_options import CodecOptions
from pymongo import IndexModel, InsertOne
from pymongo.results import BulkWriteResult

from course.standins.bson_schema import breaches
from course.standins.mongo_pipeline import BsonRow, Mocked, geo_near, merge, run_stages

DUPLICATE = 11000  # the codes of a server's complaints
INVALID = 121
OTHER_NAME = 85
OTHER_RULES = 86
# What mongomock keeps of an index; it would forget hidden, collation, weights.
KEPT_RULES = {"name", "unique", "sparse", "expireAfterSeconds"}
KEPT_RULES |= {"partialFilterExpression", "background"}
AS_STORED = CodecOptions[BsonRow](
    uuid_representation=bson.binary.STANDARD,  # mongomock stores naive moments
)
AS_ANSWERED = CodecOptions[BsonRow](
    tz_aware=True, uuid_representation=bson.binary.STANDARD
)


ASCENDING = [("_id", 1)]
DESCENDING = [("_id", -1)]
PAGE_SORTS = (ASCENDING, DESCENDING)


class Commands(Protocol):
    """What counts the commands."""

    sent: int


def sends(method: Any) -> Any:
    """Count each call of a method as a command that goes to a server."""

    @functools.wraps(method)
    def call(self: StandInCollection, *args: Any, **options: Any) -> Any:
        self.database.commands.sent += 1
        return method(self, *args, **options)

    return call


def duplicate_key(fields: Iterable[str]) -> pymongo.errors.DuplicateKeyError:
    """Return a server's complaint about a key that is taken."""
    details = {"keyPattern": dict.fromkeys(fields, 1)}
    return pymongo.errors.DuplicateKeyError("duplicate key", DUPLICATE, details)


def place_by_id(row: BsonRow) -> Any:
    """Return what sorts documents by _id; a server sorts mixed types, too."""
    return Mocked.filtering.BsonComparable(row["_id"])


def as_bson(rows: Iterable[BsonRow]) -> bytes:
    """Return documents as BSON, end to end."""
    return b"".join(bson.encode(row, codec_options=AS_STORED) for row in rows)


def same_rules(there: BsonRow, wanted: BsonRow) -> bool:
    """Tell whether a server takes two indexes of the same fields for one."""
    rules = ("unique", "sparse", "collation", "partialFilterExpression")
    return all(there.get(rule) == wanted.get(rule) for rule in rules)


def keys_of(index: BsonRow, document: BsonRow) -> list[Any]:
    """Return what a document is found by in an index."""
    values = [document.get(field) for field, _ in index["key"]]
    if "collation" in index:
        if index["collation"] != {"locale": "en", "strength": 2}:
            raise NotImplementedError(f"this is not emulated: {index['collation']}")
        return list(map(without_case, values))
    return values


def without_case(value: Any) -> Any:
    """Return a value as a collation of strength 2 compares it."""
    return value.casefold() if isinstance(value, str) else value


def is_behind(key: Any, bound: BsonRow) -> bool:
    """Tell whether an _id keeps {"$gt": ...} or {"$gte": ...}."""
    ((name, last),) = bound.items()
    if name not in ("$gt", "$gte"):
        raise NotImplementedError("pages are by _id")
    as_sorted = Mocked.filtering.BsonComparable  # by which place_by_id sorts
    is_equal = name == "$gte" and key == last
    return bool(is_equal or as_sorted(last) < as_sorted(key))


class StandInCollection(Mocked.Collection):  # type: ignore[misc]
    """A mongomock collection with validators and what else the lesson needs."""

    find = sends(Mocked.Collection.find)
    insert_one = sends(Mocked.Collection.insert_one)
    update_one = sends(Mocked.Collection.update_one)

    def _insert(self, document: BsonRow, *_: Any, **_options: Any) -> Any:
        """Store a copy as BSON carries it; a server, too, does one at a time."""
        if "_id" not in document:
            document["_id"] = bson.ObjectId()
        key = document["_id"]
        stored = bson.encode(document, codec_options=AS_STORED)
        copy = bson.decode(stored, AS_STORED)
        with self.database.lock:
            self._ensure_uniques(copy, pymongo.errors.WriteError)
            if key in self._store._documents:
                raise duplicate_key(["_id"])
            self._store[key] = copy
        return key

    def _update(self, *args: Any, **options: Any) -> Any:
        with self.database.lock:
            try:
                return super()._update(*args, **options)
            except pymongo.errors.DuplicateKeyError as error:
                # mongomock undoes the update for this kind of error only, so that the
                # validator, too, complains by it (see below).
                kind: Any = pymongo.errors.DuplicateKeyError
                if error.code == INVALID:
                    kind = pymongo.errors.WriteError
                raise kind(str(error), error.code, error.details) from None

    def _ensure_uniques(
        self,
        document: BsonRow,
        invalid: Any = pymongo.errors.DuplicateKeyError,
    ) -> None:
        """Refuse what a validator or a unique index forbids."""
        wrong = list(breaches(self.database.schema_of(self.name), document))
        if wrong:
            details = {"errInfo": {"details": {"missingProperties": wrong}}}
            raise invalid("failed validation", INVALID, details)
        for name, index in self._store.indexes.items():
            if index.get("unique"):
                self._own_key(name, index, document)

    def _own_key(self, name: str, index: BsonRow, document: BsonRow) -> None:
        """Note who owns a unique key, where mongomock would read the collection."""
        fields = [field for field, _ in index["key"]]
        values = keys_of(index, document)
        owners = self.database.owners[self.name, name]
        owner = owners.get(repr(values), document["_id"])
        # The owner may have changed, or be gone, since.
        held = self._store._documents.get(owner, {})
        still_held = values == keys_of(index, held)
        if owner != document["_id"] and still_held:
            raise duplicate_key(fields)
        owners[repr(values)] = document["_id"]

    def create_indexes(self, indexes: Sequence[IndexModel]) -> list[str]:
        """Create indexes one by one: together, mongomock forgets a partial's filter."""
        for index in indexes:
            rules = dict(index.document)
            fields = list(rules.pop("key").items())
            self.create_index(fields, **rules)
        self._store._ttl_indexes.clear()  # it would go through all at every access
        return [index.document["name"] for index in indexes]

    def create_index(self, keys: Any, **rules: Any) -> Any:
        """Create an index; as on a server, not a second one that is the same."""
        more = {}
        for rule in rules.keys() - KEPT_RULES:
            if given := rules.pop(rule):
                more[rule] = getattr(given, "document", given)
        fields = [(keys, 1)] if isinstance(keys, str) else list(keys)
        wanted = {rule: value for rule, value in rules.items() if value is not False}
        wanted |= {"key": fields} | more
        name = wanted.pop("name", None)
        for other, there in self._store.indexes.items():
            if other == name:
                if there == wanted:
                    return name
                raise pymongo.errors.OperationFailure("it has other rules", OTHER_RULES)
            if name and fields == list(there["key"]) and same_rules(there, wanted):
                problem = f"Index already exists with a different name: {other}"
                raise pymongo.errors.OperationFailure(problem, OTHER_NAME)
        name = super().create_index(keys, **rules)
        self._store.indexes[name] |= more
        return name

    def insert_many(self, documents: Iterable[BsonRow], ordered: bool = True) -> Any:
        """Insert as one command, with the complaints that bulk_write collects."""
        requests = [InsertOne(document) for document in documents]
        for request in requests:  # PyMongo, too, encodes all before it sends any
            bson.encode(request._doc, codec_options=AS_ANSWERED)
        return self.bulk_write(requests, ordered)

    @sends
    def bulk_write(self, requests: Sequence[Any], ordered: bool = True) -> Any:
        """Do inserts and updates one by one; mongomock's own fails (its issue 912)."""
        done = Counter[str](nInserted=0, nModified=0, nUpserted=0)
        errors = []
        for number, request in enumerate(requests):
            try:
                self._write(request, done)
            except pymongo.errors.WriteError as error:
                details = dict(error.details or {})
                errors.append(details | {"index": number, "code": error.code})
                if ordered:
                    break
        if errors:
            raise pymongo.errors.BulkWriteError(done | {"writeErrors": errors})
        return BulkWriteResult(dict(done), True)

    def _write(self, request: Any, done: Counter[str]) -> None:
        """Do one write of many and count what it did."""
        if isinstance(request, InsertOne):
            self._insert(request._doc)
            done["nInserted"] += 1
        else:
            result = self._update(request._filter, request._doc, request._upsert)
            done["nModified"] += result["nModified"]
            done["nUpserted"] += result["upserted"] is not None

    def find_raw_batches(
        self, query: BsonRow, sort: list[tuple[str, int]], limit: int
    ) -> Iterator[bytes]:
        """Return a page by _id as the bytes that a server would send."""
        if sort not in PAGE_SORTS or query.keys() - {"_id"}:
            raise NotImplementedError("pages are by _id")
        query = Mocked.helpers.patch_datetime_awareness_in_document(query)
        rows = list(self._store.documents)
        if query:
            rows = [row for row in rows if is_behind(row["_id"], query["_id"])]
        rows.sort(key=place_by_id, reverse=sort == DESCENDING)
        yield as_bson(rows[:limit])

    @sends
    def aggregate(self, pipeline: Sequence[Any]) -> Iterator[BsonRow]:
        """Run a pipeline; a first stage $geoNear and a last one $merge are ours."""
        stages = list(pipeline)
        sent = self.database.commands.sent
        # Matched here, as mongomock would first convert all moments of all documents.
        query: BsonRow = {}
        if "$match" in stages[0]:
            query = stages.pop(0)["$match"]
        rows = self._copies(query)
        if "$geoNear" in stages[0]:
            rows = geo_near(rows, stages.pop(0)["$geoNear"])
        merges = bool(stages) and "$merge" in stages[-1]
        into = stages.pop()["$merge"] if merges else {}
        rows = run_stages(rows, self.database, stages)
        if merges:
            merge(rows, self.database, into)
        self.database.commands.sent = sent  # $lookup and $merge have sent none
        return iter([] if merges else rows)

    def _copies(self, query: BsonRow) -> list[BsonRow]:
        """Return what a query finds, as copies: a pipeline changes its documents."""
        query = Mocked.helpers.patch_datetime_awareness_in_document(query)
        found = self._store.documents
        if query:
            found = self._iter_documents(query)
        return bson.decode_all(as_bson(found), AS_ANSWERED)


class StandInDatabase(Mocked.Database):  # type: ignore[misc]
    """A mongomock database of such collections."""

    def __init__(self, commands: Commands) -> None:
        client = Mocked.MongoClient(tz_aware=True)
        super().__init__(client, "module8", None, codec_options=client.codec_options)
        self.commands = commands
        self.lock = threading.RLock()
        self.owners: dict[Any, dict[Any, Any]] = defaultdict(dict)  # by index and key
        self.rules: dict[str, BsonRow] = defaultdict(dict)  # as create takes them

    def get_collection(self, name: str, **_options: Any) -> Any:
        """Return the collection, the same each time."""
        if name not in self._collection_accesses:
            self._collection_accesses[name] = StandInCollection(
                self, name, _db_store=self._store, codec_options=self.codec_options
            )
        return self._collection_accesses[name]

    def create_collection(self, name: str, **rules: Any) -> Any:
        """Create a collection with its validator."""
        collection = super().create_collection(name)
        self.rules[name] = rules
        return collection

    def command(self, _collmod: str, name: str, **rules: Any) -> None:
        """Do collMod, the only command that the lesson sends by its name."""
        self.rules[name] = self.rules[name] | rules

    def schema_of(self, name: str) -> BsonRow:
        """Return the schema that a collection's documents must keep now."""
        rules = self.rules[name]
        if rules.get("validationLevel", "strict") not in ("strict", "off"):
            raise NotImplementedError(f"this is not emulated: {rules}")
        if "off" in rules.values() or rules.get("validationAction") == "warn":
            return {}
        return dict(rules.get("validator", {}).get("$jsonSchema", {}))

    def list_collections(self) -> list[BsonRow]:
        """Return the collections and their validators, as a server does."""
        found = []
        for name in self.list_collection_names():
            options = dict(self.rules[name])
            found.append({"name": name, "type": "collection", "options": options})
        return found

    def drop_collection(self, name: str) -> None:
        """Forget a collection, its validator and all unique keys."""
        super().drop_collection(name)
        self.owners.clear()
        self.rules.pop(name, None)
