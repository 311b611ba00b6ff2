"""syslog-ng of Debian reads the collector's files, and runs the collector itself."""

import os
import signal

from stage import (
    Collector, Pipeline, compare, installed, libraries, lines, modules, over_restarts, over_rotation, put_aside, settled, started_by,
    until, written,
)

PROGRAM = installed("syslog-ng")

# The collector writes again what was in flight when it was killed, at most one batch of each tenant.
WRITTEN_AGAIN = 100


class SyslogNg(Pipeline):
    name = "syslog-ng"

    def __init__(self, folder, configuration, variables=None):
        self.folder, self.configuration = folder, configuration
        self.variables = libraries(PROGRAM) | (variables or {})

    def command(self):
        command = [PROGRAM, "--foreground", "--no-caps", "--cfgfile", self.configuration]
        for option in ("persist-file", "pidfile", "control"):
            command += [f"--{option}", self.folder / f"syslog-ng.{option}"]
        return command + modules(PROGRAM, "--module-path", "libaffile.so")

    def program(self):
        """The process of the collector that syslog-ng started."""
        return until(lambda: started_by(self.process.child.pid), "syslog-ng starts the collector")[0]


def files(harness, service, folder, pattern=None, rotate=False):
    """The collector and syslog-ng with its files between them, and a function that reads what came."""
    collector, events, out = Collector(harness, service, folder / "collector"), folder / "events", folder / "out.ndjson"
    rotation = {"keep_files = 8": "rotate_bytes = 200_000"} if rotate else {}
    written("syslog-ng/sink.toml", collector.configuration, {"/var/lib/host-harness/events": events} | rotation)
    changes = {"/var/lib/host-harness/events": events, "/var/log/azure-secure-score.ndjson": out}
    changes |= {'"*.ndjson"': pattern} if pattern else {}
    configuration = written("syslog-ng/file.conf", folder, changes)
    return collector, SyslogNg(folder, configuration), events, lambda: lines(out)


def file(harness, service, folder):
    collector, pipeline, _, came = files(harness, service, folder)
    return over_restarts(collector, pipeline, came, repeated=WRITTEN_AGAIN)


def rotated(harness, service, folder):
    """Files are put aside while syslog-ng reads them."""
    collector, pipeline, events, came = files(harness, service, folder, rotate=True)
    # syslog-ng looks at a file each second: several looks between two rotations, also on a busy machine.
    collector.every("5s")
    pipeline.start()
    collector.start()
    collector.sends(500)
    return f"{settled(collector, pipeline, came, repeated=0)}, {put_aside(events)} files put aside"


def rotated_while_stopped(harness, service, folder):
    """The pattern of the page, which reads the files that were put aside while syslog-ng was stopped, too."""
    collector, pipeline, events, came = files(harness, service, folder, '"*.ndjson*"', rotate=True)
    return over_rotation(collector, pipeline, events, came)


def program(harness, service, folder):
    """syslog-ng starts the collector, both are ended and come back, and the collector is killed."""
    collector, out = Collector(harness, service, folder / "collector"), folder / "out.ndjson"
    (collector.configuration / "sink.toml").write_text('[[sink]]\nid = "syslog-ng"\ntype = "stdout"\n')
    changes = {
        "/usr/local/bin/host-harness": harness,
        "/etc/host-harness": collector.configuration,
        "/var/log/host-harness.log": folder / "host-harness.log",
        "/var/log/azure-secure-score.ndjson": out,
    }
    pipeline = SyslogNg(folder, written("syslog-ng/program.conf", folder, changes), service.variables)
    pipeline.start()
    collector.sends(200)
    os.kill(pipeline.program(), signal.SIGKILL)
    collector.sends(100)
    pipeline.stop()
    pipeline.start()
    collector.sends(100)
    collector.drain(pipeline.program())
    pipeline.stop()
    return compare(collector.events(), lines(out), repeated=0)


TRIALS = [file, rotated, rotated_while_stopped, program]
