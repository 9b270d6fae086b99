"""Slurm: is it ready, which nodes leave, which have left."""
import os
import re
import socket
import sys
import time

from . import machine
from .document import HpcError
from .join import GIVEN, JOINED

REASON = "leaves the cluster"
MUNGE_SOCKET = "/run/munge/munge.socket.2"
GONE_WAIT = 60          # seconds
READY_WAIT = 30
WORKING = re.compile("(idle|mixed|allocated|completing|draining|drained)[^*]*")


def await_ready(node, seconds=READY_WAIT):
    """Wait until the node is ready, and tell why it is not yet. Raises HpcError after a time.

    pragma-guest would call us again each second, and each start of Python takes time of the boot.
    """
    deadline, told = time.monotonic() + seconds, ""
    while True:
        try:
            return ready(node)
        except HpcError as error:
            if time.monotonic() > deadline:
                raise
            if str(error) != told:
                told = str(error)
                print(f"pragma-hpc: {told}", file=sys.stderr, flush=True)
        time.sleep(0.5)


def ready(node):
    """Raise HpcError unless Slurm can use this node, or on the frontend answers."""
    if node.frontend:
        if "is UP" not in machine.run("scontrol", "ping"):
            raise HpcError("slurmctld does not answer")
        return
    if not os.path.exists(JOINED):
        raise HpcError("the frontend has not given this node the cluster's settings: is it up?")
    if not os.path.exists(MUNGE_SOCKET):
        raise HpcError("munge does not run")
    name = socket.gethostname()
    state = machine.run("sinfo", "-h", "-N", "-n", name, "-o", "%T").split()
    if not state or not WORKING.fullmatch(state[0]):
        raise HpcError(f"node {name} is {state[0] if state else 'not'} in sinfo")


def states():
    """Return the state of each node that Slurm has, by its name."""
    return by_node("%T")


def by_node(column):
    """Return a column of sinfo for each node that Slurm has, by its name."""
    lines = machine.run("sinfo", "-h", "-N", "-o", "%N " + column).splitlines()
    return dict(line.split(None, 1) for line in lines if line.strip())


def drain(names):
    """Let no new job on the nodes, and wait until those that run there have ended."""
    known = set(states())
    names = [name for name in names if name in known]
    if not names:
        return
    update(names, "DRAIN")
    told = []
    while jobs := machine.run("squeue", "-h", "-t", "R,CG,CF,S,ST", "-w", ",".join(names),
                              "-o", "%i").split():
        if jobs != told:
            told = jobs
            # what pragma-guest reports if it does not wait any longer
            print(f"pragma-hpc: jobs run on {','.join(names)}: {' '.join(jobs)}", file=sys.stderr,
                  flush=True)
        time.sleep(1)


def update(names, state):
    machine.run("scontrol", "update", "NodeName=" + ",".join(names), "State=" + state,
                *["Reason=" + REASON] * (state != "RESUME"))


def follow(peers):
    """Make Slurm forget the nodes that have left; use again those that were to leave and stay."""
    names = {peer.name for peer in peers}
    known = by_node("%E")
    kept = [name for name in names & set(known) if known[name].strip() == REASON]
    if kept:
        update(sorted(kept), "RESUME")
    for name in sorted(set(known) - names):
        forget(name)
    for name in set(os.listdir(GIVEN)) - names:
        os.unlink(os.path.join(GIVEN, name))


def forget(name):
    """Remove a node from Slurm; its jobs end first. Raises HpcError."""
    deadline = time.monotonic() + GONE_WAIT
    update([name], "DOWN")
    while True:
        try:
            machine.run("scontrol", "delete", "NodeName=" + name)
            return
        except HpcError:
            if time.monotonic() > deadline:
                raise
        time.sleep(1)
