"""Ganeti's REST API: requests over HTTPS to the master, and the jobs that they start."""
import json
import os
import re
import time
from typing import Any
from urllib.parse import urlencode

import urllib3

from ..system import files, web
from ..system.failure import Failure, Shortage

PORT = 5080
"""The port of ganeti-rapi(8)."""

SECONDS = 60
"""The time-out of a request. No request waits for a job."""

POLL_SECONDS = 0.2, 2
"""Between two queries of a job, at first and at most."""

ENDED = ('success', 'error', 'canceled')

NO_RESOURCES = 'insufficient_resources'
"""The code of an error for lack of nodes, memory or disks (ganeti.errors, ECODE_NORES)."""


class Missing(Failure):
    """No resource has that name."""


def credentials(path: str) -> list[str]:
    """The user and password in a file that only its owner may read; raises Failure."""
    with files.open_regular(path, f"credentials '{path}'") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        try:
            words = file.read().decode().split()
        except UnicodeDecodeError:
            raise Failure(f"cannot read credentials '{path}': not UTF-8 text") from None
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
        context = web.certificates(ca_file)
        user = ':'.join(credentials(credentials_file))
        # Neither a proxy nor a .netrc of the environment is used.
        self._pool = urllib3.PoolManager(
            ssl_context=context, maxsize=16, retries=False,
            timeout=urllib3.Timeout(connect=10, read=SECONDS),
            headers={**urllib3.make_headers(basic_auth=user), 'Content-Type': 'application/json'})

    def failure(self, message: str, kind: type[Failure] = Failure) -> Failure:
        """A Failure whose message names this master."""
        return kind(f'{self._subject}: {message}')

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The JSON answer to one request; raises Failure, and Missing for an unknown resource."""
        try:
            answer = self._pool.request(
                method, f"{self._base}{path}{'?' if query else ''}{urlencode(query)}",
                body=None if body is None else json.dumps(body).encode())
            content = json.loads(answer.data)
        except urllib3.exceptions.HTTPError as error:
            raise self.failure(_words(error)) from None
        except ValueError:
            raise self.failure(
                f'{method} {path}: no JSON in the answer, of status {answer.status}') from None
        if answer.status == 401:
            raise self.failure(
                f"it refuses the user and password of '{self._credentials_file}'")
        if answer.status != 200:
            reason = content
            if isinstance(content, dict):
                reason = content.get('explain') or content.get('message')
            raise self.failure(f'{method} {path}: {_line(reason)}',
                               Missing if answer.status == 404 else Failure)
        return content

    def follow(self, job: Any, what: str) -> Any:
        """Wait for the end of a job; the results of its opcodes. Raises Failure, or Shortage."""
        pause, maximum = POLL_SECONDS
        while (state := self.ask('GET', f'/2/jobs/{job}'))['status'] not in ENDED:
            time.sleep(pause)
            pause = min(pause * 1.5, maximum)
        if state['status'] == 'success':
            return state['opresult']
        reasons = [_line(result[1][0] if isinstance(result, list) and len(result) > 1 else result)
                   for status, result in zip(state['opstatus'], state['opresult'], strict=False)
                   if status != 'success']
        short = any(NO_RESOURCES in json.dumps(result) for result in state['opresult'])
        raise self.failure(f"job {job} ({what}) ended with {state['status']}: {'; '.join(reasons)}",
                           Shortage if short else Failure)

    def do(self, method: str, path: str, what: str, body: Any = None,
           **query: Any) -> Any:
        """Submit a request that starts a job, and follow the job; the results of its opcodes."""
        return self.follow(self.ask(method, path, body, **query), what)


def _words(error: Exception) -> str:
    """The message of a connection's error, without the names of urllib3's objects."""
    message = str(error.args[-1] if error.args else error)
    return _line(re.sub(r'^(<.*?>|HTTPS?Connection\w*\(.*?\)): ', '', message))


def _line(reason: object) -> str:
    """The message of a job's or a server's error on one line."""
    if isinstance(reason, (list, tuple)):
        reason = ' '.join(map(str, reason))
    return ' '.join(str(reason).split())
