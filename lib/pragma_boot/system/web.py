"""Web servers, by urllib3: which URLs are read, through which proxy, and what may go wrong.

A server is not trusted. An answer is read until the server closes the connection, so that it shows
when more is sent than was announced (transfer).
"""
from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
import urllib.request
from typing import Any
from urllib.parse import urljoin, urlsplit

import urllib3

from . import files
from .failure import Failure, cause
from .settings import Settings

CONNECT_SECONDS = 10
REDIRECTS = 5
ANNOUNCED = 'X-Pragma-Announced'
"""The header that has the server's Content-Length, by which nothing is cut off."""

LONGEST = 200
"""Characters of what a server says that a message has."""

LOOPBACK = r'localhost|127(\.[0-9]{1,3}){3}|::1'


class Broken(Failure):
    """The server cannot be reached, or broke off: a later attempt may work, and resumes."""


class Stalled(Broken):
    """The server sends nothing, or next to nothing."""


class Missing(Failure):
    """The server has no such file."""


class _Response(http.client.HTTPResponse):
    """An answer that is read until the server closes the connection."""

    def begin(self) -> None:
        super().begin()
        del self.headers[ANNOUNCED]
        if self.status in (200, 206) and not self.chunked:
            if self.length is not None:
                self.headers[ANNOUNCED] = str(self.length)
            del self.headers['Content-Length']
            self.length, self.will_close = None, True


class _Bounded(urllib3.connection.HTTPConnection):
    """A connection whose server has a limited time for the head of its answer."""

    response_class = _Response
    sock: socket.socket

    def getresponse(self) -> Any:
        late = threading.Event()
        timer = threading.Timer(2 * float(self.timeout or CONNECT_SECONDS), self._end, [late])
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if late.is_set():
                raise TimeoutError

    def _end(self, late: threading.Event) -> None:
        late.set()
        with contextlib.suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


class _BoundedTLS(_Bounded, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Bounded


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _BoundedTLS


class Web:
    """Web servers, as the site's settings and the proxies of the environment reach them."""

    def __init__(self, settings: Settings) -> None:
        self._insecure = settings.yes('database_http')
        self._seconds = settings.number('fetch_timeout') or CONNECT_SECONDS
        self._ca = settings['database_ca'] and settings.path_of('database_ca')
        self._managers: dict[str, urllib3.PoolManager] = {}

    def check(self, url: str, before: str | None = None) -> None:
        """Raise Failure for a URL that is not taken; ``before`` is the one that led to it."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or '', parts.port
        except ValueError:
            raise Failure(f"'{short(url)}' is no URL") from None
        source = f"'{before}' leads to '{short(url)}', which" if before else f"'{url}'"
        secure = parts.scheme == 'https'
        if before and urlsplit(before).scheme == 'https' and not secure:
            raise Failure(f'{source} is not https://: it is not followed')
        if not secure and parts.scheme != 'http':
            raise Failure(f'{source} is not a URL that begins with https://')
        if not host or not url.isascii() or not url.isprintable() or ' ' in url:
            raise Failure(f'{source} is no URL of a server')
        if parts.username is not None or parts.fragment or (parts.query and not before):
            raise Failure(f"{source} must have no user name, '?' or '#'")
        near = not before or re.fullmatch(LOOPBACK, urlsplit(before).hostname or '')
        if not secure and not self._insecure and not (near and re.fullmatch(LOOPBACK, host)):
            raise Failure(f'{source} is not encrypted: use https://, or set database_http = yes '
                          'in site_conf.conf')

    def open(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The server's answer, after redirects, with its body unread; raises Failure."""
        start = url
        for _ in range(REDIRECTS + 1):
            self.check(url, start if url != start else None)
            try:
                answer = self._manager(url).request(
                    'GET', url, headers={**headers, 'Connection': 'close', 'Accept': '*/*',
                                         'User-Agent': 'pragma_boot'},
                    redirect=False, preload_content=False, decode_content=False)
            except urllib3.exceptions.HTTPError as error:
                raise self.failure(url, error) from None
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            place = answer.headers.get('Location', '')
            answer.close()
            if not place:
                raise Failure(f"'{url}': the server sends status {answer.status}, but no Location")
            self.check(urljoin(url, place), url)
            url = urljoin(url, place)
        raise Failure(f"'{start}' leads to more than {REDIRECTS} other places")

    def failure(self, url: str, error: Exception) -> Failure:
        """The Failure that an error of a connection is; those that may pass are Broken."""
        if isinstance(error, urllib3.exceptions.ReadTimeoutError):
            return Stalled(f"'{url}': the server has sent nothing for {self._seconds} s "
                           '(fetch_timeout in site_conf.conf)')
        reason = _reason(error)
        if isinstance(error, urllib3.exceptions.ProxyError):
            reason = f'through the proxy of the environment: {reason}'
        certificate = isinstance(error, urllib3.exceptions.SSLError)
        if certificate and 'verify failed' in reason:
            return Failure(f"'{url}': {reason}: database_ca in site_conf.conf, or SSL_CERT_FILE, "
                           'names a file with other certificates')
        return Broken(f"cannot read '{url}': {reason}")

    @property
    def seconds(self) -> int:
        """The time in which a server must send something."""
        return self._seconds

    def _manager(self, url: str) -> urllib3.PoolManager:
        """The pool for a URL: through a proxy of the environment, or directly."""
        parts = urlsplit(url)
        proxies = urllib.request.getproxies_environment()
        proxy = proxies.get(parts.scheme) or proxies.get('all', '')
        if proxy and urllib.request.proxy_bypass(parts.netloc):
            proxy = ''
        if proxy not in self._managers:
            options: dict[str, Any] = {
                'ssl_context': certificates(self._ca), 'retries': False,
                'timeout': urllib3.Timeout(connect=CONNECT_SECONDS, read=self._seconds)}
            try:
                named = re.match('[A-Za-z0-9]+:/', proxy)
                place = urllib3.util.parse_url(proxy if named else f'//{proxy}')
                manager = (urllib3.ProxyManager(place._replace(scheme=place.scheme or 'http').url,
                                                **options)
                           if proxy else urllib3.PoolManager(**options))
            except (urllib3.exceptions.HTTPError, ValueError):
                raise Failure(f"proxy '{proxy}' of the environment is not http:// or https://"
                              ) from None
            manager.pool_classes_by_scheme = {'http': _Pool, 'https': _TLSPool}
            self._managers[proxy] = manager
        return self._managers[proxy]


def certificates(path: str) -> ssl.SSLContext:
    """Those in a file, otherwise those of the system or of SSL_CERT_FILE; raises Failure."""
    if path:
        files.open_regular(path, f"certificates '{path}'").close()
    try:
        return ssl.create_default_context(cafile=path or None)
    except OSError as error:
        raise Failure(f"cannot read certificates '{path}': {cause(error)}") from None


def short(text: str) -> str:
    """What a server says, in one line of at most LONGEST characters."""
    line = ' '.join(text.split())
    return line if len(line) <= LONGEST else f'{line[:LONGEST]}...'


def _reason(error: BaseException) -> str:
    """Why a connection failed: the first of the errors that led to this one."""
    first = next((one for one in (error.__cause__, *error.args[::-1])
                  if isinstance(one, Exception)), None)
    if first:
        return _reason(first)
    if isinstance(error, http.client.IncompleteRead):
        return 'the server broke off'
    return short(cause(error) if isinstance(error, OSError) else str(error))
