"""Answers of Ganeti's REST API, recorded from a real one and played over HTTPS.

A tape is a list of [request, status, answer] in order. When it is played, each request gets its
next answer, and then the last one again. The tests of the recorded clusters are here, because they
run both when a tape is recorded and when it is played.
"""
import base64
import json
import os
import re
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3
from lxml import etree

from lab.site import lines

NOW = re.compile('(pragma_boot(?:%3A|:)started(?:%3A|:))[0-9]+')
"""The one word of a request that differs from run to run."""


def make_certificate(folder, names):
    """Make a certificate for ``names`` (subjectAltName): ca.pem, and rapi.pem with its key."""
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '60',
                    '-subj', '/CN=rapi',
                    '-addext', f'subjectAltName={names}', '-keyout', folder / 'key.pem', '-out',
                    folder / 'ca.pem'],
                   check=True, capture_output=True)
    (folder / 'rapi.pem').write_text((folder / 'key.pem').read_text()
                                     + (folder / 'ca.pem').read_text())


def make_credentials(folder, user, password):
    """The site's file of credentials."""
    (folder / 'credentials').write_text(f'{user} {password}\n')
    (folder / 'credentials').chmod(0o600)


class Server(ThreadingHTTPServer):
    """An HTTPS server for the block, with the certificate in ``folder``; ``answer`` answers."""

    daemon_threads = True

    def __init__(self, folder, address=('127.0.0.1', 0)):
        super().__init__(address, Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / 'rapi.pem')
        # Not while others wait to be accepted: a client may turn away from our certificate.
        self.socket = context.wrap_socket(self.socket, server_side=True,
                                          do_handshake_on_connect=False)
        self.lock = threading.Lock()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *raised):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Ignore connections that a client breaks."""


class Handler(BaseHTTPRequestHandler):
    """One connection; all methods get their answer in the same way."""

    protocol_version = 'HTTP/1.1'

    def answer(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        status, output = self.server.answer(self.command, self.path, body, self.headers)
        data = json.dumps(output).encode()
        self.send_response(status)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *words):
        """Log nothing."""


def request_of(method, path):
    return NOW.sub(r'\g<1>0', f'{method} {path}')


class Recorder(Server):
    """A proxy for a real REST API that records its answers in ``tape``."""

    def __init__(self, folder, address, real, ca_file):
        super().__init__(folder, address)
        self._real = real
        self._pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(cafile=ca_file),
                                         maxsize=8)
        self.tape = []

    def answer(self, method, path, body, headers):
        output = self._pool.request(method, self._real + path, body=body or None,
                                  headers={'Authorization': headers['Authorization'],
                                           'Content-Type': 'application/json'})
        with self.lock:
            self.tape.append([request_of(method, path), output.status, json.loads(output.data)])
        return output.status, json.loads(output.data)

    def save(self, path, replacements):
        """Write the tape, with only the last answer for each job, without this machine's paths."""
        tape = [entry for index, entry in enumerate(self.tape)
                if not re.match('GET /2/jobs/[0-9]+$', entry[0])
                or entry[0] not in [later for later, *_ in self.tape[index + 1:]]]
        text = '[\n' + ',\n'.join(json.dumps(entry) for entry in tape) + '\n]\n'
        for what, by in replacements:
            text = text.replace(what, by)
        path.write_text(text)


class Player(Server):
    """Plays a tape to clients that have the credentials; ``asked`` has the requests in order."""

    def __init__(self, folder, path, user, password):
        super().__init__(folder)
        self._answers = {}
        for request, *answer in json.loads(path.read_text()):
            self._answers.setdefault(request, []).append(answer)
        self._authorization = 'Basic ' + base64.b64encode(f'{user}:{password}'.encode()).decode()
        self.asked = []

    @property
    def master(self):
        return f'127.0.0.1:{self.server_address[1]}'

    def answer(self, method, path, body, headers):
        if headers['Authorization'] != self._authorization:
            return 401, {'code': 401, 'message': 'Unauthorized'}
        request = request_of(method, path)
        with self.lock:
            self.asked.append((request, json.loads(body or 'null')))
            answers = self._answers.get(request)
            if not answers:
                return 404, {'code': 404, 'message': f'{request} is not on the tape'}
            return answers.pop(0) if len(answers) > 1 else answers[0]


IDENTITY = '0' * 32
"""The identity of the ledgers whose requests are recorded, which the instances' tags have."""


def identify(temp):
    """Give the ledger of a temporary directory the recorded identity."""
    temp.mkdir(exist_ok=True)
    (temp / 'identity').write_text(IDENTITY)


def edit(name, vc_in):
    """Make an entry's nodes small, and those of ``large`` too large for all machines but one."""
    text = vc_in.read_text().replace('1048576', '65536').replace("value='300'", "value='1'")
    if name == 'large':
        front, compute = text.split('<compute>')
        text = '<compute>'.join([front, compute.replace('65536', '31457280')])
    vc_in.write_text(text)


def allocated(site, name, vc_in):
    """The document of an allocated cluster of a frontend and two compute nodes."""
    document = site.run('vc-parse', vc_in).stdout
    document = site.run('vc-stage', input=document).stdout
    return site.run('vc-allocate', '--num-cpus', 2, '--name', name, '--key', site.key,
                    input=document).stdout


def nodes(document):
    return etree.fromstring(document).findall('cluster/node')


def table(site, name):
    """The state and host of each node, as vc-status shows them."""
    return [tuple(line.split()[2:4]) for line in lines(site.run('vc-status', name).stdout)[1:]]


def live(site, name, vc_in):
    """A cluster is started, stopped, started again and removed."""
    document = site.run('vc-inject', input=allocated(site, name, vc_in)).stdout
    assert site.run('vc-inject', input=document).stdout == document
    hosts = [node.get('host') for node in nodes(document)]
    assert all(re.fullmatch(r'ganeti://[0-9.]+:[0-9]+/h[0-2]\.example\.org', host)
               for host in hosts), hosts
    assert table(site, name) == [('stopped', host) for host in hosts]
    booted = site.run('vc-boot', input=document).stdout
    assert [node.findtext('state') for node in nodes(booted)] == ['running'] * 3
    assert table(site, name) == [('running', host) for host in hosts]
    site.run('vc-shutdown', '--timeout', 0, name)
    assert table(site, name) == [('stopped', host) for host in hosts]
    site.run('vc-boot', input=booted)
    site.run('vc-clean', name)
    site.run('vc-clean', name)
    assert name not in site.clusters()


def too_large(site, name, vc_in):
    """Ganeti has no room for two of three nodes: none is made, and nothing is reserved."""
    document = allocated(site, name, vc_in)
    done = site.run('vc-inject', input=document, status=3)
    assert re.fullmatch(r"vc-inject: Ganeti at 'ganeti://[0-9.:]+': "
                        r"job [0-9]+ \(place 3 instances\) ended with "
                        r"error: .*FailMem.*\n", done.stderr.decode()), done
    site.run('vc-clean', name)
    assert name not in site.clusters()


def bad(site, name, vc_in):
    """The image is damaged after staging: the node refuses it, and all instances are removed."""
    document = allocated(site, name, vc_in)
    for image in {image.get('path') for image in etree.fromstring(document).findall('image')}:
        damage(image)
    done = site.run('vc-inject', input=document, status=1)
    assert re.fullmatch(r"vc-inject: Ganeti at 'ganeti://[0-9.:]+': "
                        r"job [0-9]+ \(make bad-frontend\) ended with "
                        r"error: .*create: node 'frontend': .*\n", done.stderr.decode()), done
    site.run('vc-clean', name)
    assert name not in site.clusters()


def damage(image):
    """Overwrite the tables of the file system's first group; size and times stay the same."""
    before = os.stat(image)
    os.chmod(image, 0o644)
    with open(image, 'rb+') as file:
        file.seek((1 << 20) + 4096)
        file.write(os.urandom(1 << 14))
    os.chmod(image, before.st_mode & 0o777)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
