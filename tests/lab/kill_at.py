"""kill_at.py SIGNAL STEP TOOL [ARG]...: run a tool and send it a signal at one step of its life.

A step is a system call, of any thread of the tool or of its children, that changes or starts
something. SIGNAL (KILL, TERM) is sent just before it, or just before the tool exits where it has
fewer steps. STEP 0 sends no signal. The last line on stderr has the number and name of the last
step; the status is the tool's, 137 after a kill.

This uses ptrace(2). strace's ``inject=SET:signal=KILL:when=N`` counts each thread by itself, and
kills the process that makes the call, mostly a child. The children live on as after any kill -9:
when this program ends, the kernel detaches from them; none is stopped then, and no signal for one
is lost.
"""
import ctypes
import os
import signal
import struct
import sys

CALLS = {
    1: 'write', 18: 'pwrite64', 20: 'writev', 42: 'connect', 44: 'sendto', 46: 'sendmsg',
    56: 'clone', 57: 'fork', 58: 'vfork', 62: 'kill', 73: 'flock', 74: 'fsync', 75: 'fdatasync',
    76: 'truncate', 77: 'ftruncate', 82: 'rename', 83: 'mkdir', 84: 'rmdir', 86: 'link',
    87: 'unlink', 88: 'symlink', 90: 'chmod', 91: 'fchmod', 92: 'chown', 93: 'fchown',
    165: 'mount', 166: 'umount2', 231: 'exit_group', 257: 'openat', 258: 'mkdirat',
    260: 'fchownat', 263: 'unlinkat', 264: 'renameat', 268: 'fchmodat', 285: 'fallocate',
    296: 'pwritev', 316: 'renameat2', 435: 'clone3'}
"""The calls of x86-64 that are steps; write to files and sockets only, openat where it creates."""

SYSCALL, SEIZE, INTERRUPT, GET_SYSCALL_INFO = 24, 0x4206, 0x4207, 0x420e
SYSGOOD, FORK, VFORK, CLONE, EXEC = 1, 2, 4, 8, 16
EVENT_EXEC = 4
WALL = 0x40000000
"""<sys/ptrace.h>: requests, PTRACE_O_* options, an event; <sys/wait.h>."""

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long


def call(pid):
    """The name of the step that a stopped thread is about to make, None where it is none."""
    info = ctypes.create_string_buffer(88)
    LIBC.ptrace(GET_SYSCALL_INFO, pid, len(info), ctypes.addressof(info))
    entry, number, first, _, third = struct.unpack_from('=B23x4Q', info)
    name = CALLS.get(number) if entry == 1 else None
    if name == 'openat' and not third & os.O_CREAT:
        return None
    if name in ('write', 'writev'):
        try:
            target = os.readlink(f'/proc/{pid}/fd/{first}')
        except OSError:
            return None
        return name if target.startswith(('socket:', '/')) and target != '/dev/fuse' else None
    return name


def begin(argv):
    """Start ``argv`` as a child that is traced from before its exec on; its process id."""
    if os.uname().machine != 'x86_64':
        sys.exit('kill_at: knows the system calls of x86-64 alone')
    gate, opener = os.pipe()
    tool = os.fork()
    if not tool:
        os.read(gate, 1)
        os.execv(argv[0], argv)
    if LIBC.ptrace(SEIZE, tool, None, SYSGOOD | FORK | VFORK | CLONE | EXEC):
        os.kill(tool, signal.SIGKILL)
        sys.exit(f'kill_at: ptrace is not permitted: {os.strerror(ctypes.get_errno())}')
    LIBC.ptrace(INTERRUPT, tool, None, None)
    os.write(opener, b'x')
    return tool


def main(name, at, *argv):
    """Run ``argv``, signal it at step ``at``; its status as a shell tells it."""
    at, number = int(at), signal.Signals[f'SIG{name}']
    tool = begin(argv)
    count, last, sent = 0, '', False
    while True:
        pid, status = os.waitpid(-1, WALL)
        if not os.WIFSTOPPED(status):
            if pid == tool:
                break
            continue
        # Bit 7 distinguishes a system call from a SIGTRAP, the bits above 15 an event.
        deliver, event = os.WSTOPSIG(status), status >> 16
        step = 'exec' if event == EVENT_EXEC else None
        if deliver == signal.SIGTRAP | 0x80:
            step = call(pid)
            deliver = 0
        if step and not sent:
            count += 1
            with open(f'/proc/{pid}/comm', encoding='utf-8') as file:
                last = f'{step} of {file.read().strip()}'
            sent = count == at or (bool(at) and pid == tool and step == 'exit_group')
            if sent:
                os.kill(tool, number)
        # One that was killed meanwhile is not there to be resumed: no matter.
        LIBC.ptrace(SYSCALL, pid, None, 0 if event else deliver)
    print(count, last, file=sys.stderr)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
