"""What a database has of the collections that a deployment wants, and what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pymongo
from pymongo import IndexModel
from pymongo.errors import CollectionInvalid, OperationFailure, PyMongoError

from course.mongo.codec import Collection, Database, Document

NAMESPACE_EXISTS = 48
# What a server takes where nothing is said; both can be switched off.
USUAL_RULES: Document = {"validationLevel": "strict", "validationAction": "error"}
COLLATION: Document = {
    "caseLevel": False,
    "caseFirst": "off",
    "strength": 3,
    "numericOrdering": False,
    "alternate": "non-ignorable",
    "maxVariable": "punct",
    "normalization": False,
    "backwards": False,
}
# Options with which documents go by themselves, or compare by other rules; no collMod
# takes them from a collection.
OF_ANOTHER_KIND = ("capped", "timeseries", "expireAfterSeconds", "collation")
# What index_information() says that is no part of a definition.
NO_RULES = ("v", "ns", "name", "key", "background", "2dsphereIndexVersion")


class DeploymentDiffers(OperationFailure):
    """Raised where something is there under a name of ours, and is another."""


@dataclass
class Plan:
    """What a collection lacks, and what it has that is not as wanted."""

    name: str
    rules: Document  # as create and collMod take them
    is_missing: bool = False
    other_rules: list[str] = field(default_factory=list)
    other_indexes: list[str] = field(default_factory=list)
    indexes: list[IndexModel] = field(default_factory=list)  # to be created
    differences: list[str] = field(default_factory=list)


def planned(
    db: Database, name: str, schema: Document, indexes: Sequence[IndexModel]
) -> Plan:
    """Return what there is to do for a collection; nothing is changed yet."""
    plan = Plan(name, {"validator": {"$jsonSchema": schema}} | USUAL_RULES)
    there = {row["name"]: row for row in db.list_collections()}
    if name not in there:
        plan.is_missing = True
        plan.indexes = list(indexes)
        return plan
    kind = there[name].get("type", "collection")
    if kind != "collection":
        raise DeploymentDiffers(f"{name} is a {kind}")
    options = USUAL_RULES | there[name]["options"]
    for option in OF_ANOTHER_KIND:
        if options.get(option, False) is not False:
            problem = f"{name} was made with {option}, which cannot be changed"
            raise DeploymentDiffers(problem)
    for rule, wanted in plan.rules.items():
        if options.get(rule) != wanted:
            plan.other_rules.append(rule)
            found = "another" if isinstance(wanted, dict) else repr(options[rule])
            plan.differences.append(f"{name}: the {rule} is {found}")
    found_indexes = db[name].index_information()
    for index in indexes:
        plan_index(plan, found_indexes, index)
    return plan


def plan_index(plan: Plan, there: Mapping[str, Any], index: IndexModel) -> None:
    """Note whether an index is there, under whatever name, missing, or another one."""
    wanted = index.document
    others = []
    for name, found in there.items():
        if name != wanted["name"] and not is_rival(found, wanted):
            continue
        differing = differing_rules(found, wanted)
        if not differing:
            return  # PyMongo's default name, such as username_1, is as good as ours
        others.append(name)
        named = ", ".join(differing)
        plan.differences.append(f"{plan.name}: the index {name} differs in {named}")
    plan.other_indexes += others
    plan.indexes.append(index)


def is_rival(found: Any, wanted: Any) -> bool:
    """Tell whether a server would not take one index beside the other (code 85)."""
    differing = differing_rules(found, wanted)
    return not {"key", "collation", "partialFilterExpression"} & set(differing)


def differing_rules(found: Any, wanted: Any) -> list[str]:
    """Return in what two definitions of an index differ.

    A name is not enough: an index "email" may be there and not be unique, or hidden,
    so that no query uses it, or sparse, or compare by the rules of a language.
    """
    differing = []
    if list(dict(found["key"]).items()) != list(dict(wanted["key"]).items()):
        differing.append("key")
    rules = (found.keys() | wanted.keys()) - set(NO_RULES)
    for rule in sorted(rules):
        if not is_same(found.get(rule), wanted.get(rule)):
            differing.append(rule)
    return differing


def is_same(found: Any, wanted: Any) -> bool:
    """Tell whether a rule is as wanted; what is switched off is as good as absent."""
    both = isinstance(found, Mapping) and isinstance(wanted, Mapping)
    if both and "locale" in found:  # a server adds what a collation does not say
        return as_collation(found) == as_collation(wanted)
    return bool(switched_on(found) == switched_on(wanted))


def switched_on(rule: Any) -> Any:
    """Return a rule, None for False; 0, as in expireAfterSeconds, is one."""
    return None if rule is False else rule


def as_collation(given: Mapping[str, Any]) -> Document:
    """Return a collation with all that it leaves to the server."""
    known = {name: value for name, value in given.items() if name != "version"}
    return COLLATION | known


def refuse_differences(plans: Iterable[Plan]) -> None:
    """Raise DeploymentDiffers for all that is there and is not as wanted."""
    found = [each for plan in plans for each in plan.differences]
    if found:
        raise DeploymentDiffers(f"{'; '.join(found)}; mend=True makes it ours")


def created(db: Database, name: str, rules: Document) -> list[str]:
    """Create a collection; return what was done, [] if it is there by now.

    Two deployments that start together both find it missing; one of them is second.
    """
    try:
        db.create_collection(name, **rules)
    except CollectionInvalid:  # PyMongo looks once more, and raises this
        return []
    except OperationFailure as error:  # the other one came after that look
        if error.code != NAMESPACE_EXISTS:
            raise
        return []
    return [f"created {name}"]


def created_indexes(collection: Collection, indexes: Sequence[IndexModel]) -> list[str]:
    """Create the indexes that are not there by now; return their names."""
    there = collection.index_information().values()
    missing = []
    for index in indexes:
        wanted = index.document
        if all(differing_rules(found, wanted) for found in there):
            missing.append(index)
    if not missing:  # PyMongo refuses an empty list
        return []
    return collection.create_indexes(missing)


def replaced_indexes(collection: Collection, plan: Plan) -> list[str]:
    """Drop the indexes that differ, and create those that are missing.

    Where one cannot be built, such as a unique one over two equal values, those that
    were dropped are built again, and the error is raised.
    """
    dropped = []
    for name, definition in collection.index_information().items():
        if name in plan.other_indexes:
            dropped.append(as_it_was(name, definition))
            collection.drop_index(name)
    try:
        return created_indexes(collection, plan.indexes)
    except PyMongoError:
        wanted = {index.document["name"] for index in plan.indexes}
        for name in wanted & collection.index_information().keys():
            collection.drop_index(name)
        if dropped:
            collection.create_indexes(dropped)
        raise


def as_it_was(name: str, definition: Mapping[str, Any]) -> IndexModel:
    """Return an index to create from what a server says of one."""
    rules = {rule: definition[rule] for rule in definition.keys() - set(NO_RULES)}
    keys = list(dict(definition["key"]).items())
    if "weights" in rules:  # a text index; the server names its keys _fts and _ftsx
        keys = [(field, pymongo.TEXT) for field in rules["weights"]]
    return IndexModel(keys, name=name, **rules)
