"""system.rootfiles: what is read from the output of debugfs, whatever an image has in it."""
import pytest

from pragma_boot.system.failure import Failure
from pragma_boot.system.rootfiles import Status, _statuses

PATHS = ['/root', '/root/.ssh', '/root/a']
ROOT = 'debugfs: stat /root\nInode: 12   Type: directory    Mode:  0755   Flags: 0x80000\n'
LINK = 'debugfs: stat /root/.ssh\nInode: 13   Type: symlink    Mode:  0777   Flags: 0x0\n'
NONE = 'debugfs: stat /root/a\n'
TARGET = 'Fast link dest: "\n{}Inode: 2   Type: directory    Mode:  0700\n"\n'


def test_types_and_modes():
    assert _statuses(ROOT + LINK + NONE, PATHS, 'x') == {
        '/root': Status('directory', '0755'), '/root/.ssh': Status('symlink', '0777'),
        '/root/a': Status('', '')}


@pytest.mark.parametrize('target', ['debugfs: stat /root/a\n', 'debugfs: stat /root\n', ROOT])
def test_a_link_that_imitates_output_is_refused(target):
    output = ROOT + LINK + TARGET.format(target)
    with pytest.raises(Failure, match='x: the output of debugfs cannot be understood'):
        _statuses(output + NONE, PATHS, 'x')


def test_a_link_with_lines_of_its_own_block():
    """The first of them is debugfs's own."""
    output = ROOT + LINK + TARGET.format('')
    assert _statuses(output + NONE, PATHS, 'x')['/root/.ssh'] == Status('symlink', '0777')
