"""Runs the example of source-host, an embedder's whole program, against the simulated service.

    tests/embed.py HOST-HARNESS EMBED PLUGIN.wasm
"""

import json
import os
import subprocess
import sys
import tempfile

harness, embed, plugin = map(os.path.abspath, sys.argv[1:])
simulator = subprocess.Popen([harness, "simulate", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
try:
    service = json.loads(simulator.stdout.readline())
    tenant = service["tenants"][0]
    origins = {name: service["url"] for name in ("authority", "endpoint")}
    with tempfile.NamedTemporaryFile("w") as settings, tempfile.NamedTemporaryFile("w") as secrets:
        ids = {"client_key": tenant["client_id"], "token_url": tenant["tenant_id"], "subscription_id": "*"}
        json.dump({**ids, **origins, "audience": service["audience"]}, settings)
        settings.flush()
        json.dump({"client_secret": tenant["client_secret"]}, secrets)
        secrets.flush()
        environment = {"SSL_CERT_FILE": service["ca_file"]}
        command = [embed, plugin, settings.name, secrets.name, service["url"]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
finally:
    simulator.kill()
events = [json.loads(line) for line in done.stdout.splitlines()]
expected = 15 * len(tenant["subscriptions"])
if done.returncode or len(events) != expected or any(event["class_uid"] != 99402001 for event in events):
    sys.exit(f"embed: found status {done.returncode} and {len(events)} events, expected {expected}\n{done.stderr}")
print(f"embed: {len(events)} events of {len(tenant['subscriptions'])} subscriptions by source-host alone")
