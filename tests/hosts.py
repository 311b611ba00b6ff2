"""Runs the example hosts on the built plugin against the simulated service, and compares their events with those of the
collector's `poll`, byte for byte. The clock stands still in all of them: the time of a poll is part of its events. Then a
service refuses every token: each host asks for one other token, and not for one at each step. At last, host_steps.py and
host_steps.js call functions of the two hosts, which must judge the same requests, answers and events alike.

    tests/hosts.py HOST-HARNESS PLUGIN.wasm NAME=COMMAND…
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

harness, plugin = map(os.path.abspath, sys.argv[1:3])
hosts = [argument.partition("=") for argument in sys.argv[3:]]

folders = (Path("/usr/lib"), Path("target/faketime/usr/lib"))
library = next((file for folder in folders for file in folder.glob("*/faketime/libfaketimeMT.so.1")), None)
if library is None:
    sys.exit("found no libfaketime, expected Debian's package in target/faketime, where `cargo xtask test` unpacks it")
clock = {
    "LD_PRELOAD": str(library.resolve()),
    "FAKETIME": "2026-03-01 12:00:00",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    "TZ": "UTC",
}


def events(*command):
    done = subprocess.run(command, env={**os.environ, **clock}, capture_output=True, timeout=120)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}: found status {done.returncode}, expected 0\n{done.stderr.decode()}")
    return done.stdout


class Refusing(BaseHTTPRequestHandler):
    """A service that gives tokens, and refuses each of them."""

    tokens = 0

    def do_POST(self):
        Refusing.tokens += 1
        self.answer(200, {"token_type": "Bearer", "expires_in": 3_600, "access_token": f"token-{Refusing.tokens}-of-tests"})

    def do_GET(self):
        self.answer(401, {"error": {"code": "InvalidAuthenticationToken", "message": "The access token is invalid."}})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def refused(name, command, files, service):
    """Polls three scopes at the service that refuses every token."""
    origin = f"http://127.0.0.1:{service.server_port}"
    scopes = [f"20ff7fc3-e762-44dd-bd96-b7111600000{number}" for number in range(3)]
    values = settings | {"authority": origin, "endpoint": origin, "subscription_id": scopes}
    files["settings.json"].write_text(json.dumps(values))
    Refusing.tokens = 0
    arguments = [plugin, str(files["settings.json"]), str(files["secrets.json"]), origin]
    done = subprocess.run([*shlex.split(command), *arguments], capture_output=True, text=True, timeout=120)
    told = sum(any(line.startswith(scope) for line in done.stderr.splitlines()) for scope in scopes)
    if done.returncode == 0 or done.stdout or told != 3 or Refusing.tokens != 2:
        sys.exit(f"{name}: found {Refusing.tokens} requests for a token and {done}, expected 2, and 3 scopes that fail")


simulator = subprocess.Popen([harness, "simulate", "--http", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
try:
    service = json.loads(simulator.stdout.readline())
    url, tenant = service["url"], service["tenants"][0]
    settings = {"client_key": tenant["client_id"], "token_url": tenant["tenant_id"], "subscription_id": "*"}
    settings |= {"authority": url, "endpoint": url, "audience": service["audience"]}
    secret = {"client_secret": tenant["client_secret"]}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, name) for name in ("settings.json", "secrets.json", "wrong.json", "azure.toml")}
        files["settings.json"].write_text(json.dumps(settings))
        files["secrets.json"].write_text(json.dumps(secret))
        values = "\n".join(f"{name} = {json.dumps(value)}" for name, value in {**settings, **secret}.items())
        files["azure.toml"].write_text(
            f'[network]\nallow = ["{url}"]\nallow_addresses = ["127.0.0.0/8"]\n'
            f'[[feed]]\nid = "contoso-prod"\ntenant = "contoso"\n[feed.settings]\n{values}\n'
        )
        expected = events(harness, "poll", "-c", str(files["azure.toml"]))
        count = 15 * len(tenant["subscriptions"])
        if (found_count := expected.count(b"\n")) != count:
            sys.exit(f"poll: found {found_count} events, expected {count}")
        for name, _, command in hosts:
            arguments = [plugin, str(files["settings.json"]), str(files["secrets.json"]), url]
            found = events(*shlex.split(command), *arguments)
            if found != expected:
                pairs = zip(found.splitlines() + [b""], expected.splitlines() + [b""])
                one, other = next((pair for pair in pairs if pair[0] != pair[1]), (b"", b""))
                sys.exit(f"{name}: its events differ from those of `poll`\nfound    {one.decode()}\nexpected {other.decode()}")
            files["wrong.json"].write_text(json.dumps({"client_secret": "wrong~" + tenant["client_secret"]}))
            arguments[2] = str(files["wrong.json"])
            wrong = subprocess.run([*shlex.split(command), *arguments], capture_output=True, text=True, timeout=120)
            if wrong.returncode == 0 or "secret-invalid" not in wrong.stderr:
                sys.exit(f"{name}: with a wrong secret found {wrong}, expected the plugin's failure secret-invalid")
            print(f"{name}: {count} events, the bytes of `poll`")
        refusing = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        for name, _, command in hosts:
            refused(name, command, files, refusing)
            print(f"{name}: one renewal at a service that refuses every token")
        tests, node_host, steps = Path("tests").resolve(), Path("examples/hosts/node").resolve(), Path(folder, "steps")
        subprocess.run([sys.executable, tests / "host_steps.py", plugin], check=True, timeout=120)
        # A copy of the host in Node whose functions can be called from another file.
        steps.mkdir()
        (steps / "node_modules").symlink_to(node_host / "node_modules")
        (steps / "package.json").write_text('{ "type": "module" }')
        (steps / "sandbox.js").write_bytes((node_host / "sandbox.js").read_bytes())
        functions, _, _ = (node_host / "host.js").read_text().partition("\nawait host(process.argv")
        (steps / "host.js").write_text(f"{functions}\nexport {{ carried, checked, judged, lines }};\n")
        (steps / "steps.js").write_bytes((tests / "host_steps.js").read_bytes())
        subprocess.run(["node", steps / "steps.js"], check=True, timeout=120)
finally:
    simulator.kill()
