"""What the errors of servers mean, in words, and which of them are worth another try."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

__all__ = ["Trouble", "patiently", "trouble", "without_secrets"]

Result = TypeVar("Result")

PAUSES = (0.25, 0.75, 2.0, 5.0)  # seconds before another try, more or less
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_REFUSED = frozenset(
    {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired"}
)
# The classes of aiohttp, botocore, http.client and urllib3, known by name: none of them need be installed or loaded.
_BROKEN = frozenset(
    {
        "ClientConnectionError",
        "ClientPayloadError",
        "ConnectionError",
        "HTTPClientError",
        "IncompleteRead",
        "IncompleteReadError",
        "ResponseParserError",
        "TimeoutError",
    }
)
_CREDENTIALS = frozenset({"CredentialRetrievalError", "NoCredentialsError", "PartialCredentialsError"})
_USER = re.compile(r"(\w+://)[^\s/@'\"]*@")
_QUERY = re.compile(r"(\w+://[^\s?'\"]*)\?[^\s'\")]*")


class Trouble(NamedTuple):
    """Says what went wrong between here and a server, and whether it may pass."""

    reason: str
    passing: bool = False


def trouble(error: BaseException) -> Trouble | None:
    """Return what an error, or what caused it, tells of a server; None where it tells nothing of one."""
    for one in _chain(error):
        names = {kind.__name__ for kind in type(one).__mro__}
        status, code = _answer(one)
        if "FileExpired" in names:
            return Trouble("it changed while it was read", passing=True)
        if names & _CREDENTIALS:
            return Trouble(
                "no credentials were found. Name them as AWS tools do, such as by AWS_PROFILE or a role, on the "
                "workers too; for public data pass storage_options={'anon': True}"
            )
        if code in _REFUSED:
            return Trouble(f"the server does not take the credentials ({code})")
        if status in (401, 403):
            return Trouble(
                f"the server answered {status}{_named(code)}. Check the credentials; on S3, public data may want "
                "storage_options={'anon': True}, and data whose readers pay {'requester_pays': True}"
            )
        if code == "NoSuchBucket":
            return Trouble("there is no such bucket")
        if status in _BUSY or code in ("InternalError", "SlowDown", "RequestTimeout", "ServiceUnavailable"):
            return Trouble(f"the server answered {status}{_named(code)} each time it was asked", passing=True)
        if names & _BROKEN:
            late = any("Timeout" in name for name in names)
            what = "the server did not answer in time" if late else "the connection to the server failed"
            return Trouble(f"{what}, each time it was tried ({type(one).__name__})", passing=True)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what led to it; s3fs wraps the errors of botocore in others."""
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _answer(error: BaseException) -> tuple[int | None, str]:
    """Return the status and the code that a server answered, as botocore, aiohttp and gcsfs keep them."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status, str(response.get("Error", {}).get("Code", ""))
    for name in ("status", "code"):
        if isinstance(status := getattr(error, name, None), int):
            return status, ""
    return None, ""


def _named(code: str) -> str:
    return f" ({code})" if code and not code.isdecimal() else ""


def patiently(action: Callable[[], Result]) -> Result:
    """Do what a server has a part in, and do it again where the trouble may pass, after longer and longer pauses.

    Parameters
    ----------
    action : callable
        Without parameters; doing it twice does no harm.
    """
    for pause in PAUSES:
        try:
            return action()
        except Exception as error:
            found = trouble(error)
            if found is None or not found.passing:
                raise
            time.sleep(pause * random.uniform(0.6, 1.4))
    return action()


def without_secrets(text: str) -> str:
    """Return a text with the users, passwords and signatures taken out of its URLs.

    >>> without_secrets("403, url='https://me:secret@host/a.png?X-Amz-Signature=abc'")
    "403, url='https://host/a.png'"
    """
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))
