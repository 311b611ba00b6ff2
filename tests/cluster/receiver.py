"""A receiver of events over HTTP that can be killed at any time: it answers when a batch is in its file.

python tests/cluster/receiver.py PORT FILE
"""

import gzip
import hashlib
import http.server
import json
import os
import sys
import threading
import time


def arrival(at, body):
    """Returns the line of an event, with the members that the checker needs."""
    event = json.loads(body)
    metadata = event["metadata"]
    labels = dict(label.split(":", 1) for label in metadata["labels"])
    line = {
        "at": at,
        "tenant": labels["tenant"],
        "scope": event["cloud"]["account"]["uid"],
        "poll": metadata["correlation_uid"],
        "uid": metadata["uid"],
        "finding": event["finding_info"]["uid"],
        "digest": hashlib.sha256(body).hexdigest()[:16],
    }
    return json.dumps(line).encode() + b"\n"


def arrivals(path):
    """The lines of a file; the last one before a kill may be cut off."""
    if not os.path.exists(path):
        return
    with open(path) as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lock = threading.Lock()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        with Receiver.lock:
            at = time.time()
            os.write(Receiver.file, b"".join(arrival(at, line) for line in body.splitlines()))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main(port, path):
    Receiver.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    size = os.fstat(Receiver.file).st_size
    if size and os.pread(Receiver.file, 1, size - 1) != b"\n":
        os.write(Receiver.file, b"\n")
    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Receiver).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
