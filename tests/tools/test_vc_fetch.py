"""vc-fetch, and remote databases in vc-list, vc-parse and pragma_boot, with a real web server."""
import hashlib
import os
import re
import signal
import subprocess
import time

import pytest
from lxml import etree

from lab import ROOT
from lab.kills import KILL_AT
from lab.needs import need, need_fuse
from lab.nodes import without_dependency
from lab.site import lines
from lab.web import serving, tls

PATIENT, SHORT = 300, 5
"""Seconds of fetch_timeout: where a server may be slow, and where one is to be given up."""


@pytest.fixture
def remote(site):
    """A site whose base_path is a web server that serves its images; ``site.server`` is it."""
    site.run('vc-publish')
    with serving(site.base) as server:
        configure(site, base_path=server.url, fetch_timeout=PATIENT)
        site.server = server
        yield site


def configure(site, **settings):
    """Set settings; the last line of a key is taken."""
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.writelines(f'{key} = {value}\n' for key, value in settings.items())


def fails_soon(site):
    """The line of a vc-fetch that fails with a short fetch_timeout."""
    configure(site, fetch_timeout=SHORT)
    line = site.fails('vc-fetch', site.entry)
    configure(site, fetch_timeout=PATIENT)
    return line


def publish(site, *arguments, **options):
    return site.run('vc-publish', '--base_path', site.base, *arguments, **options)


def fetched(site):
    """The files below TEMP/fetched without locks, by path in the folder of the database."""
    base = site.temp / 'fetched'
    return {str(path.relative_to(base)).split('/', 1)[1]: path.read_bytes()
            for path in base.rglob('*') if path.is_file() and path.suffix != '.lock'}


def whole(site):
    """Whether the entry is here as it is published, and nothing else is."""
    files = fetched(site)
    assert files.pop(f'{site.entry}/.fetched.xml')
    return files == {f'{site.entry}/{path.name}': path.read_bytes()
                     for path in site.vc_in.parent.iterdir()}


def nothing_usable(site):
    """Whether what is here has a name that nothing opens."""
    return all(name.startswith('.') for name in fetched(site))


def wait_for(happened):
    """Wait until something has happened, at most five minutes."""
    end = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def image_requests(site):
    return [request for request in site.server.requests if '.img.gz' in request[0]]


def test_an_entry_comes_once(remote):
    path = remote.run('vc-fetch', remote.entry).stdout.decode().strip()
    assert path.startswith(str(remote.temp / 'fetched'))
    assert path.endswith(f'/{remote.entry}/vc-in.xml') and whole(remote)
    # Both roles have images of one content.
    assert len(image_requests(remote)) == 1
    remote.server.requests.clear()
    done = remote.run('vc-fetch', remote.entry)
    assert (done.stdout.decode().strip(), done.stderr) == (path, b'')
    assert {name for name, *_ in remote.server.requests} == {'/SHA256SUMS', '/vcdb.txt'}


def test_list_parse_and_path_see_it(remote):
    assert remote.run('vc-list').stdout.decode() == f'{remote.entry}\n'
    assert remote.run('pragma_boot', '--list').stdout.decode() == f'{remote.entry}\n'
    listing = etree.fromstring(remote.run('vc-list', '--xml').stdout)
    assert listing[0].get('path') == f'{remote.server.url}/{remote.entry}/vc-in.xml'
    assert f"run 'vc-fetch {remote.entry}'" in remote.fails('vc-list', '--path', remote.entry)
    path = remote.run('vc-fetch', remote.entry).stdout
    remote.server.requests.clear()
    assert remote.run('vc-list', '--path', remote.entry).stdout == path
    document = etree.fromstring(remote.run('vc-parse', path.decode().strip()).stdout)
    assert document.find('source').get('name') == remote.entry
    assert remote.server.requests == []
    assert "no entry 'other'" in remote.fails('vc-fetch', 'other')
    assert 'is not a name' in remote.fails('vc-fetch', '../x')


def test_a_folder_is_as_before(site):
    assert site.run('vc-fetch', site.entry).stdout.decode() == f'{site.vc_in}\n'
    assert 'is a folder' in site.fails('vc-fetch', '--mirror')


def test_a_cluster_from_a_remote_entry(remote):
    """pragma_boot, the driver and make get local files."""
    remote.make('stage', f'VC={remote.entry}')
    assert {raw.stat().st_size for raw in (remote.temp / 'images').glob('*.raw')} == {16 << 20}
    remote.server.requests.clear()
    document = remote.run('pragma_boot', '--vcname', remote.entry, '--key', remote.key,
                          '--dry-run').stdout
    assert str(remote.temp / 'fetched') in etree.fromstring(document).find('source').get('path')
    assert image_requests(remote) == []
    assert remote.make('list').stdout.decode() == f'{remote.entry}\n'


def test_pragma_boot_fetches_and_boots(remote):
    need_fuse()
    without_dependency(remote)
    publish(remote)
    remote.run('pragma_boot', '--vcname', remote.entry, '--num_cpus', 2, '--key', remote.key)
    document, = remote.temp.glob('clusters/*/document.xml')
    root = etree.parse(document).getroot()
    assert root.find('source').get('name') == remote.entry
    assert str(remote.temp / 'fetched') in root.find('image').get('source')
    remote.server.misbehave('is_busy')
    done = remote.run('pragma_boot', '--vcname', remote.entry, '--key', remote.key)
    assert f"the entry '{remote.entry}' of " in done.stderr.decode()


def test_a_server_that_breaks_off_at_random_bytes(remote):
    """Nothing is asked for twice, and one command is enough."""
    remote.server.misbehave('breaks_off', r'img\.gz')
    for seed in range(5):
        remote.server.random.seed(seed)
        remote.server.requests.clear()
        remote.run('vc-fetch', remote.entry)
        assert whole(remote)
        assert all(status == 206 for _, _, status in image_requests(remote)[1:])
        assert len(image_requests(remote)) > 1
        subprocess.run(['rm', '-rf', remote.temp / 'fetched'], check=True)


def test_a_later_command_goes_on(remote):
    remote.server.misbehave('breaks_off_at_once', r'img\.gz')
    line = remote.fails('vc-fetch', remote.entry)
    assert re.search(r'breaks off after 0 of \d+ bytes$', line)
    assert nothing_usable(remote)
    remote.server.misbehave('stalls', r'img\.gz')
    assert 'has sent nothing for 5 s' in fails_soon(remote)
    size = (remote.vc_in.parent / 'calit2-119-222.img.gz').stat().st_size
    remote.server.misbehave(None)
    remote.server.requests.clear()
    remote.run('vc-fetch', remote.entry)
    (_, wanted, status), = image_requests(remote)
    assert (wanted, status) == (f'bytes={size // 2}-', 206) and whole(remote)


def test_a_file_that_is_all_here_is_not_fetched_again(remote):
    """A process was killed between the last byte and the name of the file."""
    remote.server.misbehave('stalls', r'img\.gz')
    fails_soon(remote)
    part, = (remote.temp / 'fetched').rglob('*.part')
    part.write_bytes((remote.vc_in.parent / 'calit2-119-222.img.gz').read_bytes())
    remote.server.misbehave(None)
    remote.server.requests.clear()
    remote.run('vc-fetch', remote.entry)
    assert whole(remote) and [status for *_, status in image_requests(remote)] == [416]


def test_a_server_without_ranges(remote):
    remote.server.ranges = False
    remote.server.misbehave('breaks_off_in_the_middle', r'img\.gz')
    assert 'breaks off after' in remote.fails('vc-fetch', remote.entry)
    remote.server.misbehave(None)
    remote.run('vc-fetch', remote.entry)
    assert whole(remote)


def test_a_changed_file_is_not_joined(remote):
    """Its ETag is another one, so the server sends it from its beginning."""
    remote.server.misbehave('stalls', r'img\.gz')
    fails_soon(remote)
    remote.server.misbehave(None)
    for path in remote.vc_in.parent.glob('*.gz'):
        path.write_bytes(path.read_bytes() + path.read_bytes())
    publish(remote)
    remote.run('vc-fetch', remote.entry)
    assert whole(remote)


def test_a_server_that_joins_a_changed_file(remote, monkeypatch):
    """It ignores If-Range: the digest is wrong, and the file is fetched from its beginning."""
    remote.server.misbehave('stalls', r'img\.gz')
    fails_soon(remote)
    for path in (remote.temp / 'fetched').rglob('*.part'):
        path.write_bytes(bytes(path.stat().st_size))
    remote.server.misbehave(None)
    remote.run('vc-fetch', remote.entry)
    assert whole(remote) and [status for *_, status in image_requests(remote)][-2:] == [206, 200]


FAULTS = {
    'stalls': 'the server has sent nothing for 5 s',
    'stalls_before_the_answer': 'the server has sent nothing for 5 s',
    'drips': 'the server sends less than 1024 bytes a second',
    'sends_twice': 'the server sends more than the',
    'announces_half': 'the server sends more than the',
    'announces_much': 'has more than 68719476736 bytes: it is refused (image_max_size',
    'exchanges': 'is not the file that SHA256SUMS has',
    'leads_to_a_file': "leads to 'file:///etc/passwd', which is not a URL that begins with https://",
    'leads_to_itself': 'leads to more than 5 other places',
    'leads_nowhere': 'the server sends status 302, but no Location',
    'leads_elsewhere': 'is not encrypted: use https://',
    'leads_to_http': 'cannot read',
    'is_forbidden': 'status 403',
    'is_busy': 'status 503',
    'breaks_off_at_once': 'breaks off after 0',
    'breaks_off_in_a_chunk': "img.gz': the server broke off",
    'sends_garbage': "img.gz': xxxxx",
}


@pytest.mark.parametrize('files, fault', [
    *((r'img\.gz', fault) for fault in FAULTS),
    *(('vcdb', fault) for fault in ('exchanges', 'sends_twice', 'leads_to_a_file')),
    *(('SHA256SUMS', fault) for fault in ('stalls', 'sends_twice', 'announces_much')),
    *(('vc-in', fault) for fault in ('stalls', 'exchanges', 'announces_much'))])
def test_a_faulty_server(remote, fault, files):
    """One clear line, within a bounded time, and nothing of it is used; then the entry comes."""
    remote.server.misbehave(fault, files)
    line = (fails_soon(remote) if 'stalls' in fault or 'drips' in fault else
            remote.fails('vc-fetch', remote.entry))
    reason = FAULTS[fault]
    if fault == 'announces_much' and files != r'img\.gz':
        reason = 'has more than'
    assert reason in line and 'Bounded' not in line and ' 0 KiB' not in line and len(line) < 500
    assert nothing_usable(remote)
    remote.server.misbehave(None)
    remote.server.goes_on.set()
    remote.run('vc-fetch', remote.entry)
    assert whole(remote)


def test_a_server_that_sends_without_end(remote):
    configure(remote, image_max_size='20M')
    for files in (r'img\.gz', 'vcdb'):
        remote.server.misbehave('sends_without_end', files)
        assert 'has more than' in remote.fails('vc-fetch', remote.entry)
        assert nothing_usable(remote)
        assert sum(map(len, fetched(remote).values())) < 1 << 20


def test_headers_that_drip(remote):
    remote.server.misbehave('drips_headers', 'SHA256SUMS')
    assert 'has sent nothing for 5 s' in fails_soon(remote)


def test_chunks_and_redirects_are_taken(remote):
    remote.server.misbehave('chunks')
    remote.run('vc-fetch', remote.entry)
    assert whole(remote)
    subprocess.run(['rm', '-rf', remote.temp / 'fetched'], check=True)
    remote.server.misbehave('leads_here', r'img\.gz')
    remote.run('vc-fetch', remote.entry)
    assert whole(remote)


def test_no_server(remote):
    path = remote.run('vc-fetch', remote.entry).stdout
    configure(remote, base_path='http://127.0.0.1:1')
    assert remote.fails('vc-list') == \
        "vc-list: cannot read 'http://127.0.0.1:1/SHA256SUMS': Connection refused"
    remote.server.misbehave('is_busy')
    configure(remote, base_path=remote.server.url)
    done = remote.run('vc-fetch', remote.entry)
    assert done.stdout == path and 'status 503' in done.stderr.decode()
    assert f"the entry '{remote.entry}' of " in done.stderr.decode()
    remote.fails('vc-fetch', '--update', remote.entry)


def test_a_changed_digest_under_an_old_name_is_said(remote):
    path = remote.run('vc-fetch', remote.entry).stdout
    before = fetched(remote)
    for image in remote.vc_in.parent.glob('*.gz'):
        image.write_bytes(image.read_bytes() * 2)
    publish(remote)
    done = remote.run('vc-fetch', remote.entry)
    assert done.stdout == path and fetched(remote) == before
    line, = lines(done.stderr)
    assert f"entry '{remote.entry}' has changed at '{remote.server.url}' (calit2-119-222.img.gz, " \
        in line and f"'vc-fetch --update {remote.entry}' takes the other" in line
    done = remote.run('vc-fetch', '--update', remote.entry)
    assert (done.stdout, done.stderr) == (path, b'') and whole(remote)


def test_the_old_entry_is_put_back(remote):
    """A process was killed between the two renames of an update, and the server is away."""
    path = remote.run('vc-fetch', remote.entry).stdout
    folder = os.path.dirname(path.decode().strip())
    new = os.path.join(os.path.dirname(folder), f'.{remote.entry}.new')
    os.mkdir(new)
    os.rename(folder, os.path.join(new, 'old'))
    remote.server.misbehave('is_busy')
    assert remote.run('vc-fetch', remote.entry).stdout == path
    remote.server.misbehave(None)
    assert remote.run('vc-fetch', remote.entry).stdout == path and whole(remote)


def test_what_did_not_change_is_not_fetched_again(remote):
    remote.run('vc-fetch', remote.entry)
    remote.vc_in.write_bytes(remote.vc_in.read_bytes().replace(b'<vcpu>1<', b'<vcpu>2<'))
    publish(remote)
    remote.server.requests.clear()
    remote.run('vc-fetch', '--update', remote.entry)
    assert whole(remote) and image_requests(remote) == []


@pytest.mark.parametrize('file', [
    '../other.img.gz', '/etc/passwd', 'http://127.0.0.1:1/x.img', 'a/../../x', '.hidden', 'a//b',
    'x\\y', f'{"x" * 300}.img', 'a\tb'])
def test_a_path_of_an_author_stays_in_its_database(remote, file):
    text = remote.vc_in.read_text().replace('calit2-119-222.img.gz', file.replace('\t', '&#9;'))
    remote.vc_in.write_text(text)
    sums = remote.base / 'SHA256SUMS'
    digest = hashlib.sha256(remote.vc_in.read_bytes()).hexdigest()
    sums.write_text(re.sub(r'\w+(  .*vc-in.xml)', rf'{digest}\1', sums.read_text()))
    assert 'is not a path below the folder' in remote.fails('vc-fetch', remote.entry)
    assert nothing_usable(remote)


@pytest.mark.parametrize('path', ['../x/vc-in.xml', '/etc/passwd', 'https://other.example/x.xml'])
def test_a_bad_line_of_a_remote_database_is_passed_over(remote, path):
    with open(remote.base / 'vcdb.txt', 'a', encoding='utf-8') as database:
        database.write(f'bad,{path}\n')
    sums = remote.base / 'SHA256SUMS'
    digest = hashlib.sha256((remote.base / 'vcdb.txt').read_bytes()).hexdigest()
    sums.write_text(re.sub(r'\w+(  vcdb.txt)', rf'{digest}\1', sums.read_text()))
    done = remote.run('vc-list')
    assert done.stdout.decode() == f'{remote.entry}\n'
    assert "entry 'bad' is not listed" in done.stderr.decode()


def test_only_what_has_a_digest_is_taken(remote):
    sums = remote.base / 'SHA256SUMS'
    text = sums.read_text()
    sums.write_text(''.join(line for line in text.splitlines(True) if 'calit2' not in line))
    assert 'is not in the digests' in remote.fails('vc-fetch', remote.entry)
    sums.write_text(text.replace('vcdb.txt', 'other.txt'))
    assert 'is not in the digests' in remote.fails('vc-list')
    sums.write_text('no digests\n')
    assert 'has no digest in the format of sha256sum' in remote.fails('vc-list')
    sums.unlink()
    assert 'has neither SHA256SUMS nor SHA512SUMS' in remote.fails('vc-list')
    done = subprocess.run('sha512sum vcdb.txt */* >SHA512SUMS', shell=True, cwd=remote.base,
                          check=True)
    assert done and nothing_usable(remote)
    remote.run('vc-fetch', remote.entry)
    assert whole(remote)
    # From one algorithm to the other, nothing has changed.
    sums.write_text(text)
    assert remote.run('vc-fetch', remote.entry).stderr == b''


@pytest.mark.parametrize('url, reason', [
    ('http://192.0.2.1/db', 'is not encrypted: use https://, or set database_http = yes'),
    ('file:///etc', 'is not a URL that begins with https://'),
    ('ftp://127.0.0.1/', 'is not a URL that begins with https://'),
    ('https://', 'is no URL of a server'), ('https://user:secret@127.0.0.1/', 'no user name'),
    ('https://127.0.0.1/?a', "'?' or '#'"), ('https://[::1/', 'is no URL'),
    ('https://127.0.0.1:x/', 'is no URL')])
def test_urls_that_are_refused(empty_site, url, reason):
    assert reason in empty_site.fails('vc-list', '--base_path', url)
    assert reason in empty_site.fails('vc-fetch', '--base_path', url, 'x')


def test_other_tools_need_a_folder(remote):
    for tool, *arguments in (('vc-publish',), ('vc-import', 'x.img')):
        assert 'this needs a folder' in remote.fails(tool, *arguments)


def test_http_by_a_setting(remote):
    """The address is one for documentation: no answer comes, but it is asked."""
    configure(remote, database_http='yes')
    with serving(remote.folder / 'images') as proxy:
        done = subprocess.run([ROOT / 'bin' / 'vc-list', '--base_path', 'http://192.0.2.1/x'],
                              env={**remote.environment(), 'http_proxy': proxy.url},
                              capture_output=True, check=False)
        assert proxy.requests[0][0] == 'http://192.0.2.1/x/SHA256SUMS'
        assert done.returncode == 1 and b'has neither SHA256SUMS' in done.stderr
        done = subprocess.run([ROOT / 'bin' / 'vc-list', '--base_path', remote.server.url],
                              env={**remote.environment(), 'http_proxy': 'http://127.0.0.1:1',
                                   'no_proxy': 'localhost,127.0.0.1'},
                              capture_output=True, check=True)
        assert done.stdout.decode() == f'{remote.entry}\n'
    configure(remote, database_http='perhaps')
    assert "database_http must be yes or no, not 'perhaps'" in remote.fails('vc-list')


@pytest.fixture
def certificates(tmp_path):
    """A private authority, and a certificate of it for 127.0.0.1."""
    need('openssl')

    def openssl(*arguments):
        subprocess.run(['openssl', *arguments], cwd=tmp_path, check=True, capture_output=True)
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
            '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=test authority',
            '-addext', 'keyUsage=keyCertSign')
    openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout',
            'server.key', '-out', 'server.csr', '-subj', '/CN=127.0.0.1')
    (tmp_path / 'extensions').write_text('subjectAltName = IP:127.0.0.1\n'
                                         'authorityKeyIdentifier = keyid\n')
    openssl('x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-out',
            'server.pem', '-days', '2', '-extfile', 'extensions', '-CAcreateserial')
    return tmp_path


def test_https_with_a_private_authority(remote, certificates, monkeypatch):
    context = tls(certificates / 'server.pem', certificates / 'server.key')
    with serving(remote.base, context) as server:
        configure(remote, base_path=server.url)
        assert 'certificate verify failed' in remote.fails('vc-list')
        monkeypatch.setenv('SSL_CERT_FILE', str(certificates / 'ca.pem'))
        assert remote.run('vc-list').stdout.decode() == f'{remote.entry}\n'
        monkeypatch.delenv('SSL_CERT_FILE')
        configure(remote, database_ca=certificates / 'ca.pem')
        server.misbehave('breaks_off', r'img\.gz')
        remote.run('vc-fetch', remote.entry)
        assert whole(remote)
        server.misbehave('leads_to_http')
        assert 'is not https://: it is not followed' in remote.fails('vc-list')
        configure(remote, database_ca=certificates / 'none.pem')
        assert 'cannot open certificates' in remote.fails('vc-list')


@pytest.fixture(scope='module')
def signers(tmp_path_factory):
    """The folder of a GnuPG with the keys of two people, and a keyring file of each."""
    need('gpg', 'gpgv')
    home = tmp_path_factory.mktemp('gnupg')
    home.chmod(0o700)

    def gpg(*arguments, **options):
        subprocess.run(['gpg', '--homedir', home, '--batch', '--passphrase', '', *arguments],
                       check=True, capture_output=True, **options)
    for name in ('publisher', 'stranger'):
        gpg('--quick-gen-key', f'{name} <{name}@example.org>', 'ed25519', 'sign', 'never')
        gpg('--output', home / f'{name}.gpg', '--export', name)
    gpg('--armor', '--output', home / 'publisher.asc', '--export', 'publisher')
    yield home
    subprocess.run(['gpgconf', '--homedir', home, '--kill', 'all'], check=True)


def test_signatures(remote, signers, monkeypatch):
    monkeypatch.setenv('GNUPGHOME', str(signers))
    configure(remote, database_keyring=signers / 'publisher.gpg')
    assert 'is not signed, and database_keyring is set' in remote.fails('vc-list')
    publish(remote, '--key', 'stranger@example.org')
    assert "the signature of '" in remote.fails('vc-list')
    assert nothing_usable(remote)
    assert 'name the key with --key' in \
        remote.fails('vc-publish', '--base_path', remote.base)
    publish(remote, '--key', 'publisher@example.org')
    remote.run('vc-fetch', remote.entry)
    assert whole(remote)
    record = etree.fromstring(fetched(remote)[f'{remote.entry}/.fetched.xml'])
    assert 'publisher@example.org' in record.get('signer')
    sums, signature = remote.base / 'SHA256SUMS', remote.base / 'SHA256SUMS.asc'
    good, signed = sums.read_bytes(), signature.read_bytes()
    sums.write_bytes(good.replace(b'0', b'1', 1))
    assert 'BAD signature' in remote.fails('vc-list')
    sums.write_bytes(good)
    for content in (b'', b'text', signed[:100], good):
        signature.write_bytes(content)
        assert 'is refused' in remote.fails('vc-fetch', remote.entry)
    signature.unlink()
    subprocess.run(['gpg', '--dearmor', '-o', remote.base / 'SHA256SUMS.gpg'], input=signed,
                   check=True, capture_output=True)
    assert remote.run('vc-list').stdout
    for keyring, reason in (('publisher.asc', "'gpg --dearmor' writes"),
                            ('none.gpg', 'No such file'), ('stranger.gpg', 'is refused')):
        configure(remote, database_keyring=signers / keyring)
        assert reason in remote.fails('vc-list')


def test_an_unsigned_entry_is_not_used_without_the_server(remote, signers, monkeypatch):
    monkeypatch.setenv('GNUPGHOME', str(signers))
    remote.run('vc-fetch', remote.entry)
    configure(remote, database_keyring=signers / 'publisher.gpg')
    remote.server.misbehave('is_busy')
    assert 'was fetched without a signature' in remote.fails('vc-fetch', remote.entry)
    remote.server.misbehave(None)
    publish(remote, '--key', 'publisher')
    remote.run('vc-fetch', remote.entry)
    remote.server.misbehave('is_busy')
    remote.run('vc-fetch', remote.entry)


def test_gpgv_has_no_rights(remote, signers, monkeypatch):
    """It runs as nobody, without a network; a witness in its place writes down what it has."""
    monkeypatch.setenv('GNUPGHOME', str(signers))
    publish(remote, '--key', 'publisher')
    configure(remote, database_keyring=signers / 'publisher.gpg')
    programs, told = remote.folder / 'programs', remote.folder / 'told'
    programs.mkdir()
    told.touch()
    told.chmod(0o666)
    (programs / 'gpgv').write_text(
        f'#!/bin/sh\ngrep -E "^(Uid|NoNewPrivs|CapEff):" /proc/self/status >{told}\n'
        f'sed -n "s/^ *\\(.*\\):.*/\\1/p" /proc/self/net/dev >>{told}\n'
        f'exec /usr/bin/gpgv "$@"\n')
    (programs / 'gpgv').chmod(0o755)
    monkeypatch.setenv('PATH', f"{programs}:{os.environ['PATH']}")
    remote.run('vc-list')
    text = told.read_text()
    assert 'NoNewPrivs:\t1' in text and re.search(r'^CapEff:\t0+$', text, re.M)
    assert text.splitlines()[-1] == 'lo'
    assert os.geteuid() or not text.startswith('Uid:\t0')


def test_several_at_once_make_one_copy(remote):
    tools = [remote.start('vc-fetch', remote.entry) for _ in range(4)]
    results = [tool.communicate() for tool in tools]
    assert [tool.returncode for tool in tools] == [0] * 4, results
    assert len({stdout for stdout, _ in results}) == 1 and whole(remote)
    assert len(image_requests(remote)) == 1


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_keeps_what_is_here(remote, number):
    remote.server.misbehave('stalls', r'img\.gz')
    tool = remote.start('vc-fetch', remote.entry)
    # The vc-in.xml, which comes before it, is a file of this kind too for a moment.
    wait_for(lambda: image_requests(remote) and any(
        path.stat().st_size for path in (remote.temp / 'fetched').rglob('*.part')))
    tool.send_signal(number)
    _, stderr = tool.communicate(timeout=300)
    assert (tool.returncode, stderr) == (130, b'vc-fetch: interrupted\n')
    assert nothing_usable(remote)
    remote.server.misbehave(None)
    remote.run('vc-fetch', remote.entry)
    assert whole(remote) and image_requests(remote)[-1][2] == 206


def test_a_full_disk_and_a_folder_that_is_in_the_way(remote):
    (remote.temp).mkdir()
    (remote.temp / 'fetched').write_bytes(b'')
    assert 'fetched' in remote.fails('vc-fetch', remote.entry)
    (remote.temp / 'fetched').unlink()
    done = subprocess.run(['bash', '-c', 'ulimit -f 64; exec "$0" "$@"',
                           ROOT / 'bin' / 'vc-fetch', remote.entry], capture_output=True,
                          env=remote.environment(), check=False)
    assert done.returncode == 1 and b'cannot write ' in done.stderr, done
    remote.run('vc-fetch', remote.entry)
    assert whole(remote)


def test_progress_on_a_terminal(remote):
    done = subprocess.run(['script', '-qec', f'{ROOT}/bin/vc-fetch {remote.entry}', '/dev/null'],
                          capture_output=True, check=True,
                          env={**remote.environment(), 'TERM': 'xterm', 'NO_COLOR': '1'})
    assert b'fetching calit2-119-222.img.gz' in done.stdout


@pytest.mark.parametrize('update, points', [
    (False, 12), (True, 6), pytest.param(False, 40, marks=pytest.mark.long),
    pytest.param(True, 20, marks=pytest.mark.long)])
def test_killed_at_some_points_it_goes_on(remote, update, points):
    """After each kill nothing half-fetched has a name, and the same command works."""
    arguments = ['--update', remote.entry] if update else [remote.entry]
    old = fetched_tree(remote) if not update else None

    def prepare():
        subprocess.run(['rm', '-rf', remote.temp / 'fetched'], check=True)
        if update:
            subprocess.run(['cp', '-a', remote.folder / 'before', remote.temp / 'fetched'],
                           check=True)
    if update:
        remote.run('vc-fetch', remote.entry)
        subprocess.run(['cp', '-a', remote.temp / 'fetched', remote.folder / 'before'], check=True)
        old = fetched_tree(remote)
        for image in remote.vc_in.parent.glob('*.gz'):
            image.write_bytes(image.read_bytes() * 2)
        publish(remote)
    prepare()
    counted = subprocess.run([*KILL_AT, 'KILL', '0', ROOT / 'bin' / 'vc-fetch', *arguments],
                             check=True, capture_output=True, env=remote.environment())
    steps = int(re.search(rb'(\d+)\D*$', counted.stderr)[1])
    assert whole(remote) and steps > 40
    for step in sorted({1 + number * steps // points for number in range(points)}):
        prepare()
        subprocess.run([*KILL_AT, 'KILL', str(step), ROOT / 'bin' / 'vc-fetch', *arguments],
                       capture_output=True, env=remote.environment(), check=False)
        assert fetched_tree(remote) in ({}, old) or whole_entry(remote), step
        remote.run('vc-fetch', *arguments)
        assert whole(remote), step


def fetched_tree(site):
    """What has a name that something opens."""
    if not (site.temp / 'fetched').exists():
        return {}
    return {name: content for name, content in fetched(site).items() if not name.startswith('.')}


def whole_entry(site):
    files = fetched_tree(site)
    files.pop(f'{site.entry}/.fetched.xml')
    return files == {f'{site.entry}/{path.name}': path.read_bytes()
                     for path in site.vc_in.parent.iterdir()}


def test_a_mirror(remote):
    other = remote.folder / 'mirror'
    remote.add_entry(f'{remote.entry}-b', remote.vc_in.parent / 'calit2-119-222.img.gz')
    publish(remote)
    arguments = ('--mirror', '--to', other)
    done = remote.run('vc-fetch', *arguments, f'{remote.entry}-*')
    assert done.stdout.decode() == f'fetched {remote.entry}-b\n' and done.stderr == b''
    assert remote.run('vc-list', '--base_path', other).stdout.decode() == f'{remote.entry}-b\n'
    assert remote.run('vc-fetch', *arguments).stdout.decode() == f'fetched {remote.entry}\n'
    state = {path: path.stat().st_mtime_ns for path in other.rglob('*')}
    done = remote.run('vc-fetch', *arguments)
    assert done.stdout == done.stderr == b''
    assert {path: path.stat().st_mtime_ns for path in other.rglob('*')} == state
    subprocess.run(['sha256sum', '--quiet', '-c', 'SHA256SUMS'], cwd=other, check=True)
    # It is a database, and can be served itself.
    assert lines(remote.run('vc-list', '--base_path', other).stdout) == \
        [remote.entry, f'{remote.entry}-b']
    with serving(other) as second:
        remote.run('vc-fetch', '--base_path', second.url, remote.entry)
    assert "matches 'x*'" in remote.fails('vc-fetch', *arguments, 'x*')
    # A database of the site's own stays as it is.
    assert 'but not a mirror' in remote.fails('vc-fetch', '--mirror', '--to', remote.base)


def test_a_mirror_of_changes_and_faults(remote):
    other = remote.folder / 'mirror'
    remote.add_entry(f'{remote.entry}-b', remote.vc_in.parent / 'calit2-119-222.img.gz')
    publish(remote)
    remote.server.misbehave('exchanges', '-b/.*img')
    done = remote.run('vc-fetch', '--mirror', '--to', other, status=1)
    assert done.stdout.decode() == f'fetched {remote.entry}\n'
    assert f"entry '{remote.entry}-b': " in done.stderr.decode()
    assert remote.run('vc-list', '--base_path', other).stdout.decode() == f'{remote.entry}\n'
    remote.server.misbehave(None)
    remote.vc_in.write_bytes(remote.vc_in.read_bytes().replace(b'<vcpu>1<', b'<vcpu>2<'))
    publish(remote)
    done = remote.run('vc-fetch', '--mirror', '--to', other, status=1)
    assert done.stdout.decode() == f'fetched {remote.entry}-b\n'
    assert 'has changed at' in done.stderr.decode()
    done = remote.run('vc-fetch', '--mirror', '--to', other, '--update')
    assert done.stdout.decode() == f'changed {remote.entry}\n' and done.stderr == b''


def test_a_new_mirror_of_which_every_entry_fails(remote):
    other = remote.folder / 'mirror'
    remote.add_entry(f'{remote.entry}-b', remote.vc_in.parent / 'calit2-119-222.img.gz')
    publish(remote)
    for path in remote.base.rglob('*.img.gz'):
        path.write_bytes(b'changed')
    done = remote.run('vc-fetch', '--mirror', '--to', other, status=1)
    names = [remote.entry, f'{remote.entry}-b']
    assert [line.split(':')[:2] for line in lines(done.stderr)] == [
        ['vc-fetch', f" entry '{name}'"] for name in names]
    assert (other / 'vcdb.txt').read_bytes() == b''
    subprocess.run(['sha256sum', '--quiet', '-c', 'SHA256SUMS'], cwd=other, check=True)
    assert remote.run('vc-list', '--base_path', other).stdout == b''


def test_the_hint_at_an_update_names_the_options(remote):
    other = remote.folder / 'mirror'
    configure(remote, base_path='images')
    arguments = ('--mirror', '--to', other, '--base_path', remote.server.url)
    remote.run('vc-fetch', *arguments)
    for image in remote.vc_in.parent.glob('*.gz'):
        image.write_bytes(image.read_bytes() * 2)
    publish(remote)
    words = ' '.join(map(str, arguments))
    line, = lines(remote.run('vc-fetch', *arguments, status=1).stderr)
    assert f"'vc-fetch --update {words} {remote.entry}' takes the other" in line
    conf = remote.folder / 'other.conf'
    conf.write_text(remote.conf.read_text())
    line, = lines(remote.run('vc-fetch', *arguments, '--site-conf', conf, status=1).stderr)
    assert f"'vc-fetch --update {words} --site-conf {conf} {remote.entry}' takes" in line


def test_a_fifo_is_no_keyring_and_no_certificates(remote):
    fifo = remote.folder / 'fifo'
    os.mkfifo(fifo)
    (remote.base / 'SHA256SUMS.asc').write_bytes(b'x')
    configure(remote, database_keyring=fifo)
    assert f"database_keyring '{fifo}' is not a regular file" in remote.fails('vc-list', timeout=60)
    configure(remote, database_ca=fifo)
    assert f"certificates '{fifo}' is not a regular file" in remote.fails('vc-list', timeout=60)


def test_one_mirror_at_a_time(remote):
    remote.server.misbehave('stalls', r'img\.gz')
    first = remote.start('vc-fetch', '--mirror')
    wait_for(lambda: image_requests(remote))
    assert 'another vc-fetch --mirror writes' in remote.fails('vc-fetch', '--mirror')
    remote.server.misbehave(None)
    remote.server.goes_on.set()
    assert first.communicate(timeout=300)[0].decode() == f'fetched {remote.entry}\n'


def test_nothing_of_urllib3_for_a_folder(site):
    """A filter starts as fast as before."""
    for tool, *arguments in (('vc-list',), ('vc-fetch', site.entry), ('vc-parse', site.vc_in)):
        done = subprocess.run(['/usr/bin/python3', '-I', '-X', 'importtime', ROOT / 'bin' / tool,
                               *arguments], capture_output=True, env=site.environment(),
                              check=True)
        assert b'urllib3' not in done.stderr
