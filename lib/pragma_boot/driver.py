"""A site's driver: three executables, called by position, that know an engine."""
import contextlib
import os
import signal
import sys

import sh

from . import process, tool
from .failure import FAILED, INTERRUPTED, SHORTAGE, Failure, Said

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

    def boot(self, file_path, host_name, temp_directory, vc_out_path):
        """Start the node whose image is ``file_path``."""
        self._call('boot', file_path, host_name, temp_directory, vc_out_path)

    def _call(self, executable, *arguments):
        """Run one executable to its end; its output is ours, and so is its status 3 or 130."""
        path, told = os.path.join(self.folder, executable), []

        def pass_on(line):
            told.append(line)
            sys.stderr.write(line)

        # A session of its own, so that an interruption reaches all of it, once, through us; and
        # a parent-death signal, so that a kill -9 of ours reaches it too.
        command, *words = process.bound([path, *arguments])
        running = sh.Command(command)(*words, _bg=True, _bg_exc=False, _tty_out=False,
                                      _new_session=True, _out=sys.stderr, _err=pass_on)
        try:
            running.wait()
        except sh.ErrorReturnCode as error:
            status = error.exit_code if error.exit_code in (SHORTAGE, INTERRUPTED) else FAILED
            message = f"driver '{path}' ended with status {error.exit_code}"
            if not told:
                tool.warn(message)
            raise Said(message, status) from None
        except BaseException:
            with contextlib.suppress(sh.ErrorReturnCode, ProcessLookupError):
                running.signal_group(signal.SIGTERM)
                running.wait()
            raise
