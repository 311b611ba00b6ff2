"""The collector's `poll` as a host of `conformance --host`: writes its configuration, and runs it.

    tests/harness_host.py HOST-HARNESS PLUGIN.wasm SETTINGS.json SECRETS.json ORIGIN…
"""

import json
import os
import sys
from pathlib import Path

harness, plugin, settings, secrets, *origins = sys.argv[1:]
given = {**json.loads(Path(settings).read_text()), **json.loads(Path(secrets).read_text())}
values = "\n".join(f"{name} = {json.dumps(value)}" for name, value in given.items())
configuration = Path(settings).with_name("probe.toml")
configuration.write_text(
    f'[network]\nallow = {json.dumps(origins)}\nallow_addresses = ["127.0.0.0/8"]\n'
    f'[[feed]]\nid = "probe"\ntenant = "contoso"\nplugin = {json.dumps(plugin)}\n[feed.settings]\n{values}\n'
)
os.execv(harness, [harness, "poll", "-c", str(configuration)])
