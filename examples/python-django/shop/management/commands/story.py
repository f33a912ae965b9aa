import time
from decimal import Decimal

from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, transaction

from shop.models import CaptureStatus, Order
from shop.orders import follow_feed, place_order


class Command(BaseCommand):
    help = "Places orders, good and bad ones, and follows the feed until the first is paid"

    def handle(self, *args, **options):
        capture, _ = place_order("o-1001", "100101234567", 4990)
        print(f"o-1001 placed: capture {capture} is asked for")
        capture, created = place_order("o-1001", "100101234567", 4990)
        print(f"o-1001 placed again: capture {capture} is {'another' if created else 'the same'}")

        with transaction.atomic():
            place_order("o-1002", "100101234568", 1500)
            transaction.set_rollback(True)  # out of stock
        orders = Order.objects.filter(id="o-1002").count()
        captures = CaptureStatus.objects.filter(order_id="o-1002").count()
        print(f"o-1002 rolled back: {orders} orders, {captures} captures asked for")

        for order, payment, amount_minor in [
            ("o-1003", "100101234569", Decimal("19.99")),
            ("o-1001", "100101234567", 5990),
        ]:
            try:
                place_order(order, payment, amount_minor)
            except IntegrityError as error:
                # The driver's own error, with its parts, is the cause.
                diag = error.__cause__.diag
                print(f"{order} refused: {diag.sqlstate} {diag.constraint_name} ({diag.column_name})")
                print(f"  {diag.message_primary}\n  hint: {diag.message_hint}")

        patience = time.monotonic() + 20
        while not Order.objects.filter(id="o-1001", state="paid").exists():
            for order, what in follow_feed():
                print(f"feed: {order} {what}")
            if time.monotonic() > patience:
                raise CommandError("o-1001 is not captured after 20 s: does a worker run?")
            time.sleep(0.1)
        print("feed: nothing new" if not follow_feed() else "feed: there is more")

        status = CaptureStatus.objects.get(order_id="o-1001")
        print(f"o-1001 is {status.state}: {status.captured_minor} {status.currency}")
