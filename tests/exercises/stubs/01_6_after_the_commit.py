"""What happens after the commit: write `UnitOfWork`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy.orm import Session

Action = Callable[[], object]  # what is done after the commit, such as to send a mail


class UnitOfWork:
    """A transaction, and what is done once it is committed."""

    def __init__(self, engine: sa.Engine) -> None:
        """Prepare a session on the engine; no connection is taken yet."""
        raise NotImplementedError

    @property
    def session(self) -> Session:
        """The session that all of the block works in."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Return the unit."""
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Undo what is not committed, forget its actions, give the connection back.

        An error of the block passes unchanged.
        """
        raise NotImplementedError

    def later(self, action: Action) -> None:
        """Have an action run after the next commit, once, if that succeeds."""
        raise NotImplementedError

    def part(self) -> AbstractContextManager[None]:
        """Return a block that is undone alone, with its actions, if it fails.

        Its error passes to the caller, who may catch it and go on with the unit.
        """
        raise NotImplementedError

    def commit(self) -> None:
        """Commit, give the connection back, then run the actions in order.

        If the commit fails, undoes what was written, forgets the actions, and raises
        the error; the unit can go on. If actions fail, the rest still run; then raises
        an ExceptionGroup of their errors. May be called again, for what came since.
        """
        raise NotImplementedError
