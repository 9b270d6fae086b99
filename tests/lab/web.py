"""A real web server on the loopback interface, which can be made to misbehave."""
import contextlib
import email.utils
import hashlib
import os
import random
import re
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """Serves ``folder``, with ranges and ETags. ``fault`` is what goes wrong, for ``files``."""

    daemon_threads = True

    def __init__(self, folder, context=None):
        super().__init__(('127.0.0.1', 0), Handler)
        self.folder = Path(folder)
        self.fault, self.files = None, re.compile('.*')
        self.requests = []
        """(path, Range or None, status) of each request."""
        self.ranges = True
        self.random = random.Random(1)
        self.goes_on = threading.Event()
        scheme = 'http'
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
            scheme = 'https'
        self.url = f'{scheme}://127.0.0.1:{self.server_port}'

    def handle_error(self, request, client_address):
        """A client that goes away is no error of ours."""

    def misbehave(self, fault, files='.*'):
        """Have ``fault``, a name of a method of Handler, happen to files that match."""
        self.fault, self.files = fault, re.compile(files)


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.server.folder / self.path.lstrip('/')
        if not path.is_file():
            return self.plain(404)
        fault = self.server.fault
        if fault and self.server.files.search(self.path):
            return getattr(self, fault)(path.read_bytes())
        return self.serve(path.read_bytes(), os.stat(path).st_mtime)

    def plain(self, status, **headers):
        self.server.requests.append((self.path, self.headers.get('Range'), status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def head(self, content, modified=0, length=None):
        """Send the head of an answer; what of ``content`` follows."""
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        wanted = self.headers.get('Range')
        start, status = 0, 200
        if wanted and self.server.ranges and self.headers.get('If-Range') in (None, etag):
            start, status = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1]), 206
            if start >= len(content):
                return self.plain(416, **{'Content-Range': f'bytes */{len(content)}'})
        self.server.requests.append((self.path, wanted, status))
        self.send_response(status)
        self.send_header('ETag', etag)
        self.send_header('Last-Modified', email.utils.formatdate(modified, usegmt=True))
        if status == 206:
            self.send_header('Content-Range',
                             f'bytes {start}-{len(content) - 1}/{len(content)}')
        self.send_header('Content-Length', str(len(content) - start if length is None else length))
        self.end_headers()
        return content[start:]

    def serve(self, content, modified=0):
        rest = self.head(content, modified)
        if rest:
            self.wfile.write(rest)

    def breaks_off(self, content):
        """The connection ends at a random byte."""
        rest = self.head(content)
        if rest:
            self.wfile.write(rest[:self.server.random.randrange(len(rest) + 1)])
        self.close_connection = True

    def breaks_off_at_once(self, content):
        self.head(content)
        self.close_connection = True

    def breaks_off_in_the_middle(self, content):
        rest = self.head(content)
        if rest:
            self.wfile.write(rest[:len(rest) // 2])
        self.close_connection = True

    def stalls(self, content):
        rest = self.head(content)
        self.wfile.write(rest[:len(rest) // 2])
        self.wfile.flush()
        self.server.goes_on.wait(600)

    def stalls_before_the_answer(self, content):
        self.server.goes_on.wait(600)

    def drips(self, content):
        """A byte a tenth of a second, until the client goes away."""
        rest = self.head(content)
        with contextlib.suppress(OSError):
            for byte in rest:
                self.wfile.write(bytes([byte]))
                time.sleep(0.1)

    def drips_headers(self, content):
        with contextlib.suppress(OSError):
            self.wfile.write(b'HTTP/1.1 200 OK\r\nX: ')
            while not self.server.goes_on.is_set():
                self.wfile.write(b'x')
                time.sleep(0.1)

    def sends_twice(self, content):
        """Twice as much as is announced."""
        rest = self.head(content)
        if rest:
            self.wfile.write(rest * 2)
        self.close_connection = True

    def announces_half(self, content):
        self.head(content, length=len(content) // 2)
        self.wfile.write(content)
        self.close_connection = True

    def announces_much(self, content):
        self.head(content, length=1 << 50)
        self.wfile.write(content)
        self.close_connection = True

    def sends_without_end(self, content):
        """Chunks of any number, none announced."""
        self.server.requests.append((self.path, None, 200))
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1 << 16):
                self.wfile.write(b'10000\r\n' + bytes(0x10000) + b'\r\n')

    def breaks_off_in_a_chunk(self, content):
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        self.close_connection = True

    def sends_garbage(self, content):
        self.wfile.write(b'x' * 8000 + b'\n')
        self.close_connection = True

    def chunks(self, content):
        """All of it in chunks, whose length is not announced."""
        self.server.requests.append((self.path, None, 200))
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        for start in range(0, len(content), 5000):
            part = content[start:start + 5000]
            self.wfile.write(f'{len(part):x}\r\n'.encode() + part + b'\r\n')
        self.wfile.write(b'0\r\n\r\n')

    def exchanges(self, content):
        """Another file of the same length."""
        self.serve(bytes(len(content)))

    def leads_to_a_file(self, content):
        self.plain(302, Location='file:///etc/passwd')

    def leads_to_itself(self, content):
        self.plain(302, Location=self.path)

    def leads_nowhere(self, content):
        self.plain(302)

    def leads_to_http(self, content):
        self.plain(302, Location=f'http://127.0.0.1:1{self.path}')

    def leads_elsewhere(self, content):
        self.plain(302, Location=f'http://192.0.2.1{self.path}')

    def leads_here(self, content):
        """A redirect to another path of this server."""
        self.server.files = re.compile('$^')
        self.plain(307, Location=f'{self.path}')

    def is_forbidden(self, content):
        self.plain(403)

    def is_busy(self, content):
        self.plain(503)


@contextlib.contextmanager
def serving(folder, context=None):
    """A Server of a folder that runs while the block lasts."""
    server = Server(folder, context)
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.goes_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def tls(certificate, key):
    """The context of a server with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
