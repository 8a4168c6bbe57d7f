"""The answers: what the models say goes out as mails."""

from __future__ import annotations

from course.console import fact, write
from course.integrated.letters import Letter
from course.integrated.shop import Shop

SALES = "sales@example.org"


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
    letters = []
    # Names from SQL, addresses from MongoDB, scores from Redis. If one of them does not
    # know a customer, it is a KeyError: no mail must hide that.
    offer_of = shop.analytics.offers(log, shop.end)
    for person in shop.documents.people():
        offer = offer_of[person.username]
        gone, spend = shop.scores[person.username]
        text = f"{offer} (churn {gone:.2f}, spend {spend:.2f})"
        letters.append(shop.writer.mail(person.email, "for you", text))
    return letters
