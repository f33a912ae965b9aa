"""Signatures by others than us, against which src/webhook/signature.rs is held.

    pip install standardwebhooks && python tests/webhooks/vectors.py > tests/webhooks/vectors.json

Each is made by three: the standard's own library, Python's hmac, and openssl; they must agree.
"""

import base64, datetime, hashlib, hmac, json, subprocess
from standardwebhooks.webhooks import Webhook

SECRETS = {
    "24 bytes": bytes(range(24)),
    "32 bytes": hashlib.sha256(b"capture").digest(),
    "64 bytes": hashlib.sha512(b"capture").digest(),
    "of the standard's own example": base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
}
MESSAGES = [
    ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}'),
    ("018f2f60-7a3c-7cc4-9a3e-1f0a6b1d2c3e", 1, "{}"),
    ("018f2f60-7a3c-7cc4-9a3e-1f0a6b1d2c3e", 2147483648, ""),
    ("a.b", 1700000000, 'dots.in.the.body and "Müller 東京 \u2028"\n'),
    ("018f2f60-7a3c-7cc4-9a3e-1f0a6b1d2c3e", 1700000000, "x" * 70000),
]

vectors = []
for name, secret in SECRETS.items():
    for id, timestamp, body in MESSAGES:
        written = "whsec_" + base64.b64encode(secret).decode()
        at = datetime.datetime.fromtimestamp(timestamp, tz=datetime.timezone.utc)
        by_library = Webhook(written).sign(id, at, body)
        content = f"{id}.{timestamp}.{body}".encode()
        by_python = "v1," + base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()
        by_openssl = subprocess.run(
            ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{secret.hex()}", "-binary"],
            input=content, capture_output=True, check=True).stdout
        by_openssl = "v1," + base64.b64encode(by_openssl).decode()
        assert by_library == by_python == by_openssl, (name, id)
        short = body if len(body) < 1000 else None
        vectors.append({"name": name, "secret": written, "id": id, "timestamp": timestamp,
                        "body": short, "times_x": len(body) if short is None else None, "signature": by_library})
print(json.dumps(vectors, indent=1, ensure_ascii=True))
