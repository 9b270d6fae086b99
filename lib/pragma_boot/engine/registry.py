"""The engines of a site, each by its URI."""
import re

from ..system import log, workers
from ..system.failure import Failure
from ..system.settings import GANETI

URI = re.compile('[a-z0-9+]+://([^/:]*)')
"""A libvirt URI and the server in it. What is none is a host of another driver, which we cannot ask."""


def engine(uri):
    """What is asked about a node on the host ``uri``: of ganeti://MASTER/NODE the master, else the host."""
    return '/'.join(uri.split('/')[:3]) if uri.startswith(f'{GANETI}://') else uri


class Hosts:
    """The hosts of a site, each by its URI: the one place that knows of more engines than libvirt."""

    def __init__(self, settings):
        self._settings = settings
        self._known = {}

    def __getitem__(self, uri):
        uri = engine(uri)
        if uri not in self._known:
            if uri.startswith(f'{GANETI}://'):
                from .ganeti import Ganeti as kind
            else:
                from .libvirt import Host as kind
            self._known[uri] = kind(uri, self._settings)
        return self._known[uri]

    def ask(self, uris, question):
        """Put ``question`` (a function of a Host) to several at a time.

        The answers by URI; one that failed is its Failure.
        """
        def answer(host):
            try:
                return question(host)
            except Failure as failure:
                return failure
        uris = sorted(set(uris))
        hosts = {engine(uri): self[uri] for uri in uris}
        told = dict(zip(hosts, workers.each(answer, hosts.values(), len(hosts))))
        return {uri: told[engine(uri)] for uri in uris}

    def answers(self, uris, question):
        """As ``ask``, of those that answer: one that does not is named on stderr, and left out.

        Raises its Failure where none answers.
        """
        told = self.ask(uris, question)
        failed = {uri: one for uri, one in told.items() if isinstance(one, Failure)}
        if failed and len(failed) == len(told):
            raise next(iter(failed.values()))
        for failure in failed.values():
            log.warn(f'{failure}: this host is left out')
        return {uri: one for uri, one in told.items() if uri not in failed}
