"""What trips with psycopg 3, each tried: the page in docs/order-systems/ quotes what this prints."""

import os

import psycopg
from psycopg import IsolationLevel
from psycopg.types.json import Jsonb

URL = os.environ["DATABASE_URL"]
ENQUEUE = """
    select id, created from capture.enqueue(provider => 'afterpay', order_id => %(order)s, payment_id => '100200300',
        capture_ref => %(order)s, amount_minor => %(amount)s, currency => 'USD', details => %(details)s)
"""


def asked(order: str, amount=1999, details=Jsonb({})) -> dict:
    return {"order": order, "amount": amount, "details": details}


def trip(what: str, tried) -> None:
    with psycopg.connect(URL) as conn:
        try:
            print(f"{what}: {tried(conn)}")
        except psycopg.Error as error:
            print(f"{what}: {type(error).__name__} {error.sqlstate}\n  {str(error).splitlines()[0]}")
            if error.diag.message_hint:
                print(f"  hint: {error.diag.message_hint}")
        conn.rollback()


def goes_on_after_a_refusal(conn):
    try:
        conn.execute(ENQUEUE, asked("t-5", amount=-1))
    except psycopg.errors.CheckViolation:
        pass
    conn.execute("insert into shop_orders values ('t-5', 1, 'USD')")


def repeats_under_repeatable_read(conn):
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    conn.execute("select 1")  # the snapshot is taken here
    with psycopg.connect(URL) as other:
        other.execute(ENQUEUE, asked("t-6"))
    conn.execute(ENQUEUE, asked("t-6"))


def commits_only_a_savepoint(_):
    with psycopg.connect(URL) as other:
        other.execute("select 1")  # without autocommit this begins a transaction
        with other.transaction():  # so this is a savepoint in it
            other.execute(ENQUEUE, asked("t-7"))
        other.rollback()  # what close() and an exception further on do
        return other.execute("select count(*) from capture.status where order_id = 't-7'").fetchone()[0]


trip("a float", lambda conn: conn.execute(ENQUEUE, asked("t-1", amount=19.99 * 100)))
trip(
    "the float 1998.9999999999998 in a plain INSERT",
    lambda conn: conn.execute(
        "insert into capture.intents (provider, order_id, payment_id, capture_ref, amount_minor, currency)"
        " values ('afterpay', 't-2', '100200300', 't-2', %s, 'USD') returning amount_minor",
        (19.99 * 100,),
    ).fetchone()[0],
)
trip("a dict", lambda conn: conn.execute(ENQUEUE, asked("t-3", details={"description": "two chairs"})))
trip("a list", lambda conn: conn.execute(ENQUEUE, asked("t-4", details=Jsonb(["two chairs"]))))
trip("goes on after a refusal", goes_on_after_a_refusal)
trip("repeats under repeatable read", repeats_under_repeatable_read)
trip("intents left after `with conn.transaction()`, no autocommit", commits_only_a_savepoint)
trip("an update", lambda conn: conn.execute("update capture.intents set amount_minor = 1"))
