"""What `schemathesis run` is told beside schemathesis.toml: see http.md.

A document that merely fits the schema is mostly refused by a rule (an amount below the provider's least, a cursor of nothing), so
half of the sound requests of the fuzzing phase are made to mean something: they name captures that exist, amounts that a provider
takes, and no cursor. What is unsound on purpose is left as it is. KEY: a key of all scopes; SERVER: where `capture serve` listens.
"""

import itertools
import json
import os
import random
import urllib.parse
import urllib.request

import schemathesis
from schemathesis.generation import GenerationMode

SERVER = os.environ.get("SERVER", "http://127.0.0.1:8080")
STATES = ["held", "scheduled", "ready", "leased", "verifying", "captured", "dead", "cancelled"]
PAGES = ["/v1/captures", "/v1/dead-letters", "/v1/audit", "/v1/operations", "/v1/webhooks/deliveries"]
# Not the one of the module, which is seeded anew for each case.
chance = random.Random()
fresh = itertools.count(chance.randrange(10**9))
known = {}


def rows(path, name):
    if path not in known:
        request = urllib.request.Request(SERVER + path, headers={"Authorization": f"Bearer {os.environ['KEY']}"})
        known[path] = json.load(urllib.request.urlopen(request, timeout=60))[name]
    return known[path]


def some(*states):
    found = [row for state in states or STATES for row in rows(f"/v1/captures?limit=50&state={state}", "captures")]
    return chance.choice(found) if found else None


def sound(case):
    return case.meta is not None and case.meta.phase.name.name == "FUZZING" and case.meta.generation.mode == GenerationMode.POSITIVE


def lacks_its_key(case):
    return case.meta is not None and getattr(case.meta.phase.data, "parameter", None) == "Authorization"


@schemathesis.hook
def before_call(context, case, kwargs):
    # Keys that open nothing are counted by the address that they come from: let them come from many. Where the key is
    # left out on purpose nothing is added: with one header more it would be another case, and get the key.
    if not lacks_its_key(case):
        case.headers["X-Forwarded-For"] = ".".join(str(chance.randrange(1, 255)) for _ in range(4))
    if case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE:
        # Nobody can make up a signature, and with one the key is not looked at.
        if f"{case.method.upper()} {case.path}" == "POST /v1/shipments" and chance.random() < 0.5:
            for name in ["webhook-id", "webhook-timestamp", "webhook-signature"]:
                case.headers.pop(name, None)
    if not sound(case) or chance.random() < 0.5:
        return
    what, body = f"{case.method.upper()} {case.path}", case.body
    case.headers.pop("X-Capture-Actor", None)
    if case.path in PAGES and case.query:
        case.query.pop("cursor", None)
    if "/captures/{id}" in case.path or "/orders/{order_id}" in case.path:
        row = some(*(["held", "scheduled"] if what.endswith("/cancel") else []))
        if row:
            case.path_parameters.update({name: row["order_id"] if name == "order_id" else row["id"] for name in case.path_parameters})
    elif case.path.startswith("/v1/operations/{id}") and (begun := rows("/v1/operations?limit=50", "operations")):
        case.path_parameters["id"] = chance.choice(begun)["id"]
    elif "/dead-letters/{id}" in case.path and some("dead"):
        case.path_parameters["id"] = some("dead")["id"]
    elif what == "POST /v1/captures" and isinstance(body, dict):
        for name in ["id", "not_before", "authorization_expires_at", "authorized_minor", "priority", "hold"]:
            body.pop(name, None)
        n = next(fresh)
        body.update(provider="afterpay", payment_id=f"9{n}", order_id=f"fuzz-{n}", capture_ref=f"fuzz-{n}", amount_minor=chance.randrange(100, 10**6), currency="USD")
        case.headers.pop("Idempotency-Key", None)
    elif what == "POST /v1/releases" and isinstance(body, dict) and some("held"):
        case.headers.pop("Idempotency-Key", None)
        for name in ["company", "method", "tracking_number", "capture_ref", "order_id"]:
            body.pop(name, None)
        body.update(provider="afterpay", payment_id=some("held")["payment_id"], shipment_ref=f"fuzz-{next(fresh)}", account="default")
    elif what == "POST /v1/shipments" and isinstance(body, dict):
        row = some("held", "captured") or {"order_id": "o"}
        body.pop("line_items", None)
        body.update(event_id=f"fuzz-{next(fresh)}", provider="afterpay", order_id=row["order_id"], kind=chance.choice(["shipped", "delivered", "label"]))
    elif what == "POST /v1/operations" and isinstance(body, dict):
        row = some("dead", "held", "scheduled")
        body.pop("filter", None)
        body.pop("digest", None)
        if row:
            act = "cancel" if row["state"] != "dead" else chance.choice(["replay", "resolve"])
            body = case.body = {"act": act, "ids": [row["id"]], "reason": "fuzz", "dry_run": chance.random() < 0.5}
            if act == "resolve":
                body.update({"as": chance.choice(["captured", "not-captured"]), "evidence": "fuzz"})
    elif what == "POST /v1/webhooks/redeliver" and isinstance(body, dict):
        case.body = {"deliveries": [chance.randrange(1, 50)], "reason": "fuzz"}
