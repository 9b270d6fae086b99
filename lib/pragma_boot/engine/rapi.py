"""Ganeti's REST API: requests over HTTPS to a cluster's master, and the jobs that they begin."""
import json
import os
import re
import ssl
import time
from typing import Any
from urllib.parse import urlencode

import urllib3

from ..system.failure import Failure, Shortage, cause

PORT = 5080
"""Where ganeti-rapi(8) listens."""

SECONDS = 60
"""That an answer may take: jobs are not waited for in a request."""

POLL_SECONDS = 0.2, 2
"""How often a job is looked at, at first and at last."""

ENDED = ('success', 'error', 'canceled')

NO_RESOURCES = 'insufficient_resources'
"""The code of an error for want of nodes, memory or disks (ganeti.errors, ECODE_NORES)."""


class Missing(Failure):
    """There is nothing of that name."""


def credentials(path: str) -> list[str]:
    """The user and password in a file, which only its owner may read; raises Failure."""
    try:
        with open(path, encoding='utf-8') as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            words = file.read().split()
    except (OSError, UnicodeDecodeError) as error:
        reason = cause(error) if isinstance(error, OSError) else 'not UTF-8 text'
        raise Failure(f"cannot read credentials '{path}': {reason}") from None
    if mode & 0o077:
        raise Failure(f"credentials '{path}' can be read by others than their owner "
                      f"(mode {mode:04o}): chmod 600 '{path}'")
    if len(words) != 2:
        raise Failure(f"credentials '{path}' are not a user and a password on one line")
    return words


class Rapi:
    """The REST API of the master that ``uri``, ganeti://MASTER[:PORT], names."""

    def __init__(self, uri: str, credentials_file: str, ca_file: str) -> None:
        self._subject = f"Ganeti at '{uri}'"
        self._credentials_file = credentials_file
        server = uri.removeprefix('ganeti://')
        self._base = f"https://{server}{'' if ':' in server else f':{PORT}'}"
        try:
            context = ssl.create_default_context(cafile=ca_file or None)
        except OSError as error:
            raise Failure(f"cannot read certificates '{ca_file}': {cause(error)}") from None
        user = ':'.join(credentials(credentials_file))
        # No proxy and no .netrc of the environment's is asked.
        self._pool = urllib3.PoolManager(
            ssl_context=context, maxsize=16, retries=False,
            timeout=urllib3.Timeout(connect=10, read=SECONDS),
            headers={**urllib3.make_headers(basic_auth=user), 'Content-Type': 'application/json'})

    def failure(self, message: str, kind: type[Failure] = Failure) -> Failure:
        """A Failure of this master's."""
        return kind(f'{self._subject}: {message}')

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The answer to one request, of JSON; raises Failure, Missing where there is no such thing."""
        try:
            answer = self._pool.request(method, f"{self._base}{path}{'?' if query else ''}{urlencode(query)}",
                                        body=None if body is None else json.dumps(body).encode())
            told = json.loads(answer.data)
        except urllib3.exceptions.HTTPError as error:
            raise self.failure(_words(error)) from None
        except ValueError:
            raise self.failure(f'{method} {path}: no JSON in the answer, of status {answer.status}') from None
        if answer.status == 401:
            raise self.failure(f"it does not take the user and password of '{self._credentials_file}'")
        if answer.status != 200:
            reason = told.get('explain') or told.get('message') if isinstance(told, dict) else told
            raise self.failure(f'{method} {path}: {_line(reason)}', Missing if answer.status == 404 else Failure)
        return told

    def follow(self, job: Any, what: str) -> Any:
        """Wait until a job ends; its opcodes' results. Raises Failure, or Shortage, that names it."""
        pause, most = POLL_SECONDS
        while (told := self.ask('GET', f'/2/jobs/{job}'))['status'] not in ENDED:
            time.sleep(pause)
            pause = min(pause * 1.5, most)
        if told['status'] == 'success':
            return told['opresult']
        reasons = [_line(result[1][0]) if isinstance(result, list) and len(result) > 1 else _line(result)
                   for status, result in zip(told['opstatus'], told['opresult']) if status != 'success']
        short = any(NO_RESOURCES in json.dumps(result) for result in told['opresult'])
        raise self.failure(f"job {job} ({what}) ended with {told['status']}: {'; '.join(reasons)}",
                           Shortage if short else Failure)

    def do(self, method: str, path: str, what: str, body: Any = None,
            **query: Any) -> Any:
        """Submit a request that begins a job, and follow that."""
        return self.follow(self.ask(method, path, body, **query), what)


def _words(error: Exception) -> str:
    """What went wrong with a connection, without the objects that it went wrong with."""
    return _line(re.sub(r'^(<.*?>|HTTPS?Connection\w*\(.*?\)): ', '', str(error.args[-1] if error.args else error)))


def _line(reason: object) -> str:
    """The words of a job's or a server's error on one line."""
    if isinstance(reason, (list, tuple)):
        reason = ' '.join(map(str, reason))
    return ' '.join(str(reason).split())
