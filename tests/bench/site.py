"""A site of its own for a run of bench.py, with the images that are measured on."""
import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lab import ROOT
from lab.images import make_image
from lab.site import connection

BIN = ROOT / 'bin'
DEMO = ROOT / 'images' / 'debian'
USER = 'libvirt-qemu'
SETTINGS = f'''drivers_path = drivers
ve_driver = paused
temporary_directory = temp
base_path = images
accel = tcg
session_user = {USER}
cpus_per_node = 1
cpu_overcommit = 100000
private_ports = 30000-39999
ssh_ports = 40000-49999
'''

PAUSED_BOOT = {'boot': '''#!/usr/bin/env bash
set -euo pipefail
export PRAGMA_TEMP=$3
exec '{bin}/vc-boot' --paused --node "$2" <"$(dirname "$4")/document.xml" >/dev/null
''', 'boot_compute': '''#!/usr/bin/env bash
set -euo pipefail
export PRAGMA_TEMP=$1
exec '{bin}/vc-boot' --paused <"$(dirname "$2")/document.xml" >/dev/null
'''}
"""As in drivers/kvm, but the guests stay paused, and so take no CPU from what is measured."""


class Site:
    """A scratch site for all rows, whose user of QEMU can reach it."""

    def __init__(self, folder):
        self.folder = folder
        os.chmod(folder, 0o755)
        self.temp = folder / 'temp'
        self.conf = folder / 'site_conf.conf'
        self.conf.write_text(SETTINGS)
        self.environment = {**os.environ, 'PRAGMA_SITE_CONF': str(self.conf),
                            'LIBVIRT_DEFAULT_URI': connection(),
                            'LIBGUESTFS_BACKEND': 'direct',
                            'LIBGUESTFS_BACKEND_SETTINGS': 'force_tcg'}
        self.images = folder / 'images'
        self.images.mkdir()
        self.key = folder / 'key'
        self.run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'bench', '-f', self.key)
        driver = folder / 'drivers' / 'paused'
        driver.mkdir(parents=True)
        for name in ('fix_images', 'allocate'):
            (driver / name).symlink_to(ROOT / 'drivers' / 'kvm' / name)
        for name, script in PAUSED_BOOT.items():
            (driver / name).write_text(script.format(bin=BIN))
            (driver / name).chmod(0o755)
        self._packed = {}
        self._held = contextlib.ExitStack()

    def held(self, context):
        """Enter a context that ends with the site; what it gives."""
        return self._held.enter_context(context)

    def run(self, *command, input=None):
        """Run something that is not measured; its output. Raises CalledProcessError."""
        return subprocess.run([*map(str, command)], input=input, env=self.environment, check=True,
                              stdout=subprocess.PIPE).stdout

    def tool(self, name, *arguments, input=None):
        """Run one of our tools; its output."""
        return self.run(BIN / name, *arguments, input=input)

    def configured(self, name, **settings):
        """The path of another site configuration, beside ours."""
        path = self.folder / f'{name}.conf'
        path.write_text(SETTINGS + ''.join(f'{key} = {value}\n' for key, value in settings.items()))
        return path

    def entry(self, name, packed, memory=256, unit='MiB'):
        """Add an entry with the image ``packed`` for both roles; its parsed document."""
        folder = self.images / name
        if not folder.exists():
            folder.mkdir()
            file = f'debian.img{packed.suffix}'
            shutil.copy(packed, folder / file)
            text = (DEMO / 'vc-in.xml').read_text().replace('debian.img.gz', file)
            if packed.suffix == '.qcow2':
                text = text.replace("type='raw'", "type='qcow2'")
            (folder / 'vc-in.xml').write_text(re.sub(
                r'<memory[^>]*>\d+</memory>', f"<memory unit='{unit}'>{memory}</memory>", text))
            with open(self.images / 'vcdb.txt', 'a', encoding='utf-8') as database:
                database.write(f'{name},{name}/vc-in.xml\n')
        return self.saved(f'{name}.parsed', self.tool('vc-parse', folder / 'vc-in.xml'))

    def saved(self, name, document):
        """A document kept in a file, whose path it is."""
        path = self.folder / f'{name}.xml'
        path.write_bytes(document)
        return path

    def staged(self, entry):
        """The staged document of an entry, and the path of its image."""
        staged = self.tool('vc-stage', input=(self.folder / f'{entry}.parsed.xml').read_bytes())
        path = re.search(rb' path="([^"]+\.raw)"', staged)[1].decode()
        return self.saved(f'{entry}.staged', staged), Path(path)

    def injected(self, name, entry, computes):
        """The document of a new cluster of a staged entry, its disks made."""
        staged, _ = self.staged(entry)
        self.tool('vc-clean', name)
        document = self.tool('vc-allocate', '--num-cpus', computes, '--name', name,
                             input=staged.read_bytes())
        return self.saved(name, self.tool('vc-inject', input=document))

    def demo(self):
        """The demo image, packed."""
        return DEMO / 'debian.img.gz'

    def packed_as(self, suffix):
        """The demo image in another format."""
        if suffix not in self._packed:
            raw, path = self.folder / 'demo.img', self.folder / f'demo.img{suffix}'
            if not raw.exists():
                self.run('sh', '-c',
                         f"gzip -dc '{self.demo()}' | cp --sparse=always /dev/stdin '{raw}'")
            command = {'.qcow2': f"qemu-img convert -f raw -O qcow2 '{raw}' '{path}'",
                       '.xz': f"xz -T0 -2 -c '{raw}' >'{path}'",
                       '.zst': f"zstd -q -T0 -c '{raw}' >'{path}'",
                       '.bz2': f"bzip2 -1 -c '{raw}' >'{path}'"}
            self.run('sh', '-c', command[suffix])
            self._packed[suffix] = path
        return self._packed[suffix]

    def made(self, name, size, content):
        """An image of ``size`` MiB, packed: ext4 with ``content`` MiB of what does not compress."""
        if name not in self._packed:
            raw = make_image(self.folder / f'{name}.img', [('random', os.urandom(content << 20))],
                             f'{size}M')
            self.run(sys.executable, '-m', 'isal.igzip', '-1', raw)
            raw.unlink(missing_ok=True)
            self._packed[name] = Path(f'{raw}.gz')
        return self._packed[name]

    def forget_images(self):
        """Remove all staged images."""
        shutil.rmtree(self.temp / 'images', ignore_errors=True)

    def virsh(self, *command, input=None):
        """Run virsh; its output. The daemon of ours, which ends when it is idle, is woken."""
        connection()
        return self.run('virsh', '-q', *command, input=input).decode()

    def domains(self, prefix):
        """The names of the domains that begin so."""
        return [name for name in self.virsh('list', '--all', '--name').split()
                if name.startswith(prefix)]

    def end(self, prefix):
        """End and forget domains, those of virt-install and virt-clone too."""
        # Many at a time: most of it is waiting until QEMU is reaped.
        subprocess.run(['xargs', '-P', '16', '-I', '{}', 'virsh', '-q', 'destroy {}; undefine {}'],
                       input='\n'.join(self.domains(prefix)).encode(), capture_output=True,
                       env=self.environment, check=False)

    def close(self):
        """Leave nothing: no domain, no cluster, no storage pool that virt-clone has made."""
        self._held.close()
        self.end('bench')
        for conf in self.folder.glob('*.conf'):
            self.environment['PRAGMA_SITE_CONF'] = str(conf)
            for line in self.tool('vc-status').splitlines()[1:]:
                if b' frontend ' in line:
                    self.tool('vc-clean', line.split()[0].decode())
        for pool in self.virsh('pool-list', '--all', '--name').split():
            if str(self.folder) in self.virsh('pool-dumpxml', pool):
                subprocess.run(['virsh', '-q', f'pool-destroy {pool}; pool-undefine {pool}'],
                               capture_output=True, env=self.environment, check=False)
