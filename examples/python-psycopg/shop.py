"""An order system on psycopg 3: the order and its capture in one transaction, and the feed that says what became of it."""

import os
import time
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import namedtuple_row

ENQUEUE = """
    select id, created from capture.enqueue(
        provider => 'afterpay', order_id => %(order)s, payment_id => %(payment)s, capture_ref => %(order)s || '-1',
        amount_minor => %(amount_minor)s, currency => %(currency)s)
"""


def place_order(conn: Connection, order: str, payment: str, amount_minor: int | Decimal, currency="USD") -> tuple[UUID, bool]:
    """Writes the order and asks for its capture: both or neither. The same order again changes nothing."""
    with conn.transaction():
        conn.execute(
            "insert into shop_orders (id, total_minor, currency) values (%s, %s, %s) on conflict (id) do nothing",
            (order, amount_minor, currency),
        )
        asked = {"order": order, "payment": payment, "amount_minor": amount_minor, "currency": currency}
        capture, created = conn.execute(ENQUEUE, asked).fetchone()
        return capture, created


def follow_feed(conn: Connection) -> list[tuple[str, str]]:
    """Handles the next events and moves the cursor in the same transaction: each event is handled once."""
    with conn.transaction():
        conn.execute("insert into shop_feed values ('orders', '') on conflict do nothing")
        # Locked: of two readers one waits.
        (cursor,) = conn.execute("select cursor from shop_feed where reader = 'orders' for update").fetchone()
        events = conn.cursor(row_factory=namedtuple_row).execute("select * from capture.events_after(%s, 100)", (cursor,)).fetchall()
        for event in events:
            if event.type == "capture.captured":
                conn.execute("update shop_orders set state = 'paid' where id = %s", (event.order_id,))
        if events:
            conn.execute("update shop_feed set cursor = %s where reader = 'orders'", (events[-1].cursor,))
    return [(event.order_id, event.type.removeprefix("capture.")) for event in events]


def refused(order: str, error: psycopg.Error) -> None:
    """What a log should have of a refusal: the constraint is its name, the hint says what to do."""
    diag = error.diag
    print(f"{order} refused: {error.sqlstate} {diag.constraint_name} ({diag.column_name})")
    print(f"  {diag.message_primary}\n  hint: {diag.message_hint}")


def main() -> None:
    # autocommit: transactions begin and end where `with conn.transaction()` says so, and nowhere else.
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as conn:
        conn.execute(Path(__file__).with_name("schema.sql").read_text())

        capture, _ = place_order(conn, "o-1001", "100101234567", 4990)
        print(f"o-1001 placed: capture {capture} is asked for")
        capture, created = place_order(conn, "o-1001", "100101234567", 4990)
        print(f"o-1001 placed again: capture {capture} is {'another' if created else 'the same'}")

        with conn.transaction() as outer:
            place_order(conn, "o-1002", "100101234568", 1500)
            raise psycopg.Rollback(outer)  # out of stock
        orders = conn.execute("select count(*) from shop_orders where id = 'o-1002'").fetchone()[0]
        captures = conn.execute("select count(*) from capture.status where order_id = 'o-1002'").fetchone()[0]
        print(f"o-1002 rolled back: {orders} orders, {captures} captures asked for")

        try:
            place_order(conn, "o-1003", "100101234569", Decimal("19.99"))
        except psycopg.errors.CheckViolation as error:
            refused("o-1003", error)
        try:
            place_order(conn, "o-1001", "100101234567", 5990)
        except psycopg.errors.UniqueViolation as error:
            refused("o-1001", error)

        patience = time.monotonic() + 20
        paid = "select exists (select from shop_orders where id = 'o-1001' and state = 'paid')"
        while not conn.execute(paid).fetchone()[0]:
            for order, what in follow_feed(conn):
                print(f"feed: {order} {what}")
            if time.monotonic() > patience:
                raise SystemExit("o-1001 is not captured after 20 s: does a worker run?")
            time.sleep(0.1)
        print("feed: nothing new" if not follow_feed(conn) else "feed: there is more")

        state, captured_minor, currency = conn.execute(
            "select state, captured_minor, currency from capture.status where order_id = 'o-1001'"
        ).fetchone()
        print(f"o-1001 is {state}: {captured_minor} {currency}")


if __name__ == "__main__":
    main()
