"""Runs the example hosts on the built plugin against the simulated service, and compares their events with those of the
collector's `poll`, byte for byte. The clock stands still in all of them: the time of a poll is part of its events.

    tests/hosts.py HOST-HARNESS PLUGIN.wasm NAME=COMMAND…
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
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
            refused = subprocess.run([*shlex.split(command), *arguments], capture_output=True, text=True, timeout=120)
            if refused.returncode == 0 or "secret-invalid" not in refused.stderr:
                sys.exit(f"{name}: with a wrong secret found {refused}, expected the plugin's failure secret-invalid")
            print(f"{name}: {count} events, the bytes of `poll`")
finally:
    simulator.kill()
