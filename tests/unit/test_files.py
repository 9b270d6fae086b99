"""Files that appear whole or not at all."""
import errno
import os
import re

import pytest

from pragma_boot.system import files
from pragma_boot.system.failure import Failure


def test_a_link_is_a_copy_where_there_are_no_links(tmp_path, monkeypatch):
    (tmp_path / 'a').write_bytes(b'content')
    (tmp_path / 'a').chmod(0o444)
    files.link(str(tmp_path / 'a'), str(tmp_path / 'b'))
    assert (tmp_path / 'b').samefile(tmp_path / 'a')

    def refuse(*_):
        raise PermissionError(errno.EPERM, 'link')    # as link(2) on FAT
    monkeypatch.setattr(os, 'link', refuse)
    files.link(str(tmp_path / 'a'), str(tmp_path / 'c'))
    assert not (tmp_path / 'c').samefile(tmp_path / 'a')
    assert (tmp_path / 'c').read_bytes() == b'content'
    assert (tmp_path / 'c').stat().st_mode & 0o777 == 0o444


def test_a_write_that_fails_names_the_file(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(os, 'fsync', full)
    path = str(tmp_path / 'a')
    with pytest.raises(OSError) as caught:
        files.write(path, b'content')
    assert caught.value.filename == path and os.listdir(tmp_path) == []


def test_a_folder_that_is_in_the_way_is_named(tmp_path):
    (tmp_path / 'a').mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        files.write(str(tmp_path / 'a'), b'content')
    assert caught.value.filename == str(tmp_path / 'a')


def test_only_a_regular_file_is_opened(tmp_path):
    path = tmp_path / 'fifo'
    os.mkfifo(path)
    for each in (path, tmp_path, '/dev/null'):
        with pytest.raises(Failure, match=re.escape(f"file '{each}' is not a regular file")):
            files.open_regular(str(each), f"file '{each}'")


def test_a_link_does_not_replace_a_file(tmp_path):
    for name in 'ab':
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        files.link(str(tmp_path / 'a'), str(tmp_path / 'b'))
    assert (tmp_path / 'b').read_text() == 'b'
