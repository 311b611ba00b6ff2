"""What every example is tried on: the simulated service, the collector with the sinks of the example, and the comparison
of what came with what the collector sent. Knows no pipeline."""

import collections
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "tests"))

from ports import free_port  # noqa: E402, F401

# A machine that is busy with other tests is slow.
PATIENCE = 60.0


class Fault(Exception):
    """An example does not do what its page says."""


def until(condition, words, patience=PATIENCE):
    """Waits for a condition, and returns its value."""
    end = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > end:
            raise Fault(f"{words}: not within {patience:.0f} s")
        time.sleep(0.05)
    return value


def installed(name):
    """The path of a program that is installed, or that `cargo xtask test` unpacked, or nothing."""
    unpacked = ROOT / "target" / name / "usr"
    folders = [os.environ.get("PATH", ""), "/usr/sbin", f"{unpacked}/bin", f"{unpacked}/sbin"]
    return shutil.which(name, path=os.pathsep.join(folders))


def unpacked(program):
    """The folder into which `cargo xtask test` unpacked a program, or nothing if the program is installed."""
    if program is None:
        raise Fault("the program is missing: install it, or run `cargo xtask test`, which unpacks Debian's into target/")
    folder = Path(program).parent.parent.parent
    return folder if folder.is_relative_to(ROOT / "target") else None


def libraries(program):
    """The variables with which a program finds the libraries that were unpacked beside it."""
    folder = unpacked(program)
    found = {str(file.parent) for file in folder.rglob("lib*.so*")} if folder else ()
    return {"LD_LIBRARY_PATH": os.pathsep.join(sorted(found))} if found else {}


def modules(program, option, name):
    """The option that names the folder of the modules that were unpacked beside a program; `name` is one of them."""
    folder = unpacked(program)
    return [option, next(folder.rglob(name)).parent] if folder else []


def written(example, folder, changes):
    """Copies a file of an example with its paths and addresses changed, and returns the copy."""
    text = (ROOT / "examples" / example).read_text()
    for old, new in changes.items():
        if old not in text:
            raise Fault(f"examples/{example} does not have {old!r}")
        text = text.replace(old, str(new))
    copy = Path(folder, Path(example).name)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text)
    return copy


class Pipeline:
    """A program that takes events. A subclass has the `name`, the `folder` and the `command`."""

    variables = {}

    def start(self):
        self.process = Process(self.name, self.command(), Path(self.folder, f"{self.name}.log"), self.variables)

    def stop(self):
        self.process.stop()

    def kill(self):
        self.process.kill()


# The programs that the trial of this thread started.
OWN = threading.local()


class Process:
    """A program that ends with its trial."""

    def __init__(self, name, command, log, variables=None, **options):
        self.name = name
        options.setdefault("stdin", subprocess.DEVNULL)
        with open(log, "ab") as words:
            options.setdefault("stdout", words)
            environment = os.environ | (variables or {})
            self.child = subprocess.Popen(list(map(str, command)), stderr=words, env=environment, **options)
        OWN.processes.append(self)

    def running(self):
        if (status := self.child.poll()) is not None:
            raise Fault(f"{self.name} ended with {status}")
        return self.child

    def kill(self):
        self.running().kill()
        self.child.wait()

    def stop(self, patience=PATIENCE):
        """Asks the program and all that it started to end, as systemd does."""
        for process in [*started_by(self.running().pid), self.child.pid]:
            os.kill(process, signal.SIGTERM)
        try:
            return self.child.wait(patience)
        except subprocess.TimeoutExpired:
            raise Fault(f"{self.name} did not end within {patience:.0f} s of SIGTERM") from None


def started_by(parent):
    """The processes that a process started, and those that they started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        # The name, in parentheses, may have spaces.
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return [process for child in found for process in (*started_by(child), child)]


class Service:
    """The simulated Azure."""

    def __init__(self, harness, folder):
        command = [harness, "simulate", "--http"]
        process = Process("simulate", command, Path(folder, "simulate.log"), stdout=subprocess.PIPE, text=True)
        self.text, self.variables = "", {}
        for line in process.child.stdout:
            self.text += line
            if line.startswith("# export "):
                name, value = line.removeprefix("# export ").strip().split("=", 1)
                self.variables[name] = value
                if len(self.variables) == self.text.count("[[feed]]"):
                    return
        raise Fault("`simulate` ended before its configuration did")


class Collector:
    """`host-harness run` with the sinks of an example. A sink of the test's own writes each event to a file, too."""

    def __init__(self, harness, service, folder):
        self.harness, self.service, self.folder = harness, service, Path(folder)
        self.configuration = self.folder / "etc"
        self.configuration.mkdir(parents=True)
        (self.configuration / "azure.toml").write_text(service.text)
        self.reference = self.folder / "reference.ndjson"
        self.state = self.folder / "collector.db"
        self.process = None
        self.every("1s")

    def every(self, interval):
        """Says how often each subscription is polled; each poll sends all its findings as new events."""
        (self.configuration / "collector.toml").write_text(
            f'[collector]\nstate = "{self.state}"\n\n'
            f'[[sink]]\nid = "reference"\ntype = "file"\npath = "{self.reference}"\n\n'
            f'[feed_defaults]\ninterval = "{interval}"\n[feed_defaults.settings]\nemit = "snapshot"\n'
        )

    def command(self):
        return [self.harness, "run", "-c", self.configuration]

    def start(self):
        log = self.folder / "collector.log"
        self.process = Process("the collector", self.command(), log, self.service.variables)

    def kill(self):
        self.process.kill()

    def stop(self):
        if status := self.process.stop():
            raise Fault(f"the collector ended with {status}")

    def sent(self):
        """The number of events that the test's own file has."""
        return self.reference.read_bytes().count(b"\n") if self.reference.exists() else 0

    def sends(self, more):
        """Waits until the collector sent so many more events."""
        goal = self.sent() + more
        until(lambda: self.sent() >= goal, f"{more} more events of the collector")

    def waiting(self):
        """The number of events that wait for a sink."""
        with closing(sqlite3.connect(f"file:{self.state}?mode=ro", uri=True, timeout=10)) as state:
            return state.execute("SELECT count(*) FROM outbox").fetchone()[0]

    def drain(self, process=None):
        """Ends the polls, and waits until each sink has all its events. A collector that a pipeline started, and that is
        not named here, notices within some seconds that its configuration changed."""
        self.every("31d")
        if process or self.process:
            os.kill(process or self.process.child.pid, signal.SIGHUP)
        quiet = [0, self.sent()]

        def is_quiet():
            if self.waiting() or quiet[1] != self.sent():
                quiet[:] = [0, self.sent()]
                return False
            quiet[0] += 1
            return quiet[0] > 20

        until(is_quiet, "an empty outbox")

    def events(self):
        """Each event of the collector, by its uid."""
        lines = self.reference.read_text().splitlines()
        return {uid(event): event for event in map(json.loads, lines)}


def uid(event):
    return event["metadata"]["uid"]


def spelled(event):
    """JSON in which 1 and 1.0 differ, as they do in the service's answers."""
    return json.dumps(event, sort_keys=True)


def lines(file):
    """The events in a file of lines; a file that is not there has none."""
    text = file.read_text() if file.exists() else ""
    # The pipeline may still write the last line.
    return [json.loads(line) for line in text.split("\n")[:-1]]


def compare(expected, came, lost=0, repeated=None):
    """Compares the events that came with those that were sent, and returns the words for the report. At most `lost` may be
    missing, and at most `repeated` may have come more than once (any number without this argument)."""
    counts = collections.Counter(map(uid, came))
    if unknown := counts.keys() - expected.keys():
        raise Fault(f"{len(unknown)} events came that the collector did not send")
    for event in came:
        if spelled(event) != spelled(expected[uid(event)]):
            raise Fault(f"the event {uid(event)} is not equal to that of the collector")
    missing = len(expected) - len(counts)
    if missing > lost:
        raise Fault(f"{missing} of {len(expected)} events did not come")
    again = len(came) - len(counts)
    if repeated is not None and again > repeated:
        raise Fault(f"{again} events came again, and at most {repeated} should")
    return f"{len(counts)} of {len(expected)} events, each equal, {again} repeated"


def over_restarts(collector, pipeline, came, lost=0, repeated=None):
    """Runs both, kills and restarts each while the other works, ends both, and compares. `came` returns the events at the
    other end, `pipeline` has `start`, `stop` and `kill`."""
    pipeline.start()
    collector.start()
    collector.sends(200)
    collector.kill()
    collector.start()
    collector.sends(100)
    pipeline.stop()
    collector.sends(100)
    pipeline.start()
    collector.sends(100)
    pipeline.kill()
    collector.sends(100)
    pipeline.start()
    collector.sends(100)
    return settled(collector, pipeline, came, lost, repeated)


def settled(collector, pipeline, came, lost=0, repeated=None):
    """Ends the polls, waits until the events are at the other end, ends both, and compares."""
    collector.drain()
    collector.stop()
    expected = collector.events()
    try:
        until(lambda: len({uid(event) for event in came()}) >= len(expected) - lost, "all events at the other end", 30)
    except Fault:
        # The comparison says how many are missing.
        pass
    pipeline.stop()
    return compare(expected, came(), lost, repeated)


def put_aside(events, least=4):
    """The number of files that the collector put aside."""
    count = len(list(events.glob("*.ndjson.*")))
    if count < least:
        raise Fault(f"{count} files were put aside")
    return count


def over_rotation(collector, pipeline, events, came):
    """Files are put aside while the pipeline is stopped, and read when it is back."""
    pipeline.start()
    collector.start()
    collector.sends(200)
    pipeline.stop()
    before = put_aside(events, least=0)
    until(lambda: put_aside(events, least=0) > before + 2, "files that are put aside")
    pipeline.start()
    return f"{settled(collector, pipeline, came)}, {put_aside(events)} files put aside"


def begin():
    OWN.processes = []


def end():
    """Ends the programs that a trial left, and all that they started."""
    for process in OWN.processes:
        for child in [*started_by(process.child.pid), process.child.pid]:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.child.wait()


def last_words(folder):
    """The ends of all logs of a trial."""
    logs = sorted(folder.rglob("*.log"))
    return "".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2_000:]}" for log in logs)
