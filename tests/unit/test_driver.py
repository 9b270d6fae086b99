"""A driver's executables as they are run: the frontend first, the others several at a time."""
import os
import signal
import subprocess
import threading

import pytest

from pragma_boot.cluster.driver import Driver
from pragma_boot.system.failure import Said
from pragma_boot.system.settings import Settings

LOGGING = '''#!/bin/sh
echo "begin $1" >>"$3/log"; sleep 1; echo "end $1" >>"$3/log"
'''

FAILING = '''#!/bin/sh
case $1 in one) exit 0;; two) sleep 0.5; echo "boot: no" >&2; exit 7;; esac
echo $$ >"$3/pid"; exec sleep 600
'''


@pytest.fixture
def driver(tmp_path):
    """A function that makes a driver whose boot is the script given."""
    def make(boot):
        folder = tmp_path / 'drivers' / 'some'
        folder.mkdir(parents=True)
        for name, script in (('fix_images', ''), ('allocate', ''), ('boot', boot)):
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)
        return Driver(Settings({'drivers_path': 'drivers', 've_driver': 'some'},
                               str(tmp_path / 'site_conf.conf')))
    return make


@pytest.mark.parametrize('jobs', [1, 2, 3])
def test_boots_the_frontend_first_and_jobs_of_the_others_at_a_time(driver, tmp_path, jobs):
    names = ['frontend', 'compute-0', 'compute-1', 'compute-2']
    driver(LOGGING).boot([(name, 'host') for name in names], str(tmp_path), 'vc-out.xml', jobs)
    output = (tmp_path / 'log').read_text().splitlines()
    assert output[:2] == ['begin frontend', 'end frontend']
    assert sorted(output) == sorted(f'{what} {name}' for what in ('begin', 'end') for name in names)
    at_once = most = 0
    for line in output:
        at_once += 1 if line.startswith('begin') else -1
        most = max(most, at_once)
    assert most == jobs


def test_a_failure_terminates_those_that_run(driver, tmp_path, capsys):
    with pytest.raises(Said) as failure:
        driver(FAILING).boot([(name, 'host') for name in ('one', 'two', 'three')], str(tmp_path),
                             'vc-out.xml', 2)
    assert failure.value.status == 1 and capsys.readouterr().err == 'boot: no\n'
    assert subprocess.run(['kill', '-0', (tmp_path / 'pid').read_text().strip()], check=False,
                          capture_output=True).returncode


def test_an_interruption_while_a_finished_executable_is_waited_for(driver, tmp_path, monkeypatch):
    """sh then does not know its status, and there is no process to wait for any more."""
    wait, waited = os.waitpid, []

    def interrupted(*arguments):
        ended = wait(*arguments)
        if threading.current_thread() is threading.main_thread():
            waited.append(ended)
            os.kill(os.getpid(), signal.SIGINT)
        return ended
    monkeypatch.setattr(os, 'waitpid', interrupted)
    with pytest.raises(KeyboardInterrupt):
        driver(LOGGING).boot([('one', 'host')], str(tmp_path), 'vc-out.xml', 1)
    assert len(waited) == 1 and (tmp_path / 'log').read_text() == 'begin one\nend one\n'
