"""What all filters, and all tools, have in common."""
import os
import pty
import subprocess

import pytest
from lxml import etree

from lab import ROOT
from lab.site import lines

FILTERS = {'vc-parse': (), 'vc-stage': (), 'vc-allocate': ('--num-cpus', '2'), 'vc-out': (),
           'vc-inject': (), 'vc-boot': ('--paused', '--ignore-dependencies'), 'vc-graph': ()}
BEFORE = {'vc-parse': 'vc-parse', 'vc-stage': 'vc-parse', 'vc-allocate': 'vc-stage',
          'vc-out': 'vc-allocate', 'vc-inject': 'vc-allocate', 'vc-boot': 'vc-inject',
          'vc-graph': 'vc-allocate'}
TOOLS = sorted(os.listdir(ROOT / 'bin'))

filters = pytest.mark.parametrize('tool', FILTERS)
# The others are projections, and use no setting.
growing = pytest.mark.parametrize('tool',
                                  [tool for tool in FILTERS if tool not in ('vc-out', 'vc-graph')])
tools = pytest.mark.parametrize('tool', TOOLS)


@tools
def test_help_and_version(empty_site, tool):
    output = empty_site.run(tool, '-h').stdout.decode()
    assert output == empty_site.run(tool, '--help').stdout.decode()
    assert output.startswith(f'{tool}: ') and 'Usage:' in output and 'Example:' in output
    assert max(map(len, output.splitlines())) <= 80
    assert empty_site.run(tool, '--version').stdout.decode().split()[0] == tool


@tools
@pytest.mark.parametrize('option', ['--help', '--version'])
def test_row_33_help_and_version_without_an_output(empty_site, tool, option):
    with open('/dev/full', 'wb') as full:
        done = empty_site.run(tool, option, status=1, stdout=full, stderr=subprocess.PIPE)
    assert lines(done.stderr) == [f'{tool}: cannot write standard output: No space left on device']
    done = subprocess.run(['bash', '-c', '"$0" "$1" >&-', ROOT / 'bin' / tool, option],
                          capture_output=True, env=empty_site.environment(), check=False)
    assert (done.returncode, lines(done.stderr)) == (1, [f'{tool}: standard output is closed'])


@pytest.mark.parametrize('words', [
    'pragma_boot --vcname x --key', 'pragma_boot --vcname x --name',
    'pragma_boot --list --base_path', 'pragma_boot --vcname x --frontend-memory',
    'vc-allocate --key', 'vc-allocate --name',
    'vc-boot --node x --node', 'vc-capture --base_path', 'vc-console -n', 'vc-fetch --mirror --to',
    'vc-import --name', 'vc-parse --base', 'vc-publish --key', 'vc-ssh -i', 'vc-stage --types'])
@pytest.mark.parametrize('joined', [False, True], ids=['two-words', 'one-word'])
def test_an_empty_value_is_refused(empty_site, words, joined):
    """No option has a meaning for it: it is a variable of a script that is not set."""
    tool, *before, option = words.split()
    after = {'vc-capture': ['--as', 'x', 'x'], 'vc-console': ['x'], 'vc-import': ['x'],
             'vc-parse': ['-'], 'vc-ssh': ['x']}.get(tool, [])
    empty = [f'{option}='] if joined and option.startswith('--') else [option, '']
    line = empty_site.fails(tool, *before, *empty, *after, status=2)
    assert line == f'{tool}: {option} must not be empty'


@tools
def test_bad_usage_is_status_2(empty_site, tool):
    assert '--no-such-option' in empty_site.fails(tool, '--no-such-option', status=2)
    assert 'usage' in empty_site.fails(tool, '--site-conf', status=2)


@tools
def test_row_26_refuses_abbreviated_options(empty_site, tool):
    assert "'--site'" in empty_site.fails(tool, '--site', empty_site.conf, status=2)


@tools
def test_runs_from_any_folder_through_a_link(empty_site, tool):
    link = empty_site.folder / 'linked'
    link.symlink_to(ROOT / 'bin' / tool)
    done = subprocess.run([link, '--version'], cwd='/', capture_output=True, check=True)
    assert b'0.' in done.stdout


@growing
def test_names_a_site_conf_that_is_not_there(empty_site, tool):
    line = empty_site.fails(tool, *FILTERS[tool], '--site-conf', '/nonexistent')
    assert "'/nonexistent': No such file" in line


@filters
def test_empty_standard_input(site, tool):
    assert 'no document on standard input' in site.fails(tool, *FILTERS[tool])


@filters
@pytest.mark.parametrize('document, reason', [
    (b'<vc>', 'not well-formed'),
    (b'<vc a="1" a="2"/>', 'not well-formed'),
    (b'<vc/><vc/>', 'not well-formed'),
    (b'<vc>\xff</vc>', 'not well-formed'),
    (b'<vc>\0</vc>', 'not well-formed'),
    (b'<other/>', 'line 1 is not valid'),
    (b'<!DOCTYPE vc [<!ENTITY e SYSTEM "file:///etc/passwd">]><vc>&e;</vc>', 'DOCTYPE'),
])
def test_row_01_03_bad_documents(site, tool, document, reason):
    assert reason in site.fails(tool, *FILTERS[tool], input=document)


@filters
def test_terminal_on_standard_input(site, tool):
    ours, theirs = pty.openpty()
    with os.fdopen(ours), os.fdopen(theirs) as terminal:
        done = subprocess.run([ROOT / 'bin' / tool, *FILTERS[tool]], stdin=terminal,
                              capture_output=True, env=site.environment(), timeout=60, check=False)
    assert done.returncode == 1 and b'standard input is a terminal' in done.stderr


@filters
def test_closed_standard_input(site, tool):
    done = subprocess.run(['bash', '-c', '"$0" "$@" <&-', ROOT / 'bin' / tool, *FILTERS[tool]],
                          capture_output=True, env=site.environment(), check=False)
    assert (done.returncode, lines(done.stderr)) == (1, [f'{tool}: standard input is closed'])


@filters
def test_row_33_full_and_closed_standard_output(site, tool):
    document = site.document(site.entry, BEFORE[tool])
    before = site.clusters()
    with open('/dev/full', 'wb') as full:
        done = site.run(tool, *FILTERS[tool], input=document, status=1, stdout=full,
                        stderr=subprocess.PIPE)
    assert lines(done.stderr)[-1] == \
        f'{tool}: cannot write standard output: No space left on device'
    assert site.clusters() == before
    done = subprocess.run(['bash', '-c', '"$0" "$@" >&-', ROOT / 'bin' / tool, *FILTERS[tool]],
                          input=document, capture_output=True, env=site.environment(), check=False)
    assert (done.returncode, lines(done.stderr)[-1]) == \
        (1, f'{tool}: standard output is closed')
    assert site.clusters() == before


@growing
def test_keeps_unknown_elements_and_is_idempotent(site, tool):
    tree = etree.fromstring(site.document(site.entry, BEFORE[tool]))
    etree.SubElement(tree, 'site-note', colour='green').text = 'kept'
    tree.set('site-attribute', 'kept')
    tree.find('frontend').append(etree.Comment('kept too'))
    once = site.run(tool, *FILTERS[tool], input=etree.tostring(tree)).stdout
    result = etree.fromstring(once)
    assert result.findtext('site-note') == 'kept' and result.get('site-attribute') == 'kept'
    assert b'<!--kept too-->' in once
    assert site.run(tool, *FILTERS[tool], input=once).stdout == once


@filters
def test_broken_pipe_has_no_traceback(site, tool):
    document = site.document(site.entry, BEFORE[tool])
    done = subprocess.run(['bash', '-c', '"$0" "$@" | true', ROOT / 'bin' / tool, *FILTERS[tool]],
                          input=document, capture_output=True, env=site.environment(), check=False)
    assert b'Traceback' not in done.stderr


HEAVY = {'concurrent.futures', 'hashlib', 'ipaddress', 'isal', 'json', 'multiprocessing', 'sh',
         'shutil',
         'socket', 'subprocess', 'tempfile', 'traceback', 'uuid'}
"""Modules that take a millisecond or more to import; sh takes 90."""

USED = {'vc-parse': set(), 'vc-out': set(), 'vc-graph': set(), 'vc-list': set(),
        'vc-stage': {'hashlib', 'subprocess'},
        'vc-allocate': {'socket', 'subprocess'},
        # logging, which concurrent.futures imports, imports traceback.
        'vc-inject': {'concurrent.futures', 'json', 'shutil', 'socket', 'subprocess', 'traceback'},
        # Root's session daemon is asked whether it runs our passt, and what libvirt can.
        'vc-boot': {'hashlib', 'socket', 'subprocess', 'uuid'}}
"""Those that a filter may import to process a small document.

Each also checks the addresses of its document, by ipaddress.
"""


@pytest.mark.parametrize('tool', USED)
def test_imports_nothing_that_it_does_not_use(site, tool):
    document = site.document(site.entry, BEFORE.get(tool, 'vc-parse'))
    site.run('vc-stage', input=site.document(site.entry, 'vc-parse'))
    arguments = ['--print'] if tool == 'vc-boot' else FILTERS.get(tool, ())
    done = subprocess.run(['/usr/bin/python3', '-I', '-X', 'importtime', ROOT / 'bin' / tool,
                           *arguments],
                          input=None if tool == 'vc-list' else document, capture_output=True,
                          env=site.environment(), check=True)
    imported = {line.rsplit('|', 1)[1].strip() for line in lines(done.stderr)
                if line.startswith('import time')}
    assert imported & HEAVY <= USED[tool] | {'ipaddress'}
    assert 'lxml.etree' in imported
