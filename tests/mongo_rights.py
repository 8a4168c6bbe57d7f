"""A user of few rights, where the server enforces none.

SecantusDB checks who logs in, and not what a user may do. This stands between it and a
client, and refuses commands with code 13, as MongoDB does for a user with some rights
on one database. That a MongoDB refuses the same ones is from its manual, not from here.
"""

from __future__ import annotations

import asyncio
import struct
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from typing import Any

import bson

from course.network import LoopbackServer

OP_MSG = 2013
HEADER = struct.Struct("<iiii")
# What a server needs no right for, once a user has logged in.
FREE = {"hello", "isMaster", "ismaster", "ping", "buildInfo", "buildinfo"}
FREE |= {"saslStart", "saslContinue", "endSessions", "connectionStatus", "killCursors"}
FREE |= {"commitTransaction", "abortTransaction", "currentOp", "getMore"}
RIGHTS = {
    "create": "createCollection",
    "drop": "dropCollection",
    "createIndexes": "createIndex",
    "dropIndexes": "dropIndex",
    "listIndexes": "listIndexes",
    "listCollections": "listCollections",
    "insert": "insert",
    "update": "update",
    "findAndModify": "update",
    "delete": "remove",
    "find": "find",
    "aggregate": "find",
    "count": "find",
    "distinct": "find",
    "explain": "find",
    "collMod": "collMod",
}
READ_WRITE = set(RIGHTS.values()) - {"collMod"}  # the role, by the manual


class FewRights(LoopbackServer):
    """Passes on what a user may do in one database, and refuses all else."""

    def __init__(self, port: int, database: str, rights: set[str]) -> None:
        self.target = ("127.0.0.1", port)
        self.database = database
        self.rights = rights
        self.refused: list[tuple[str, str]] = []  # commands and their databases
        self.passed: set[str] = set()

    def refuses(self, command: dict[str, Any]) -> bool:
        """Tell whether a command is not allowed."""
        name, database = next(iter(command)), command["$db"]
        if name in FREE:
            return False
        if database == self.database and RIGHTS.get(name) in self.rights:
            self.passed.add(name)
            return False
        self.refused.append((name, database))
        return True

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Pass on commands and answers of one client."""
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        down = asyncio.ensure_future(self._answers(far_reader, writer))
        try:
            while True:
                data = await message(reader)
                _, number, _, kind = HEADER.unpack(data[: HEADER.size])
                if kind == OP_MSG:
                    size = int.from_bytes(data[21:25], "little")
                    command = bson.decode(data[21 : 21 + size])
                    if self.refuses(command):
                        writer.write(unauthorized(number, command))
                        continue
                far_writer.write(data)
        except asyncio.IncompleteReadError:
            pass  # the client has gone
        finally:
            down.cancel()
            with suppress(asyncio.CancelledError):
                await down
            far_writer.transport.abort()

    async def _answers(self, reader: StreamReader, writer: StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()


async def message(reader: StreamReader) -> bytes:
    """Return a whole message."""
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length, "little") - 4)


def unauthorized(number: int, command: dict[str, Any]) -> bytes:
    """Return the answer to a command that is not allowed."""
    name = next(iter(command))
    told = f"not authorized on {command['$db']} to execute command {name}"
    answer = {"ok": 0.0, "errmsg": told, "code": 13, "codeName": "Unauthorized"}
    body = struct.pack("<IB", 0, 0) + bson.encode(answer)
    return HEADER.pack(HEADER.size + len(body), number, number, OP_MSG) + body
