"""What trips with Django's ORM, each tried: the page in docs/order-systems/ quotes what this prints."""

import os
from decimal import Decimal

import django
import psycopg

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django.setup()

from django.db import Error, connection, models, transaction  # noqa: E402

from shop.models import CaptureStatus  # noqa: E402
from shop.orders import ENQUEUE, place_order  # noqa: E402


class Intent(models.Model):
    id = models.UUIDField(primary_key=True, db_default=models.Func(function="capture.new_id"))
    provider = models.TextField(default="afterpay")
    order_id = models.TextField()
    payment_id = models.TextField(default="100200300")
    capture_ref = models.TextField()
    currency = models.TextField(default="USD")

    class Meta:
        abstract = True
        app_label = "shop"
        managed = False


class WithInteger(Intent):
    amount_minor = models.BigIntegerField()

    class Meta(Intent.Meta):
        db_table = '"capture"."intents"'


class WithDecimal(Intent):
    amount_minor = models.DecimalField(max_digits=15, decimal_places=0)

    class Meta(Intent.Meta):
        db_table = '"capture"."intents"'


class WithDetails(Intent):
    amount_minor = models.DecimalField(max_digits=15, decimal_places=0)
    details = models.JSONField()

    class Meta(Intent.Meta):
        db_table = '"capture"."intents"'


class Owned(models.Model):
    id = models.UUIDField(primary_key=True)

    class Meta:
        app_label = "shop"
        db_table = '"capture"."owned"'


def trip(what: str, tried) -> None:
    try:
        with transaction.atomic():
            print(f"{what}: {tried()}")
    except Error as error:
        print(f"{what}: {type(error).__name__}\n  {str(error).splitlines()[0]}")


def amount_of(order: str):
    with connection.cursor() as cursor:
        cursor.execute("select amount_minor from capture.status where order_id = %s", [order])
        return cursor.fetchone()[0]


def created(model, order: str, **more):
    model.objects.create(order_id=order, capture_ref=order, **more)
    return amount_of(order)


def bulk_created(order: str):
    amounts = [("a", Decimal("199.90")), ("b", Decimal("299.90"))]
    WithDecimal.objects.bulk_create(WithDecimal(order_id=order + i, capture_ref=order + i, amount_minor=amount) for i, amount in amounts)
    return amount_of(order + "a")


def goes_on_after_a_refusal():
    try:
        WithDecimal.objects.create(order_id="t-8", capture_ref="t-8", amount_minor=-1)
    except Error:
        pass
    return CaptureStatus.objects.count()


def repeats_under_repeatable_read():
    asked = {"order": "t-9", "payment": "100200300", "amount_minor": 1999, "currency": "USD"}
    with connection.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read")
        cursor.execute("select 1")
        with psycopg.connect(os.environ["DATABASE_URL"]) as other:
            other.execute(ENQUEUE, asked)
        cursor.execute(ENQUEUE, asked)


def owns_the_schema():
    with connection.schema_editor() as editor:
        editor.create_model(Owned)


trip("199.90 in a BigIntegerField", lambda: created(WithInteger, "t-1", amount_minor=Decimal("199.90")))
trip("199.90 in a DecimalField of no decimal places", lambda: created(WithDecimal, "t-2", amount_minor=Decimal("199.90")))
trip("199.90 in that field, by bulk_create", lambda: bulk_created("t-3"))
trip("a float to enqueue", lambda: place_order("t-4", "100200300", 199.90))
trip("a float that is whole", lambda: (place_order("t-5", "100200300", 200.0), amount_of("t-5"))[1])
trip("a list in a JSONField", lambda: created(WithDetails, "t-6", amount_minor=200, details=["two chairs"]))
trip("goes on after a refusal", goes_on_after_a_refusal)
trip("repeats under repeatable read", repeats_under_repeatable_read)
trip("a managed model", owns_the_schema)
