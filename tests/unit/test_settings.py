"""site_conf.conf: how its lines are read."""
import re

import pytest

from pragma_boot.system.failure import Failure
from pragma_boot.system.settings import Settings


def read(tmp_path, text):
    path = tmp_path / 'site_conf.conf'
    path.write_text(text)
    return Settings.read(path)


def test_reads_lines_and_comments(tmp_path):
    settings = read(tmp_path, '# comment\n\njobs = 3  # of two cores\nsearch=example.org\n')
    assert settings['jobs'] == '3' and settings['search'] == 'example.org'


@pytest.mark.parametrize('line, hint', [
    ('host = qemu:///session', ": is it 'hosts'?"),
    ('private_networks = socket', ": is it 'private_network'?"),
    ('JOBS = 2', ': settings are in lower case'), ('colour = green', '')])
def test_refuses_an_unknown_setting_with_its_line(tmp_path, line, hint):
    key = line.split()[0]
    with pytest.raises(Failure,
                       match=re.escape(f"site_conf.conf:2: unknown setting '{key}'{hint}") + '$'):
        read(tmp_path, f'jobs = 2\n{line}\n')


def test_the_last_line_of_a_setting_counts(tmp_path):
    """As with make; a line can be added to a copy of another site's file."""
    assert read(tmp_path, 'jobs = 2\njobs = 3\n')['jobs'] == '3'


@pytest.mark.parametrize('line', ['jobs', 'jobs: 2'])
def test_refuses_what_is_not_a_setting(tmp_path, line):
    with pytest.raises(Failure, match=re.escape(f":1: not a 'key = value' line: '{line}'")):
        read(tmp_path, line)
