"""Runs three collectors on one PostgreSQL database, kills one, stops another for longer than its lease, and checks afterwards what reached
the receiver: every scope was polled within a bound, no event of a poll is missing, those of a scope came in order, and a repeat has the
uid of the first.

python tests/cluster.py HOST_HARNESS [SECONDS]
"""

import glob
import gzip
import hashlib
import http.server
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HARNESS = Path(sys.argv[1]).resolve()
# Time of undisturbed work before and after each fault.
WORK = int(sys.argv[2]) if len(sys.argv) > 2 else 10
TENANTS, INTERVAL = 24, 5
# A lease, a renewal, and an interval with the host's own delays; the machine may be busy.
LEASE, BOUND = 15, 45
PATIENCE = 90


def free_port():
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(condition, words):
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            sys.exit(f"{words}: not within {PATIENCE} s")
        time.sleep(0.2)
    return value


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes batches of events, and keeps when each came."""

    protocol_version = "HTTP/1.1"
    came = []
    lock = threading.Lock()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        with Receiver.lock:
            Receiver.came.extend((time.time(), json.loads(line)) for line in body.splitlines())
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Database:
    """A server of PostgreSQL, which does not run as root."""

    def __init__(self, folder):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) + [str(ROOT / "target/postgres/usr/lib/postgresql/15/bin")]
        self.bin = next(Path(path) for path in found if Path(path, "initdb").exists())
        unpacked = ROOT / "target/postgres/usr/lib"
        self.env = os.environ | {"LD_LIBRARY_PATH": str(next(iter(glob.glob(f"{unpacked}/*-linux-gnu")), ""))}
        self.folder, self.port = Path(folder, "pg"), free_port()
        self.folder.mkdir()
        self.user = []
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            name = "postgres" if "postgres" in names else "nobody"
            shutil.chown(self.folder, name)
            self.user = ["setpriv", f"--reuid={name}", "--clear-groups"]
        self.run("initdb", "-D", self.folder / "data", "-U", "postgres", "-A", "trust")
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder}"
        self.run("pg_ctl", "-D", self.folder / "data", "-o", options, "-l", self.folder / "log", "-w", "start")
        self.ask("CREATE ROLE collector LOGIN", "postgres")
        self.ask("CREATE DATABASE collector OWNER collector", "postgres")

    def run(self, program, *arguments):
        command = [*self.user, self.bin / program, *arguments]
        subprocess.run(command, check=True, env=self.env, stdout=subprocess.DEVNULL, cwd=self.folder)

    def ask(self, question, database="collector"):
        command = [self.bin / "psql", "-h", self.folder, "-p", str(self.port), "-U", "postgres", "-d", database, "-AtF,", "-c", question]
        output = subprocess.run(list(map(str, command)), check=True, env=self.env, capture_output=True, text=True)
        return [line.split(",") for line in output.stdout.splitlines()]

    def stop(self):
        self.run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")

    def held(self):
        """The number of shards of each collector, by the number of its process."""
        rows = self.ask(
            "SELECT c.name, count(*) FROM host_harness.shard s JOIN host_harness.collector c ON c.id = s.holder GROUP BY c.name"
        )
        return {int(name.rsplit("process ")[1].rstrip(")")): int(count) for name, count in rows}


    def tenants(self):
        """The number of tenants of each collector, by the number of its process."""
        rows = self.ask(
            "SELECT s.shard, c.name FROM host_harness.shard s JOIN host_harness.collector c ON c.id = s.holder ORDER BY s.shard"
        )
        holders = {int(shard): int(name.rsplit("process ")[1].rstrip(")")) for shard, name in rows}
        digests = [hashlib.sha256(f"tenant-{number}".encode()).digest() for number in range(TENANTS)]
        return Counter(holders.get(int.from_bytes(digest[:8], "big") % 256) for digest in digests)


class Fleet:
    """Collectors with one configuration."""

    def __init__(self, folder, database, simulation, receiver):
        self.folder, self.collectors = Path(folder), {}
        origin = simulation["url"]
        self.env = dict(os.environ)
        text = f"""
[collector]
state = "postgres://collector@127.0.0.1:{database.port}/collector"
[network]
ca_file = "{simulation["ca_file"]}"
allow = ["{origin}"]
allow_addresses = ["127.0.0.0/8", "::1"]
[[sink]]
id = "receiver"
type = "http"
url = "http://127.0.0.1:{receiver}/"
[feed_defaults]
interval = "{INTERVAL}s"
"""
        for number, tenant in enumerate(simulation["tenants"]):
            self.env[f"SECRET_{number}"] = tenant["client_secret"]
            text += f"""
[[feed]]
id = "feed-{number}"
tenant = "tenant-{number}"
[feed.settings]
client_key = "{tenant["client_id"]}"
client_secret = {{ env = "SECRET_{number}" }}
token_url = "{tenant["tenant_id"]}"
subscription_id = "{tenant["subscriptions"][0]}"
authority = "{origin}"
endpoint = "{origin}"
audience = "{origin}"
emit = "snapshot"
"""
        (self.folder / "collector.toml").write_text(text)

    def start(self, name):
        with open(self.folder / f"{name}.log", "ab") as log:
            command = [HARNESS, "run", "-c", self.folder / "collector.toml"]
            child = subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.collectors[name] = child
        return child

    def words(self, name):
        return (self.folder / f"{name}.log").read_text()


def scopes(since=0.0):
    """When the events of each scope came first, since a time."""
    with Receiver.lock:
        came = list(Receiver.came)
    return {event["cloud"]["account"]["uid"] for at, event in came if at >= since}


def check(came, began):
    """Returns the faults of all that came since a time, and a summary."""
    faults, first, last, repeats, widest = [], {}, {}, 0, 0.0
    polls, arrivals = defaultdict(lambda: defaultdict(set)), defaultdict(list)
    for at, event in came:
        scope, uid = event["cloud"]["account"]["uid"], event["metadata"]["uid"]
        arrivals[scope].append(at)
        body = json.dumps(event, sort_keys=True)
        if uid in first:
            repeats += 1
            if first[uid] != body:
                faults.append(f"{scope}: a repeat of {uid} differs")
            continue
        first[uid] = body
        if event["time"] < last.get(scope, 0):
            faults.append(f"{scope}: an event of {event['time']} came after one of {last[scope]}")
        last[scope] = max(last.get(scope, 0), event["time"])
        polls[scope][event["time"]].add(uid)
    for scope, by_time in polls.items():
        whole = max(map(len, by_time.values()))
        short = [poll for poll, uids in by_time.items() if len(uids) != whole]
        faults += [f"{scope}: the poll of {poll} lacks events" for poll in short]
    for scope, times in arrivals.items():
        gap = max(after - before for before, after in zip([began, *times], times))
        widest = max(widest, gap)
        if gap > BOUND:
            faults.append(f"{scope}: no event for {gap:.0f} s")
    if len(arrivals) != TENANTS:
        faults.append(f"events of {len(arrivals)} scopes, expected {TENANTS}")
    count = sum(len(by_time) for by_time in polls.values())
    return faults, f"{len(first)} events of {count} polls, {repeats} repeats, the longest wait of a scope {widest:.0f} s"


def careless(came):
    """Histories that the check must not pass, each with its name."""
    middle = len(came) // 2
    scope = came[middle][1]["cloud"]["account"]["uid"]
    own = [place for place, (_, event) in enumerate(came) if event["cloud"]["account"]["uid"] == scope]
    yield "an event is lost", came[:middle] + came[middle + 1 :]
    early, late = own[0], own[-1]
    swapped = list(came)
    swapped[early], swapped[late] = came[late], came[early]
    yield "two events of a scope are exchanged", swapped
    other = json.loads(json.dumps(came[middle][1])) | {"message": "another"}
    yield "a repeat differs", [*came, (came[-1][0], other)]
    yield "a scope is polled no more", [row for place, row in enumerate(came) if place not in own[1:] or place == own[-1]]
    yield "a scope is not polled at all", [row for place, row in enumerate(came) if place not in own]


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        command = [HARNESS, "simulate", "--json", "--tenants", str(TENANTS)]
        simulator = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        database, fleet = Database(folder), None
        try:
            fleet = Fleet(folder, database, json.loads(simulator.stdout.readline()), receiver.server_address[1])
            trial(database, fleet)
        except BaseException:
            for name in fleet.collectors if fleet else []:
                print(f"--- {name}\n{fleet.words(name)[-3000:]}", file=sys.stderr)
            raise
        finally:
            for child in [*(fleet.collectors.values() if fleet else []), simulator]:
                child.kill()
                child.wait()
            database.stop()


def trial(database, fleet):
    one = fleet.start("one")
    until(lambda: len(scopes()) == TENANTS, "one collector works on all scopes")
    two, three = fleet.start("two"), fleet.start("three")
    began = time.time()

    def is_even():
        tenants = database.tenants()
        return None not in tenants and len(tenants) == 3 and min(tenants.values()) > TENANTS // 5

    until(is_even, "three collectors have a part of the tenants each")
    print(f"tenants: {sorted(database.tenants().values())}")
    time.sleep(WORK)

    killed = time.time()
    one.kill()
    until(lambda: sum(count for pid, count in database.held().items() if pid != one.pid) == 256, "the shards of the dead are taken over")
    until(lambda: len(scopes(time.time() - BOUND)) == TENANTS, "all scopes are polled again")
    print(f"a killed collector's shards were taken over within {time.time() - killed:.0f} s")
    time.sleep(WORK)

    two.send_signal(signal.SIGSTOP)
    time.sleep(LEASE + 10)
    if database.held().get(three.pid) != 256:
        sys.exit(f"the third collector should hold all shards: {database.held()}")
    two.send_signal(signal.SIGCONT)
    until(lambda: "did not reach the store for" in fleet.words("two"), "the collector that was stopped says so")
    four = fleet.start("four")
    until(is_even, "those that live share the shards again")
    time.sleep(WORK)

    # All ends, and nothing waits.
    for child in [two, three, four]:
        child.send_signal(signal.SIGTERM)
    for child in [two, three, four]:
        if child.wait(60) != 0:
            sys.exit(f"a collector ended with {child.returncode}")
    if waiting := database.ask("SELECT count(*) FROM host_harness.outbox") != [["0"]]:
        sys.exit(f"events wait in the outbox: {waiting}")
    if database.held():
        sys.exit(f"a collector that ended still holds shards: {database.held()}")
    if len(database.ask("SELECT id FROM host_harness.collector")) > 1:
        sys.exit("only the collector that was killed may have left its row")
    faults, summary = check(Receiver.came, began)
    print(summary)
    if faults:
        sys.exit("\n".join(faults[:20]))
    for name, came in careless(Receiver.came):
        if not check(came, began)[0]:
            sys.exit(f"the check does not see that {name}")


main()
