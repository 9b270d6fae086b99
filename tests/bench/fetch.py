"""The row of bench.py about a database on a web server, which runs on this machine."""
import contextlib
import shutil
import socket
import subprocess
import sys
import time

from lab import ROOT

BY_HAND = 'curl, sha256sum -c, sync'


@contextlib.contextmanager
def server(folder):
    """Python's own web server, in a process of its own; its URL."""
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, '-m', 'http.server', '--bind', '127.0.0.1',
                           '--directory', folder, str(port)], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port)):
                    break
                time.sleep(0.1)
            yield f'http://127.0.0.1:{port}'
        finally:
            process.terminate()


def ways(site, way, shell):
    """Ours, and the same files by curl, with the digests checked afterwards."""
    base, copy = site.folder / 'published', site.folder / 'by-hand'
    folder = base / 'debian'
    folder.mkdir(parents=True)
    shutil.copy(site.demo(), folder)
    shutil.copy(ROOT / 'images' / 'debian' / 'vc-in.xml', folder)
    (base / 'vcdb.txt').write_text('debian,debian/vc-in.xml\n')
    site.tool('vc-publish', '--base_path', base)
    url = site.held(server(base))
    conf = site.configured('fetch', base_path=url)
    ours = site.temp / 'fetched'

    def forget():
        for each in (ours, copy):
            shutil.rmtree(each, ignore_errors=True)

    def size(path):
        return lambda: sum(one.stat().st_blocks * 512 for one in path.rglob('*') if one.is_file())
    by_hand = shell('mkdir -p "$2/debian"; cd "$2"; for file in SHA256SUMS vcdb.txt '
                    'debian/vc-in.xml debian/debian.img.gz; do curl -sSfo "$file" "$1/$file"; '
                    'done; sha256sum --quiet -c SHA256SUMS; sync debian/*', url, copy)
    fetch = [ROOT / 'bin' / 'vc-fetch', '--site-conf', conf, 'debian']
    return [way('ours', fetch, prepare=forget, disk=size(ours)),
            way('ours, it is here', fetch,
                prepare=lambda: site.tool('vc-fetch', '--site-conf', conf, 'debian')),
            way(BY_HAND, by_hand, prepare=forget, disk=size(copy)),
            way('curl', shell('curl -sSfo "$2" "$1"', f'{url}/debian/debian.img.gz',
                              site.folder / 'curl.img.gz')),
            way('sha256sum', ['sha256sum', folder / 'debian.img.gz'])]


def goals(medians):
    """Not slower than by hand; little where there is nothing to do."""
    return [(f'of the time of {BY_HAND}', medians['ours'].seconds / medians[BY_HAND].seconds, 1.0,
             ''),
            ('it is here: whole process', medians['ours, it is here'].seconds, 0.3, ' s'),
            ('memory', medians['ours'].memory / 1000, 60, ' MB')]
