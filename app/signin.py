"""Who may use the server: Panel's providers of sign-in, set up from the environment.

One provider covers everything on the port: the page, its websocket, tiles and the HTTP interface.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import panel as pn
from cryptography.fernet import Fernet
from panel.auth import AUTH_PROVIDERS, BasicAuthProvider, OAuthProvider

PREFIX = "DEEPFEATURES_AUTH"


@dataclass(frozen=True)
class SignIn:
    """What the environment says about sign-in."""

    provider: str = ""
    """``basic``, or a provider of Panel; empty for no sign-in."""
    passwords: Mapping[str, str] | str = ""
    """Name to password for ``basic``, or one password for all names."""
    key: str = ""
    """Id of this server at an OAuth provider."""
    secret: str = ""
    """Secret of this server at an OAuth provider."""
    redirect: str = ""
    """Address of the page, to which an OAuth provider sends the user back."""
    extra: Mapping[str, str] | None = None
    """Other settings of a provider, such as addresses or the tenant."""
    users: frozenset[str] = frozenset()
    """Who may use the server; empty for everybody who can sign in."""
    cookie_secret: str = ""
    """Signs the cookies; without it, all have to sign in again after a restart."""
    encryption: str = ""
    """Key of the tokens of an OAuth provider in cookies; by default made from `cookie_secret`."""

    def __repr__(self) -> str:
        return f"SignIn(provider={self.provider!r})"


def from_environment(environment: Mapping[str, str] = os.environ) -> SignIn:
    """Read what the variables ``DEEPFEATURES_AUTH...`` say.

    Raises
    ------
    ValueError
        If they contradict each other, or something is missing.
    """

    def get(name: str) -> str:
        return environment.get(f"{PREFIX}_{name}", "")

    provider = environment.get(PREFIX, "").lower()
    others = sorted(name for name in environment if name.startswith(f"{PREFIX}_"))
    if not provider:
        if others:
            raise ValueError(f"{others[0]} is set but {PREFIX} is not; set it to 'basic' or github")
        return SignIn()
    if provider != "basic" and provider not in AUTH_PROVIDERS:
        known = ", ".join(["basic", *sorted(AUTH_PROVIDERS)])
        raise ValueError(f"{PREFIX} is {provider!r}; choose one of {known}")
    found = SignIn(
        provider=provider,
        passwords=_passwords(get("PASSWORD"), get("FILE")) if provider == "basic" else "",
        key=get("KEY"),
        secret=get("SECRET"),
        redirect=get("REDIRECT"),
        extra=_texts(get("EXTRA"), f"{PREFIX}_EXTRA") if get("EXTRA") else None,
        users=frozenset(name.strip() for name in get("USERS").split(",") if name.strip()),
        cookie_secret=get("COOKIE_SECRET"),
        encryption=get("ENCRYPTION"),
    )
    if found.encryption:
        _cipher(found.encryption)
    if provider != "basic" and not (found.key and found.secret):
        raise ValueError(f"{provider} needs {PREFIX}_KEY and {PREFIX}_SECRET in the environment")
    return found


def settings(found: SignIn) -> dict[str, Any]:
    """Give the arguments of `pn.serve` that bring sign-in about; none without a provider."""
    if not found.provider:
        return {}
    secret = found.cookie_secret or secrets.token_hex(32)
    given: dict[str, Any] = {"cookie_secret": secret}
    if found.provider == "basic":
        return given | {"auth_provider": Basic(found)}
    pn.config.oauth_provider = found.provider
    # `pn.serve` takes a key and does nothing with it: tokens would stand in cookies as they are
    pn.state.encryption = _cipher(found.encryption or key_of(secret))
    given |= {"oauth_key": found.key, "oauth_secret": found.secret}
    given |= {"oauth_extra_params": dict(found.extra)} if found.extra else {}
    given |= {"oauth_redirect_uri": found.redirect} if found.redirect else {}
    return given | {"auth_provider": OAuth(found)}


class Basic(BasicAuthProvider):
    """Names and passwords."""

    def __init__(self, found: SignIn) -> None:
        self.found = found
        super().__init__()

    @property
    def get_user(self) -> Callable[[Any], str | None]:
        """Give what tells who sent a request."""
        ask = super().get_user
        return lambda handler: _welcome(self.found, ask(handler))

    @property
    def login_handler(self) -> type[Any]:
        """Give the page to sign in."""
        passwords = self.found.passwords

        class Login(Careful, super().login_handler):  # type: ignore[misc]
            def _validate(self, username: str, password: str) -> bool:
                return right(passwords, username, password)

        return Login


class OAuth(OAuthProvider):
    """A provider elsewhere."""

    def __init__(self, found: SignIn) -> None:
        self.found = found
        super().__init__()

    @property
    def get_user_async(self) -> Callable[[Any], Any]:
        """Give what tells who sent a request."""
        ask = super().get_user_async

        async def get_user(handler: Any) -> str | None:
            return _welcome(self.found, await ask(handler))

        return get_user

    @property
    def login_handler(self) -> type[Any]:
        """Give the way to the provider and back."""
        return type("Login", (Careful, super().login_handler), {})


class Careful:
    """Sets cookies that no script reads, no other site sends, and that stay on an encrypted way."""

    def set_cookie(self, name: str, value: Any, **options: Any) -> None:
        """Set a cookie."""
        usual = {"httponly": True, "samesite": "Lax"}
        if self.request.protocol == "https":  # type: ignore[attr-defined]
            usual["secure"] = True
        super().set_cookie(name, value, **(usual | options))  # type: ignore[misc]


def key_of(secret: str) -> str:
    """Make the key that encrypts from the secret that signs: what knows one of them knows both."""
    made = hmac.digest(secret.encode(), b"deepfeatures: tokens in cookies", "sha256")
    return base64.urlsafe_b64encode(made).decode()


def right(passwords: Mapping[str, str] | str, name: str, password: str) -> bool:
    """Tell whether a password is right, in a time that does not depend on where it differs."""
    known = passwords if isinstance(passwords, str) else passwords.get(name, "")
    same = hmac.compare_digest(known.encode(), password.encode())
    return bool(known) and bool(name) and same


def _cipher(key: str) -> Fernet:
    try:
        return Fernet(key)
    except ValueError:
        raise ValueError(
            f"{PREFIX}_ENCRYPTION is no key of 32 bytes in URL-safe base64; make one with "
            "'panel oauth-secret'"
        ) from None


def _welcome(found: SignIn, user: str | None) -> str | None:
    return user if user and (not found.users or user in found.users) else None


def _passwords(password: str, file: str) -> Mapping[str, str] | str:
    if bool(password) == bool(file):
        raise ValueError(
            f"set either {PREFIX}_PASSWORD, or {PREFIX}_FILE with a JSON object of names and "
            "passwords"
        )
    if password:
        return password
    try:
        text = Path(file).read_text()
    except OSError as error:
        raise ValueError(f"{PREFIX}_FILE {file!r} can not be read ({error.strerror})") from error
    return _texts(text, file)


def _texts(text: str, what: str) -> Mapping[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(
        isinstance(value, str) and value for value in found.values()
    ):
        raise ValueError(f"{what} must hold one JSON object with texts as values")
    return found
