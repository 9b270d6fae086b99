"""Keys: the door takes what sshd's own reader takes."""
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pragma_boot.system import sshkey
from pragma_boot.system.failure import Failure


@pytest.fixture(scope='module')
def key(tmp_path_factory):
    """The two words of a public key, and of a certificate of it."""
    path = tmp_path_factory.mktemp('key') / 'id'
    subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', path], check=True)
    subprocess.run(['ssh-keygen', '-q', '-s', path, '-I', 'x', '-n', 'root', f'{path}.pub'],
                   check=True)
    return {'key': b' '.join(path.with_suffix('.pub').read_bytes().split()[:2]), 'path': path,
            'cert': b' '.join(path.with_name('id-cert.pub').read_bytes().split()[:2])}


BLANKS = st.sampled_from([b' ', b'\t', b' \t ', b'\xc2\xa0', b'\xa0', b'', b'\x0b'])
COMMENTS = (st.binary(max_size=12)
            | st.text(max_size=8).map(lambda text: text.encode('utf-8', 'ignore')))
OPTIONS = st.sampled_from([b'', b'no-pty ', b'no-pty\t', b'command="a b" ',
                           b'command="a \\" b",no-pty ', b'command="a ', b'# '])


@settings(max_examples=150)
@given(BLANKS, OPTIONS, BLANKS, BLANKS, COMMENTS, st.integers(0, 200))
@example(b'', b'', b'\t', b'\t', b'caf\xe9', 0)
@example(b'', b'', b' ', b' ', b'no\xc2\xa0break', 0)
@example(b'', b'', b' ', b' ', b'\x85', 0)
@example(b'\xc2\xa0', b'', b' ', b' ', b'', 0)
def test_row_44_the_door_is_that_of_sshd(key, before, options, blank, after, comment, cut):
    word, data = key['key'].split()
    line = before + options + word + blank + (data[:cut] if cut < 60 else data) + after + comment
    if b'\n' in line:
        return
    path = key['path'].with_name('some.pub')
    path.write_bytes(line + b'\n')
    done = subprocess.run(['ssh-keygen', '-l', '-f', path], capture_output=True, check=False)
    taken = done.returncode == 0
    try:
        keys = sshkey.read_public(str(path))
    except Failure as failure:
        # sshd takes control characters in a comment, and XML does not.
        assert not taken or 'has control characters in it' in str(failure)
    else:
        assert taken and '\n' not in keys


def test_row_44_a_certificate_under_another_name(key):
    path = key['path'].with_name('some.pub')
    path.write_bytes(key['key'] + b'\n' + key['cert'] + b'\n')
    with pytest.raises(Failure, match='has a certificate in it, which lets nobody in'):
        sshkey.read_public(str(path))


def test_row_44_a_pipe_is_copied(key):
    with (subprocess.Popen(['cat', f"{key['path']}.pub"], stdout=subprocess.PIPE) as cat,
          sshkey.lasting(f'/dev/fd/{cat.stdout.fileno()}') as path):
        assert Path(path).read_bytes().startswith(key['key'])
    with sshkey.lasting(f"{key['path']}.pub") as path:
        assert path == f"{key['path']}.pub"
