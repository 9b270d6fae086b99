"""An interruption while a child is started waits until the child can be ended."""
import os
import signal
import threading
import time

import pytest

from pragma_boot.system import child, confinement, executable, interruption, process, workers

NUMBERS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.fixture(autouse=True)
def handlers():
    """The handlers of a tool, and those of pytest afterwards."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    # A worker of pytest-xdist ignores SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    interruption.prepare()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize('number', NUMBERS)
def test_held_until_released(number):
    reached = []
    with pytest.raises(KeyboardInterrupt), interruption.held() as release:
        os.kill(os.getpid(), number)
        reached.append('held')
        try:
            release()
        finally:
            reached.append('released')
    assert reached == ['held', 'released']
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_held_until_the_outermost_block_ends():
    reached = []
    with pytest.raises(KeyboardInterrupt), interruption.held():
        with interruption.held():
            os.kill(os.getpid(), signal.SIGINT)
        reached.append('inner block')
    assert reached == ['inner block']


def test_a_thread_holds_nothing():
    with interruption.held():
        pass
    thread = threading.Thread(target=lambda: interruption.held().__enter__())
    thread.start()
    thread.join()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    interruption.prepare()
    os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_IGN


@pytest.mark.parametrize('run', [process.run, executable.run])
def test_a_child_that_interrupts_us_is_ended(tmp_path, run):
    """Whether the signal comes before or after the child is known."""
    for count in range(20):
        pid = tmp_path / f'pid-{count}'
        with pytest.raises(KeyboardInterrupt):
            run(['sh', '-c', f'echo $$ >{pid}; kill -INT $PPID; exec sleep 600'], 'x')
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def test_an_interruption_while_a_finished_child_is_waited_for(monkeypatch):
    """The child is waited for once: the second time there is none."""
    confinement.refusal()    # runs a program the first time
    wait, waited = os.waitpid, []

    def interrupted(*arguments):
        ended = wait(*arguments)
        waited.append(ended)
        os.kill(os.getpid(), signal.SIGTERM)
        return ended
    monkeypatch.setattr(os, 'waitpid', interrupted)
    with pytest.raises(KeyboardInterrupt):
        child.call(lambda: None, 'x', (), 1 << 20, 1 << 30, lambda: None)
    assert len(waited) == 1


def note(folder, number):
    """A shell command that writes its process id to a file, which is never there without it."""
    return f'echo $$ >{folder}/part{number}; mv {folder}/part{number} {folder}/{number}'


def test_a_signal_that_a_thread_gets_ends_the_programs(tmp_path):
    """The kernel chooses a thread where the main one starts another at this moment."""
    def work(number):
        if number == 3:
            time.sleep(0.2)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        executable.run(['sh', '-c', f'{note(tmp_path, number)}; exec sleep 600'], 'x')

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        workers.each(work, range(4), 4)
    assert time.monotonic() - begin < 300
    for file in tmp_path.glob('[0-9]'):
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)


def test_programs_that_threads_run_are_ended(tmp_path):
    """Also one that a thread starts after the interruption."""
    def work(number):
        kill = f'kill -INT {os.getpid()}; ' * (number == 3)
        executable.run(['sh', '-c', f'{note(tmp_path, number)}; {kill}exec sleep 600'], 'x')

    with pytest.raises(KeyboardInterrupt):
        workers.each(work, range(8), 4)
    for file in tmp_path.glob('[0-9]'):
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)
