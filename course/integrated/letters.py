"""What the shop sends: sign-ups, orders and mails, as lesson 04's messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from course.integrated.analytics import Purchase
from course.integrated.cache import TTL
from course.integrated.task import BASE, date_of

LONGEST_WAIT = 16 * BASE  # the fifth retry's; all later ones wait as long
# Retries of an order. They take longer than a score lives: see ScoreCache.forget.
PATIENCE = 5 + int(TTL / LONGEST_WAIT)
FIRST_ROBOT = 1_000_000  # no customer has a number that high


@dataclass(frozen=True)
class Letter:
    """A message, and where it is sent: to an exchange, or straight to a queue."""

    message: Any
    exchange: str  # empty: the key names the queue
    key: str = ""


class Writer:
    """Writes the letters of a run."""

    def __init__(self, lesson: Any) -> None:
        self.lesson = lesson

    def sign_up(self, purchase: Purchase) -> Letter:
        """Return the sign-up of a customer, on the day of the first order."""
        email = address_of(purchase.user)
        return self.announcement(purchase.user, email, purchase.day)

    def robot(self, number: int, day: int) -> Letter:
        """Return a sign-up that becomes a dead letter: without an address."""
        user = str(FIRST_ROBOT + number)
        return self.announcement(user, "nonsense", day)

    def announcement(self, user: str, email: str, day: int) -> Letter:
        """Return the message about a new user."""
        message = self.lesson.UserDataMessage(
            id=f"user-{user}",
            username=user,
            email=email,
            registration_date=date_of(day),
        )
        return Letter(message, "data_processing", "user_data")

    def order(self, purchase: Purchase) -> Letter:
        """Return an order."""
        message = self.lesson.AnalyticsMessage(
            id=order_id(purchase),
            event_type="purchase",
            user_id=purchase.user,
            properties={"day": purchase.day, "cents": purchase.cents},
            max_retries=PATIENCE,
        )
        return Letter(message, "analytics")

    def mail(self, recipient: str, subject: str, content: str) -> Letter:
        """Return a notification."""
        message = self.lesson.NotificationMessage(
            recipient=recipient,
            subject=subject,
            content=content,
        )
        return Letter(message, "notifications", "notification.email.normal")

    def in_date_order(self, purchases: list[Purchase]) -> list[Letter]:
        """Return these orders, each customer's sign-up before the first."""
        letters = []
        for purchase in sorted(purchases, key=lambda purchase: purchase.day):
            if purchase.first:
                letters.append(self.sign_up(purchase))
            letters.append(self.order(purchase))
        return letters


def order_id(purchase: Purchase) -> str:
    """Return the id of an order: always the same, so that none counts twice."""
    return f"order-{purchase.row:07}"


def address_of(user: str) -> str:
    """Return the mail address of a customer: CDNOW has none."""
    return f"{user}@example.org"
