"""Where a run may work: in a database of its own, else under its own prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pymongo
from pymongo.errors import DuplicateKeyError, OperationFailure

from course.errors import BadInput
from course.mongo.codec import Document
from course.mongo.diagnosis import NOT_ALLOWED

PROBE = "probe"
# Commands whose value is the name of a collection; of others, it is left as it is.
OF_A_COLLECTION = {"aggregate", "collMod", "collStats", "count", "distinct", "find"}
# Stages that name another collection, and under which key they may.
OTHERS = {
    "$lookup": "from",
    "$graphLookup": "from",
    "$unionWith": "coll",
    "$merge": "into",
    "$out": "coll",
}


class PrefixedCollection(pymongo.collection.Collection[Document]):
    """A collection whose pipelines name others of the same prefix."""

    def aggregate(self, pipeline: Any, *args: Any, **options: Any) -> Any:
        """Run a pipeline; the collections that it names are ours."""
        db: Any = self.database
        return super().aggregate(db.own_stages(pipeline), *args, **options)


class PrefixedDatabase(pymongo.database.Database[Document]):
    """A database that others use, too: all our collections have a prefix.

    Without it, a name is as in a database of our own; what has another prefix, or none,
    is neither listed nor touched.
    """

    def __init__(self, client: Any, name: str, prefix: str) -> None:
        super().__init__(client, name)
        self.prefix = prefix

    def own(self, name: str) -> str:
        """Return what a collection is called on the server."""
        as_it_is = (self.prefix, "$", "system.")  # PyMongo's own, and the server's
        return name if name.startswith(as_it_is) else self.prefix + name

    def own_stages(self, pipeline: Any) -> list[Document]:
        """Return a pipeline with the names that its collections have on the server."""
        return [self.own_stage(stage) for stage in pipeline]

    def own_stage(self, stage: Mapping[str, Any]) -> Document:
        """Return a stage of a pipeline like that."""
        found = dict(stage)
        for name, given in stage.items():
            if name == "$facet":
                each = {key: self.own_stages(stages) for key, stages in given.items()}
                found[name] = each
            elif name in OTHERS and isinstance(given, str):
                found[name] = self.own(given)
            elif name in OTHERS:
                found[name] = self.own_reference(given, OTHERS[name])
        return found

    def own_reference(self, given: Mapping[str, Any], key: str) -> Document:
        """Return what a stage says of another collection, and of its pipeline."""
        found = dict(given)
        if isinstance(found.get(key), str):
            found[key] = self.own(found[key])
        elif key in found:
            found[key] = self.own_reference(found[key], "coll")
        if "pipeline" in found:
            found["pipeline"] = self.own_stages(found["pipeline"])
        return found

    def __getitem__(self, name: str) -> PrefixedCollection:
        return PrefixedCollection(self, self.own(name))

    def get_collection(self, name: str, *args: Any, **options: Any) -> Any:
        """Return a collection of ours."""
        return PrefixedCollection(self, self.own(name), False, *args, **options)

    def create_collection(self, name: str, *args: Any, **options: Any) -> Any:
        """Create a collection of ours."""
        super().create_collection(self.own(name), *args, **options)
        return self[name]

    def drop_collection(
        self, name_or_collection: Any, *args: Any, **options: Any
    ) -> Any:
        """Drop a collection of ours."""
        name = getattr(name_or_collection, "name", name_or_collection)
        return super().drop_collection(self.own(name), *args, **options)

    def list_collection_names(self, *_: Any, **_options: Any) -> list[str]:
        """Return the names of our collections, without the prefix."""
        return [row["name"] for row in self.list_collections()]

    def list_collections(self, *_: Any, **_options: Any) -> Any:
        """Yield our collections, without the prefix."""
        return self.ours()

    def ours(self) -> Iterator[Document]:
        """Yield what the server says of our collections, and of no others."""
        # Trap: asked with a filter on the name only, a user of few rights is refused.
        for row in super().list_collections(authorizedCollections=True, nameOnly=False):
            if row["name"].startswith(self.prefix):
                yield dict(row) | {"name": row["name"].removeprefix(self.prefix)}

    def command(self, command: Any, value: Any = 1, *args: Any, **options: Any) -> Any:
        """Send a command; what it says of collections is meant of ours."""
        if isinstance(command, str):
            if command in OF_A_COLLECTION:
                value = self.own(value)
            elif command == "explain" and isinstance(value, Mapping):
                value = self.own_command(value)
        elif isinstance(command, Mapping):
            command = self.own_command(command)
        return super().command(command, value, *args, **options)

    def own_command(self, command: Mapping[str, Any]) -> Document:
        """Return a command with the names that its collections have on the server."""
        found = dict(command)
        for name, value in command.items():
            if name in OF_A_COLLECTION:
                found[name] = self.own(value)
            elif name == "pipeline":
                found[name] = self.own_stages(value)
            elif name == "explain":
                found[name] = self.own_command(value)
        return found


def place_of(db: Any) -> str:
    """Return what another process finds a database of ours by."""
    if isinstance(db, PrefixedDatabase):
        return f"{db.name}/{db.prefix}"  # no name holds a slash
    return str(db.name)


def database_at(client: Any, place: str) -> Any:
    """Return the database that `place_of` has told."""
    name, slash, prefix = place.partition("/")
    return PrefixedDatabase(client, name, prefix) if slash else client[name]


@dataclass(frozen=True)
class Workplace:
    """Where a run works, and what its user may not do there."""

    db: pymongo.database.Database[Document]
    may_change_validators: bool = True
    whole: bool = True  # ours, to be dropped as a whole


def workplace(client: Any, run: str, source: str) -> Workplace:
    """Return a database of our own; else, in the URL's, collections of our own prefix.

    Raises BadInput, and has left nothing behind, where the user may not do that either.
    """
    own = client[run]
    if not lacking_right({"dropDatabase": lambda: client.drop_database(run)}):
        lacks = lacking_right(rights_on(own))
        may_change = not lacks and not lacking_right({"collMod": lambda: changed(own)})
        client.drop_database(run)
        if not lacks:
            return Workplace(own, may_change)
    named = client.get_default_database("").name if has_database(client) else ""
    if not named:
        problem = f"the user of {source} may not make a database of our own"
        raise BadInput(f"{problem}: name one in the URL where it has readWrite")
    shared = PrefixedDatabase(client, named, f"{run}_")
    lacks = lacking_right(rights_on(shared))
    may_change = not lacks and not lacking_right({"collMod": lambda: changed(shared)})
    with suppress(OperationFailure):
        shared.drop_collection(PROBE)
    if lacks:
        problem = f"the user of {source} lacks the right {lacks}"
        raise BadInput(
            f"{problem} in the database {named!r}; the role readWrite has it"
        )
    return Workplace(shared, may_change, whole=False)


def has_database(client: Any) -> bool:
    """Tell whether the URL of a client names a database."""
    try:
        client.get_default_database()
    except pymongo.errors.ConfigurationError:
        return False
    return True


def rights_on(db: Any) -> dict[str, Callable[[], object]]:
    """Return what a run does, by the names of the rights; first how it cleans up."""
    one = {"_id": 1}
    return {
        "dropCollection": lambda: db.drop_collection(PROBE),
        "listCollections": lambda: list(db.list_collections()),
        "createCollection": lambda: db.create_collection(PROBE),
        "createIndex": lambda: db[PROBE].create_index("n"),
        "listIndexes": db[PROBE].index_information,
        "insert": lambda: db[PROBE].insert_one(dict(one)),
        "find": lambda: db[PROBE].find_one(one),
        "update": lambda: db[PROBE].update_one(one, {"$set": {"n": 1}}),
        "remove": lambda: db[PROBE].delete_one(one),
        "dropIndex": lambda: db[PROBE].drop_index("n_1"),
    }


def changed(db: Any) -> None:
    """Change a validator, which takes the role dbAdmin; readWrite cannot."""
    db.command("collMod", PROBE, validationLevel="strict")


def lacking_right(tried: Mapping[str, Callable[[], object]]) -> str:
    """Return the first right that a user does not have, "" if it has all."""
    for right, call in tried.items():
        try:
            call()
        except DuplicateKeyError:  # it was sent again, as its first answer was lost
            continue
        except OperationFailure as error:
            if error.code != NOT_ALLOWED:
                raise
            return right
    return ""


def drop_collections(client: Any, place: PrefixedDatabase) -> None:
    """Drop the collections of a run in a database that others use, and no others."""
    shared = PrefixedDatabase(client, place.name, place.prefix)
    for name in shared.list_collection_names():
        shared.drop_collection(name)
