"""Who asks: the user who is signed in, else the browser, else nobody in particular."""

from __future__ import annotations

import hashlib
import re

COOKIE = "deepfeatures_user"
"""Name of the cookie that tells browsers apart where nobody signs in."""

_KEY = re.compile(r"[A-Za-z0-9_-]{20,64}")


def owner(user: str | None, cookie: str | None) -> str:
    """Give the owner of what is asked for: a name for files and records that tells nobody's name.

    Parameters
    ----------
    user
        Who is signed in, None or ``guest`` if nobody is.
    cookie
        Value of the cookie `COOKIE`.

    Returns
    -------
    str
        Empty for a client without either: what it makes is everybody's.
    """
    if user and user != "guest":
        return f"user-{_hashed(user)}"
    return f"browser-{_hashed(cookie)}" if cookie and usable(cookie) else ""


def usable(cookie: str | None) -> bool:
    """Tell whether a cookie is one that the page has set."""
    return bool(cookie and _KEY.fullmatch(cookie))


def _hashed(text: str) -> str:
    # the cookie opens what it owns, so it is written nowhere
    return hashlib.sha256(text.encode()).hexdigest()[:24]
