"""Requirements of the format: what staging insists on, and what vc-check tells an author of each."""
from collections.abc import Callable
from typing import NamedTuple

from lxml import etree

from ..system.failure import Failure
from .tree import put


class Requirement(NamedTuple):
    """What an image or a vc-in.xml must be.

    ``look`` is called with what is looked at; it returns what it found, a sentence, and raises Failure.
    ``remedy`` is what the author can do then; ``title`` is said where it was not looked at, which is so
    of all that come after one that is ``vital``.
    """

    title: str
    look: Callable
    remedy: str = ''
    vital: bool = True


class Unseen(Failure):
    """A requirement that cannot be looked at here."""


def insist(requirements, subject):
    """Look at each requirement of ``subject``; raises the first Failure."""
    for requirement in requirements:
        requirement.look(subject)


class Finding(NamedTuple):
    """What was found of one requirement: ``result`` is 'ok', 'failed' or 'unseen'."""

    result: str
    of: str
    text: str


class Checklist:
    """Findings, in order. ``names`` are words of messages and what is said for them: {long path: 'the image'}."""

    SIGNS = {'ok': 'ok', 'failed': 'FAIL', 'unseen': '--'}

    def __init__(self):
        self.findings = []

    def run(self, of, requirements, subject, names=()):
        """Enter what is found of each; returns whether what comes after them can be looked at."""
        for count, (_, look, remedy, vital) in enumerate(requirements, 1):
            try:
                self.findings.append(Finding('ok', of, look(subject)))
            except Failure as failure:
                text = f'{failure}: {remedy}' if remedy else str(failure)
                for long, short in dict(names).items():
                    text = text.removeprefix(f'{long}: ').replace(long, short)
                unseen = isinstance(failure, Unseen)
                self.findings.append(Finding('unseen' if unseen else 'failed', of, text))
                if vital:
                    self.skip(of, requirements[count:])
                    return False
        return True

    def skip(self, of, requirements):
        """Enter requirements that were not looked at for what failed before."""
        self.findings += [Finding('unseen', of, f'not looked at: {one.title}') for one in requirements]

    @property
    def passed(self):
        """Whether all requirements were looked at and met."""
        return all(finding.result == 'ok' for finding in self.findings)

    def text(self):
        """A line a finding."""
        return ''.join(f"{self.SIGNS[one.result]:<6}{one.of}{': ' if one.of else ''}{one.text}\n"
                       for one in self.findings)

    def xml(self, source):
        """The findings as <check><requirement of= result=>…."""
        root = etree.Element('check', source=source, result='ok' if self.passed else 'failed')
        for one in self.findings:
            found = etree.Element('requirement', result=one.result, **({'of': one.of} if one.of else {}))
            found.text = one.text
            put(root, found)
        return root
