"""No more than the example needs."""

import os
from urllib.parse import unquote, urlsplit

_at = urlsplit(os.environ["DATABASE_URL"])

SECRET_KEY = "an example signs nothing"
INSTALLED_APPS = ["shop"]
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _at.hostname,
        "PORT": _at.port,
        "NAME": _at.path.lstrip("/"),
        "USER": _at.username,
        "PASSWORD": unquote(_at.password or ""),
    }
}
