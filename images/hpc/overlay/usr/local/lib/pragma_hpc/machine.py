"""What changes a node: files, programs, units."""
import contextlib
import os
import subprocess

from .document import HpcError


def read(path):
    """Return the content of a file, '' if it does not exist."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(file, owner=None):
    """Replace a File atomically; return whether that changed it.

    owner is an entry of the password database. The text may be bytes.
    """
    data = file.text
    if not isinstance(data, bytes):
        data = data.encode("utf-8", "surrogateescape")
    try:
        with open(file.path, "rb") as old:
            if old.read() == data and os.fstat(old.fileno()).st_mode & 0o7777 == file.mode:
                return False
    except FileNotFoundError:
        pass
    folder = os.path.dirname(file.path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{os.path.basename(file.path)}.pragma-hpc")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fchmod(handle, file.mode)
        if owner:
            os.fchown(handle, owner.pw_uid, owner.pw_gid)
        os.fsync(handle)
    os.replace(temporary, file.path)
    return True


def run(*command, seconds=60, **options):
    """Run a program; return its output. Raises HpcError if it fails."""
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds,
                              encoding="utf-8", errors="replace", **options)
    except (OSError, subprocess.SubprocessError) as error:
        raise HpcError(f"cannot run '{command[0]}': {error}") from None
    if done.returncode:
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise HpcError(f"'{' '.join(command[:2])}' failed: {said}")
    return done.stdout


def start(unit):
    """Have systemd start a unit, without waiting: this may run early at boot."""
    run("systemctl", "--no-block", "start", unit)
