"""Undoes the actions of a part for an Exception only, not for an interrupt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy.orm import Session

Action = Callable[[], object]  # what is done after the commit, such as to send a mail


class UnitOfWork:
    """A transaction, and what is done once it is committed."""

    def __init__(self, engine: sa.Engine) -> None:
        self._session = Session(engine)
        self._actions: list[Action] = []

    @property
    def session(self) -> Session:
        """The session that all of the block works in."""
        return self._session

    def __enter__(self) -> Self:
        """Return the unit."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Undo what is not committed, and give the connection back."""
        self._actions.clear()
        self._session.close()

    def later(self, action: Action) -> None:
        """Have an action run after the next commit, once, if that succeeds."""
        self._actions.append(action)

    @contextmanager
    def part(self) -> Iterator[None]:
        """Undo a block alone, with its actions, if it fails."""
        before = len(self._actions)
        try:
            with self._session.begin_nested():
                yield
        except Exception:
            del self._actions[before:]
            raise

    def commit(self) -> None:
        """Commit, then run the actions, each of which may fail."""
        # Taken from the unit first: whatever happens now, they do not run again.
        actions = self._actions
        self._actions = []
        try:
            # Gives the connection back, too, before an action asks for one.
            self._session.commit()
        except BaseException:
            # Without it, the session stays where it failed, and refuses all work.
            self._session.rollback()
            raise
        errors: list[Exception] = []
        for action in actions:
            try:
                action()
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("done after the commit", errors)
