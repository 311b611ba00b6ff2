"""Publishes through the sink `nats` to real servers, reads the streams with nats-py, and compares them with the lines of a sink
`file`: one server and a cluster of three, over kills of either side, with every kind of user, and with streams that refuse.

python tests/jetstream.py HOST_HARNESS [WORD]
"""

import asyncio
import base64
import concurrent.futures
import datetime
import ipaddress
import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import nats
import nats.errors
import nats.js.errors
import nkeys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from ports import free_port

ROOT = Path(__file__).resolve().parent.parent
HARNESS = None
SERVER = shutil.which("nats-server", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
PATIENCE = 60
PASSWORD = "a-password-that-nobody-logs"


class Fault(Exception):
    """The sink does not do what the documents say."""


def until(condition, words):
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            raise Fault(f"{words}: not within {PATIENCE} s")
        time.sleep(0.1)
    return value


# The programs that were started, which end with the trials.
STARTED = []


def started(command, log, **options):
    with open(log, "ab") as words:
        child = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=words, stderr=words, **options)
    STARTED.append(child)
    return child


class Server:
    """One server, with lines of its configuration."""

    def __init__(self, folder, name, lines="", port=None):
        self.folder, self.name, self.port = Path(folder, name), name, port or free_port()
        self.folder.mkdir()
        self.config = self.folder / "server.conf"
        self.config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nserver_name: {name}\n{lines}\njetstream {{ store_dir: "{self.folder}/store" }}\n'
        )
        self.start()

    def start(self):
        self.child = started([SERVER, "-c", self.config], self.folder / "server.log")

    def kill(self):
        self.child.kill()
        self.child.wait()

    def url(self, scheme="nats"):
        return f"{scheme}://127.0.0.1:{self.port}"


class Simulation:
    """The simulated service, its feeds, and their secrets."""

    def __init__(self, folder):
        self.child = subprocess.Popen([HARNESS, "simulate"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        STARTED.append(self.child)
        self.feeds, self.variables = "", {}
        for line in self.child.stdout:
            if line.startswith("# export "):
                name, value = line.removeprefix("# export ").strip().split("=", 1)
                self.variables[name] = value
                if len(self.variables) == self.feeds.count("[[feed]]"):
                    break
            else:
                self.feeds += line
        # A dot in the id of a tenant is no separator of subjects.
        self.feeds = self.feeds.replace('tenant = "contoso"', 'tenant = "contoso.eu"')
        if 'tenant = "contoso.eu"' not in self.feeds:
            raise Fault("the simulated service has no tenant contoso")


class Collector:
    """A collector whose every poll repeats all events, into the file `all.ndjson` and the sinks of these tables."""

    def __init__(self, folder, simulation, sinks, variables=()):
        self.folder, self.variables = Path(folder), os.environ | simulation.variables | dict(variables)
        self.lake, self.log = self.folder / "all.ndjson", self.folder / "collector.log"
        self.config = self.folder / "collector.toml"
        defaults = '[feed_defaults]\ninterval = "1s"\n[feed_defaults.settings]\nemit = "snapshot"\n'
        lake = '[[sink]]\nid = "lake"\ntype = "file"\npath = "all.ndjson"\n'
        self.config.write_text(simulation.feeds + defaults + lake + sinks)

    def command(self, name, *more):
        return [HARNESS, name, "-c", self.config, *more]

    def start(self):
        self.child = started(self.command("run"), self.log, env=self.variables)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        if self.child.wait(PATIENCE) != 0:
            raise Fault(f"the collector ended with {self.child.returncode}: {self.words()[-2000:]}")

    def words(self):
        """The log, without the quotes of its fields, and without the warnings of short intervals."""
        text = self.log.read_text().replace('\\"', '"') if self.log.exists() else ""
        return "\n".join(line for line in text.splitlines() if "interval: 1s is short" not in line)

    def says(self, words):
        try:
            until(lambda: words in self.words(), f"the log has no {words!r}")
        except Fault as fault:
            raise Fault(f"{fault}: {self.words()[-2000:]}") from None

    def rests(self):
        """Stops polling, and waits until every event left the outbox."""
        if self.child.poll() is None:
            self.stop()
        state = self.folder / "collector.db"
        self.config.write_text(self.config.read_text().replace('interval = "1s"', 'interval = "31d"'))

        def empty():
            with closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True)) as store:
                return store.execute("SELECT count(*) FROM outbox").fetchone()[0] == 0

        if empty():
            return
        starts = self.words().count("collecting 4 feeds")
        self.start()
        until(lambda: self.words().count("collecting 4 feeds") > starts, "no further start")
        until(empty, "events wait")
        self.stop()

    def events(self):
        """The lines of the file, each uid once, in the order of the first."""
        found = {}
        for line in self.lake.read_text().splitlines():
            event = json.loads(line)
            found.setdefault(event["metadata"]["uid"], (line, event))
        return found


async def silent(_):
    """A server that is down is what the trials are about."""


async def _read(stream, options):
    client = await nats.connect(error_cb=silent, **{"connect_timeout": PATIENCE} | options)
    try:
        context = client.jetstream()
        state = (await context.stream_info(stream)).state
        if not state.messages:
            return []
        messages = []
        subscription = await context.subscribe(">", stream=stream, ordered_consumer=True)
        while len(messages) < state.messages:
            messages.append(await subscription.next_msg(timeout=PATIENCE))
        return messages
    finally:
        await client.close()


def read(stream, **options):
    """All messages of a stream, in their order."""
    return asyncio.run(_read(stream, options))


async def _asked(question, options):
    client = await nats.connect(error_cb=silent, **{"connect_timeout": PATIENCE} | options)
    try:
        return await question(client.jetstream())
    finally:
        await client.close()


def asked(question, **options):
    """The answer of JetStream to a question."""
    return asyncio.run(_asked(question, options))


def labels(event):
    return dict(label.split(":", 1) for label in event["metadata"]["labels"])


def ways(events):
    """The uids of each scope, in their order."""
    ways = {}
    for event in events:
        own = labels(event)
        ways.setdefault((own["tenant"], own["feed"], event["cloud"]["account"]["uid"]), []).append(event["metadata"]["uid"])
    return ways


def compare(collector, messages, subject=None):
    """Each event is in the stream once, as the collector wrote it, in the order of its scope."""
    wrote = collector.events()
    came = [(message.headers["Nats-Msg-Id"], message.data.decode(), message.subject) for message in messages]
    uids = [message.rsplit("/", 1)[1] for message, _, _ in came]
    missing, more = set(wrote) - set(uids), set(uids) - set(wrote)
    if missing or more or len(uids) != len(set(uids)):
        raise Fault(f"{len(wrote)} events, {len(uids)} messages of {len(set(uids))} uids; {len(missing)} missing, {len(more)} more")
    for (identity, body, where), uid in zip(came, uids):
        line, event = wrote[uid]
        own = labels(event)
        if body != line:
            raise Fault(f"{uid} differs from its line")
        if identity != f"{own['tenant']}/{own['feed']}/{uid}":
            raise Fault(f"the id of {uid} is {identity}")
        expected = subject or f"findings.{own['tenant'].replace('.', '%2E')}.{own['feed']}"
        if where != expected:
            raise Fault(f"{uid} came by {where}, expected {expected}")
    if ways(json.loads(body) for _, body, _ in came) != ways(event for _, event in wrote.values()):
        raise Fault("the order of a scope differs")
    return len(uids)


def bus(url, more="", identity="bus", stream='{ name = "FINDINGS", duplicate_window = "10m" }', subject="findings.{tenant}.{feed}"):
    url = json.dumps(url)
    return f'[[sink]]\nid = "{identity}"\ntype = "nats"\nurl = {url}\nsubject = "{subject}"\nstream = {stream}\n{more}\n'


def over_kills(folder, simulation):
    """The collector is killed while it publishes, and the server, too."""
    server = Server(folder, "one")
    both = bus(server.url()) + bus(server.url(), "", "all", '{ name = "ALL", duplicate_window = "10m" }', "everything")
    collector = Collector(folder, simulation, both)
    chance = random.Random(SEED)
    collector.start()
    for side in ("collector", "server", "collector", "collector"):
        time.sleep(1.5 + chance.random() * 1.5)
        one = collector if side == "collector" else server
        one.kill()
        time.sleep(0.5)
        one.start()
    time.sleep(1)
    collector.rests()
    count = compare(collector, read("FINDINGS", servers=server.url()))
    compare(collector, read("ALL", servers=server.url()), "everything")
    return f"{count} events in two streams, each once"


def cluster(folder, simulation):
    """Three servers with TLS, a client certificate and a key; the one that leads the stream is killed."""
    authority = Authority(folder)
    key, seed = pair(nkeys.PREFIX_BYTE_USER)
    Path(folder, "seed").write_text(seed + "\n")
    os.chmod(Path(folder, "seed"), 0o600)
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    servers = {}
    for index, port in enumerate(ports):
        lines = f"""
tls {{ cert_file: "{authority.chain("server")}", key_file: "{authority.key("server")}", ca_file: "{authority.file}", verify: true }}
cluster {{ name: three, listen: "127.0.0.1:{port}", routes: [{routes}] }}
authorization {{ users: [ {{ nkey: {key} }} ] }}
"""
        servers[f"n{index}"] = Server(folder, f"n{index}", lines)
    own = f'nkey = {{ file = "seed" }}\nca_file = "{authority.file}"\nclient_certificate = {{ file = "{authority.pem("client")}" }}'
    stream = '{ name = "FINDINGS", replicas = 3, duplicate_window = "10m" }'
    collector = Collector(folder, simulation, bus([one.url("tls") for one in servers.values()], own, stream=stream))
    options = {
        "servers": [one.url("tls") for one in servers.values()],
        "tls": authority.context("client"),
        "nkeys_seed_str": seed,
        "connect_timeout": 5,
    }

    def leader():
        try:
            info = asked(lambda context: context.stream_info("FINDINGS"), **options)
            return info.state.messages > 100 and info.cluster.leader
        except (nats.errors.Error, OSError, asyncio.TimeoutError):
            return None

    collector.start()
    killed = until(leader, "no stream with events")
    servers[killed].kill()
    until(lambda: leader() not in (None, False, killed), "no other leader")
    time.sleep(2)
    servers[killed].start()
    time.sleep(1)
    collector.rests()
    count = compare(collector, read("FINDINGS", **options))
    info = asked(lambda context: context.stream_info("FINDINGS"), **options)
    if info.config.num_replicas != 3:
        raise Fault(f"{info.config.num_replicas} replicas")
    if seed in collector.words():
        raise Fault("the log has the seed")
    return f"{count} events over the end of the stream's leader, each once"


def example(folder, simulation):
    """The files of examples/nats: the collector's rights are enough, and a tenant reads its own events alone."""
    authority, examples = Authority(folder), ROOT / "examples/nats"
    ports, clients = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
    text = (examples / "server.conf").read_text()
    for index, (port, client) in enumerate(zip(ports, clients)):
        home = Path(folder, f"nats-{index}")
        home.mkdir()
        routes = ", ".join(f'"nats://127.0.0.1:{other}"' for other in ports if other != port)
        changes = {
            "server_name: nats-1": f"server_name: nats-{index}",
            "0.0.0.0:4222": f"127.0.0.1:{client}",
            "0.0.0.0:6222": f"127.0.0.1:{port}",
            '"nats://nats-2.example:6222", "nats://nats-3.example:6222"': routes,
            "/etc/nats/server.pem": authority.chain("server"),
            "/etc/nats/server-key.pem": authority.key("server"),
            "/var/lib/nats": home,
        }
        config = home / "server.conf"
        config.write_text(changed(text, changes))
        passwords = {"COLLECTOR_PASSWORD": PASSWORD, "CONTOSO_PASSWORD": "contoso-reads"}
        started([SERVER, "-c", config], home / "server.log", env=os.environ | passwords)
    addresses = {f"tls://nats-{index}.example:4222": f"tls://127.0.0.1:{port}" for index, port in enumerate(clients, 1)}
    sink = changed((examples / "sink.toml").read_text(), addresses | {"nats-ca.pem": "ca.pem"})
    collector = Collector(folder, simulation, sink, {"NATS_PASSWORD": PASSWORD})
    # The tenant of the example, beside one whose id goes on after a dot.
    collector.config.write_text(collector.config.read_text().replace('tenant = "fabrikam"', 'tenant = "contoso"'))
    collector.start()
    time.sleep(4)
    collector.rests()
    options = {"servers": list(addresses.values()), "tls": authority.context("client")}
    options |= {"user": "contoso", "password": "contoso-reads", "inbox_prefix": b"_INBOX_contoso"}

    def filtered(subject):
        return {"name": "contoso", "durable_name": "contoso", "filter_subject": subject, "ack_policy": "explicit"}

    async def consume(context):
        await context.add_consumer("FINDINGS", **filtered("findings.contoso.>"))
        subscription = await context.pull_subscribe_bind("contoso", "FINDINGS")
        messages = []
        while True:
            try:
                messages += await subscription.fetch(100, timeout=2)
            except nats.errors.TimeoutError:
                return messages

    async def intrude(context):
        context._timeout = 1
        try:
            await context.add_consumer("FINDINGS", **filtered("findings.contoso%2Eeu.>"))
        except nats.errors.TimeoutError:
            return False
        return True

    messages = asked(consume, **options)
    own_events = {uid for uid, (_, event) in collector.events().items() if labels(event)["tenant"] == "contoso"}
    came = [message.headers["Nats-Msg-Id"].rsplit("/", 1)[1] for message in messages]
    if not own_events or sorted(came) != sorted(own_events):
        raise Fault(f"the tenant read {len(came)} messages of {len(own_events)} events")
    if asked(intrude, **options):
        raise Fault("a tenant made a consumer of the events of another")
    return f"{len(came)} events of one tenant of {len(collector.events())}"


def changed(text, changes):
    """A text of an example with these changes, each of which it needs."""
    for old, new in changes.items():
        if old not in text:
            raise Fault(f"the example does not have {old!r}")
        text = text.replace(old, str(new))
    return text


def lost(folder, simulation):
    """A server loses its disk with all acknowledged events, and gets them again, with the same ids."""
    server = Server(folder, "one")
    keep = 'keep_delivered = "24h"'
    collector = Collector(folder, simulation, bus(server.url(), keep))
    collector.start()
    collector.says("made the stream")
    time.sleep(1)

    def redeliver(*more):
        command = collector.command("redeliver", "--sink", "bus", "--since", "1h", "--json", *more)
        done = subprocess.run(command, capture_output=True, text=True, env=collector.variables)
        return done.returncode, done.stdout and json.loads(done.stdout), done.stderr

    status, _, words = redeliver()
    if status != 1 or "another collector uses it" not in words or "stop `run`" not in words:
        raise Fault(f"beside a collector, redeliver ended with {status}: {words}")
    collector.rests()
    before = read("FINDINGS", servers=server.url())
    server.kill()
    shutil.rmtree(server.folder / "store")
    server.start()
    for more in (["--dry-run"], []):
        status, told, words = redeliver(*more)
        if status != 0 or told["events"] != len(before) or told["dry_run"] != bool(more):
            raise Fault(f"redeliver {more} ended with {status}: {told} {words}, of {len(before)} events")
    collector.rests()
    # Its start may have polled once more.
    count = compare(collector, read("FINDINGS", servers=server.url()))
    # Within the window, the stream drops what it has.
    status, _, words = redeliver()
    if status != 0 or "within its duplicate_window of 600 s" not in words:
        raise Fault(f"the state does not keep what it delivered again: {words}")
    collector.rests()
    compare(collector, read("FINDINGS", servers=server.url()))
    collector.says("of the events by their ids")
    status, _, words = redeliver("--tenant", "nobody")
    if status != 1 or '--tenant: the configuration has no "nobody", only: adatum, contoso.eu, ' not in words:
        raise Fault(f"without events, redeliver ended with {status}: {words}")
    return f"{count} events again"


def gone(folder, simulation):
    """One of two servers refuses the user, and somebody removes a stream with events."""
    server, other = Server(folder, "one"), Server(folder, "other", 'authorization { token: "a-token-of-somebody" }')
    collector = Collector(folder, simulation, bus([other.url(), server.url()]))
    collector.start()
    collector.says(f'code="nats-unauthorized" fault="operator" why="{other.url()}: authorization violation')
    if "a delivery failed" in collector.words():
        raise Fault(f"a server that refuses holds up events: {collector.words()[-2000:]}")
    asked(lambda context: context.delete_stream("FINDINGS"), servers=server.url())
    collector.says("made the stream again: the events that it had are gone")
    collector.stop()
    return "told"


def slow(folder, simulation):
    """A stream far away: events leave the outbox long before the end of a batch of hundreds."""
    server = Server(folder, "one")
    port = free_port()
    threading.Thread(target=asyncio.run, args=[delayed(port, server.port, 0.4)], daemon=True).start()
    stream = '{ name = "FINDINGS", duplicate_window = "10m" }'
    collector = Collector(folder, simulation, bus(f"nats://127.0.0.1:{port}", "", stream=stream, subject="everything"))
    collector.start()
    collector.says("made the stream")

    def outbox():
        with closing(sqlite3.connect(f"file:{folder}/collector.db?mode=ro", uri=True)) as store:
            return {uid for (uid,) in store.execute("SELECT uid FROM outbox WHERE sink = 'bus'")}

    before, begun = until(outbox, "no events wait"), time.monotonic()
    until(lambda: before - outbox(), "no event leaves the outbox")
    seconds = time.monotonic() - begun
    collector.kill()
    # Each scope has dozens of events, and each of these takes 800 ms.
    if seconds > 10:
        raise Fault(f"the first events left the outbox after {seconds:.1f} s")
    return f"the first events left the outbox after {seconds:.1f} s"


async def delayed(port, to, seconds):
    """Passes on what comes to a port, each way after a delay."""

    async def passed(reader, writer):
        loop, last = asyncio.get_running_loop(), None
        while data := await reader.read(1 << 16):
            last = loop.call_later(seconds, writer.write, data)
        if last:
            await asyncio.sleep(seconds)
        writer.close()

    async def connected(reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(passed(reader, there_writer), passed(there_reader, writer))

    async with await asyncio.start_server(connected, "127.0.0.1", port) as listening:
        await listening.serve_forever()


def full(folder, simulation):
    """A stream without room refuses, and takes all events in order when it has room again."""
    server = Server(folder, "one")
    collector = Collector(folder, simulation, bus(server.url(), stream='{ name = "FINDINGS", max_bytes = 100_000 }'))
    collector.start()
    collector.says("nats-10077")

    async def widen(context):
        config = (await context.stream_info("FINDINGS")).config
        if config.discard != "new":
            raise Fault(f"a full stream drops its {config.discard} messages")
        config.max_bytes = 1_000_000_000
        await context.update_stream(config)

    asked(widen, servers=server.url())
    collector.says("delivers again")
    collector.rests()
    collector.says("max_bytes: found 1000000000, expected 100000")
    return f"{compare(collector, read('FINDINGS', servers=server.url()))} events after the limit was raised"


def users(folder, simulation):
    """A wrong password, and one that is not allowed; each is told, and the right one is taken when it comes."""
    lines = f"""authorization {{ users: [
  {{ user: collector, password: {PASSWORD}, permissions: {{
     publish: ["findings.>", "$JS.API.STREAM.INFO.FINDINGS", "$JS.API.STREAM.CREATE.FINDINGS"], subscribe: ["_INBOX.>"] }} }}
  {{ user: reader, password: reader, permissions: {{ publish: ["$JS.API.STREAM.INFO.FINDINGS", "$JS.API.CONSUMER.>", "$JS.FC.>"],
     subscribe: ["_INBOX.>"] }} }} ] }}"""
    server = Server(folder, "one", lines)
    secret = Path(folder, "password")

    def use(password):
        new = Path(folder, "new")
        new.write_text(password)
        os.chmod(new, 0o600)
        new.replace(secret)

    use("wrong-password-of-nobody")
    own = 'user = "USER"\npassword = { file = "password" }'
    collector = Collector(folder, simulation, bus(server.url(), own.replace("USER", "collector")))
    collector.start()
    collector.says("nats-unauthorized")
    use(PASSWORD)
    options = {"servers": server.url(), "user": "reader", "password": "reader"}

    def arrives():
        try:
            return asked(lambda context: context.stream_info("FINDINGS"), **options).state.messages
        except nats.js.errors.NotFoundError:
            return 0

    until(arrives, "no event with the right password")
    collector.rests()
    count = compare(collector, read("FINDINGS", **options))
    use("reader")
    collector.config.write_text(
        collector.config.read_text().replace('user = "collector"', 'user = "reader"').replace('interval = "31d"', 'interval = "1s"')
    )
    collector.start()
    collector.says("nats-forbidden")
    collector.stop()
    for word in (PASSWORD, "wrong-password-of-nobody"):
        if word in collector.words():
            raise Fault("the log has a password")
    return f"{count} events of a user with the least rights"


def credentials(folder, simulation):
    """A file of credentials, as servers with an operator give it."""
    operator, operator_key = keys(nkeys.PREFIX_BYTE_OPERATOR)
    account, account_key = keys(nkeys.PREFIX_BYTE_ACCOUNT)
    system, _ = keys(nkeys.PREFIX_BYTE_ACCOUNT)
    user, user_key = keys(nkeys.PREFIX_BYTE_USER)
    rights = {"pub": {}, "sub": {}}
    limits = dict.fromkeys(["subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage", "disk_storage"], -1)
    limits |= {"wildcards": True, "streams": -1, "consumer": -1}
    operator_token = token(operator_key, operator, operator, {"type": "operator"})
    own = {"type": "account", "limits": limits, "default_permissions": rights}
    account_token = token(operator_key, operator, account, own)
    system_token = token(operator_key, operator, system, own | {"limits": limits | {"mem_storage": 0, "disk_storage": 0}})
    user_token = token(account_key, account, user, {"type": "user", "subs": -1, "data": -1, "payload": -1} | rights, 20)
    lines = f"operator: {operator_token}\nresolver: MEMORY\nresolver_preload {{ {account}: {account_token}, {system}: {system_token} }}"
    lines += f"\nsystem_account: {system}"
    server = Server(folder, "one", lines)
    seed = user_key.seed.decode()
    file = Path(folder, "collector.creds")
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    os.chmod(file, 0o600)
    collector = Collector(folder, simulation, bus(server.url(), 'credentials = { file = "collector.creds" }'))
    collector.start()
    time.sleep(3)
    collector.rests()
    collector.says("credentials: `credentials` expires in 19 days, on ")
    if seed in collector.words() or user_token in collector.words():
        raise Fault("the log has the credentials")
    return f"{compare(collector, read('FINDINGS', servers=server.url(), user_credentials=str(file)))} events"


def refusals(folder, simulation):
    """Servers that nobody should trust, streams of others, events that no stream takes, and a server that hangs."""
    authority = Authority(folder)
    tls = f'tls {{ cert_file: "{authority.chain("server")}", key_file: "{authority.key("server")}" }}'
    secure, plain = Server(folder, "secure", tls), Server(folder, "plain", 'authorization { token: "a-token-of-somebody" }')
    words = {"servers": plain.url(), "token": "a-token-of-somebody"}
    Path(folder, "token").write_text("a-token-of-somebody")
    os.chmod(Path(folder, "token"), 0o600)
    own = 'token = { file = "token" }'

    async def make(context):
        await context.add_stream(name="SMALL", subjects=["small.>"], max_msg_size=3_000, num_replicas=1, storage="memory")
        await context.add_stream(name="OTHER", subjects=["other"])

    until(lambda: "Server is ready" in (plain.folder / "server.log").read_text(), "no server")
    asked(make, **words)
    sinks = (
        bus(secure.url("tls"), "", "untrusted")
        + bus(plain.url(), own + '\nkeep_delivered = "1h"', "small", '{ name = "SMALL", storage = "file", duplicate_window = "10m" }', "small.{feed}")
        + bus(plain.url(), own, "missing", '"MISSING"', "missing")
        + bus(plain.url(), own, "elsewhere", '"OTHER"', "elsewhere")
        + bus("nats://127.0.0.1:1", "", "nobody", '"NOBODY"', "nobody")
    )
    collector = Collector(folder, simulation, sinks)
    collector.start()
    for said in (
        "tls-untrusted",
        'storage: found "memory", expected "file"',
        "duplicate_window: found 120s, expected 600s",
        "the stream MISSING does not exist",
        'the stream OTHER has subjects: found ["other"], expected one that takes elsewhere',
        "connection-refused",
        "nats-10054",
        "raise `max_msg_size` of the stream",
    ):
        collector.says(said)
    plain.child.send_signal(signal.SIGSTOP)
    collector.says('code="timeout" fault="receiver"')
    plain.child.send_signal(signal.SIGCONT)
    collector.stop()
    if "a-token-of-somebody" in collector.words():
        raise Fault("the log has a token")
    # Each event that is no dead letter and left the outbox is in the stream.
    letters = {json.loads(line)["uid"] for line in Path(folder, "dead-letters-small.ndjson").read_text().splitlines()}
    came = {message.headers["Nats-Msg-Id"].rsplit("/", 1)[1] for message in read("SMALL", **words)}
    with closing(sqlite3.connect(Path(folder, "collector.db"))) as store:
        kept = {uid for (uid,) in store.execute("SELECT uid FROM delivered WHERE sink = 'small'")}
    if kept & letters or not kept <= came:
        raise Fault(f"the state keeps {len(kept & letters)} dead letters and {len(kept - came)} events that did not arrive")
    sizes = {uid: len(line) for uid, (line, _) in collector.events().items()}
    if not came or not letters or came & letters or not (came | letters) <= set(sizes):
        raise Fault(f"{len(came)} messages and {len(letters)} dead letters, {len(came & letters)} in both")
    if max(sizes[uid] for uid in came) > 3_000:
        raise Fault("a stream took an event that is too large for it")
    return f"{len(came)} events taken, {len(letters)} refused for good"


class Authority:
    """Certificates for servers on loopback and for the collector."""

    def __init__(self, folder):
        self.folder, self.file = Path(folder), Path(folder, "ca.pem")
        self.secret = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests of the sink nats")])
        own = self.certificate(self.name, self.secret, x509.BasicConstraints(ca=True, path_length=None))
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))
        for name in ("server", "client"):
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            certificate = self.certificate(subject, key, x509.BasicConstraints(ca=False, path_length=None))
            chain = certificate.public_bytes(serialization.Encoding.PEM)
            format_ = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            secret = key.private_bytes(serialization.Encoding.PEM, *format_)
            for path, data in ((self.chain(name), chain), (self.key(name), secret), (self.pem(name), secret + chain)):
                path.write_bytes(data)
                os.chmod(path, 0o600)

    def certificate(self, subject, key, constraints):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1)).add_extension(constraints, critical=True)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        if not constraints.ca:
            usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return builder.sign(self.secret, hashes.SHA256())

    def chain(self, name):
        return self.folder / f"{name}-chain.pem"

    def key(self, name):
        return self.folder / f"{name}-key.pem"

    def pem(self, name):
        return self.folder / f"{name}.pem"

    def context(self, name):
        context = ssl.create_default_context(cafile=str(self.file))
        context.load_cert_chain(self.chain(name), self.key(name))
        return context


def keys(kind):
    """The public key of a new pair, and the pair."""
    pair = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))
    return pair.public_key.decode(), pair


def pair(kind):
    """The public key of a new pair, and its seed."""
    public, pair = keys(kind)
    return public, pair.seed.decode()


def token(signer, issuer, subject, claims, days=None):
    """A JWT of NATS, which ends after so many days."""

    def part(value):
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    body = {"jti": os.urandom(16).hex(), "iat": int(time.time()), "iss": issuer, "name": "tests", "sub": subject}
    body["nats"] = claims | {"version": 2}
    if days is not None:
        body["exp"] = body["iat"] + days * 86_400
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    signed = ".".join(part(json.dumps(value, separators=(",", ":")).encode()) for value in (head, body))
    return f"{signed}.{part(signer.sign(signed.encode()))}"


TRIALS = [over_kills, cluster, example, lost, gone, slow, full, users, credentials, refusals]
SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))


def main(harness, word=""):
    global HARNESS
    HARNESS = Path(harness).resolve()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if SERVER is None:
        raise SystemExit("found no nats-server: install tests/requirements.txt")
    print(f"seed {SEED}")
    failed = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(folder)

        def tried(trial):
            began, place = time.monotonic(), Path(folder, trial.__name__)
            place.mkdir()
            try:
                words = trial(place, simulation)
            except Exception as error:
                failed.set()
                words = f"FAILED: {type(error).__name__}: {error}"
            print(f"{trial.__name__}: {words} ({time.monotonic() - began:.0f} s)", flush=True)

        try:
            with concurrent.futures.ThreadPoolExecutor() as pool:
                list(pool.map(tried, [trial for trial in TRIALS if word in trial.__name__]))
        finally:
            for child in STARTED:
                child.kill()
                child.wait()
    raise SystemExit(1 if failed.is_set() else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
