"""An order system on SQLAlchemy 2: the order and its capture in one transaction, and the feed that says what became of it."""

import os
import time
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, Column, MetaData, Numeric, String, Table, bindparam, create_engine, func, make_url, select, text
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker


class Base(DeclarativeBase):
    """The shop's own tables, and nothing else: what is in this metadata is what create_all and Alembic take for theirs."""


class Order(Base):
    __tablename__ = "shop_orders"
    id: Mapped[str] = mapped_column(primary_key=True)
    total_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="placed")


class Feed(Base):
    """How far the feed has been handled."""

    __tablename__ = "shop_feed"
    reader: Mapped[str] = mapped_column(primary_key=True)
    cursor: Mapped[str]


# In a metadata of its own. Amounts are Numeric, as in the database.
status = Table(
    "status",
    MetaData(schema="capture"),
    Column("order_id", String),
    Column("state", String),
    Column("captured_minor", Numeric),
    Column("currency", String),
)

ENQUEUE = text("""
    select id, created from capture.enqueue(
        provider => 'afterpay', order_id => :order, payment_id => :payment, capture_ref => :order || '-1',
        amount_minor => :amount_minor, currency => :currency, details => :details)
""").bindparams(bindparam("details", type_=JSONB))


def place_order(session: Session, order: str, payment: str, amount_minor: int | Decimal, currency="USD") -> tuple[UUID, bool]:
    """Writes the order and asks for its capture, in the session's transaction. The same order again changes nothing."""
    session.execute(insert(Order).values(id=order, total_minor=amount_minor, currency=currency).on_conflict_do_nothing())
    asked = {"order": order, "payment": payment, "amount_minor": amount_minor, "currency": currency}
    capture, created = session.execute(ENQUEUE, {**asked, "details": {"description": f"order {order}"}}).one()
    return capture, created


def follow_feed(session: Session) -> list[tuple[str, str]]:
    """Handles the next events and moves the cursor in the same transaction: each event is handled once."""
    session.execute(insert(Feed).values(reader="orders", cursor="").on_conflict_do_nothing())
    # Locked: of two readers one waits.
    feed = session.scalars(select(Feed).where(Feed.reader == "orders").with_for_update()).one()
    events = session.execute(text("select * from capture.events_after(:cursor, 100)"), {"cursor": feed.cursor}).all()
    for event in events:
        order = session.get(Order, event.order_id)
        if order and event.type == "capture.captured":
            order.state = "paid"
        feed.cursor = event.cursor
    return [(event.order_id, event.type.removeprefix("capture.")) for event in events]


def refused(order: str, error: IntegrityError) -> None:
    """What a log should have of a refusal. The driver's own error, with its parts, is in `orig`."""
    diag = error.orig.diag
    print(f"{order} refused: {error.orig.sqlstate} {diag.constraint_name} ({diag.column_name})")
    print(f"  {diag.message_primary}\n  hint: {diag.message_hint}")


def main() -> None:
    engine = create_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"))
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)

    with sessions.begin() as session:
        capture, _ = place_order(session, "o-1001", "100101234567", 4990)
    print(f"o-1001 placed: capture {capture} is asked for")
    with sessions.begin() as session:
        capture, created = place_order(session, "o-1001", "100101234567", 4990)
    print(f"o-1001 placed again: capture {capture} is {'another' if created else 'the same'}")

    with sessions() as session:
        place_order(session, "o-1002", "100101234568", 1500)
        session.rollback()  # out of stock
        orders = session.scalar(select(func.count()).where(Order.id == "o-1002"))
        captures = session.scalar(select(func.count()).where(status.c.order_id == "o-1002"))
    print(f"o-1002 rolled back: {orders} orders, {captures} captures asked for")

    for order, payment, amount_minor in [
        ("o-1003", "100101234569", Decimal("19.99")),
        ("o-1001", "100101234567", 5990),
    ]:
        try:
            with sessions.begin() as session:
                place_order(session, order, payment, amount_minor)
        except IntegrityError as error:
            refused(order, error)

    paid = False
    patience = time.monotonic() + 20
    while not paid:
        with sessions.begin() as session:
            for order, what in follow_feed(session):
                print(f"feed: {order} {what}")
            paid = session.get_one(Order, "o-1001").state == "paid"
        if time.monotonic() > patience:
            raise SystemExit("o-1001 is not captured after 20 s: does a worker run?")
        time.sleep(0.1)
    with sessions.begin() as session:
        print("feed: nothing new" if not follow_feed(session) else "feed: there is more")
        row = session.execute(select(status).where(status.c.order_id == "o-1001")).one()
        print(f"o-1001 is {row.state}: {row.captured_minor} {row.currency}")


if __name__ == "__main__":
    main()
