"""A new entry of the image database, all or nothing: its folder is whole before it has a name.

The line of vcdb.txt is written last, under the lock of the database's folder.
"""
from __future__ import annotations

import os
import shutil

from lxml import etree

from ..document import tree, vcin
from ..system import files, log
from ..system.failure import Failure
from ..system.settings import Settings
from . import vcdb

VC_IN = 'vc-in.xml'


def folder_of(base_path: str) -> str:
    """The absolute path of the folder of the database; raises Failure where there is none."""
    base = os.path.abspath(vcdb.folder(base_path))
    if not os.path.isdir(base):
        raise Failure(f"there is no folder '{base}' for the image database: make it, or name "
                      'another with --base_path')
    return base


def existing(base: str, name: str) -> str | None:
    """The vc-in.xml of the entry ``name``, None where the database has no such entry."""
    if not os.path.exists(os.path.join(base, vcdb.FILE)):
        return None
    return vcdb.entries(base, log.detail).get(name)


def finish(draft: str, folder: str, root: etree._Element, settings: Settings) -> None:
    """Write the vc-in.xml into the folder ``draft``, check it, and name the draft ``folder``."""
    path = os.path.join(draft, VC_IN)
    files.write(path, tree.serialize(root))
    # As vc-parse checks it.
    vcin.resolve(tree.read_file(path, 'vc-in'), draft, path, settings)
    os.rename(draft, folder)


def add(base: str, name: str) -> None:
    """Add the line of an entry; where that fails, its folder is removed. Under the lock."""
    try:
        vcdb.add(base, name, os.path.join(name, VC_IN))
    except BaseException:
        shutil.rmtree(os.path.join(base, name))
        raise
