"""rsyslog of Debian reads the collector's files."""

from stage import (
    Collector, Pipeline, installed, libraries, lines, modules, over_restarts, over_rotation, put_aside, settled, written,
)

PROGRAM = installed("rsyslogd")

# After a crash, `persistStateInterval` of the example, 10 lines of each of four files, and some that were on their way.
READ_AGAIN = 80


class Rsyslog(Pipeline):
    name = "rsyslogd"

    def __init__(self, folder, example):
        self.folder, self.variables = folder, libraries(PROGRAM)
        # Debian's /etc/rsyslog.conf has both lines.
        self.configuration = folder / "rsyslog.conf"
        work = folder / "work"
        work.mkdir()
        self.configuration.write_text(f'global(workDirectory="{work}")\ninclude(file="{example}")\n')

    def command(self):
        command = [PROGRAM, "-n", "-f", self.configuration, "-i", self.folder / "rsyslogd.pid"]
        return command + modules(PROGRAM, "-M", "imfile.so")


def files(harness, service, folder, rotate=False):
    collector, events, out = Collector(harness, service, folder / "collector"), folder / "events", folder / "out.ndjson"
    rotation = {"keep_files = 8": "rotate_bytes = 200_000"} if rotate else {}
    written("rsyslog/sink.toml", collector.configuration, {"/var/lib/host-harness/events": events} | rotation)
    changes = {"/var/lib/host-harness/events": events, "/var/log/azure-secure-score.ndjson": out}
    return collector, Rsyslog(folder, written("rsyslog/scores.conf", folder, changes)), events, lambda: lines(out)


def file(harness, service, folder):
    collector, pipeline, _, came = files(harness, service, folder)
    return over_restarts(collector, pipeline, came, repeated=READ_AGAIN)


def rotated(harness, service, folder):
    """Files are put aside while rsyslog reads them."""
    collector, pipeline, events, came = files(harness, service, folder, rotate=True)
    pipeline.start()
    collector.start()
    collector.sends(500)
    return f"{settled(collector, pipeline, came)}, {put_aside(events)} files put aside"


def rotated_while_stopped(harness, service, folder):
    collector, pipeline, events, came = files(harness, service, folder, rotate=True)
    return over_rotation(collector, pipeline, events, came)


TRIALS = [file, rotated, rotated_while_stopped]
