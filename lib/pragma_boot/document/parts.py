"""Images in parts: <file type=><part>… in a vc-in.xml, as in the first pragma_boot's repositories.

There a <file> is in <files>, with the image's name in `filename`, or in the element of a role. Its
types are those of pragma/repository/processor: "splited" is the original's spelling.
"""
from __future__ import annotations

import posixpath

from lxml import etree

from ..system.failure import Failure

JOINED = ('splited', 'splited_gzip')
"""Types whose parts, one after another, are the image; in the second one it is a .gz."""

SINGLE = ('gzip', 'raw')
"""Types each of whose parts is a file of its own; gzip makes a file of the name without '.gz'."""

MOST = 1000
"""Parts of an image. Each is an open file while the image is unpacked."""


def of(root: etree._Element, role: str, file: str) -> list[str]:
    """The paths of the parts of a role's image ``file``, as its author wrote them; [] for none.

    Raises Failure with the line of a <file> that is not valid, or the second for this image.
    """
    told: list[str] = []
    line = 0
    for element in [*root.findall(f'{role}//file'), *root.findall('files/file')]:
        here = element.getparent().tag != 'files'
        kind = element.get('type', 'raw')
        if here and 'type' not in element.attrib:
            if 'filename' in element.attrib:
                raise _wrong(element, f"no type: it is one of {', '.join(JOINED + SINGLE)}")
            continue
        if kind not in JOINED + SINGLE:
            raise _wrong(element, f"type '{kind}', not one of {', '.join(JOINED + SINGLE)}")
        paths = [_text(part) for part in element.findall('.//part')]
        if not paths or len(paths) > MOST:
            raise _wrong(element, f'{len(paths)} parts, not 1 to {MOST}')
        if not all(paths):
            raise Failure(f"line {element.sourceline}: part {paths.index('') + 1} of <file> has no "
                          'path')
        for name, found in _made(element, kind, paths, file if here else None):
            if posixpath.normpath(name) == posixpath.normpath(file):
                if line:
                    raise _wrong(element, f"the filename '{name}' of the <file> in line {line}")
                told, line = found if found != [file] else [], element.sourceline
    return told


def _made(element: etree._Element, kind: str, paths: list[str],
          default: str | None) -> list[tuple[str, list[str]]]:
    """The files that a <file> is about, and the parts of each."""
    name = element.get('filename', default)
    if kind in JOINED or (name and len(paths) == 1):
        if not name:
            raise _wrong(element, 'no filename')
        return [(name, paths)]
    if 'filename' in element.attrib:
        raise _wrong(element, f'a filename and {len(paths)} parts: only '
                     f"{' and '.join(JOINED)} join several")
    return [(path.removesuffix('.gz') if kind == 'gzip' else path, [path]) for path in paths]


def _text(element: etree._Element) -> str:
    return element.xpath('string()').strip()


def _wrong(element: etree._Element, reason: str) -> Failure:
    return Failure(f'line {element.sourceline}: <file> has {reason}')
