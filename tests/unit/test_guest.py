"""images/guest: the program that sets up a node, and its installation."""

import base64
import configparser
import importlib.machinery
import io
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import types
from pathlib import Path

import pytest

import lab
from lab import ROOT, SCRATCH
from lab.needs import need
from pragma_boot.cluster import allocation, saved

GUEST = ROOT / "images" / "guest"
DATA = lab.DATA / "guest"
MACHINE_ID = re.compile("[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\n")
MACS = {"eth0": "52:54:00:aa:00:01", "eth1": "52:54:00:aa:00:02"}


def guest(command, root, document, prefix=()):
    return subprocess.run([*prefix, str(GUEST / "pragma-guest"), command, "--root", str(root),
                           "--document", str(document)], capture_output=True, text=True, timeout=60)


def configure(root, name):
    """Configure the node of tests/data/guest/NAME.xml; returns the commands that it would run."""
    done = guest("configure", root, DATA / (name + ".xml"))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def add_interfaces(root, interfaces):
    """Make /sys below ROOT list interfaces, MACs by names, in the kernel's order."""
    for index, (name, mac) in enumerate(interfaces.items(), 2):
        folder = root / "sys/class/net" / name
        folder.mkdir(parents=True)
        for key, value in (("ifindex", index), ("address", mac), ("type", 1)):
            (folder / key).write_text(f"{value}\n")


def snapshot(root):
    return {path.relative_to(root): (path.stat().st_mode, path.read_bytes())
            for path in root.rglob("*") if path.is_file()}


def mode(path):
    return path.stat().st_mode & 0o7777


def test_frontend_files(tmp_path):
    configure(tmp_path, "frontend")
    assert (tmp_path / "etc/hostname").read_text() == "demo.local\n"
    assert (tmp_path / "etc/hosts").read_text() == (
        "127.0.0.1\tlocalhost\n"
        "10.1.1.1\tdemo.local demo frontend\n"
        "10.0.2.15\tdemo.local\n"
        "10.1.255.254\tcompute-0.local compute-0\n"
        "10.1.255.253\tcompute-1.local compute-1\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n")
    assert (tmp_path / "etc/resolv.conf").read_text() == (
        "search local\nnameserver 10.0.2.3\nnameserver 10.0.2.4\n")
    assert (tmp_path / "root/machinefile").read_text() == "compute-0\ncompute-0\ncompute-1\n"


def test_frontend_commands(tmp_path):
    commands = configure(tmp_path, "frontend")
    assert commands == [
        "hostname demo.local",
        "ssh-keygen -q -N '' -C '' -t ed25519 -f /etc/ssh/ssh_host_ed25519_key",
        "ssh-keygen -q -N '' -C '' -t ecdsa -f /etc/ssh/ssh_host_ecdsa_key",
        "ip link set dev eth0 up",
        "ip address replace 10.1.1.1/16 dev eth0",
        "ip link set dev eth1 up",
        "ip address replace 10.0.2.15/24 dev eth1",
        "ip route replace default via 10.0.2.2 dev eth1",
        "sysctl -q -w net.ipv4.ip_forward=1",
        "nft -f /var/lib/pragma_boot/nat.nft",
    ]
    rules = (tmp_path / "var/lib/pragma_boot/nat.nft").read_text()
    assert 'ip saddr 10.1.0.0/16 oifname "eth1" masquerade' in rules


def test_frontend_reaches_compute_nodes_without_a_question(tmp_path):
    key = tmp_path / "root/.ssh/id_ed25519"
    key.parent.mkdir(parents=True)
    key.write_text("the cluster's own\n")
    key.chmod(0o644)
    configure(tmp_path, "frontend")
    config = (tmp_path / "root/.ssh/config").read_text()
    assert "Host compute-0 compute-1\n    StrictHostKeyChecking accept-new\n" in config
    assert (key.read_text(), mode(key)) == ("the cluster's own\n", 0o600)
    assert mode(key.parent) == 0o700


def test_compute(tmp_path):
    commands = configure(tmp_path, "compute")
    assert commands[0] == "hostname compute-0"
    assert commands[-3:] == [
        "ip link set dev eth0 up",
        "ip address replace 10.1.255.254/16 dev eth0",
        "ip route replace default via 10.1.1.1 dev eth0",
    ]
    assert not [line for line in commands if line.startswith(("nft", "sysctl"))]
    assert (tmp_path / "etc/hostname").read_text() == "compute-0\n"
    assert (tmp_path / "etc/hosts").read_text() == (
        "127.0.0.1\tlocalhost\n"
        "10.1.255.254\tcompute-0.local compute-0\n"
        "10.1.1.1\tdemo.local demo frontend\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n")
    keys = (tmp_path / "root/.ssh/authorized_keys").read_text().splitlines()
    assert keys[1:3] == ["ssh-ed25519 AAAAuser user", "ssh-ed25519 AAAAcluster cluster"]
    assert not (tmp_path / "root/machinefile").exists()


def test_older_frontend(tmp_path):
    commands = configure(tmp_path, "old-frontend")
    assert "ip address replace 10.1.1.1/16 dev eth0" in commands
    assert "ip address replace 137.110.119.222/24 dev eth1" in commands
    assert "ip route replace default via 137.110.119.1 dev eth1" in commands
    hosts = (tmp_path / "etc/hosts").read_text()
    assert "10.1.1.1\tcalit2-119-222.local calit2-119-222 frontend\n" in hosts
    assert "137.110.119.222\tcalit2-119-222.ucsd.edu\n" in hosts
    machines = (tmp_path / "root/machinefile").read_text().split()
    assert machines == ["hosted-vm-0-1-0"] * 2 + ["hosted-vm-0-0-0"] * 2


def test_older_compute(tmp_path):
    commands = configure(tmp_path, "old-compute")
    assert "ip address replace 10.1.1.30/16 dev eth0" in commands
    assert "ip route replace default via 10.1.1.1 dev eth0" in commands
    assert (tmp_path / "etc/hostname").read_text() == "compute-0\n"
    assert "10.1.1.1\tfrontend\n" in (tmp_path / "etc/hosts").read_text()


def test_finds_interfaces_by_mac(tmp_path):
    add_interfaces(tmp_path, {"ens9": MACS["eth1"], "ens3": MACS["eth0"]})
    commands = configure(tmp_path, "frontend")
    assert "ip address replace 10.1.1.1/16 dev ens3" in commands
    assert "ip address replace 10.0.2.15/24 dev ens9" in commands
    assert 'oifname "ens9"' in (tmp_path / "var/lib/pragma_boot/nat.nft").read_text()


def test_takes_interfaces_in_order_without_mac(tmp_path):
    add_interfaces(tmp_path, {"ens9": MACS["eth1"], "ens3": MACS["eth0"]})
    commands = configure(tmp_path, "old-frontend")
    assert "ip address replace 10.1.1.1/16 dev ens9" in commands
    assert "ip address replace 137.110.119.222/24 dev ens3" in commands


def test_a_private_key_behind_the_document_is_moved_to_its_file(tmp_path):
    """The host has no other place for it in the disk of a frontend that starts from a state."""
    text = (DATA / "frontend.xml").read_bytes()
    document = tmp_path / "vc-out.xml"
    document.write_bytes(text + saved.PRIVATE_KEY % base64.b64encode(b"the key\n") + b"\n" * 4096)
    done = guest("configure", tmp_path, document)
    assert (done.returncode, done.stderr) == (0, "")
    key = tmp_path / "root/.ssh/id_ed25519"
    assert (key.read_text(), mode(key)) == ("the key\n", 0o600)
    assert (document.read_bytes(), mode(document)) == (text, 0o600)


def test_missing_interface_leaves_the_node_its_names_and_keys(tmp_path):
    add_interfaces(tmp_path, {"eth0": MACS["eth0"]})
    done = guest("configure", tmp_path, DATA / "frontend.xml")
    assert done.returncode == 1
    assert done.stderr == ("pragma-guest: no network interface has the MAC address "
                           "52:54:00:aa:00:02\n")
    assert (tmp_path / "etc/hostname").read_text() == "demo.local\n"
    assert "AAAAuser" in (tmp_path / "root/.ssh/authorized_keys").read_text()
    assert "ssh-keygen" in done.stdout


@pytest.mark.parametrize("name", ["frontend", "compute", "old-frontend", "old-compute"])
def test_run_again_changes_nothing(tmp_path, name):
    configure(tmp_path, name)
    before = snapshot(tmp_path)
    configure(tmp_path, name)
    assert snapshot(tmp_path) == before


def test_keys_of_others_are_kept(tmp_path):
    keys = tmp_path / "root/.ssh/authorized_keys"
    keys.parent.mkdir(parents=True)
    keys.write_text("ssh-rsa AAAAmine me\nssh-rsa AAAAlast no-newline")
    configure(tmp_path, "frontend")
    configure(tmp_path, "compute")
    lines = keys.read_text().splitlines()
    assert lines[:2] == ["ssh-rsa AAAAmine me", "ssh-rsa AAAAlast no-newline"]
    assert lines.count("ssh-ed25519 AAAAuser user") == 1
    assert not [line for line in lines if "it's" in line]
    assert mode(keys) == 0o600


def test_key_comment_is_kept_as_it_is(tmp_path):
    configure(tmp_path, "frontend")
    text = (tmp_path / "root/.ssh/authorized_keys").read_text(encoding="utf-8")
    assert "ssh-ed25519 AAAAuser \"Zo\u00eb\" <&> it's # me\n" in text


@pytest.mark.parametrize("space", ["\x85", "\u2028", "\u00a0"])
def test_key_comment_with_odd_space_stays_one_line(tmp_path, space):
    document = tmp_path / "vc-out.xml"
    text = (DATA / "compute.xml").read_text()
    document.write_text(text.replace("AAAAuser user", f"AAAAuser us{space}er"), encoding="utf-8")
    assert guest("configure", tmp_path, document).returncode == 0
    written = (tmp_path / "root/.ssh/authorized_keys").read_bytes().decode("utf-8")
    assert f"ssh-ed25519 AAAAuser us{space}er\n" in written


def test_key_cannot_end_our_block(tmp_path):
    document = tmp_path / "vc-out.xml"
    text = (DATA / "compute.xml").read_text()
    document.write_text(text.replace("AAAAuser user", "AAAAuser user\n# pragma_boot end"))
    for _ in range(2):
        assert guest("configure", tmp_path, document).returncode == 0
    written = (tmp_path / "root/.ssh/authorized_keys").read_text()
    assert written.count("# pragma_boot end") == 1
    assert written.count("AAAAcluster") == 1


def test_ssh_config_of_others_is_kept_before_ours(tmp_path):
    config = tmp_path / "root/.ssh/config"
    config.parent.mkdir(parents=True)
    config.write_text("ServerAliveInterval 5\n")
    configure(tmp_path, "frontend")
    assert config.read_text().startswith("ServerAliveInterval 5\n# pragma_boot begin")


def test_resolv_conf_link_is_replaced(tmp_path):
    target = tmp_path / "stub"
    target.write_text("not ours\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").symlink_to(target)
    configure(tmp_path, "frontend")
    assert not (tmp_path / "etc/resolv.conf").is_symlink()
    assert target.read_text() == "not ours\n"


def test_identity_is_renewed_for_another_node_only(tmp_path):
    configure(tmp_path, "frontend")
    ssh = tmp_path / "etc/ssh"
    ssh.mkdir(exist_ok=True)
    for name in ("ssh_host_ed25519_key", "ssh_host_ecdsa_key", "ssh_host_rsa_key", "sshd_config"):
        (ssh / name).write_text("old\n")
    (tmp_path / "etc/machine-id").write_text("old\n")
    assert not [line for line in configure(tmp_path, "frontend") if "ssh-keygen" in line]
    assert sorted(os.listdir(ssh)) == ["ssh_host_ecdsa_key", "ssh_host_ed25519_key",
                                       "ssh_host_rsa_key", "sshd_config"]
    commands = configure(tmp_path, "compute")
    assert [line for line in commands if "ssh-keygen" in line]
    assert os.listdir(ssh) == ["sshd_config"]
    assert MACHINE_ID.fullmatch((tmp_path / "etc/machine-id").read_text())


def test_row_47_machine_id_of_dbus_is_not_taken_over(tmp_path):
    """All nodes of an image would have the same."""
    dbus, own = tmp_path / "var/lib/dbus/machine-id", tmp_path / "etc/machine-id"
    dbus.parent.mkdir(parents=True)
    dbus.write_text("0123456789abcdef0123456789abcdef\n")
    seen = {dbus.read_text()}
    for role in ("compute", "frontend"):
        configure(tmp_path, role)
        assert os.readlink(dbus) == "/etc/machine-id"
        assert own.read_text() not in seen
        assert (mode(own), bool(MACHINE_ID.fullmatch(own.read_text()))) == (0o444, True)
        seen.add(own.read_text())


# Other network services

RIVALS = {
    "networkd": {"etc/systemd/network/20-dhcp.network": "[Match]\nName=*\n[Network]\nDHCP=yes\n"},
    "NetworkManager": {"etc/NetworkManager/NetworkManager.conf": "[main]\nplugins=keyfile\n",
                       "etc/NetworkManager/conf.d/10-all.conf": "[keyfile]\n"},
    "netplan": {"etc/netplan/50-cloud-init.yaml": "network: {ethernets: {eth0: {dhcp4: true}}}\n"},
    "ifupdown": {"etc/network/interfaces": "auto eth0\niface eth0 inet dhcp\n",
                 "etc/default/networking": "EXCLUDE_INTERFACES='wlan0 wlan1'\n#VERBOSE=no"},
    "dhcpcd": {"etc/dhcpcd.conf": "interface eth0\nstatic ip_address=10.9.9.9/24\n"},
}


@pytest.mark.parametrize("rival", RIVALS)
def test_row_47_other_network_services_leave_our_interfaces_alone(tmp_path, rival):
    for name, text in RIVALS[rival].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    add_interfaces(tmp_path, {"ens3": MACS["eth0"], "ens4": MACS["eth1"]})
    configure(tmp_path, "frontend")
    first = snapshot(tmp_path)
    configure(tmp_path, "frontend")
    assert snapshot(tmp_path) == first
    networkd = tmp_path / "etc/systemd/network"
    assert sorted(os.listdir(networkd))[0] == "00-00-pragma_boot.network"
    assert (networkd / "00-00-pragma_boot.network").read_text().split("\n")[1:] == [
        "[Match]", "MACAddress={eth0} {eth1}".format(**MACS), "", "[Link]", "Unmanaged=yes", ""]
    manager = tmp_path / "etc/NetworkManager/conf.d"
    assert sorted(os.listdir(manager))[-1] == "zz-pragma_boot.conf"
    told = configparser.ConfigParser()
    told.read(manager / "zz-pragma_boot.conf")
    assert told["keyfile"]["unmanaged-devices"] == "mac:{eth0};mac:{eth1}".format(**MACS)
    assert told["main"]["dns"] == "none"
    # What ifup believes to be configured, at boot and at a hotplug event.
    assert (tmp_path / "run/network/ifstate").read_text() == "ens3=ens3\nens4=ens4\n"
    assert (tmp_path / "run/network/ifstate.ens4").read_text() == "ens4\n"
    excluded = (tmp_path / "etc/default/networking").read_text()
    before = "wlan0 wlan1 " if rival == "ifupdown" else ""
    assert f'\nEXCLUDE_INTERFACES="{before}ens3 ens4"\n' in excluded
    for name, text in RIVALS[rival].items():
        if name == "etc/dhcpcd.conf":
            assert "\ndenyinterfaces ens3 ens4\n" in (tmp_path / name).read_text()
        assert (tmp_path / name).read_text().rstrip("\n").find(text.rstrip("\n")) >= 0


def test_interfaces_without_mac_are_named(tmp_path):
    add_interfaces(tmp_path, {"ens3": MACS["eth0"], "ens4": MACS["eth1"]})
    configure(tmp_path, "old-frontend")
    networkd = tmp_path / "etc/systemd/network/00-00-pragma_boot.network"
    assert "Name=ens3 ens4\n" in networkd.read_text()
    assert "interface-name:ens3;interface-name:ens4" in (
        tmp_path / "etc/NetworkManager/conf.d/zz-pragma_boot.conf").read_text()


@pytest.fixture(scope="module")
def part():
    """The guest part as a module."""
    loader = importlib.machinery.SourceFileLoader("pragma_guest", str(GUEST / "pragma-guest"))
    module = types.ModuleType(loader.name)
    loader.exec_module(module)
    return module


AS_TOLD = {
    "hostname": "demo.local", "down": [],
    "addresses": {"eth0": ["10.1.1.1/16"], "eth1": ["10.0.2.15/24"]},
    "defaults": ["default via 10.0.2.2 dev eth1 "], "forwarding": True, "nat": True}


@pytest.mark.parametrize("change, said", [
    ({}, []),
    ({"defaults": ["default via 10.9.9.1 dev eth0 metric 100 ", *AS_TOLD["defaults"]]}, []),
    ({"hostname": "debian"}, ["the hostname is 'debian', not 'demo.local'"]),
    ({"addresses": {"eth0": ["10.9.9.9/24"], "eth1": ["10.0.2.15/24"]}},
     ["eth0 has 10.9.9.9/24, not 10.1.1.1/16"]),
    ({"addresses": {"eth0": ["10.1.1.1/16", "10.9.9.9/24"], "eth1": []}},
     ["eth0 has 10.1.1.1/16 and 10.9.9.9/24, not 10.1.1.1/16",
      "eth1 has no address, not 10.0.2.15/24"]),
    ({"addresses": {"eth0": ["10.1.1.1/8"], "eth1": ["10.0.2.15/24"]}},
     ["eth0 has 10.1.1.1/8, not 10.1.1.1/16"]),
    ({"down": ["eth1"]}, ["eth1 is down"]),
    ({"defaults": []}, ["the default route is absent, not via 10.0.2.2 dev eth1"]),
    ({"defaults": ["default dev ppp0 scope link"]},
     ["the default route is dev ppp0, not via 10.0.2.2 dev eth1"]),
    ({"defaults": ["default via 10.0.2.2 dev eth1 metric 20",
                   "default via 10.9.9.1 dev eth0 metric 9"]},
     ["the default route is via 10.9.9.1 dev eth0, not via 10.0.2.2 dev eth1"]),
    ({"forwarding": False}, ["IP forwarding is off"]),
    ({"nat": False}, ["the NAT rules are absent"]),
])
def test_row_47_ready_compares_with_the_document(part, change, said):
    node = part.parse((DATA / "frontend.xml").read_bytes())
    files = {file.path: file.text for file in part.plain_files(node)}
    seen = part.Seen(**{**AS_TOLD, "files": files, **change})
    assert part.differences(node, ["eth0", "eth1"], seen) == said


@pytest.mark.parametrize("partitions, sectors, room", [
    ([(1, 2048, 6144)], 8192, 0),
    ([(1, 2048, 6144)], 20480, 12288),
    # the order of the numbers does not matter, as in a Debian image: / behind BIOS boot and ESP
    ([(1, 8192, 2048), (14, 2048, 2048), (15, 4096, 4096)], 20480, 10240),
    ([(4, 8192, 2048), (1, 2048, 2048)], 10240, 0),
])
def test_room_of_the_last_partition(part, partitions, sectors, room):
    disk = [part.Partition(*one) for one in partitions]
    assert part.room(disk[0], disk, sectors) == room


def test_no_room_before_another_partition(part):
    disk = [part.Partition(1, 2048, 2048), part.Partition(5, 4096, 2048)]
    with pytest.raises(part.GuestError, match="partition 5 lies behind partition 1"):
        part.room(disk[0], disk, 20480)


@pytest.mark.parametrize("lines, found", [
    (["22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw"], ("254:1", "ext4", "/dev/vda1")),
    (["1 1 0:2 / / rw - rootfs rootfs rw", "22 1 8:3 / / rw - xfs /dev/root rw,seclabel",
      "30 22 254:1 / /boot rw - ext4 /dev/vda1 rw"], ("8:3", "xfs", "/dev/root")),
    (["22 1 0:25 /root / rw shared:1 - btrfs /dev/vda3 rw,subvol=/root"],
     ("0:25", "btrfs", "/dev/vda3")),
    ([], ("", "", "")),
])
def test_finds_the_root_file_system(part, lines, found):
    assert part.root_mount("\n".join(lines)) == found


class Disk:
    """The files of /sys for a disk with partitions: (name, number, start, size) in sectors."""

    def __init__(self, part, root, sectors, partitions, kind="ext4"):
        disk = root / "sys/block/vda"
        disk.mkdir(parents=True)
        (disk / "size").write_text(f"{sectors}\n")
        (disk / "queue").mkdir()
        for name, *values in partitions:
            (disk / name).mkdir()
            for key, value in zip(("partition", "start", "size"), values, strict=False):
                (disk / name / key).write_text(f"{value}\n")
        self.machine = part.Machine(None)
        self.machine.root_device = lambda: (str(disk / partitions[0][0]), kind)
        self.commands, self.fails, self.free = [], "", "  256\n"
        self.machine.run = self.run

    def put_volume_on(self, *partitions):
        """Move the root file system to the logical volume vg0-root on these partitions."""
        disk, kind = self.machine.root_device()
        disk = Path(disk).parent
        volume = disk.parent / "dm-0"
        (volume / "dm").mkdir(parents=True)
        (volume / "slaves").mkdir()
        (volume / "dm/uuid").write_text("LVM-x\n")
        (volume / "dm/name").write_text("vg0-root\n")
        for name in partitions:
            (volume / "slaves" / name).symlink_to(disk / name)
        self.machine.root_device = lambda: (str(volume), kind)

    def run(self, command, seconds=60):
        self.commands.append(" ".join(command))
        if command[0] == "lvs":
            return self.free
        if command[0] == self.fails:
            self.machine.errors.append(f"cannot run '{command[0]}'")
        return ""


@pytest.mark.parametrize("kind, resize", [
    ("ext4", "resize2fs /dev/vda1"), ("xfs", "xfs_growfs /"),
    ("btrfs", "btrfs filesystem resize max /")])
def test_grows_partition_and_file_system(part, tmp_path, kind, resize):
    partitions = [("vda1", 1, 2048, 1 << 20), ("vda14", 14, 34, 2014)]
    disk = Disk(part, tmp_path, 1 << 22, partitions, kind)
    disk.machine.grow()
    assert disk.commands == ["growpart /dev/vda 1", resize]


@pytest.mark.parametrize("free, extend", [
    ("  256\n", ["lvextend -l +100%FREE /dev/mapper/vg0-root"]), ("  0\n", [])])
def test_grows_a_logical_volume(part, tmp_path, free, extend):
    disk = Disk(part, tmp_path, 1 << 22, [("vda1", 1, 2048, 1 << 20)], "xfs")
    disk.put_volume_on("vda1")
    disk.free = free
    disk.machine.grow()
    assert disk.commands == [
        "growpart /dev/vda 1", "pvresize /dev/vda1",
        "lvs --noheadings -o vg_free_count /dev/mapper/vg0-root", *extend, "xfs_growfs /"]


@pytest.mark.parametrize("partitions, said", [
    ([], "the root file system is on a logical volume of 0 devices"),
    (["vda1", "vda2"], "the root file system is on a logical volume of 2 devices")])
def test_a_logical_volume_of_several_devices_is_left_alone(part, tmp_path, partitions, said):
    disk = Disk(part, tmp_path, 1 << 22, [("vda1", 1, 2048, 4096), ("vda2", 2, 8192, 4096)])
    disk.put_volume_on(*partitions)
    part.grow(disk.machine)
    assert said in disk.machine.warnings[0] and disk.commands == []


def test_a_partition_that_was_grown_is_left_alone(part, tmp_path):
    """The file system may lag behind: a node can be stopped between the two."""
    disk = Disk(part, tmp_path, (1 << 20) + 4000, [("vda1", 1, 2048, 1 << 20)])
    disk.machine.grow()
    assert disk.commands == ["resize2fs /dev/vda1"]


@pytest.mark.parametrize("partitions, kind, fails, said", [
    ([("vda1", 1, 2048, 4096), ("vda2", 2, 8192, 4096)], "ext4", "", "partition 2 lies behind"),
    ([("dm-0",)], "xfs", "", "the root file system is on dm-0, which is not a partition"),
    ([("vda1", 1, 2048, 4096)], "squashfs", "", "a file system of type squashfs cannot be grown"),
    ([("vda1", 1, 2048, 4096)], "ext4", "growpart", "cannot run 'growpart'"),
    ([("vda1", 1, 2048, 4096)], "ext4", "resize2fs", "cannot run 'resize2fs'"),
])
def test_says_why_it_cannot_grow(part, tmp_path, partitions, kind, fails, said):
    """As a warning: the node can do without."""
    disk = Disk(part, tmp_path, 1 << 22, partitions, kind)
    disk.fails = fails
    part.grow(disk.machine)
    line, = disk.machine.warnings
    assert line.startswith("the disk is larger than the image, and the root file system is not ")
    assert said in line and disk.machine.errors == []


def test_grows_where_the_document_says_so(tmp_path):
    assert "grow /" not in configure(tmp_path, "frontend")
    text = (DATA / "frontend.xml").read_text()
    large = tmp_path / "large.xml"
    large.write_text(text.replace("<frontend ", '<frontend disk_size="4294967296" ', 1))
    assert "grow /" in guest("configure", tmp_path, large).stdout.splitlines()


@pytest.mark.parametrize("file, old, new, said", [
    ("resolv.conf", "nameserver 10.0.2.3", "nameserver 192.0.2.1",
     "DNS server 192.0.2.1 10.0.2.4, not 10.0.2.3 10.0.2.4"),
    ("resolv.conf", "search local", "search lan", "searches 'lan', not 'local'"),
    ("hosts", "10.1.255.254", "10.9.9.9",
     "/etc/hosts has 10.9.9.9 for compute-0, not 10.1.255.254"),
    ("hosts", "10.1.1.1\t", "# 10.1.1.1\t", "/etc/hosts has nothing for frontend, not 10.1.1.1"),
    ("hosts", "::1", "10.8.8.8\tserver\n::1", ""),
    ("resolv.conf", "search local", "# by hand\noptions timeout:1\nsearch local", ""),
])
def test_row_47_ready_says_which_name_differs(tmp_path, file, old, new, said):
    configure(tmp_path, "frontend")
    path = tmp_path / "etc" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    done = guest("ready", tmp_path, DATA / "frontend.xml")
    assert done.returncode == (1 if said else 0)
    outcome = "failed demo: " if said else "ready demo"
    assert done.stdout.startswith("pragma_boot: " + outcome)
    assert said in done.stdout and ("vc-check" in done.stdout) == bool(said)


def test_waits_for_the_final_name_of_an_interface(tmp_path, part, monkeypatch):
    """udev renames an interface after the kernel made it, and the name of before cannot be used."""
    add_interfaces(tmp_path, {"eth0": MACS["eth0"]})
    (tmp_path / "run/udev/data").mkdir(parents=True)
    (tmp_path / "run/udev/control").touch()
    machine = part.Machine(str(tmp_path))
    machine.dry = False
    node = part.parse((DATA / "compute.xml").read_bytes())

    def renamed(_):
        (tmp_path / "sys/class/net/eth0").rename(tmp_path / "sys/class/net/ens3")
        (tmp_path / "run/udev/data/n2").touch()
    mac = node.interfaces[0].mac
    (tmp_path / "sys/class/net/eth0/address").write_text(mac or MACS["eth0"])
    monkeypatch.setattr(part.time, "sleep", renamed)
    assert machine.devices(node) == ["ens3"]


@pytest.mark.parametrize("document, said", [
    (None, "cannot open"),
    ("", "not well-formed"),
    ("<vc><frontend></vc>", "not well-formed"),
    ("<vm/>", "the root element is 'vm', not 'vc'"),
    ("<vc/>", "no element 'frontend'"),
    ("<vc><frontend><public ip='192.0.2.9'/><private ip='10.1.1.1'/></frontend></vc>",
     "the frontend has no name: frontend/public/@fqdn is missing"),
    ("<vc><compute><private fqdn='a' ip='10.1.1.300' netmask='255.0.0.0'/></compute></vc>",
     "bad private/@ip '10.1.1.300'"),
    ("<vc><compute><private fqdn='a' ip='10.1.1.3' netmask='255.0.255.0'/></compute></vc>",
     "bad private/@netmask '255.0.255.0'"),
    ("<vc><compute><private fqdn='a&#10;b' ip='10.1.1.3'/></compute></vc>",
     "bad private/@fqdn 'a\\nb'"),
    ("<vc><compute><private fqdn='a' ip='10.1.1.3' mac='52:54'/></compute></vc>",
     "bad private/@mac '52:54'"),
])
def test_bad_document(tmp_path, document, said):
    path = tmp_path / "vc-out.xml"
    if document is not None:
        path.write_text(document)
    done = guest("configure", tmp_path / "root", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pragma-guest: ") and said in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_ready_tells_key_and_name(tmp_path):
    configure(tmp_path, "compute")
    (tmp_path / "etc/ssh").mkdir(exist_ok=True)
    (tmp_path / "etc/ssh/ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAAhost root@x\n")
    done = guest("ready", tmp_path, DATA / "compute.xml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("pragma_boot: hostkey compute-0 ssh-ed25519 AAAAhost\n"
                           "pragma_boot: ready compute-0\n")


def test_ready_tells_why_not(tmp_path):
    add_interfaces(tmp_path, {"eth0": MACS["eth0"]})
    guest("configure", tmp_path, DATA / "frontend.xml")
    done = guest("ready", tmp_path, DATA / "frontend.xml")
    assert done.returncode == 1
    assert done.stdout == ("pragma_boot: failed demo: "
                           "no network interface has the MAC address 52:54:00:aa:00:02\n")


def test_ready_without_its_document(tmp_path):
    guest("configure", tmp_path, DATA / "frontend.xml")
    done = guest("ready", tmp_path, tmp_path / "nope")
    assert done.returncode == 1
    assert "failed " in done.stdout and f"'{tmp_path}/nope'" in done.stderr


def test_ready_without_configure(tmp_path):
    done = guest("ready", tmp_path, DATA / "frontend.xml")
    assert done.stdout == "pragma_boot: failed demo: pragma-guest configure has not run\n"


def program(root, folder, name, text, mode=0o755):
    """Add a program of the image's author."""
    path = root / "etc/pragma_boot" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(mode)


def test_programs_run_after_the_node_is_set_up(tmp_path):
    """In the order of their names, which are those that run-parts takes."""
    for name in ("50-last", "10_first", "20-tool.dpkg-old", "30-tool~", "B"):
        program(tmp_path, "configure.d", name, "exit 1\n")
    program(tmp_path, "configure.d", "15-not-executable", "exit 1\n", 0o644)
    (tmp_path / "etc/pragma_boot/configure.d/40-folder").mkdir()
    program(tmp_path, "ready.d", "idle", "exit 1\n")
    commands = configure(tmp_path, "compute")
    document = DATA / "compute.xml"
    assert commands[-3:] == [f"/etc/pragma_boot/configure.d/{name} {document} compute"
                             for name in ("10_first", "50-last", "B")]
    assert "nft" not in commands[-4] and commands[-4].startswith("ip route replace")
    ready = guest("ready", tmp_path, document).stdout.splitlines()
    assert ready[0] == f"/etc/pragma_boot/ready.d/idle {document} compute"
    assert ready[-1] == "pragma_boot: ready compute-0"


@pytest.fixture
def machine(part, tmp_path, monkeypatch):
    """A Machine that runs the programs below tmp_path."""
    monkeypatch.setattr(part, "PROGRAMS", str(tmp_path / "etc/pragma_boot"))
    monkeypatch.setattr(part, "ERRORS", str(tmp_path / "errors"))
    return part.Machine(None)


@pytest.mark.parametrize("text, said", [
    ("echo one >&2; echo 'no license' >&2; exit 3\n", "no license"),
    ("echo fine; printf 'cut\\n\\n  ' >&2; exit 3\n", "cut"),
    ("exit 3\n", "exit status 3"),
    ("kill -9 $$\n", "ended by signal 9"),
    ("exec sleep 60\n", "it did not end in time"),
    ("#!/no/such/interpreter\n", "No such file or directory"),
])
def test_a_program_that_fails_is_named(part, machine, tmp_path, text, said):
    program(tmp_path, "configure.d", "10-bad", text)
    if text.startswith("#!"):
        (tmp_path / "etc/pragma_boot/configure.d/10-bad").write_text(text)
    program(tmp_path, "configure.d", "20-later", f"touch {tmp_path}/later\n")
    with pytest.raises(part.GuestError) as error:
        part.run_programs(machine, "configure.d", ["/root/vc-out.xml", "frontend"], 1)
    assert str(error.value) == f"configure.d/10-bad: {said}"
    assert not (tmp_path / "later").exists()


def test_a_program_gets_document_and_role(part, machine, tmp_path):
    """And an empty standard input, in /; a daemon that it leaves does not keep us."""
    program(tmp_path, "configure.d", "10-look", f'''sleep 30 & echo $! >{tmp_path}/daemon
printf '%s|' "$@" "$PWD" "$(cat)" "$#" >{tmp_path}/seen\n''')
    begin = time.monotonic()
    part.run_programs(machine, "configure.d", ["/a b.xml", "compute"], 20)
    os.kill(int((tmp_path / "daemon").read_text()), 9)
    assert (tmp_path / "seen").read_text() == "/a b.xml|compute|/||2|"
    assert time.monotonic() - begin < 20


def test_ready_repeats_a_program_until_it_succeeds(part, machine, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(part.time, "sleep", waits.append)
    program(tmp_path, "ready.d", "10-idle", f"echo x >>{tmp_path}/runs\n"
            f"[ $(wc -l <{tmp_path}/runs) = 3 ]\n")
    program(tmp_path, "ready.d", "20-second", f"cp {tmp_path}/runs {tmp_path}/copy\n")
    part.run_programs(machine, "ready.d", ["/root/vc-out.xml", "compute"], 60, repeat=True)
    assert (tmp_path / "copy").read_text() == "x\nx\nx\n" and waits.count(1) == 2


def test_ready_names_a_program_that_never_succeeds(part, machine, tmp_path):
    program(tmp_path, "ready.d", "10-idle", "echo 'compute-0 is down in sinfo' >&2; exit 1\n")
    node = part.parse((DATA / "compute.xml").read_bytes())
    part.READY_WAIT, before = 2.5, part.READY_WAIT
    try:
        said = part.waited(machine, "/root/vc-out.xml", node)
    finally:
        part.READY_WAIT = before
    assert said == "ready.d/10-idle: compute-0 is down in sinfo"


def update(root, data, *arguments, **environment):
    """Tell the node whose document is root/vc-out.xml another one."""
    return subprocess.run(
        [str(GUEST / "pragma-guest"), "update", "--root", str(root), "--document", "/vc-out.xml",
         *arguments],
        input=data, capture_output=True, timeout=60, env={**os.environ, **environment})


@pytest.fixture
def running(tmp_path):
    """The root of a frontend that is configured, with known hosts, and a program of each folder."""
    shutil.copy(DATA / "frontend.xml", tmp_path / "vc-out.xml")
    configure(tmp_path, "frontend")
    (tmp_path / "root/.ssh/known_hosts").touch()
    for folder in ("configure.d", "ready.d", "drain.d"):
        program(tmp_path, folder, "10-own", "exit 1\n")
    return tmp_path


def smaller():
    """The document of the frontend without its second compute node."""
    text = (DATA / "frontend.xml").read_text()
    return re.sub('<node name="compute-1".*?</node>', "", text, flags=re.S).encode()


def test_update_configures_again(running):
    done = update(running, smaller())
    assert (done.returncode, done.stderr) == (0, b"")
    assert (running / "vc-out.xml").read_bytes() == smaller()
    assert mode(running / "vc-out.xml") == 0o600
    assert "compute-1" not in (running / "etc/hosts").read_text()
    assert (running / "root/machinefile").read_text() == "compute-0\ncompute-0\n"
    assert "compute-1" not in (running / "root/.ssh/config").read_text()
    lines = done.stdout.decode().splitlines()
    assert lines[:2] == [f"ssh-keygen -q -R {name} -f /root/.ssh/known_hosts"
                         for name in ("10.1.255.253", "compute-1")]
    assert not [line for line in lines if "drain.d" in line or " down" in line or " del " in line]
    document = f"{running}/vc-out.xml"
    assert f"/etc/pragma_boot/configure.d/10-own {document} frontend" in lines
    assert lines[-2:] == [f"/etc/pragma_boot/ready.d/10-own {document} frontend",
                          "pragma_boot: ready demo"]
    again = update(running, smaller()).stdout.decode()
    assert "ssh-keygen -q -R" not in again and "pragma_boot: ready demo" in again


@pytest.mark.parametrize("arguments, environment", [
    (["--drain", "7"], {}),
    ([], {"SSH_ORIGINAL_COMMAND": "pragma-guest update --drain 7"})])
def test_update_drains_the_nodes_that_leave(running, arguments, environment):
    done = update(running, smaller(), *arguments, **environment)
    assert done.stdout.decode().splitlines()[0] == (
        f"/etc/pragma_boot/drain.d/10-own {running}/vc-out.xml frontend compute-1")
    # Nobody leaves when the cluster grows.
    done = update(running, (DATA / "frontend.xml").read_bytes(), *arguments, **environment)
    assert b"drain.d" not in done.stdout and b"ssh-keygen -q -R compute-1" in done.stdout


@pytest.mark.parametrize("arguments, environment", [
    (["--drain", "1;id"], {}),
    ([], {"SSH_ORIGINAL_COMMAND": "pragma-guest update --drain 7;id"})])
def test_update_takes_seconds_alone(running, arguments, environment):
    done = update(running, smaller(), *arguments, **environment)
    assert done.returncode == 2 and b"--drain must be a number" in done.stderr


def test_the_clusters_key_is_for_update_alone(running):
    """`ssh frontend hostname` on a node must not wait for a document."""
    done = update(running, b"", SSH_ORIGINAL_COMMAND="hostname")
    assert done.returncode == 2
    assert b"this key is for 'pragma-guest update' alone, not for 'hostname'" in done.stderr


def test_nodes_that_are_busy_stay(part, machine, tmp_path, monkeypatch):
    """The document is the old one, and programs of configure.d may put them back to work."""
    document = tmp_path / "vc-out.xml"
    shutil.copy(DATA / "frontend.xml", document)
    program(tmp_path, "drain.d", "10-own", "shift 2; echo $* has jobs >&2; exit 1\n")
    monkeypatch.setattr(part.sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(smaller())))
    monkeypatch.setattr(part, "LOCK", str(tmp_path / "lock"))
    refreshed = []
    monkeypatch.setattr(part, "refresh", lambda *arguments: refreshed.append(arguments))
    with pytest.raises(part.Busy) as error:
        part.update(machine, str(document), 1)
    assert (str(error.value), error.value.status) == ("drain.d/10-own: compute-1 has jobs", 3)
    assert document.read_bytes() == (DATA / "frontend.xml").read_bytes()
    assert refreshed == [(machine, str(document))]


@pytest.mark.parametrize("data, said", [
    (b"", "cannot use the new document: not well-formed"),
    (b"id\n", "not well-formed"),
    (b"<vc/>", "cannot use the new document: no element 'frontend'"),
    (smaller()[:-20], "not well-formed"),
    (b"<vc>" + b" " * (64 << 20), "cannot use the new document: larger than 64 MiB"),
    (smaller().replace(b"10.1.1.1", b"10.1.1.2"), "not of this node: it is of 'demo'"),
    ((DATA / "compute.xml").read_bytes(), "not of this node: it is of 'compute-0'"),
])
def test_update_refuses_what_is_not_this_nodes_document(running, data, said):
    before = snapshot(running)
    done = update(running, data)
    assert (done.returncode, done.stdout) == (1, b"")
    assert said in done.stderr.decode() and done.stderr.count(b"\n") == 1
    (running / "run/pragma_boot/lock").touch()
    before.setdefault((running / "run/pragma_boot/lock").relative_to(running),
                      snapshot(running)[pathlib.Path("run/pragma_boot/lock")])
    assert snapshot(running) == before


def test_the_example_of_a_program(tmp_path):
    for role in ("compute", "frontend"):
        example = ROOT / "examples/guest/50-clustershell"
        done = subprocess.run([example, DATA / f"{role}.xml", role],
                              env={"DESTDIR": str(tmp_path)}, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert bool(list(tmp_path.iterdir())) == (role == "frontend")
    groups = tmp_path / "etc/clustershell/groups.d/local.cfg"
    assert groups.read_text() == "compute: compute-0,compute-1\n"


def test_help_without_room():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(GUEST / "pragma-guest"), "--help"], stdout=full,
                              stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "pragma-guest: cannot write standard output: No space left on device\n"


def test_help_and_usage():
    done = subprocess.run([str(GUEST / "pragma-guest"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: pragma-guest" in done.stdout
    for arguments in ([], ["fly"], ["configure", "ready"], ["configure", "--root"]):
        done = subprocess.run([str(GUEST / "pragma-guest"), *arguments], capture_output=True,
                              text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1


def namespaces_missing():
    if os.geteuid() or not shutil.which("unshare") or not shutil.which("ip"):
        return "needs root, unshare and ip"
    command = ["unshare", "--net", "--uts", "--mount", "ip", "link", "add", "x", "type", "veth"]
    return "" if subprocess.run(command, capture_output=True).returncode == 0 else "cannot unshare"


# Another root, with this machine's programs read-only: nothing else can be damaged.
IN_NAMESPACES = """set -eu
mount --make-rprivate /
mkdir -p root/etc root/root root/var/lib root/run root/tmp root/dev root/sys root/stubs
for folder in usr bin sbin lib lib64; do
    if [ -L /$folder ]; then
        cp -P /$folder root/$folder
    elif [ -d /$folder ]; then
        mkdir root/$folder
        mount --bind -o ro /$folder root/$folder
    fi
done
touch root/dev/null
mount --bind /dev/null root/dev/null
mount -t sysfs none root/sys
for name in ssh-keygen nft sysctl; do
    printf '#!/bin/sh\\n' >root/stubs/$name
    chmod 755 root/stubs/$name
done
cp "$1" root/pragma-guest
cp "$2" root/vc-out.xml
ip link add pub0 address 52:54:00:aa:00:02 type veth
ip link add priv0 address 52:54:00:aa:00:01 type veth
ip address add 10.9.9.9/24 dev priv0
export PATH=/stubs:/usr/sbin:/usr/bin:/sbin:/bin
for turn in 1 2; do
    chroot root /usr/bin/python3 /pragma-guest configure --document /vc-out.xml
done
ip -o -4 address show
ip route show default
hostname
# ready: an sshd that only greets, and nothing on the serial port
ip link set lo up
touch root/dev/console
/usr/bin/python3 -c 'import socket
with socket.create_server(("127.0.0.1", 22)) as server:
    open("listening", "w").close()
    while True:
        server.accept()[0].send(b"SSH-2.0-x")' &
server=$!
trap 'kill $server' EXIT
while ! [ -e listening ]; do sleep 0.1; done
printf '#!/bin/sh\\necho masquerade\\n' >root/stubs/nft
mkdir -p root/proc
mount -t proc none root/proc
echo 1 >/proc/sys/net/ipv4/ip_forward
chroot root /usr/bin/python3 /pragma-guest ready --document /vc-out.xml
cat root/dev/console >console
: >root/dev/console
ip -o monitor link address route >monitored &
monitor=$!
trap 'kill $server $monitor' EXIT
chroot root /usr/bin/python3 /pragma-guest update --document /vc-out.xml <"$3"
trap 'kill $server' EXIT
kill $monitor
cp root/etc/hosts hosts
cat root/dev/console >>console
: >root/dev/console
ip address add 10.9.9.9/24 dev priv0
ip route replace default via 10.9.9.1 dev priv0
chroot root /usr/bin/python3 /pragma-guest ready --document /vc-out.xml || true
cat root/dev/console >>console
"""


@pytest.mark.skipif(bool(namespaces_missing()), reason=namespaces_missing())
def test_network_for_real(tmp_path):
    """Configure twice, be ready, be told another document, and notice what others change."""
    (tmp_path / "smaller.xml").write_bytes(smaller())
    done = subprocess.run(["unshare", "--net", "--uts", "--mount", "bash", "-c", IN_NAMESPACES, "-",
                           str(GUEST / "pragma-guest"), str(DATA / "frontend.xml"), "smaller.xml"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=60)
    differs = ("priv0 has 10.1.1.1/16 and 10.9.9.9/24, not 10.1.1.1/16, the default route is "
               "via 10.9.9.1 dev priv0, not via 10.0.2.2 dev pub0: another program changed it; "
               "vc-check names the network services of the image")
    assert (done.returncode, done.stderr) == (0, f"pragma-guest: {differs}\n")
    console = (tmp_path / "console").read_text().split("\n")
    assert [line for line in console if line] == [
        "pragma_boot: ready demo", "pragma_boot: ready demo",
        f"pragma_boot: failed demo: {differs}"]
    assert "compute-0" in (tmp_path / "hosts").read_text()
    assert "compute-1" not in (tmp_path / "hosts").read_text()
    monitored = (tmp_path / "monitored").read_text()
    assert "10.1.1.1/16" in monitored and "Deleted" not in monitored
    assert "inet 10.1.1.1/16" in done.stdout and "inet 10.0.2.15/24" in done.stdout
    assert "10.9.9.9" not in done.stdout
    assert "default via 10.0.2.2 dev pub0" in done.stdout
    assert done.stdout.splitlines()[-1] == "demo.local"
    assert (tmp_path / "root/run/pragma_boot/outcome").read_text() == "ok\n"


# The same root with a real sshd; $4 is a private key, whose public half is in the document.
WITH_SSHD = IN_NAMESPACES.split("for turn in")[0] + """
mount -t tmpfs none root/usr/local/sbin
cp root/stubs/* root/pragma-guest root/usr/local/sbin
printf '#!/bin/sh\\necho masquerade\\n' >root/usr/local/sbin/nft
cp root/vc-out.xml root/root/vc-out.xml
mkdir -p root/proc root/etc/ssh root/run/sshd root/etc/pragma_boot/drain.d
mount -t proc none root/proc
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
touch root/dev/console
echo root:x:0:0::/root:/bin/sh >root/etc/passwd
echo sshd:x:100:65534::/run/sshd:/bin/false >>root/etc/passwd
ssh-keygen -q -t ed25519 -N '' -f root/etc/ssh/ssh_host_ed25519_key
cp root/etc/ssh/ssh_host_ed25519_key keep
printf '#!/bin/sh\\necho "$@" >/root/drained\\n' >root/etc/pragma_boot/drain.d/10-own
chmod 755 root/etc/pragma_boot/drain.d/10-own
chroot root /usr/bin/python3 /pragma-guest configure
cp keep root/etc/ssh/ssh_host_ed25519_key
chroot root /usr/sbin/sshd -D -f /dev/null -o UsePAM=no -o StrictModes=no 2>sshd &
trap "kill $!" EXIT
while ! (exec 3<>/dev/tcp/127.0.0.1/22) 2>>sshd; do sleep 0.1; done
login() { ssh -F none -i "$key" -o IdentitiesOnly=yes -o BatchMode=yes -o LogLevel=ERROR \\
    -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no root@127.0.0.1 "$@"; }
key=$4
login 'pragma-guest update' <"$3" && echo "status $?"
cp root/etc/hosts hosts
cp vc-out.xml now.xml
login 'pragma-guest update --drain 5' <now.xml && echo "status $?"
login 'pragma-guest update --drain 5' <"$3" && echo "status $?"
cat root/root/drained
login id </dev/null || echo "status $?"
"""


@pytest.mark.long       # sshd, which make test does not install: it would start on this machine
@pytest.mark.skipif(bool(namespaces_missing()), reason=namespaces_missing())
def test_the_clusters_key_runs_update_alone(tmp_path):
    """With the option that was asked for; another command is refused."""
    need("sshd", "ssh")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    line = f'command="{allocation.UPDATE}",restrict {key.with_suffix(".pub").read_text().strip()}'
    documents = {"vc-out.xml": (DATA / "frontend.xml").read_bytes(), "smaller.xml": smaller()}
    for name, data in documents.items():
        (tmp_path / name).write_bytes(data.replace(b"</key>", line.encode() + b"\n</key>"))
    done = subprocess.run(["unshare", "--net", "--uts", "--mount", "bash", "-c", WITH_SSHD, "-",
                           str(GUEST / "pragma-guest"), "vc-out.xml", "smaller.xml", str(key)],
                          cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["status 0", "status 0", "status 0",
                                        "/root/vc-out.xml frontend compute-1", "status 2"], done
    assert "uid=" not in done.stdout
    assert done.stderr == ("pragma-guest: this key is for 'pragma-guest update' alone, not for "
                           "'id'; see pragma-guest --help\n")
    assert "compute-1" not in (tmp_path / "hosts").read_text()
    told = (tmp_path / "root/root/vc-out.xml").read_bytes()
    assert told == (tmp_path / "smaller.xml").read_bytes()


@pytest.fixture
def system(tmp_path):
    """A folder that resembles an unpacked system."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3").touch()
    return tmp_path


def install(*arguments):
    return subprocess.run([str(GUEST / "install"), *map(str, arguments)],
                          capture_output=True, text=True, timeout=60)


def test_install(system):
    done = install(system)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    program = system / "usr/local/sbin/pragma-guest"
    assert program.read_bytes() == (GUEST / "pragma-guest").read_bytes()
    assert mode(program) == 0o755
    units = system / "etc/systemd/system"
    for name in ("pragma-guest.service", "pragma-guest-ready.service"):
        link = units / "multi-user.target.wants" / name
        assert link.is_symlink() and link.resolve() == units / name
        assert (units / name).read_bytes() == (GUEST / name).read_bytes()
    # networkd, which has no interface of its own then, does not wait for one.
    online = units / "systemd-networkd-wait-online.service.d/zz-pragma_boot.conf"
    assert online.read_text().endswith("ExecStart=\nExecStart=/bin/true\n")


def test_install_again_changes_nothing(system):
    install(system)
    before = snapshot(system)
    assert install(system).returncode == 0
    assert snapshot(system) == before


def test_install_refuses_a_folder_without_a_system(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        done = install(folder)
        assert done.returncode == 1
        assert done.stderr.startswith("install: cannot install into ")
        assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_install_help_and_usage(tmp_path):
    assert "usage: install [ROOT]" in install("--help").stdout
    assert install("--fly").returncode == 2
    assert install(tmp_path, tmp_path).returncode == 2


WAITING = (DATA / "compute.xml").read_bytes().replace(b"<vc>", b'<vc wait="yes">')


def test_reads_the_document_of_the_disk(part, tmp_path):
    """Without what fills the blocks, and whatever the kernel has in its cache."""
    path = Path(tempfile.mkdtemp(dir=SCRATCH)) / "vc-out.xml"
    try:
        path.write_bytes(WAITING.ljust(16384))
        assert part.read_direct(str(path)) == WAITING.rstrip()
        assert part.parse(WAITING).waits
        assert not part.parse((DATA / "compute.xml").read_bytes()).waits
    finally:
        shutil.rmtree(path.parent)


@pytest.mark.parametrize("folder", ["configure.d", "ready.d"])
def test_a_node_that_waits_has_no_programs_of_the_author(tmp_path, folder):
    program(tmp_path, folder, "10-munge", "exit 0\n")
    (tmp_path / "document.xml").write_bytes(WAITING)
    done = guest("configure", tmp_path, tmp_path / "document.xml")
    assert done.returncode == 1 and f"the image has programs in {folder}" in done.stderr
    assert "munge" not in done.stdout


def test_a_node_without_random_bytes_of_the_host(part, machine, monkeypatch, tmp_path):
    monkeypatch.setattr(part, "HARDWARE_RANDOM", str(tmp_path / "hwrng"))
    with pytest.raises(part.GuestError, match="nodes with the same state would make the same keys"):
        machine.next_document(str(tmp_path / "vc-out.xml"))


def test_the_sockets_of_sshd(part, tmp_path):
    (tmp_path / "proc/net").mkdir(parents=True)
    row = "0: {} {} {} 00000000:00000000 00:00000000 00000000     0        0 {} 1\n".format
    listening, connected, other = (
        row("00000000:0016", "00000000:0000", "0A", 4711),
        row("0100007F:0016", "0100007F:0017", "01", 4712),
        row("00000000:1600", "00000000:0000", "0A", 4713))
    (tmp_path / "proc/net/tcp").write_text(
        "sl local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode\n"
        + listening + connected + other)
    assert part.Machine(str(tmp_path)).listeners() == {"4711"}
