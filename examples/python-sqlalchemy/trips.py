"""What trips with SQLAlchemy 2 and Alembic, each tried: the page in docs/order-systems/ quotes what this prints."""

from decimal import Decimal
import os

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, Column, MetaData, Numeric, Table, Text, create_engine, insert, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from shop import ENQUEUE, Base, Order

URL = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
engine = create_engine(URL)


class Others(DeclarativeBase):
    """Not the shop's."""


def intents(amount_type) -> Table:
    texts = [Column(name, Text) for name in ["provider", "order_id", "payment_id", "capture_ref", "currency"]]
    return Table("intents", MetaData(schema="capture"), *texts, Column("amount_minor", amount_type))


def row(order: str, amount) -> dict:
    return dict(provider="afterpay", order_id=order, payment_id="100200300", capture_ref=order, amount_minor=amount, currency="USD")


def asked(order: str, amount=1999, details=None) -> dict:
    return dict(order=order, payment="100200300", amount_minor=amount, currency="USD", details=details or {})


def trip(what: str, tried) -> None:
    with Session(engine) as session:
        try:
            print(f"{what}: {tried(session)}")
        except SQLAlchemyError as error:
            print(f"{what}: {type(error).__name__}\n  {str(error).splitlines()[0]}")


def mapped_as(amount_type, order: str):
    def tried(session):
        table = intents(amount_type)
        return session.scalar(insert(table).values(row(order, Decimal("199.90"))).returning(table.c.amount_minor))

    return tried


def goes_on_after_a_refusal(session):
    try:
        session.execute(ENQUEUE, asked("t-4", amount=-1))
    except SQLAlchemyError:
        pass
    session.execute(text("select 1"))


def goes_on_after_a_failed_flush(session):
    session.add(Order(id="o-1001", total_minor=1, currency="USD"))
    try:
        session.flush()
    except SQLAlchemyError:
        pass
    with session.begin_nested():
        session.add(Order(id="t-5", total_minor=1, currency="USD"))


def repeats_under_repeatable_read(session):
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"}).execute(text("select 1"))
    with Session(engine) as other, other.begin():
        other.execute(ENQUEUE, asked("t-6"))
    session.execute(ENQUEUE, asked("t-6"))


def alembic_would_drop(**options):
    def tried(session):
        context = MigrationContext.configure(session.connection(), opts={"include_schemas": True, **options})
        changes = [change for change in compare_metadata(context, Base.metadata) if isinstance(change, tuple)]
        dropped = sorted(change[1].fullname for change in changes if change[0] == "remove_table")
        return ", ".join(name for name in dropped if name in ("capture.intents", "capture.outcomes")) or "nothing"

    return tried


trip("199.90 mapped as BigInteger", mapped_as(BigInteger, "t-1"))
trip("199.90 mapped as Numeric", mapped_as(Numeric, "t-2"))
trip("a float", lambda session: session.execute(ENQUEUE, asked("t-3", amount=19.99 * 100)))
trip("a dict without a type", lambda session: session.execute(text("select cast(:details as jsonb)"), {"details": {"description": "two chairs"}}))
trip("goes on after a refusal", goes_on_after_a_refusal)
trip("goes on after a failed flush", goes_on_after_a_failed_flush)
trip("repeats under repeatable read", repeats_under_repeatable_read)
trip("Alembic's autogenerate with include_schemas drops", alembic_would_drop())
trip("and with include_name", alembic_would_drop(include_name=lambda name, kind, _: kind != "schema" or name is None))
