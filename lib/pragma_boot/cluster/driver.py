"""A site's driver: executables, called by position, that know an engine (pragma_boot-driver(7))."""
import collections
import contextlib
import os
import signal

import sh

from ..engine import external
from ..system import interruption, log, process, terminal
from ..system.failure import FAILED, INTERRUPTED, SHORTAGE, Failure, Said
from ..system.settings import Settings

EXECUTABLES = ('fix_images', 'allocate', 'boot')
"""The executables that every driver has."""


class Driver:
    """The driver that the settings drivers_path and ve_driver name."""

    def __init__(self, settings: Settings):
        self.name = settings['ve_driver']
        self.folder = external.path_of(settings, self.name)
        for executable in EXECUTABLES:
            if not self.has(executable):
                raise Failure(f"driver '{self.folder}' has no executable '{executable}'")

    def has(self, executable: str) -> bool:
        """Whether the driver has an executable of this name."""
        path = os.path.join(self.folder, executable)
        return os.path.isfile(path) and os.access(path, os.X_OK)

    def fix_images(self, vc_in_file: str, temp_directory: str, node_types: str) -> None:
        """Unpack and prepare the images of ``node_types``, once."""
        self._call('fix_images', vc_in_file, temp_directory, node_types)

    def allocate(self, num_cpus: int, vc_in_path: str, vc_out_path: str, temp_directory: str,
                 key: str) -> None:
        """Reserve the cluster, and leave at least ``vc_out_path``."""
        self._call('allocate', str(num_cpus), vc_in_path, vc_out_path, temp_directory, key)

    def boot(self, nodes: list[tuple[str, str]], temp_directory: str, vc_out_path: str,
             jobs: int) -> None:
        """Boot nodes: the first before the others, and those ``jobs`` at a time.

        ``nodes`` are pairs (file_path, host_name). The others are one call where the driver has
        the executable boot_compute.
        """
        calls: list[tuple[str, ...]] = [('boot', *node, temp_directory, vc_out_path)
                                        for node in nodes]
        self._call(*calls[0])
        if calls[1:] and self.has('boot_compute'):
            self._call('boot_compute', temp_directory, vc_out_path)
        else:
            self._call_all(calls[1:], jobs)

    def _call(self, executable: str, *arguments: str) -> None:
        self._call_all([(executable, *arguments)], 1)

    def _call_all(self, calls: list[tuple[str, ...]], most: int) -> None:
        """Run executables with their arguments to their end, ``most`` at a time.

        Their output goes to our standard error, and a status 3 or 130 is passed on. Where one
        fails, or we are interrupted, those that run get SIGTERM and are waited for.
        """
        waiting, running = collections.deque(calls), collections.deque[_Call]()
        with terminal.lent() as descriptors:
            environment = external.environment(self.name)
            try:
                while waiting or running:
                    while waiting and len(running) < max(most, 1):
                        executable, *arguments = waiting.popleft()
                        with interruption.held():
                            running.append(_Call(os.path.join(self.folder, executable), arguments,
                                                 environment, descriptors))
                    running[0].wait()
                    running.popleft()
            except BaseException:
                for call in running:
                    call.terminate()
                for call in running:
                    call.reap()
                raise


class _Call:
    """One executable of a driver, running, with descriptors that it inherits."""

    def __init__(self, path: str, arguments: list[str], environment: dict[str, str],
                 descriptors: tuple[int, ...]):
        self._path = path
        self._lines: list[str] = []
        # A session of its own, so that an interruption reaches all of it, once, through us; and
        # a parent-death signal, so that a kill -9 of ours reaches it too.
        command, *words = process.bound([path, *arguments])
        # By default, sh gives a standard input that never ends. Not _out=sys.stderr: with _tty_out
        # sh 2.4 refuses a stream that is a terminal.
        with open(os.devnull, 'rb') as empty:
            self._running = sh.Command(command)(
                *words, _bg=True, _bg_exc=False, _tty_out=False, _new_session=True,
                _env=environment, _pass_fds=set(descriptors), _in=empty, _out=self._show,
                _err=self._pass_on)

    def _pass_on(self, line: str) -> None:
        self._lines.append(line)
        self._show(line)

    @staticmethod
    def _show(line: str) -> None:
        log.write(log.wipe + line)

    def wait(self) -> None:
        """Wait until it ends; raises Said where its status is not 0."""
        try:
            self._running.wait()
        except sh.ErrorReturnCode as error:
            status = error.exit_code if error.exit_code in (SHORTAGE, INTERRUPTED) else FAILED
            how = (f'was killed by {signal.Signals(-error.exit_code).name}' if error.exit_code < 0
                   else f'ended with status {error.exit_code}')
            message = f"driver '{self._path}' {how}"
            if not self._lines:
                log.warn(message)
            raise Said(message, status) from None

    def terminate(self) -> None:
        """Send SIGTERM to it and to all that it started."""
        with contextlib.suppress(ProcessLookupError):
            self._running.signal_group(signal.SIGTERM)

    def reap(self) -> None:
        """Wait until it ends, whatever its status."""
        # sh waits for a process again if the interruption came before it had noted the status.
        with contextlib.suppress(sh.ErrorReturnCode, ChildProcessError):
            self._running.wait()
