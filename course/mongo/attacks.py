"""What attackers send to lesson 02, and what they get for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pymongo.errors import OperationFailure

from course.mongo.codec import Collection, Document

CALLER = {"username": "bob"}  # who is logged in: the session says so, never the body
# What attackers send instead of {"username": "admin", "token": "..."}.
LOGINS = (
    '{"username": "admin", "token": {"$ne": null}}',
    '{"username": {"$regex": "^a"}, "token": {"$gt": ""}}',
    '{"username": "admin", "$or": [{"role": "admin"}]}',
    '{"username": "admin", "$where": "true"}',
    '{"username": "sso"}',
)
CHANGES = ('[{"$set": {"role": "admin"}}]', '{"$set": {"rights.billing": 1}}')
WON = {"in as admin", "in as sso", "bob is admin", "bob has billing rights"}
NO_SCRIPTS = "no JavaScript here"  # a MongoDB has it unless javascriptEnabled is false
MEMBERS: list[Document] = [
    {"_id": 1, "username": "admin", "token": "nimda", "role": "admin"},
    {"_id": 2, "username": "bob", "token": "bbb", "role": "user"},
    {"_id": 3, "username": "sso"},  # signs in elsewhere, so it has no token
]


def result_of(users: Collection, call: Callable[..., Any], text: str) -> str:
    """Return what a client gets for a JSON text: a login, a change, or a refusal."""
    # Every attempt meets the same members, whatever the one before has changed.
    users.delete_many({})
    users.insert_many(MEMBERS)
    try:
        user = call(users, json.loads(text))
    except ValueError as error:
        return str(error)
    except (NotImplementedError, OperationFailure):
        return NO_SCRIPTS if "$where" in text else "an error"
    if user:
        return f"in as {user['username']}"
    # A change returns nothing: look at what it has made of bob.
    bob = users.find(CALLER)[0]
    if "rights" in bob:
        return f"bob has {'/'.join(bob['rights'])} rights"
    return f"bob is {bob.get('city', bob['role'])}"
