"""Changes of an event that lesson 02 tries on its validators."""

from __future__ import annotations

import bson

from course.mongo.codec import Document
from course.mongo.schema import typed

# Each makes another sound event of a sound one.
SOUND_CHANGES: dict[str, Document] = {
    "user_id 2**31 (sent as int64)": {"user_id": 2**31},
    "price 5 (sent as int32)": {"metadata": {"price": 5}},
    "price Decimal128": {"metadata": {"price": bson.Decimal128("5.2")}},
    "price 1.0": {"metadata": {"price": 1.0}},
}
# And each of these a bad one.
BAD_CHANGES: dict[str, Document] = {
    "user_id 1.0": {"user_id": 1.0},
    "user_id True": {"user_id": True},
    "price '5'": {"metadata": {"price": "5"}},
    "price True": {"metadata": {"price": True}},
    "geo without type": {"geo": {"coordinates": [30.5, 50.4]}},
    "is_admin, not in the schema": {"is_admin": True},
}
# The types that the values have in Python: int and float.
PRICE = typed("object", properties={"price": typed("double")})
NAIVE_SCHEMA = typed("object", properties={"user_id": typed("int"), "metadata": PRICE})
