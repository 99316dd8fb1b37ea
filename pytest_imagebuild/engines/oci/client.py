"""Calls of one registry: its login, its redirects, and what is tried again.

A credential is sent to the registry it belongs to and to the token service that this names, and to nobody else: a
redirect is followed by hand, without it.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from pytest_imagebuild.engines.oci.credentials import Challenge, Credentials
from pytest_imagebuild.engines.oci.places import Place

__all__ = ["CallFailed", "Client", "Kind", "new_session"]

_T = TypeVar("_T")

_PAUSES = (0.5, 1.0, 2.0, 4.0)
_LONGEST_WAIT = 60.0
_TIMEOUT = (10.0, 60.0)
_MOST_REDIRECTS = 5
_MOST_ANSWER = 64 * 1024
_SILENT = (502, 503, 504)  # what a proxy says of a registry that does not answer
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


Kind = Literal["silent", "refused", "untrusted", "broke", "wrong"]
_VERBS: dict[Kind, str] = {
    "silent": "cannot be reached",
    "refused": "answered",
    "untrusted": "has a certificate that is not trusted",
    "broke": "broke off",
    "wrong": "gave",
}


class CallFailed(Exception):
    """A call failed. `again` tells whether it may go better a moment later, `wait` how long the registry asks to wait.

    `kind`: no answer came; the registry refused; its certificate is not trusted; it broke off; it gave what is wrong.
    """

    def __init__(self, said: str, *, kind: Kind, again: bool = False, wait: float = 0.0, status: int = 0) -> None:
        super().__init__(said)
        self.said = said
        self.kind = kind
        self.again = again
        self.wait = wait
        self.status = status

    @property
    def verb(self) -> str:
        """What the registry did, for a sentence that ends with what it said."""
        return _VERBS[self.kind]


class Client:
    """Talks to one place. Several threads may use it, until one cancels the calls of all."""

    def __init__(self, session: requests.Session, place: Place, credentials: Callable[[], Credentials | None]) -> None:
        self.place = place
        self._stop = threading.Event()
        self._open: set[requests.Response] = set()
        self._session = session
        self._credentials = credentials
        self._lock = threading.Lock()
        self._authorization: str | None = None
        self._answered = False

    def cancel(self) -> None:
        """End all calls, those that wait for bytes too."""
        self._stop.set()
        for response in list(self._open):
            # urllib3 has it since 2.3; before, the thread notices with the next bytes.
            shutdown = getattr(response.raw, "shutdown", None)
            if shutdown is not None:
                with contextlib.suppress(*_BROKEN, ValueError):
                    shutdown()

    def check(self) -> None:
        """Raise CallFailed when the calls are to stop."""
        if self._stop.is_set():
            raise CallFailed("another download failed", kind="broke")

    def insist(self, call: Callable[[], _T], progress: Callable[[], int] = lambda: 0) -> _T:
        """Call until it goes well, with growing pauses, but not for ever: `progress` makes a new beginning."""
        tried, had = 0, progress()
        while True:
            try:
                return call()
            except CallFailed as failed:
                if progress() > had:
                    tried, had = 0, progress()
                if not failed.again or tried == len(_PAUSES) or failed.wait > _LONGEST_WAIT:
                    raise
                pause = max(_PAUSES[tried], failed.wait)
            tried += 1
            self._stop.wait(pause)
            self.check()

    def read(self, path: str, *, headers: Mapping[str, str], most: int) -> tuple[bytes, str]:
        """Return a small body and its media type."""
        with self.open(path, headers=headers) as response:
            data = bytearray()
            for part in response.iter_content(65536):
                data += part
                if len(data) > most:
                    raise CallFailed(f"more than {most} bytes of metadata", kind="wrong")
            return bytes(data), response.headers.get("Content-Type", "")

    @contextlib.contextmanager
    def open(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """Make one call of `/v2/<repository>/<path>`; the answer is open while the block runs. Raises CallFailed."""
        url = f"{self.place.url}/v2/{self.place.repository}/{path}"
        with self._translated():
            response = self._follow(method, url, dict(headers or {}))
            with contextlib.closing(response):
                self._answered = True
                if response.status_code >= 300:
                    raise _refused(response, self.place)
                self._open.add(response)
                try:
                    yield response
                finally:
                    self._open.discard(response)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
            raise CallFailed(_root(error), kind="untrusted") from error
        except requests.exceptions.InvalidURL as error:
            raise CallFailed("an address that is none", kind="wrong") from error
        except _BROKEN as error:
            if self._answered:
                raise CallFailed(_root(error), kind="broke", again=True) from error
            # Who has not answered at all is not asked again: something else comes next.
            raise CallFailed(_root(error), kind="silent") from error

    def _follow(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        response = self._authorized(method, url, headers)
        for _ in range(_MOST_REDIRECTS):
            if response.status_code not in (301, 302, 303, 307, 308):
                return response
            target = urljoin(response.url, response.headers.get("Location", ""))
            response.close()
            if urlsplit(target).scheme not in ("http", "https"):
                raise CallFailed("a redirect to what is no web address", kind="wrong")
            same = _server(target) == _server(self.place.url)
            response = self._authorized(method, target, headers) if same else self._send(method, target, headers, None)
        response.close()
        raise CallFailed("a redirect without an end", kind="wrong")

    def _authorized(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        used = self._authorization
        response = self._send(method, url, headers, used)
        if response.status_code != 401:
            return response
        challenge = Challenge.parse(response.headers.get("WWW-Authenticate", ""))
        with self._lock:
            # Another thread may have logged in meanwhile.
            if challenge is None or (self._authorization == used and not self._log_in(challenge)):
                return response
        response.close()
        return self._send(method, url, headers, self._authorization)

    def _log_in(self, challenge: Challenge) -> bool:
        credentials = self._credentials()
        if challenge.scheme == "basic":
            known = credentials is not None and bool(credentials.user)
            self._authorization = _basic(credentials) if credentials is not None and known else None
            return known
        self._authorization = f"Bearer {self._token(challenge, credentials)}"
        return True

    def _token(self, challenge: Challenge, credentials: Credentials | None) -> str:
        realm = urlsplit(challenge.realm)
        if realm.scheme not in ("http", "https") or (realm.scheme == "http" and self.place.url.startswith("https:")):
            raise CallFailed(f"{challenge.realm[:100]!r} as its token service, which is not safe", kind="wrong")
        asked = {
            "service": challenge.service,
            "scope": challenge.scope or f"repository:{self.place.repository}:pull",
        }
        with contextlib.closing(self._ask_token(challenge.realm, asked, credentials)) as response:
            if response.status_code >= 300:
                raise _refused(response, self.place)
            answer = _json(response)
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise CallFailed("no token from its token service", kind="wrong")
        return token

    def _ask_token(self, realm: str, asked: dict[str, str], credentials: Credentials | None) -> requests.Response:
        # A token service that redirects gets nothing: the answer is not followed.
        if credentials is not None and credentials.identity_token:
            form = {
                **asked,
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": "pytest-imagebuild",
            }
            return self._send("POST", realm, {}, None, form=form)
        authorization = _basic(credentials) if credentials is not None else None
        return self._send("GET", realm, {}, authorization, query={key: value for key, value in asked.items() if value})

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str | None,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> requests.Response:
        host = urlsplit(url).hostname or ""
        return self._session.request(
            method,
            url,
            params=query,
            data=form,
            # Blobs are stored as they come, so nothing on the way may pack them.
            headers={"Accept-Encoding": "identity", **headers},
            auth=_Authorization(authorization),
            allow_redirects=False,
            stream=True,
            timeout=_TIMEOUT,
            # The session's alone would stand behind what `requests` finds in the environment.
            verify=self._session.verify,
            # No proxy reaches this machine's own loopback (as in Go, and so in Docker).
            proxies={"no_proxy": host} if host == "localhost" or re.match(r"127\.|::1$", host) else None,
        )


class _Authorization(requests.auth.AuthBase):
    """Sets the header, or none: without it `requests` would take one from ~/.netrc."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


def new_session(environ: Mapping[str, str]) -> requests.Session:
    """Return a session with the host's proxies and certificates; the system's own where no variable names others."""
    session = requests.Session()
    session.headers["User-Agent"] = "pytest-imagebuild"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=8))
    named = (environ.get(name) for name in _BUNDLES)
    bundles = (*named, ssl.get_default_verify_paths().cafile)
    session.verify = next((bundle for bundle in bundles if bundle and Path(bundle).exists()), True)
    return session


def _basic(credentials: Credentials) -> str:
    prepared = requests.PreparedRequest()
    prepared.headers = requests.structures.CaseInsensitiveDict()
    basic = requests.auth.HTTPBasicAuth(credentials.user.encode(), credentials.password.encode())
    return str(basic(prepared).headers["Authorization"])


def _server(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _refused(response: requests.Response, place: Place) -> CallFailed:
    status = response.status_code
    # What another host says is not shown: it may be anything.
    said = _said(response) if _server(response.url) == _server(place.url) else ""
    plain = f"HTTP {status} {response.reason or ''}".strip()
    return CallFailed(
        f"{said} ({plain})" if said else plain,
        kind="silent" if status in _SILENT else "refused",
        again=status == 429 or status >= 500,
        wait=_retry_after(response),
        status=status,
    )


def _said(response: requests.Response) -> str:
    try:
        errors = _json(response).get("errors")
    except (CallFailed, *_BROKEN):
        return ""
    entries = [entry for entry in errors if isinstance(entry, dict)] if isinstance(errors, list) else []
    parts = (
        f"{entry.get('code', '')}: {entry.get('message', '')}".strip(": ").lower().replace("_", " ")
        for entry in entries[:3]
    )
    return " ".join("; ".join(parts).split())[:300]


def _json(response: requests.Response) -> dict[str, object]:
    data = bytearray()
    for part in response.iter_content(4096):
        data += part
        if len(data) > _MOST_ANSWER:
            break
    try:
        parsed = json.loads(bytes(data))
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _root(error: BaseException) -> str:
    """Return what happened at the bottom of a chain of errors; those above it repeat addresses."""
    seen: list[BaseException] = [error]
    while True:
        last = seen[-1]
        inner = getattr(last, "reason", None) or last.__cause__ or last.__context__
        if not isinstance(inner, BaseException):
            inner = next((part for part in last.args if isinstance(part, BaseException)), None)
        if inner is None or inner in seen:
            break
        seen.append(inner)
    if any(isinstance(found, (requests.exceptions.Timeout, TimeoutError)) for found in seen):
        return "no answer in time"
    text = seen[-1].strerror if isinstance(seen[-1], OSError) and seen[-1].strerror else str(seen[-1])
    return " ".join(text.split())[:200] or type(seen[-1]).__name__
