"""The programs around the database: collectors, the simulated service, the receiver, and three servers of NATS. Each can be killed and
started again."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nats
import nats.errors
import nats.js.errors
from nats.js.api import ConsumerConfig, DeliverPolicy

from database import ROOT
from receiver import arrival, arrivals

sys.path.append(str(ROOT / "tests"))

from ports import free_port  # noqa: E402

class Program:
    """A program with a log file."""

    def __init__(self, command, log, env=None):
        self.command, self.log, self.env, self.child = list(map(str, command)), Path(log), env, None

    def start(self):
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(self.command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        if self.child is not None:
            self.child.kill()
            self.child.wait()

    def stop(self, patience=60):
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(patience)

    def words(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Service(Program):
    """The simulated service. Its credentials and its port stay when it is started again."""

    def __init__(self, folder, harness, name, tenants, subscriptions):
        self.port = free_port()
        command = [harness, "simulate", "--json", "--http", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--tenants", tenants, "--subscriptions", subscriptions]
        super().__init__(command, Path(folder, f"{name}.log"))

    def start(self):
        before = len(self.words())
        super().start()
        end = time.monotonic() + 30
        while "\n" not in (words := self.words()[before:]):
            if time.monotonic() > end:
                raise SystemExit("the simulated service does not start")
            time.sleep(0.05)
        line = next(line for line in words.splitlines() if line.startswith("{"))
        self.estate = json.loads(line)


class HttpReceiver(Program):
    def __init__(self, folder):
        self.port, self.file = free_port(), Path(folder, "receiver.ndjson")
        super().__init__([sys.executable, ROOT / "tests/cluster/receiver.py", self.port, self.file], Path(folder, "receiver.log"))

    def arrivals(self):
        return arrivals(self.file)


class Stream:
    """Three servers of NATS with a stream of three replicas, and a reader of it."""

    NAME = "FINDINGS"

    def __init__(self, folder):
        program = shutil.which("nats-server", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
        if program is None:
            raise SystemExit("found no nats-server: install tests/requirements.txt")
        clients, routes = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
        self.urls = [f"nats://127.0.0.1:{port}" for port in clients]
        peers = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self.servers = []
        for number, (client, route) in enumerate(zip(clients, routes)):
            home = Path(folder, f"nats-{number}")
            home.mkdir()
            (home / "server.conf").write_text(
                f'listen: "127.0.0.1:{client}"\nserver_name: nats-{number}\n'
                f'cluster {{ name: three, listen: "127.0.0.1:{route}", routes: [{peers}] }}\njetstream {{ store_dir: "{home}/store" }}\n'
            )
            self.servers.append(Program([program, "-c", home / "server.conf"], home / "log"))
        self.file, self.next, self.ends = Path(folder, "stream.ndjson"), 1, threading.Event()
        self.reader = threading.Thread(target=self.read_on, daemon=True)

    def start(self):
        for server in self.servers:
            server.start()

    def asked(self, question):
        async def ask():
            client = await nats.connect(servers=self.urls, error_cb=silent, connect_timeout=2, max_reconnect_attempts=1)
            try:
                return await question(client.jetstream(timeout=3))
            finally:
                await client.close()

        try:
            return asyncio.run(asyncio.wait_for(ask(), 15))
        except (nats.errors.Error, OSError, asyncio.TimeoutError):
            return None

    def is_whole(self):
        """Whether the stream has a leader and two replicas that have everything."""
        info = self.asked(lambda context: context.stream_info(self.NAME))
        replicas = info.cluster.replicas if info and info.cluster and info.cluster.leader else []
        return len(replicas or []) == 2 and all(replica.current and not replica.offline for replica in replicas)

    def is_ready(self):
        return self.asked(lambda context: context.account_info()) is not None

    async def read_some(self, context):
        """Reads what is new, and lets the stream forget it, which would fill the disk in some hours."""
        try:
            last = (await context.stream_info(self.NAME)).state.last_seq
        except nats.js.errors.NotFoundError:
            return False
        if last < self.next:
            return True
        # One after the other and at once: a reader that goes on would need to be told of each new leader.
        config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self.next)
        subscription = await context.subscribe(">", stream=self.NAME, ordered_consumer=True, config=config)
        with open(self.file, "ab") as file:
            while self.next <= last:
                message = await subscription.next_msg(timeout=5)
                if message.metadata.sequence.stream >= self.next:
                    file.write(arrival(message.metadata.timestamp.timestamp(), message.data))
                    self.next = message.metadata.sequence.stream + 1
        await context.purge_stream(self.NAME, seq=self.next)
        return True

    def read_on(self):
        while not self.ends.wait(2):
            self.asked(self.read_some)

    def drain(self, patience=60):
        """Reads the rest."""
        self.ends.set()
        self.reader.join()
        end = time.monotonic() + patience
        while not self.asked(self.read_some):
            if time.monotonic() > end:
                raise SystemExit("the stream cannot be read")
            time.sleep(0.5)

    def arrivals(self):
        return arrivals(self.file)


async def silent(_):
    """A server that is down is what the trial is about."""


def faketime():
    """The library that changes the clock of a program; `None` where Debian's package is missing."""
    folders = (Path("/usr/lib"), ROOT / "target/faketime/usr/lib")
    return next((file for folder in folders for file in folder.glob("*/faketime/libfaketimeMT.so.1")), None)


class Collector(Program):
    """A collector with its own role in the database and its own way there."""

    def __init__(self, folder, harness, name, relays, estates, options, sinks, clock=None):
        self.name, self.relays = name, relays
        home = Path(folder, name)
        home.mkdir()
        hosts = ",".join(f"127.0.0.1:{relay.port}" for relay in relays)
        env = os.environ | {"HOST_HARNESS_WITHOUT": options.without}
        origins = ", ".join(f'"{estate["url"]}"' for estate in estates)
        text = f"""
[collector]
state = "postgres://{name}@{hosts}/collector?target_session_attrs=read-write"
[network]
allow = [{origins}]
allow_addresses = ["127.0.0.0/8", "::1"]
allow_credentials_over_http = [{origins}]
{sinks}
[feed_defaults]
interval = "{options.interval}s"
"""
        for number in range(options.tenants):
            estate = estates[0 if number == 0 else 1]
            tenant, origin = estate["tenants"][number], estate["url"]
            env[f"SECRET_{number}"] = tenant["client_secret"]
            text += f"""
[[feed]]
id = "feed-{number}"
tenant = "tenant-{number}"
[feed.settings]
client_key = "{tenant["client_id"]}"
client_secret = {{ env = "SECRET_{number}" }}
token_url = "{tenant["tenant_id"]}"
subscription_id = "*"
authority = "{origin}"
audience = "{origin}"
endpoint = "{origin}"
emit = "snapshot"
"""
        (home / "collector.toml").write_text(text)
        self.clock, library = home / "clock", faketime()
        self.has_clock = bool(clock and library)
        if self.has_clock:
            self.set_clock(0)
            # Only what it takes for the time of day: its timers and its files have the machine's clock.
            env |= {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(self.clock), "FAKETIME_CACHE_DURATION": "1"}
            env |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
        super().__init__([harness, "run", "-c", home / "collector.toml"], home / "log", env)

    def set_clock(self, seconds):
        """Changes its clock by so many seconds."""
        new = self.clock.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.clock)

    def turn(self, way):
        for relay in self.relays:
            relay.turn(way)
