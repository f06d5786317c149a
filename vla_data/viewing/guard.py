"""Who is answered, and what a browser may do with an answer.

The page is for the person who started it. Other programs and web sites on the machine do not know the token, which
is in the address and compared in constant time. A web site whose name was made to mean this machine (DNS
rebinding) sends its own name as ``Host``. No answer may be read, framed or cached by anybody else, and nothing
from elsewhere is loaded or run in the page.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Final

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_NAMES: Final = ("127.0.0.1", "localhost")


class Guard:
    """The token of one server, and its names.

    Args:
        port: at which it listens.
    """

    def __init__(self, port: int) -> None:
        self.token: Final = secrets.token_urlsafe(24)
        self._hosts = {f"{name}:{port}" for name in _NAMES} | ({*_NAMES} if port == 80 else set())

    def knows_host(self, host: str | None) -> bool:
        """Whether the browser meant this server."""
        return host is not None and host.lower() in self._hosts

    def knows_origin(self, origin: str | None) -> bool:
        """Whether what is sent here comes from this page; browsers say where from, other programs may not."""
        return origin is None or origin.lower() in {f"http://{host}" for host in self._hosts}

    def knows_token(self, token: str | None) -> bool:
        """Whether the token is right, in a time that does not say how much of it is."""
        return hmac.compare_digest((token or "").encode("utf-8", "replace"), self.token.encode())
