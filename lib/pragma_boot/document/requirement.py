"""Requirements of images and vc-in.xml files: vc-stage enforces them, vc-check reports on each."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from lxml import etree

from ..system.failure import Failure
from .tree import put


class Requirement(NamedTuple):
    """What an image or a vc-in.xml must be.

    ``look`` takes the subject, returns a sentence for the user, and raises Failure where the
    requirement is not met. ``remedy`` tells the author what to do then. Where one that is
    ``vital`` is not met, those after it cannot be checked; ``title`` names them.
    """

    title: str
    look: Callable[[Any], str]
    remedy: str = ''
    vital: bool = True


class Unseen(Failure):
    """A requirement that we cannot check."""


class Doubt(Failure):
    """A requirement that is met, with something that the author should know."""


def insist(requirements: Iterable[Requirement], subject: object) -> None:
    """Check requirements of ``subject`` in order; raises Failure for the first that is not met."""
    for requirement in requirements:
        with contextlib.suppress(Doubt):
            requirement.look(subject)


class Finding(NamedTuple):
    """The outcome of one requirement: ``result`` is 'ok', 'warning', 'failed' or 'unseen'."""

    result: str
    of: str
    text: str


class Checklist:
    """Findings in order."""

    SIGNS: ClassVar = {'ok': 'ok', 'warning': 'warn', 'failed': 'FAIL', 'unseen': '--'}

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def run(self, of: str, requirements: Sequence[Requirement], subject: object,
            names: Mapping[str, str] | None = None) -> bool:
        """Check requirements and add a finding for each; whether later ones can be checked.

        ``names`` are replaced in messages: {"image '/long/path'": 'the image'}.
        """
        for count, (_, look, remedy, vital) in enumerate(requirements, 1):
            try:
                self.findings.append(Finding('ok', of, look(subject)))
            except Failure as failure:
                text = f'{failure}: {remedy}' if remedy else str(failure)
                for long, short in (names or {}).items():
                    text = text.removeprefix(f'{long}: ').replace(long, short)
                result = ('unseen' if isinstance(failure, Unseen) else
                          'warning' if isinstance(failure, Doubt) else 'failed')
                self.findings.append(Finding(result, of, text))
                if vital and result != 'warning':
                    self.skip(of, [one.title for one in requirements[count:]])
                    return False
        return True

    def skip(self, of: str, titles: Iterable[str]) -> None:
        """Add findings for requirements that cannot be checked because an earlier one failed."""
        self.findings += [Finding('unseen', of, f'not checked: {title}') for title in titles]

    @property
    def passed(self) -> bool:
        """Whether all requirements were checked and are met, warnings included."""
        return all(finding.result in ('ok', 'warning') for finding in self.findings)

    def text(self) -> str:
        """The findings, a line each."""
        return ''.join(f"{self.SIGNS[one.result]:<6}{one.of}{': ' if one.of else ''}{one.text}\n"
                       for one in self.findings)

    def xml(self, source: str) -> etree._Element:
        """The findings about the file ``source`` as <check><requirement of= result=>…."""
        root = etree.Element('check', source=source, result='ok' if self.passed else 'failed')
        for one in self.findings:
            found = etree.Element('requirement', result=one.result,
                                  **({'of': one.of} if one.of else {}))
            found.text = one.text
            put(root, found)
        return root
