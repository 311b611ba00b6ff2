"""Runs three collectors on a PostgreSQL with a synchronous standby, with a sink `http` and a stream of three NATS servers, brings faults
about in an order that follows from a seed, and writes the history for the checker."""

import concurrent.futures
import contextlib
import hashlib
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import faults
from database import Database
from programs import Collector, HttpReceiver, Service, Stream, free_port
from relay import Relay

PATIENCE = 120
SHARDS = 256
NAMES = ["one", "two", "three"]


def shard_of(tenant):
    return int.from_bytes(hashlib.sha256(tenant.encode()).digest()[:8], "big") % SHARDS


class Fault:
    """A fault that goes on."""

    def __init__(self, history, number):
        self.history, self.number, self.is_healed = history, number, False

    def heal(self):
        """Notes that the cause is gone."""
        if not self.is_healed:
            self.history.add("healed", number=self.number)
            self.is_healed = True


class Trial:
    """Everything that runs."""

    def __init__(self, folder, options, history):
        self.options, self.history, self.folder = options, history, Path(folder)
        self.left_out, self.number, self.programs = [], 0, []
        self.service = Service(folder, options.harness, "service", options.tenants, options.subscriptions)
        # The first tenant has a service of its own, which can be silent without the others'.
        self.apart = Service(folder, options.harness, "apart", 1, options.subscriptions)
        self.receiver, self.stream = HttpReceiver(folder), Stream(folder)
        ports = [free_port(), free_port()]
        self.database = Database(folder, ports, disk_megabytes=160 + options.seconds // 4, is_synchronous=options.without != "synchronous-standby")
        self.service_lock, self.look = threading.Lock(), threading.Lock()
        self.relays = {name: [Relay(port) for port in ports] for name in NAMES}
        self.collectors = []

    def start(self):
        for program in (self.service, self.apart, self.receiver, self.stream):
            program.start()
        schema = subprocess.run([self.options.harness, "schema"], check=True, capture_output=True, text=True).stdout
        self.database.make(schema, NAMES)
        self.until(self.stream.is_ready, "three servers of NATS")
        urls = ", ".join(f'"{url}"' for url in self.stream.urls)
        sinks = f"""
[[sink]]
id = "receiver"
type = "http"
url = "http://127.0.0.1:{self.receiver.port}/"
[[sink]]
id = "stream"
type = "nats"
url = [{urls}]
subject = "findings.{{tenant}}.{{feed}}"
stream = {{ name = "{Stream.NAME}", replicas = 3, duplicate_window = "10m" }}
"""
        for name in NAMES:
            # The last one's clock can be changed.
            one = (name, self.relays[name], [self.apart.estate, self.service.estate], self.options, sinks, name == NAMES[-1])
            self.collectors.append(Collector(self.folder, self.options.harness, *one))
            self.collectors[-1].start()
        self.stream.reader.start()
        self.settle()
        self.until(self.is_shared, "three collectors have a part of the shards each")

    def run(self):
        """Brings faults about until the time is over, every kind at least once."""
        chance = random.Random(self.options.seed)
        scopes = self.database.ask("SELECT DISTINCT tenant, scope FROM host_harness.scope ORDER BY 1, 2")
        options, ((salt,),) = self.options, self.database.ask("SELECT value FROM host_harness.salt")
        self.history.add("trial", seed=options.seed, interval=options.interval, scopes=scopes, sinks=["receiver", "stream"], salt=salt)
        end = time.monotonic() + options.seconds
        chosen = [[kind for kind in kinds if not options.faults or kind.__name__ in options.faults] for kinds in (faults.COLLECTORS, faults.OTHERS)]
        lanes = chosen if options.together else [sum(chosen, [])]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            done = [pool.submit(self.bring_about, kinds, random.Random(chance.random()), end) for kinds in lanes if kinds]
        for lane in done:
            lane.result()
        self.history.add("over")

    def bring_about(self, kinds, chance, end):
        """Brings every kind of fault about, in some order, again and again until a time."""
        while True:
            for kind in chance.sample(kinds, len(kinds)):
                time.sleep(chance.uniform(0, 2))
                kind(self, chance)
            if time.monotonic() > end:
                return

    def rest(self):
        """Lets the collectors end in order, and collects what came."""
        for one in self.collectors:
            one.signal(signal.SIGTERM)
        for one in self.collectors:
            if (status := one.child.wait(60)) != 0:
                raise SystemExit(f"the collector {one.name} ended with {status}")
        (held,) = self.database.ask("SELECT count(*) FROM host_harness.shard WHERE holder IS NOT NULL")
        self.history.add("rest", held=int(held[0]), waiting=int(self.database.ask("SELECT count(*) FROM host_harness.outbox")[0][0]))
        self.stream.drain()
        columns = "number, extract(epoch FROM at), who, what, shard, epoch, is_held, tenant, scope, next, id_time, outcome, sink, uid, outbox"
        for row in self.database.ask(f"SELECT {columns} FROM trial.log ORDER BY number"):
            number, at, who, what, *rest = row
            keys = ("shard", "epoch", "is_held", "tenant", "scope", "next", "id_time", "outcome", "sink", "uid", "outbox")
            fields = {key: value for key, value in zip(keys, rest) if value != ""}
            for key in ("shard", "epoch", "next", "id_time", "outbox"):
                if key in fields:
                    fields[key] = int(fields[key])
            if "is_held" in fields:
                fields["is_held"] = fields["is_held"] == "t"
            self.history.add(what, at=float(at), number=int(number), who=who, **fields)
        for sink, source in (("receiver", self.receiver), ("stream", self.stream)):
            for line in source.arrivals():
                self.history.add("came", sink=sink, **line)

    def end(self):
        for program in [*self.collectors, self.service, self.apart, self.receiver, *self.stream.servers]:
            program.kill()
        self.database.end()

    def until(self, condition, words, missing=lambda: ""):
        end = time.monotonic() + PATIENCE
        while not (value := condition()):
            if time.monotonic() > end:
                raise SystemExit(f"{words}: not within {PATIENCE} s{missing()}")
            with self.look:
                self.look_after()
            time.sleep(0.2)
        return value

    @contextlib.contextmanager
    def fault(self, words, collector=None, tenants=None):
        """A fault that begins now, and is over when all scopes are polled again."""
        began = time.monotonic()
        with self.service_lock:
            self.number += 1
            number = self.number
        fault = Fault(self.history, number)
        self.history.add("fault", number=number, fault=words, collector=collector and collector.name, tenants=tenants)
        yield fault
        fault.heal()
        self.settle()
        self.history.add("settled", number=number)
        print(f"{number}. {words}{f': {collector.name}' if collector else ''} ({time.monotonic() - began:.0f} s)", flush=True)

    def look_after(self):
        """Starts a collector again, as a supervisor does, that began while no server took writes."""
        for one in self.collectors:
            if one.child.poll() not in (None, -signal.SIGKILL):
                if one.child.returncode != 1 or "no server can be used" not in one.words()[-2_000:]:
                    raise SystemExit(f"the collector {one.name} ended with {one.child.returncode}")
                self.history.add("ended", collector=one.name)
                print(f"the collector {one.name} found no server that takes writes, and is started again", flush=True)
                one.start()

    def leave_out(self, words):
        if words not in self.left_out:
            self.left_out.append(words)
            print(words, flush=True)

    HOLDER = "SELECT who FROM trial.log WHERE what = 'lease' AND log.shard = shard.shard ORDER BY number DESC LIMIT 1"

    def holders(self):
        """The name of each shard's holder, by its number; `None` if the database does not answer."""
        rows = self.database.ask(f"SELECT shard, ({self.HOLDER}) FROM host_harness.shard WHERE holder IS NOT NULL", may_fail=True)
        return None if rows is None else {int(shard): name for shard, name in rows}

    def is_taken_from(self, one):
        """Whether others have all shards."""
        holders = self.holders()
        return holders is not None and len(holders) == SHARDS and one.name not in holders.values()

    def chosen(self, chance, among=None):
        """A collector that has tenants."""

        def working():
            holders = self.holders() or {}
            names = {holders.get(shard_of(f"tenant-{number}")) for number in range(self.options.tenants)}
            return [one for one in self.collectors if one.name in names and (among is None or one in among)]

        return chance.choice(self.until(working, "a collector has tenants"))

    def is_shared(self):
        """Whether each collector has its part of the tenants."""
        holders = self.holders() or {}
        count = Counter(holders.get(shard_of(f"tenant-{number}")) for number in range(self.options.tenants))
        return all(count[one.name] > self.options.tenants // 6 for one in self.collectors)

    def settle(self):
        """Returns when each scope was polled since now, or waits after a failure of the service as it should, and no event has waited
        for long."""
        # A server whose disk is full may answer nobody.
        last = "SELECT coalesce(max(number), 0) FROM trial.log"
        ((number,),) = self.until(lambda: self.database.ask(last, may_fail=True), "the database answers")
        scopes = self.options.tenants * self.options.subscriptions
        known = "SELECT count(*) FROM host_harness.scope"
        unpolled = (
            f"SELECT tenant, scope, ({self.HOLDER}), standing FROM host_harness.scope JOIN host_harness.shard USING (shard) "
            "WHERE standing::json ->> 'outcome' IS NULL AND (tenant, scope) "
            f"NOT IN (SELECT tenant, scope FROM trial.log WHERE number > {number} AND what = 'row')"
        )
        self.until(
            lambda: self.database.ask(known, may_fail=True) == [[str(scopes)]] and self.database.ask(unpolled, may_fail=True) == [],
            "all scopes are polled again",
            lambda: "".join(f"\n{' '.join(row)}" for row in self.database.ask(unpolled, may_fail=True) or []),
        )
        old = (
            "SELECT count(*) FROM host_harness.outbox JOIN trial.log ON log.outbox = outbox.number AND what = 'queued' "
            "WHERE at < clock_timestamp() - interval '3 s'"
        )
        self.until(lambda: self.database.ask(old, may_fail=True) == [["0"]], "the events that waited are delivered")
