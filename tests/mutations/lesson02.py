"""Changes of lesson 02 that each take the idea away, so that a claim becomes false."""

from __future__ import annotations

from lessons import Mutation

MUTATIONS = (
    Mutation(
        "validators",
        "3 sound events, which int and double refuse, are accepted",
        'WHOLE = typed(["int", "long"], minimum=0)',
        'WHOLE = typed("int", minimum=0)',
    ),
    Mutation(
        "validators",
        "5 bad ones, else accepted, are refused by name",
        'return schema | {"additionalProperties": False}',
        "return schema",
    ),
    Mutation(
        "validators",
        "a second deployment neither changes nor fails",
        'there[name].get("validator") != validator',
        'there[name].get("validator") is not None',
    ),
    Mutation(
        "versions",
        "moments come back in UTC, cut to ms, and UUIDs as such",
        "CodecOptions[Document](tz_aware=True, ",
        "CodecOptions[Document](",
    ),
    Mutation(
        "versions",
        "collMod lets version 2 in beside version 1",
        'self.db.command("collMod", name, validator=validator)',
        'self.db.create_collection(f"{name}2", validator=validator)',
    ),
    Mutation(
        "versions",
        "both versions are found alike, before and after the upgrade",
        '[{"profile.interests": wanted}, {"interests": wanted}]',
        '[{"profile.interests": wanted}]',
    ),
    Mutation(
        "versions",
        "the upgrade is complete, and repeated does nothing",
        'while page := list(users.find({"schema_version": 1}).limit(batch)):',
        'if page := list(users.find({"schema_version": 1}).limit(batch)):',
    ),
    Mutation(
        "bulk",
        "500 documents take 1 command instead of 500",
        'env.counted(lambda: env.db["at_once"].insert_many(notes))',
        'env.counted(lambda: [env.db["at_once"].insert_one(note) for note in notes])',
    ),
    Mutation(
        "bulk",
        "unordered stores the 8 that it can, ordered stops after 2",
        "collection.insert_many(rows, ordered=ordered)",
        "collection.insert_many(rows, ordered=True)",
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
        "self.users.insert_many(users, ordered=False)",
        "self.users.insert_many(users, ordered=True)",
    ),
    Mutation(
        "bulk",
        "upserting brings it in, then 0; inserting nothing",
        '{"$set": u}, upsert=True)',
        '{"$setOnInsert": u}, upsert=True)',
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
        "activity equals the reference; days are no events",
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
        "$lookup answers in 1 command, the loop in 101",
        "names.append(tracker.latest_with_names(100))",
        "names.append(latest_with_names_naive(env.db, 100))",
    ),
    Mutation(
        "summaries",
        "$merge run twice equals the reference; $inc doubles",
        '{"_id": DAY, "events": {"$sum": 1}',
        '{"_id": "$timestamp", "events": {"$sum": 1}',
    ),
    Mutation(
        "summaries",
        "a late event is in once its day is run again",
        "processor.summarize_days(START, START + timedelta(days=1))",
        "processor.summarize_days(END, END + timedelta(days=1))",
    ),
    Mutation(
        "summaries",
        "cohorts by UTC equal the reference; Kyiv's would move 10",
        '{"date": "$created_at", "format": "%Y-%m"}',
        '{"date": {"$add": ["$created_at", 10_800_000]}, "format": "%Y-%m"}',
    ),
    Mutation(
        "geo",
        "metres equal haversine's with R = 6378.1 km to 0.1",
        "across = math.cos(lat) * math.cos(lat0) * math",
        "across = math",
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
        "22 <= longitude <= 41 and 44 <= latitude <= 53",
        "-180 <= longitude <= 180 and -90 <= latitude <= 90",
    ),
    Mutation(
        "export",
        "resumed, each of 2,000 is there once; restarted, 1,000 twice",
        "query = {} if (last := last_id(file)) is None else",
        "query = {} if (last := last_id(file)) is not None else",
    ),
    Mutation(
        "export",
        "pages take less than half the memory of a list",
        "page: int = PAGE",
        "page: int = 1_000_000",
    ),
    Mutation(
        "export",
        "RawBSONDocument decodes at least 5 times faster than dict",
        "RAW = CodecOptions(document_class=RawBSONDocument)",
        "RAW = CodecOptions(document_class=dict)",
    ),
    Mutation(
        "injection",
        "operators and pipelines win where naive, not where defended",
        "if not all(isinstance(value, str | int | float | bool)",
        "if not all(isinstance(value, str | int | float | bool | dict)",
    ),
    Mutation(
        "injection",
        "honest logins and searches work; .* lists nobody",
        "re.escape(text[:50])",
        "text[:50]",
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
        "reliability",
        "timeoutMS ends a wait that the defaults go on with",
        "connect(url, env.commands, timeoutMS=200) as ours",
        "connect(url, env.commands) as ours",
    ),
    Mutation(
        "summaries",
        "$setWindowFields' running totals equal itertools.accumulate",
        '"window": {"documents": ["unbounded", "current"]}',
        '"window": {"documents": ["current", "current"]}',
        live=True,
    ),
    Mutation(
        "geo",
        "$geoWithin equals brute force; degrees do not",
        '{"$geoWithin": {"$centerSphere": circle}}',
        '{"$geoWithin": {"$center": [circle[0], max_km / 111]}}',
        live=True,
    ),
    Mutation(
        "plans",
        "with the index only what is returned is read, else all 1,000",
        'IndexModel([("user_id", 1), ("timestamp", -1)], name="timeline")',
        'IndexModel([("timestamp", -1), ("user_id", 1)], name="timeline")',
        live=True,
    ),
    Mutation(
        "concurrency",
        "transactions keep the sum; without, a crash loses a euro",
        "move(db, giver, taker, crash, s)",
        "move(db, giver, taker, crash)",
        live=True,
    ),
    Mutation(
        "concurrency",
        "write skew leaves nobody on call, a shared write leaves one",
        '{"_id": "rota"}, {"$inc"',
        '{"_id": name}, {"$inc"',
        live=True,
    ),
    Mutation(
        "reliability",
        "a stream resumed from its token goes on with 2, a new one with 4",
        "feed.watch(resume_after=token) as stream",
        "feed.watch() as stream",
        live=True,
    ),
    Mutation(
        "reliability",
        "with retryWrites it is sent twice and stored once",
        "appname=app, retryWrites=retry",
        "appname=app, retryWrites=False",
        live=True,
    ),
)
