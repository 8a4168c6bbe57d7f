"""Changes of lesson 02 that each take the idea away, so that a claim becomes false."""

from __future__ import annotations

from lessons import Mutation

MUTATIONS = (
    Mutation(
        "validators",
        "4 sound events are accepted, of which int and double refuse 3",
        'WHOLE = typed("int", "long", minimum=0)',
        'WHOLE = typed("int", minimum=0)',
    ),
    Mutation(
        "validators",
        "6 bad ones, else accepted, are refused by name",
        'return schema | {"additionalProperties": False}',
        "return schema",
        file="course/mongo/schema.py",
    ),
    Mutation(
        "validators",
        "a second deployment neither changes nor fails",
        'there[name].get("validator") != validator',
        'there[name].get("validator") is not None',
    ),
    Mutation(
        "versions",
        "collMod lets version 2 in beside version 1",
        'self.db.command("collMod", name, validator=validator)',
        'self.db.create_collection(f"{name}2", validator=validator)',
    ),
    Mutation(
        "versions",
        "both versions are read alike, before and after the upgrade",
        '[{"profile.interests": wanted}, {"interests": wanted}]',
        '[{"profile.interests": wanted}]',
    ),
    Mutation(
        "versions",
        "both versions are read alike, before and after the upgrade",
        'profile = {"interests": current.pop("interests", [])}',
        'profile = {"interests": []}',
    ),
    Mutation(
        "versions",
        "the upgrade is complete, and repeated does nothing",
        "while page := list(users.find(old_ones).limit(batch)):",
        "if page := list(users.find(old_ones).limit(batch)):",
    ),
    Mutation(
        "bulk",
        "500 documents take 1 command instead of 500",
        "env.counted(lambda: together.insert_many(notes))",
        "env.counted(lambda: insert_singly(together, notes))",
    ),
    Mutation(
        "bulk",
        "10,000 users are 1 command, and 0 new when it is repeated",
        "for start in range(0, len(users), batch):",
        "for start in range(0, len(users), BATCH):",
    ),
    Mutation(
        "bulk",
        "4 of 7 are in, 3 named; insert_many stores none",
        "refused = self._insert([users[index] for index in sent])",
        "refused = self._insert([])",
    ),
    Mutation(
        "bulk",
        "upserting brings it in, then 0; inserting nothing",
        '{"$set": user}, upsert=True',
        '{"$setOnInsert": user}, upsert=True',
    ),
    Mutation(
        "pipelines",
        "the distribution equals the reference; closed spans count double",
        '{"$match": {"timestamp": {"$gte": start, "$lt": end}}},\n'
        '            {"$group": {"_id": "$event_type"',
        '{"$match": {"timestamp": {"$gte": start, "$lte": end}}},\n'
        '            {"$group": {"_id": "$event_type"',
    ),
    Mutation(
        "pipelines",
        "activity equals the reference; days are not events",
        '"days": {"$addToSet": DAY}',
        '"days": {"$push": DAY}',
    ),
    Mutation(
        "pipelines",
        "purchases equal the reference; unwound, they double",
        '{"$match": {"event_type": "purchase"}},\n            {"$facet"',
        '{"$match": {}},\n            {"$facet"',
    ),
    Mutation(
        "pipelines",
        "purchases equal the reference; unwound, they double",
        '"mean": {"$avg": "$metadata.price"}',
        '"mean": {"$max": "$metadata.price"}',
    ),
    Mutation(
        "pipelines",
        "$lookup answers in 1 command, the loop in 101",
        "env.counted(lambda: ours(100))",
        "env.counted(lambda: latest_with_names_naive(env.db, 100))",
    ),
    Mutation(
        "summaries",
        "$merge run twice equals the reference; $inc doubles",
        '{"$group": {"_id": DAY} | totals}',
        '{"$group": {"_id": "$timestamp"} | totals}',
    ),
    Mutation(
        "summaries",
        "$merge run twice equals the reference; $inc doubles",
        'totals = {"events": {"$sum": 1}, "revenue": {"$sum": "$metadata.price"}}',
        'totals = {"events": {"$sum": 1}, "revenue": {"$max": "$metadata.price"}}',
    ),
    Mutation(
        "summaries",
        "cohorts by UTC equal the reference; Kyiv's would move 10",
        '{"date": "$created_at", "format": "%Y-%m"}',
        '{"date": "$created_at", "format": "%Y-%m", "timezone": "+03:00"}',
        live=True,
    ),
    Mutation(
        "geo",
        "metres equal haversine's with R = 6378.1 km to 0.1",
        "shrunk_by * across",
        "across",
        file="course/mongo/reference.py",
    ),
    Mutation(
        "geo",
        "$geoNear equals brute force; degrees miss some",
        '"maxDistance": max_km * 1_000',
        '"maxDistance": max_km * 900',
    ),
    Mutation(
        "geo",
        "point() refuses swapped coordinates",
        "is_longitude = 22 <= longitude <= 41\n    is_latitude = 44 <= latitude <= 53",
        "is_longitude = abs(longitude) <= 180\n    is_latitude = abs(latitude) <= 90",
    ),
    Mutation(
        "export",
        "resumed, each of 2,000 is there once; restarted, 1,000 twice",
        'return {"_id": {"$gt": last}}',
        "return {}",
        file="course/mongo/pages.py",
    ),
    Mutation(
        "injection",
        "operators and pipelines win where naive, not where defended",
        "isinstance(given.get(name), str)",
        "isinstance(given.get(name), str | None)",
    ),
    Mutation(
        "injection",
        "honest logins, changes and searches work; .* lists nobody",
        "re.escape(text[:50])",
        "text[:50]",
    ),
    Mutation(
        "injection",
        "behind that wall, $eq compares the operator and finds nobody",
        '{key: {"$eq": value} for key, value in given.items()}',
        "dict(given)",
    ),
    Mutation(
        "concurrency",
        "a version in the filter loses none of 16 seats",
        'unchanged = {"_id": seen["_id"], "version": seen["version"]}',
        'unchanged = {"_id": seen["_id"]}',
    ),
    Mutation(
        "concurrency",
        "16 upserts leave 1 page with 16 visits",
        'change = {"$inc": {"visits": 1}}',
        'change = {"$set": {"visits": 1}}',
    ),
    Mutation(
        "concurrency",
        "16 clicks subscribe once",
        ', "subscriptions.plan": {"$ne": plan}}',
        "}",
    ),
    Mutation(
        "concurrency",
        "timeoutMS ends a wait that the defaults go on with",
        "connect(url, counter, timeoutMS=200) as hasty",
        "connect(url, counter) as hasty",
    ),
    Mutation(
        "concurrency",
        "all our waits end, two of PyMongo's do not",
        '"timeoutMS": 30_000,',
        '"timeoutMS": None,',
        file="course/mongo/connection.py",
    ),
    Mutation(
        "pipelines",
        "with the index only what is returned is read, else all",
        'IndexModel([("user_id", 1), ("timestamp", -1)], name="timeline")',
        'IndexModel([("timestamp", -1), ("user_id", 1)], name="timeline")',
        live=True,
    ),
    Mutation(
        "concurrency",
        "transactions keep the sum; without, each crash loses a euro",
        "move(db, giver, taker, crash, own)",
        "move(db, giver, taker, crash)",
        live=True,
    ),
    Mutation(
        "geo",
        "$geoWithin equals brute force; degrees do not",
        '{"$geoWithin": {"$centerSphere": circle}}',
        '{"$geoWithin": {"$center": [circle[0], max_km / 111]}}',
        live=True,
    ),
)
