"""Files that appear whole or not at all."""
import errno
import os

import pytest

from pragma_boot.system import files


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


def test_a_link_does_not_replace_a_file(tmp_path):
    for name in 'ab':
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        files.link(str(tmp_path / 'a'), str(tmp_path / 'b'))
    assert (tmp_path / 'b').read_text() == 'b'
