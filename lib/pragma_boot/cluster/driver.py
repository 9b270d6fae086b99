"""A site's driver: three executables, called by position, that know an engine."""
import collections
import contextlib
import os
import signal
import sys

import sh

from ..system import log, process, terminal
from ..system.failure import FAILED, INTERRUPTED, SHORTAGE, Failure, Said

EXECUTABLES = ('fix_images', 'allocate', 'boot')


class Driver:
    """The driver in the folder ``drivers_path``/``name``."""

    def __init__(self, drivers_path, name):
        self.folder = os.path.join(drivers_path, name)
        for executable in EXECUTABLES:
            if not os.access(os.path.join(self.folder, executable), os.X_OK):
                raise Failure(f"driver '{self.folder}' has no executable '{executable}'")

    def fix_images(self, vc_in_file, temp_directory, node_types):
        """Unpack and prepare the images of ``node_types``, once."""
        self._call('fix_images', vc_in_file, temp_directory, node_types)

    def allocate(self, num_cpus, vc_in_path, vc_out_path, temp_directory, key):
        """Reserve, and leave the nodes' images and documents beside ``vc_out_path``."""
        self._call('allocate', str(num_cpus), vc_in_path, vc_out_path, temp_directory, key)

    def boot(self, images, temp_directory, vc_out_path, jobs):
        """Start nodes, the first before the others, and those ``jobs`` at a time.

        ``images`` are pairs (file_path, host_name), the nodes' images and hosts.
        """
        calls = [('boot', *image, temp_directory, vc_out_path) for image in images]
        self._call(*calls[0])
        self._call_all(calls[1:], jobs)

    def _call(self, executable, *arguments):
        self._call_all([(executable, *arguments)], 1)

    def _call_all(self, calls, most):
        """Run executables with their arguments to their end, ``most`` at a time.

        Their output is ours, and so is a status 3 or 130. Where one fails, or we are interrupted,
        those that run are ended with SIGTERM and waited for.
        """
        waiting, running = collections.deque(calls), collections.deque()
        with terminal.lent() as descriptors:
            try:
                while waiting or running:
                    while waiting and len(running) < max(most, 1):
                        executable, *arguments = waiting.popleft()
                        running.append(_Call(os.path.join(self.folder, executable), arguments, descriptors))
                    running[0].wait()
                    running.popleft()
            except BaseException:
                for call in running:
                    call.end()
                raise


class _Call:
    """One executable of a driver, running, with descriptors that it inherits."""

    def __init__(self, path, arguments, descriptors):
        self._path = path
        self._told = []
        # A session of its own, so that an interruption reaches all of it, once, through us; and
        # a parent-death signal, so that a kill -9 of ours reaches it too.
        command, *words = process.bound([path, *arguments])
        # Not _out=sys.stderr: with _tty_out sh 2.4 refuses one that is a terminal.
        self._running = sh.Command(command)(*words, _bg=True, _bg_exc=False, _tty_out=False, _new_session=True,
                                            _pass_fds=descriptors, _out=self._show, _err=self._pass_on)

    def _pass_on(self, line):
        self._told.append(line)
        self._show(line)

    @staticmethod
    def _show(line):
        sys.stderr.write(log.wipe + line)

    def wait(self):
        """Wait until it ends; raises Said where its status is not 0."""
        try:
            self._running.wait()
        except sh.ErrorReturnCode as error:
            status = error.exit_code if error.exit_code in (SHORTAGE, INTERRUPTED) else FAILED
            message = f"driver '{self._path}' ended with status {error.exit_code}"
            if not self._told:
                log.warn(message)
            raise Said(message, status) from None

    def end(self):
        """End it and all that it started, and wait for it."""
        with contextlib.suppress(sh.ErrorReturnCode, ProcessLookupError):
            self._running.signal_group(signal.SIGTERM)
            self._running.wait()
