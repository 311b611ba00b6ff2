"""The history of a trial: a file with one JSON object a line, which says what was done, what the database wrote, and what reached the
sinks. The checker reads nothing else."""

import json
import sys
import threading
import time


class History:
    """Writes lines. Each has the time, and `what` it is."""

    def __init__(self, path):
        self.file, self.lock = open(path, "w"), threading.Lock()

    def add(self, what, at=None, **fields):
        line = {"what": what, "at": time.time() if at is None else at} | {key: value for key, value in fields.items() if value is not None}
        with self.lock:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()


def read(path):
    """All lines. Each text is there once: a history of hours has millions of lines."""

    def shared(pairs):
        return {sys.intern(key): sys.intern(value) if isinstance(value, str) else value for key, value in pairs}

    with open(path) as file:
        return [json.loads(line, object_pairs_hook=shared) for line in file]
