"""How compute nodes get what all nodes of a cluster share: the munge key, the user, their names.

A compute node asks by a connection to the frontend, which has no content. The frontend answers over
ssh as root, with the cluster's own key, to the name of the node that has the address: no secret
leaves the frontend but through ssh, and none comes from the host or the image.
"""
import base64
import hashlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time

from . import accounts, document, machine
from .document import HpcError, Peer
from .render import HOSTS, File, peer_files, with_peers

PORT = 6816             # Slurm has 6817 and 6818
MUNGE_KEY = "/etc/munge/munge.key"
MUNGE_BYTES = 128
SLURM_STATE = "/var/lib/slurm/slurmctld"
CLUSTER_KEY = "/root/.ssh/id_ed25519"       # another one for each cluster; the host wrote it
STAMP = "/var/lib/pragma_hpc/cluster"       # of which cluster key and state are
SHARED = "/var/lib/pragma_hpc/shared"       # on a compute node: the peers, for the next boot
JOINED = "/run/pragma_hpc/joined"           # a compute node got all in this boot
GIVEN = "/var/lib/pragma_hpc/given"         # on the frontend: a file for each node that got all
AT_ONCE = 16
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new",
       "-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR")


# On the frontend

def own_cluster(node):
    """Make the munge key of a new cluster, forget another one's state; return whether it is new."""
    # the host makes a new key for each cluster, also for one of an image that was captured
    text = machine.read(CLUSTER_KEY) or f"{node.name} {node.address}"
    identity = hashlib.sha256(text.encode()).hexdigest() + "\n"
    if machine.read(STAMP) == identity and os.path.exists(MUNGE_KEY):
        return False
    for folder in (SLURM_STATE, GIVEN):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            subprocess.run(["rm", "-rf", "--", os.path.join(folder, name)], check=True)
    write_munge_key(os.urandom(MUNGE_BYTES))
    os.sync()       # the key must be on disk before the stamp
    machine.write(File(STAMP, identity, 0o600))
    return True


def shared(node):
    """Return what a compute node gets, as a JSON text."""
    user = accounts.find(node.user)
    if user is None:
        raise HpcError(f"there is no user '{node.user}' yet")
    with open(MUNGE_KEY, "rb") as file:
        key = base64.b64encode(file.read()).decode()
    return json.dumps({"munge": key, "user": [user.pw_name, user.pw_uid, user.pw_gid],
                       "peers": node.peers})


class Server:
    """Gives nodes that ask what all share, to several at once; all again after SIGHUP."""

    def __init__(self, path):
        self.path = path
        self.places = threading.Semaphore(AT_ONCE)
        self.lock = threading.Lock()
        self.asking = set()     # the addresses of nodes that are answered now
        os.makedirs(GIVEN, exist_ok=True)

    def serve(self):
        node = document.read(self.path)
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=self.give_all).start())
        with socket.create_server((str(node.address.ip), PORT), backlog=512) as server:
            while True:
                connection, (address, _) = server.accept()
                threading.Thread(target=self.answer, args=(connection, address),
                                 daemon=True).start()

    def answer(self, connection, address):
        """Give to the node with an address, and close its connection when that is done."""
        with connection:
            with self.lock:
                if address in self.asking:
                    return
                self.asking.add(address)
            try:
                self.give(address)
            finally:
                with self.lock:
                    self.asking.discard(address)

    def give_all(self):
        """Tell the nodes that have joined of new peers."""
        for peer in document.read(self.path).peers:
            if os.path.exists(os.path.join(GIVEN, peer.name)):
                threading.Thread(target=self.give, args=(peer.ip,), daemon=True).start()

    def give(self, address):
        try:
            # Anew each time: the document changes while this runs.
            node = document.read(self.path)
            names = [peer.name for peer in node.peers if peer.ip == address]
            if not names:
                raise HpcError(f"{address} is not a node of this cluster")
            with self.places:
                machine.run(*SSH, "root@" + names[0], "/usr/local/sbin/pragma-hpc take",
                            seconds=300, input=shared(node))
            machine.write(File(os.path.join(GIVEN, names[0]), ""))
            print(f"gave the cluster's settings to {names[0]}", flush=True)
        except (HpcError, OSError) as error:
            print(f"cannot give the cluster's settings to {address}: {error}", file=sys.stderr,
                  flush=True)


# On a compute node

def ask():
    """Ask the frontend until it has given; a node may come long before its frontend."""
    while not os.path.exists(JOINED):
        began = time.monotonic()
        try:
            with socket.create_connection(("frontend", PORT), timeout=30) as connection:
                connection.settimeout(300)
                connection.recv(1)      # until it is closed
        except OSError:
            pass
        if not os.path.exists(JOINED):
            time.sleep(max(0, began + 1 - time.monotonic()))


def take(text):
    """Take over what the frontend gives, a JSON text."""
    given = json.loads(text)
    if write_munge_key(base64.b64decode(given["munge"])):
        subprocess.run(["systemctl", "--no-block", "try-restart", "munge.service"], check=True)
    accounts.make(*given["user"], home=False)
    machine.write(File(SHARED, json.dumps(given["peers"])))
    take_peers()
    machine.write(File(JOINED, ""))


def take_peers():
    """Write the files that tell of the other nodes, as the frontend gave them last."""
    text = machine.read(SHARED)
    if text:
        peers = [Peer(*peer) for peer in json.loads(text)]
        for file in peer_files(peers):
            machine.write(file)
        machine.write(File(HOSTS, with_peers(machine.read(HOSTS), peers, socket.gethostname())))


def write_munge_key(key):
    return machine.write(File(MUNGE_KEY, key, 0o400), pwd.getpwnam("munge"))
