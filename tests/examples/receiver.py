"""A receiver in the place of a product that cannot be run here: HTTP, gzip, and trouble. A subclass follows the
documentation of its product."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stage import Fault, free_port

LARGEST_BODY = 4 << 20


class Refusal(Exception):
    """An answer that is not a success."""

    def __init__(self, status, body=b"", **headers):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class Receiver:
    """Can be started again on its port, as a pipeline can. `trouble` has the refusals that the next requests meet."""

    name = "the receiver"
    success = 200
    media = "application/json"

    def __init__(self, *trouble):
        self.port, self.trouble, self.events, self.statuses = free_port(), list(trouble), [], []
        self.up, self.dying, self.died = False, threading.Event(), threading.Event()

    def take(self, path, headers, body):
        """Returns the events of a request and the answer, or raises a refusal."""
        raise NotImplementedError

    def answer(self, path, headers, body):
        if self.trouble:
            raise self.trouble.pop(0)
        if len(body) > LARGEST_BODY:
            raise Refusal(413)
        match headers.get("content-encoding", "identity"):
            case "gzip":
                body = gzip.decompress(body)
            case "identity":
                pass
            case other:
                raise Refusal(415, f"Unsupported encoding {other}".encode())
        events, answer = self.take(path, headers, body)
        self.events += events
        return answer

    def start(self):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                if not receiver.up:
                    # A connection that was kept open ends with the receiver.
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers["content-length"]))
                try:
                    status, answer, headers = receiver.success, receiver.answer(self.path, self.headers, body), {}
                except Refusal as refusal:
                    status, answer, headers = refusal.status, refusal.body, refusal.headers
                if receiver.dying.is_set():
                    # A crash after the events were written and before the answer.
                    self.close_connection = True
                    receiver.died.set()
                    return
                receiver.statuses.append(status)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-type", receiver.media)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.dying.clear()
        self.died.clear()
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        # A collector that is killed breaks its connections.
        self.server.handle_error = lambda *_: None
        self.up = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self.up = False
        self.server.shutdown()
        self.server.server_close()

    def kill(self):
        self.dying.set()
        if not self.died.wait(30):
            raise Fault("no request came before the end of the receiver")
        self.stop()

    def came(self):
        return list(self.events)

    def answered(self, *statuses):
        """Says that each of these statuses was an answer."""
        if missing := set(statuses) - set(self.statuses):
            raise Fault(f"nothing was answered with {sorted(missing)}: {sorted(set(self.statuses))}")
        return f"with answers {', '.join(map(str, sorted(set(self.statuses))))}"


def parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return None
