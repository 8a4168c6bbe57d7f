"""The answers: what the models say goes out as mails."""

from __future__ import annotations

from course.console import fact, write
from course.integrated.letters import Letter
from course.integrated.shop import Shop

SALES = "sales@example.org"
# What the shop writes to a customer, by what it plans for them. The plan itself, the
# segment and the scores stay inside.
LETTERS = {
    "re-engagement campaign": (
        "We have new music for you",
        "It has been a while. Have a look at what came in since your last order.",
    ),
    "personalised products": (
        "Chosen for you",
        "Here is what goes well with your last orders.",
    ),
    "premium and exclusive items": (
        "Be the first to hear it",
        "Our special editions are yours to order before they are in the shop.",
    ),
    "retention offer": (
        "Free delivery on your next order",
        "Order what you like: until the end of the month, delivery is on us.",
    ),
}


def answer(shop: Shop) -> None:
    """Answers: recommendations and reports go out as notifications"""
    # From what SQL holds now, as a nightly job would have it.
    log = shop.stored()
    forecast = shop.analytics.forecast(log, shop.end, shop.days)
    sentences = shop.analytics.insights(forecast)
    letters = []
    for sentence in sentences:
        letters.append(shop.writer.mail(SALES, "report", sentence))
    letters += offers_to_all(shop, log)
    shop.deliver("notifications", letters)
    write(f"  - {sentences[0]}")
    fact("notifications", len(letters))


def offers_to_all(shop: Shop, log: object) -> list[Letter]:
    """Return a mail to each customer, at the address that MongoDB knows."""
    # Names from SQL, addresses from MongoDB, scores from Redis. If one of them does not
    # know a customer, it is a KeyError: no mail must hide that.
    offer_of = shop.analytics.offers(log, shop.end)
    worth = {}
    letters = {}
    for person in shop.documents.people():
        subject, text = LETTERS[offer_of[person.username]]
        letters[person.username] = shop.writer.mail(person.email, subject, text)
        _, worth[person.username] = shop.scores[person.username]
    # Trap: the score in the mail. Here it only says who is written to first.
    first = sorted(letters, key=lambda user: -worth[user])
    return [letters[user] for user in first]
