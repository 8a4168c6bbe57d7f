"""The answers: what the models say goes out as mails."""

from __future__ import annotations

from course.console import fact, write
from course.integrated.shop import Shop

SALES = "sales@example.org"


def answer(shop: Shop) -> None:
    """Answers: recommendations and reports go out as notifications"""
    log = shop.stored()
    forecast = shop.analytics.forecast(log, shop.end, shop.days)
    sentences = shop.analytics.insights(forecast)
    letters = []
    for sentence in sentences:
        letters.append(shop.broker.notification(SALES, "report", sentence))
    email_of = {person.username: person.email for person in shop.documents.people()}
    users = list(shop.scores)
    offers = shop.analytics.offers(log, shop.end, users)
    for user, offer in zip(users, offers, strict=True):
        gone, spend = shop.scores[user]
        text = f"{offer} (churn {gone:.2f}, spend {spend:.2f})"
        letters.append(shop.broker.notification(email_of[user], "for you", text))
    shop.deliver("notifications", letters)
    write(f"  - {sentences[0]}")
    fact("notifications", len(letters))
