"""The ordinary user: the same name and number on all nodes, with the user's keys."""
import grp
import os
import pwd

from . import machine
from .document import HpcError
from .render import File, without_block

FIRST = 1000        # the numbers of ordinary users; those below are the system's
LAST = 59999
BEGIN, END = "# pragma_hpc begin: rewritten when the keys of the cluster change", "# pragma_hpc end"


def find(name):
    """Return the entry of an ordinary user in the password database, None for no such user."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    if not FIRST <= found.pw_uid <= LAST:
        raise HpcError(f"'{name}' is an account of the system, with number {found.pw_uid}: "
                       "choose another user")
    return found


def free_number():
    """Return the first number from FIRST on that neither a user nor a group has."""
    taken = {one.pw_uid for one in pwd.getpwall()} | {one.gr_gid for one in grp.getgrall()}
    return next(number for number in range(FIRST, LAST) if number not in taken)


def make(name, uid, gid, home):
    """Return the entry of a user, who is made if need be. Raises HpcError.

    home says whether this node has /home; another one mounts it from the frontend.
    """
    found = find(name)
    if found is None:
        try:
            grp.getgrgid(gid)
        except KeyError:
            machine.run("groupadd", "--gid", str(gid), name)
        machine.run("useradd", "--uid", str(uid), "--gid", str(gid), "--shell", "/bin/bash",
                    "--create-home" if home else "--no-create-home", name)
        found = pwd.getpwnam(name)
    if (found.pw_uid, found.pw_gid) != (uid, gid):
        raise HpcError(f"user '{name}' is {found.pw_uid}:{found.pw_gid} here and {uid}:{gid} "
                       "on the frontend")
    return found


def of_frontend(node):
    """Return the entry of the cluster's user, who may log in with the cluster's keys."""
    found = find(node.user)
    number = free_number() if found is None else found.pw_uid
    user = make(node.user, number, number if found is None else found.pw_gid, home=True)
    as_user(user, lambda: allow(user, node.keys))
    return user


def as_user(user, action):
    """Run a function with the rights of a user: a link in a home leads root nowhere."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
            os.umask(0o077)
            action()
            status = 0
        except (OSError, HpcError) as error:
            os.write(2, (f"pragma-hpc: {error}\n").encode())
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise HpcError(f"cannot set up ssh for '{user.pw_name}' in '{user.pw_dir}'")


def allow(user, keys):
    """Let a user in with the keys, and between the nodes; runs with the user's rights."""
    folder = os.path.join(user.pw_dir, ".ssh")
    os.makedirs(folder, exist_ok=True)
    own = os.path.join(folder, "id_ed25519")
    if not os.path.exists(own):
        machine.run("ssh-keygen", "-q", "-N", "", "-C", user.pw_name, "-t", "ed25519", "-f", own)
    path = os.path.join(folder, "authorized_keys")
    public = machine.read(own + ".pub").strip()
    machine.write(File(path, with_keys(machine.read(path), keys + [public] * bool(public)), 0o600))


def with_keys(text, keys):
    """Return authorized_keys with these keys in our block; the user's own lines stay."""
    lines = without_block(text.splitlines(), BEGIN, END)
    return "".join(line + "\n" for line in [*lines, BEGIN, *keys, END])
