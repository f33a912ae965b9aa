from django.db import models


class Order(models.Model):
    id = models.CharField(primary_key=True, max_length=255)
    total_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=20, default="placed")

    class Meta:
        db_table = "shop_orders"


class Feed(models.Model):
    """How far the feed has been handled."""

    reader = models.CharField(primary_key=True, max_length=50)
    cursor = models.CharField(max_length=50, default="")

    class Meta:
        db_table = "shop_feed"


class CaptureStatus(models.Model):
    """What became of each capture: a view of the schema `capture`, which Django's migrations must leave alone."""

    id = models.UUIDField(primary_key=True)
    order_id = models.TextField()
    state = models.TextField()
    captured_minor = models.DecimalField(max_digits=15, decimal_places=0, null=True)
    currency = models.TextField()

    class Meta:
        managed = False
        db_table = '"capture"."status"'
