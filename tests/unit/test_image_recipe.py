"""images/debian: the recipe, as far as it can be tested without building an image."""

import shutil
import subprocess

import pytest
from lxml import etree

from lab import ROOT

IMAGES = ROOT / "images"
SCRIPTS = [IMAGES / "debian/build", IMAGES / "debian/sources", IMAGES / "guest/install"]


def build(*arguments):
    return subprocess.run([str(IMAGES / "debian/build"), *map(str, arguments)],
                          capture_output=True, text=True, timeout=60)


def test_help():
    done = build("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: build [options] [OUTPUT]\n")


@pytest.mark.parametrize("arguments", [
    ["--fly"], ["a", "b"], ["--sources"], ["--table=mbr"], ["--filesystem", "btrfs"],
    ["--suite", "a b"], ["--suite="],
    ["--include"], ["--include", "a;b"], ["--overlay"]])
def test_bad_usage(arguments):
    done = build(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("build: ") and done.stderr.count("\n") == 1


def test_refuses_an_output_folder_that_is_not_there(tmp_path):
    done = build(tmp_path / "absent/debian.img.gz")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"build: cannot write '{tmp_path}/absent/debian.img.gz': no such folder\n"


def test_refuses_a_folder_as_output(tmp_path):
    done = build(tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"build: cannot write '{tmp_path}': is a folder\n"


def test_refuses_sources_that_are_not_there(tmp_path):
    done = build("--sources", tmp_path / "absent", tmp_path / "x.img.gz")
    assert done.returncode == 1
    assert done.stderr == f"build: cannot read '{tmp_path}/absent'\n"


def test_refuses_an_overlay_that_is_no_folder(tmp_path):
    done = build("--overlay", tmp_path / "absent", tmp_path / "x.img.gz")
    assert done.returncode == 1
    assert f"cannot read '{tmp_path}/absent': --overlay needs a folder" in done.stderr


def test_copies_overlays_into_the_system(tmp_path):
    """Of two, the second decides; links to folders are followed inside the system."""
    root, first, second = tmp_path / "root", tmp_path / "first", tmp_path / "second"
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    for folder in (first, second):
        (folder / "lib").mkdir(parents=True)
        (folder / "lib/file").write_text(folder.name)
    (first / "lib/file").chmod(0o640)
    script = (IMAGES / "debian/build").read_text().rsplit("main ", 1)[0]
    script += "overlay=(first second); chroot() { shift; \"$@\"; };\n"
    script += "copy_overlays root\n"
    program = tmp_path / "build"
    program.write_text(script.replace("tar -C / ", "tar -C root "))
    done = subprocess.run(["bash", str(program)],
                          cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (root / "lib").is_symlink() and (root / "usr/lib/file").read_text() == "second"


@pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="needs mmdebstrap")
def test_failed_build_leaves_nothing_behind(tmp_path):
    empty = tmp_path / "sources.list"
    empty.touch()
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    done = subprocess.run([str(IMAGES / "debian/build"), "--sources", str(empty),
                           str(out / "x.img.gz")],
                          capture_output=True, text=True, timeout=120,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(work)})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("build: ")
    assert list(work.iterdir()) == list(out.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script):
    shell = script.read_text().splitlines()[0][2:]
    assert subprocess.run([shell, "-n", str(script)]).returncode == 0


def test_vc_in():
    vc = etree.parse(str(IMAGES / "debian/vc-in.xml")).getroot()
    assert vc.findtext("driver") == "debian"
    assert vc.find(".//boot_dependency") is None
    for role, interfaces in (("frontend", 2), ("compute", 1)):
        devices = vc.find(role + "/domain/devices")
        assert len(devices.findall("interface")) == interfaces
        assert devices.find("disk/source").get("file") == "debian.img.gz"
    assert vc.findtext("networks/frontend/public") == "eth1"


def test_database_names_the_image():
    assert (IMAGES / "vcdb.txt").read_text() == "debian,debian/vc-in.xml\nhpc,hpc/vc-in.xml\n"
