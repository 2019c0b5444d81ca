"""Who looks at the page: a signed-in user, or a browser that a cookie tells from others."""

from __future__ import annotations

import secrets

import panel as pn
from panel.io import server

from deepfeatures.serve import owners

_YEAR = 365
"""Days that a browser is known."""


class _Known(server.DocHandler):
    """Gives a browser that comes for the first time a cookie, before its page is built."""

    async def prepare(self) -> None:
        """Set the cookie, and let this request have it already."""
        await super().prepare()
        if not owners.usable(self.get_cookie(owners.COOKIE)):
            key = secrets.token_urlsafe(24)
            self.set_cookie(
                owners.COOKIE, key, expires_days=_YEAR, path="/", httponly=True, samesite="Lax",
                secure=self.request.protocol == "https",
            )  # fmt: skip
            self.request.cookies[owners.COOKIE] = key


def install() -> None:
    """Let Panel's server tell browsers apart."""
    server.per_app_patterns[:] = [
        (pattern, _Known if handler is server.DocHandler else handler, *rest)
        for pattern, handler, *rest in server.per_app_patterns
    ]


def owner() -> str:
    """Give the owner of what this session asks for; empty where there is no browser."""
    return owners.owner(pn.state.user, (pn.state.cookies or {}).get(owners.COOKIE))
