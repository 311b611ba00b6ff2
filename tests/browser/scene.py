"""A collector that shows everything that its status page can show: thirty tenants of the simulated service with 90 days of
history, long and hostile names, refused credentials, a credential that ends, a feed that is left out, dead letters, a full
outbox, a receiver that fails, and a configuration that was not taken.
"""

import gzip
import json
import os
import random
import re
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DAY = 86_400_000
PATIENCE = 120
SECRET = "sim~tenant-"
LONG = "Landing zone of the European subsidiary, application platform, pre-production (acceptance of the second line)"
HOSTILE = '<img src=x onerror="alert(1)"> </td><script>alert(2)</script>\x1b[31m\u202egnol'
NAMES = ["production", "development", "shared services"]
CUSTOMERS = """adatum alpine-ski-house bellows-college best-for-you-organics blue-yonder-airlines city-power-and-light coho-vineyard
consolidated-messenger contoso fabrikam first-up-consultants fourth-coffee graphic-design-institute humongous-insurance lamna-healthcare
liberty-delightful-sinful-bakery-and-cafe-of-the-northern-coast lucerne-publishing margies-travel munson-pickles nod-publishers
northwind proseware relecloud school-of-fine-art southridge-video tailspin-toys trey-research vanarsdel wide-world-importers
woodgrove-bank""".split()


class Receiver(BaseHTTPRequestHandler):
    """Takes events; of a tenant whose name is in the path it refuses some for good, or everything for now."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        refuses = self.path == "/contoso" and b"Remediate vulnerabilities" in body
        self.answer(503 if self.path == "/down" else 400 if refuses else 200, b"")

    def answer(self, status, body, kind="text/plain"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Names(Receiver):
    """Passes requests on to the simulated service, and gives subscriptions other names."""

    service = None

    def do_GET(self):
        self.pass_on(None)

    def do_POST(self):
        self.pass_on(self.rfile.read(int(self.headers["content-length"])))

    def pass_on(self, body):
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "accept-encoding")}
        request = urllib.request.Request(self.service + self.path, body, headers)
        try:
            answer = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().replace(self.service.encode(), f"http://{self.headers['host']}".encode())
            if self.path.startswith("/subscriptions?"):
                page = json.loads(text)
                for subscription in page.get("value", []):
                    subscription["displayName"] = name_of(subscription["subscriptionId"])
                text = json.dumps(page).encode()
            self.answer(answer.status, text, answer.headers["content-type"])


def name_of(subscription):
    tenant, number = int(subscription[:8], 16), int(subscription[9:13], 16)
    if number == 0 and tenant == CUSTOMERS.index("fabrikam") + 1:
        return HOSTILE
    if number == 0 and tenant == CUSTOMERS.index("northwind") + 1:
        return LONG
    # The name of a subscription is the service's own text, in which even a secret may stand.
    if number == 0 and tenant == CUSTOMERS.index("tailspin-toys") + 1:
        return f"sim~{SIMULATED[tenant - 1]}"
    return f"{CUSTOMERS[tenant - 1].split('-')[0]} {NAMES[number]}"


SIMULATED = []


def serve(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


class Scene:
    """A folder with a running collector, until the block ends."""

    def __init__(self, harness, token=None):
        self.harness, self.token = str(Path(harness).resolve()), token
        self.started = []

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        self.temporary.cleanup()

    def start(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        command = [self.harness, "simulate", "--http", "--json", "--tenants", str(len(CUSTOMERS)), "--subscriptions", "3"]
        simulator = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.started.append(simulator)
        service = json.loads(simulator.stdout.readline())
        self.secrets = [tenant["client_secret"] for tenant in service["tenants"]]
        SIMULATED[:] = [secret.removeprefix("sim~") for secret in self.secrets]
        Names.service = service["url"]
        _, self.names = serve(Names)
        _, self.receiver = serve(Receiver)
        self.environment = {f"SECRET_{number}": secret for number, secret in enumerate(self.secrets)}
        self.environment |= {"SECRET_1": "not-the-secret", "TOKEN": self.token or "", "SSL_CERT_FILE": "/dev/null"}
        self.config = self.folder / "collector.toml"
        self.config.write_text(self.text(service["tenants"]))
        self.run()
        self.wait_for(lambda: self.sum("collector_polls_total") >= 3 * len(CUSTOMERS) - 3)
        self.wait_for(lambda: self.sum("collector_sink_dead_letters_total") > 0)
        self.wait_for(lambda: self.sum("collector_sink_full_outboxes") > 0)
        self.remember()
        good = self.config.read_text()
        self.config.write_text(good + "\n[collectors]\n")
        self.wait_for(lambda: self.sum('collector_reloads_total{good="false"}') > 0)

    def run(self):
        log = open(self.folder / "log", "a")
        process = subprocess.Popen(
            [self.harness, "run", "-c", "collector.toml"], cwd=self.folder, env=os.environ | self.environment, stderr=log, stdout=subprocess.DEVNULL
        )
        self.started.append(process)
        self.wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+", (self.folder / "log").read_text()))
        self.url = re.findall(r"http://127\.0\.0\.1:\d+", (self.folder / "log").read_text())[-1]

    def text(self, tenants):
        ends = date.today() + timedelta(days=5)
        token = "token = { env = \"TOKEN\" }\n" if self.token else ""
        text = f"""
[collector]
listen = "127.0.0.1:0"
{token}
[network]
allow = ["{self.names}"]
allow_addresses = ["127.0.0.0/8"]
[[sink]]
id = "lake"
type = "file"
path = "out/{{tenant}}.ndjson"
[[sink]]
id = "siem"
type = "http"
url = "{self.receiver}/{{tenant}}"
[[sink]]
id = "archive"
type = "http"
url = "{self.receiver}/down"
max_outbox_bytes = 150000
[feed_defaults.settings]
authority = "{self.names}"
endpoint = "{self.names}"
audience = "{Names.service}"
subscription_id = "*"
"""
        for number, (customer, tenant) in enumerate(zip(CUSTOMERS, tenants)):
            name = "contoso" if customer in ("consolidated-messenger", "coho-vineyard") else customer
            sinks = '"lake", "siem", "archive"' if customer == "relecloud" else '"lake", "siem"'
            more = f"client_secret_expires = {ends}\n" if customer == "proseware" else ""
            text += f"""
[[feed]]
id = "{customer[:50]}-scores"
tenant = "{name}"
sinks = [{sinks}]
contact = {{ name = "Cloud security of {customer}", email = "security@{customer}.example" }}
[feed.settings]
client_key = "{tenant["client_id"]}"
client_secret = {{ env = "SECRET_{number}" }}
token_url = "{tenant["tenant_id"]}"
{more}"""
        return text + """
[[feed]]
id = "wingtip-scores"
tenant = "wingtip-toys"
[feed.settings]
client_key = "11111111-2222-3333-4444-555555555555"
client_secret = { env = "WINGTIP_SECRET" }
token_url = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
"""

    def remember(self):
        """Gives each score a past of 90 days that ends at the score of now, as if the collector had run for so long."""
        dice, now = random.Random(18), int(time.time() * 1000)
        with closing(sqlite3.connect(self.folder / "collector.db", timeout=30)) as store, store:
            # In an order that does not depend on which poll ended first.
            scopes = "SELECT number, figure, feed FROM scope WHERE figure IS NOT NULL ORDER BY feed, scope"
            for scope, subject, feed in store.execute(scopes).fetchall():
                days = 20 if feed.startswith("woodgrove") else 95
                figures = store.execute(
                    "SELECT subject, kind, title, value, maximum, weight, min(time) FROM history WHERE scope = ? GROUP BY subject", [scope]
                ).fetchall()
                whole = next(figure for figure in figures if figure[0] == subject)
                parts = [figure for figure in figures if figure[0] != subject and figure[4] > 0]
                value = {part[0]: part[3] for part in parts}
                # The page shows the changes of 90 days.
                changes, total = sorted((dice.uniform(0.2, min(days, 89)) for _ in range(dice.randint(3, 9)))), whole[3]
                insert = "INSERT INTO history (scope, subject, time, kind, title, value, maximum, weight) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                keep = lambda figure, value, at: store.execute(insert, [scope, figure[0], at, *figure[1:3], value, *figure[4:6]])
                began = {figure[0]: figure[6] for figure in figures}
                for ago in [*changes, days]:
                    at = now - int(ago * DAY)
                    # The figure that held since then is the one that is known; before it, one or two parts were others.
                    moved = parts if ago == days else dice.sample(parts, min(len(parts), dice.randint(1, 2)))
                    if ago == days:
                        for part in parts:
                            keep(part, value[part[0]], at)
                        keep(whole, total, at)
                        break
                    for part in moved:
                        keep(part, value[part[0]], at)
                    keep(whole, total, at)
                    for part in moved:
                        before = dice.uniform(0, part[4])
                        total += before - value[part[0]]
                        value[part[0]] = before
                for figure in figures:
                    if figure in parts or figure == whole:
                        store.execute("DELETE FROM history WHERE scope = ? AND subject = ? AND time = ?", [scope, figure[0], began[figure[0]]])

    def get(self, path, token=None):
        """The status and the text of an answer."""
        request = urllib.request.Request(f"{self.url}/{path}")
        if token or self.token:
            request.add_header("authorization", f"Bearer {token or self.token}")
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def sum(self, metric):
        """The sum of a metric's samples; of those with certain labels, if they are given."""
        name, _, labels = metric.partition("{")
        samples = [line for line in self.get("metrics")[1].splitlines() if re.match(rf"{name}[{{ ]", line)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in samples if labels.rstrip("}") in line)

    def wait_for(self, condition):
        until = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < until, (self.folder / "log").read_text()[-4000:]
            time.sleep(0.1)
        return found
