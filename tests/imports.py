"""Holds that `inspect --json` on standard input shows no import beyond the list of the contract."""

import json
import sys

ALLOWED = {
    "wasi:http/types",
    "wasi:http/outgoing-handler",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/monotonic-clock",
    "collector:source/log",
    "collector:source/credentials",
    "collector:source/plugin",
}

about = json.load(sys.stdin)
assert {"name", "version", "imports", "exports", "sha256", "bytes"} <= about.keys(), about.keys()
beyond = [name for name in about["imports"] if name.split("@")[0] not in ALLOWED]
if beyond or not about["imports"]:
    sys.exit(f"imports beyond the list: {beyond}")
print("imports:", *about["imports"], sep="\n  ")
