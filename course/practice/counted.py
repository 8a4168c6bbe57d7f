"""A Redis client for checks that counts its round trips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import fakeredis


class CountedRedis(fakeredis.FakeRedis):
    """A client that notes its round trips, and lets others come in between."""

    def prepare(self) -> CountedRedis:
        """Return itself, with nothing noted."""
        self.trips: list[list[tuple[Any, ...]]] = []
        self.after_trip: dict[int, Callable[[], object]] = {}
        return self

    def note(self, commands: Iterable[tuple[Any, ...]]) -> None:
        """Note the commands of a round trip that has ended."""
        self.trips.append(list(commands))
        effect = self.after_trip.pop(len(self.trips), None)
        if effect:
            effect()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command on its own."""
        client: Any = super()
        try:
            return client.execute_command(*args, **options)
        finally:  # a refusal has cost a round trip, too
            self.note([args])

    def pipeline(self, *args: Any, **options: Any) -> Any:
        """Return a pipeline whose round trips are noted."""
        pipe: Any = super().pipeline(*args, **options)
        send_all = pipe.execute
        send_one = pipe.immediate_execute_command

        def execute(*args: Any, **options: Any) -> Any:
            commands = [command[0] for command in pipe.command_stack]
            answer = send_all(*args, **options)
            self.note(commands)
            return answer

        def execute_one(*args: Any, **options: Any) -> Any:
            answer = send_one(*args, **options)
            self.note([args])
            return answer

        pipe.execute = execute
        pipe.immediate_execute_command = execute_one
        return pipe
