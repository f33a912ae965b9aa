"""The order and its capture in one transaction, and the feed that says what became of it."""

from collections import namedtuple
from decimal import Decimal
from uuid import UUID

from django.db import connection, transaction

from shop.models import Feed, Order

ENQUEUE = """
    select id, created from capture.enqueue(
        provider => 'afterpay', order_id => %(order)s, payment_id => %(payment)s, capture_ref => %(order)s || '-1',
        amount_minor => %(amount_minor)s, currency => %(currency)s)
"""


@transaction.atomic
def place_order(order: str, payment: str, amount_minor: int | Decimal, currency="USD") -> tuple[UUID, bool]:
    """Writes the order and asks for its capture: both or neither. The same order again changes nothing."""
    Order.objects.get_or_create(id=order, defaults={"total_minor": amount_minor, "currency": currency})
    with connection.cursor() as cursor:
        cursor.execute(ENQUEUE, {"order": order, "payment": payment, "amount_minor": amount_minor, "currency": currency})
        capture, created = cursor.fetchone()
        return capture, created


@transaction.atomic
def follow_feed() -> list[tuple[str, str]]:
    """Handles the next events and moves the cursor in the same transaction: each event is handled once."""
    Feed.objects.get_or_create(reader="orders")
    # Locked: of two readers one waits.
    feed = Feed.objects.select_for_update().get(reader="orders")
    with connection.cursor() as cursor:
        cursor.execute("select * from capture.events_after(%s, 100)", [feed.cursor])
        Event = namedtuple("Event", [column.name for column in cursor.description])
        events = [Event(*row) for row in cursor.fetchall()]
    for event in events:
        if event.type == "capture.captured":
            Order.objects.filter(id=event.order_id).update(state="paid")
    if events:
        feed.cursor = events[-1].cursor
        feed.save()
    return [(event.order_id, event.type.removeprefix("capture.")) for event in events]
