"""logrotate of Debian puts the collector's files aside."""

import gzip
import json
import os
import subprocess
import time

from stage import PATIENCE, Collector, Fault, compare, installed, libraries, written

PROGRAM = installed("logrotate")


def rotated(harness, service, folder):
    """Files are put aside and compressed again and again while the collector writes them, and after it was killed."""
    collector, events = Collector(harness, service, folder / "collector"), folder / "events"
    path = {"/var/lib/host-harness/events": events}
    written("logrotate/sink.toml", collector.configuration, path)
    # One that comes more often than once a second needs a finer date.
    configuration = written("logrotate/host-harness", folder, path)
    configuration.chmod(0o644)
    command = [PROGRAM, "--force", "--state", folder / "state", configuration]

    def rotate():
        done = subprocess.run(command, env=os.environ | libraries(PROGRAM), capture_output=True, text=True)
        if done.returncode:
            raise Fault(f"logrotate ended with {done.returncode}: {done.stderr}")

    collector.start()
    for kill in (False, True, False):
        goal, end = collector.sent() + 200, time.monotonic() + PATIENCE
        while collector.sent() < goal:
            if time.monotonic() > end:
                raise Fault(f"200 more events of the collector: not within {PATIENCE:.0f} s")
            rotate()
            time.sleep(1.05)
        if kill:
            collector.kill()
            rotate()
            collector.start()
    collector.drain()
    collector.stop()
    compressed, plain, came = 0, 0, []
    for file in events.iterdir():
        compressed, plain = compressed + (file.suffix == ".gz"), plain + (file.suffix != ".gz")
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as text:
            came += [json.loads(line) for line in text]
    if compressed < 4:
        raise Fault(f"{compressed} files were compressed")
    # What was in flight at the kill may have come again, at most one batch of each tenant.
    return f"{compare(collector.events(), came, repeated=100)}, {compressed} files compressed"


TRIALS = [rotated]
