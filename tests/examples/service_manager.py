"""The collector under systemd and in Compose: the tools of both read the files, and the collector runs with the example's
configuration. Neither systemd nor a container runs here."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request

from stage import ROOT, Fault, Process, free_port, installed, lines, until, written


def configured(harness, service, folder, example, secrets, changes):
    """Runs the collector with a configuration that has one feed, and returns the process. The settings that name Azure are
    those of the simulated service."""
    state, etc = folder / "state", folder / "etc"
    state.mkdir()
    (folder / "secrets").mkdir()
    feed = service.text.split("[[feed]]")[1]
    values = dict(line.split(" = ", 1) for line in feed.splitlines() if " = " in line)
    endpoints = "\n".join(f"{name} = {values[name]}" for name in ("authority", "endpoint", "audience"))
    (folder / "secrets/contoso").write_text(service.variables["CONTOSO_SECRET"] + "\n")
    (folder / "secrets/status").write_text("a-token-of-the-test\n")
    changes = changes | {
        "/var/lib/host-harness": state,
        secrets: folder / "secrets",
        '"11111111-2222-3333-4444-555555555555"': values["client_key"],
        '"aaaabbbb-0000-cccc-1111-dddd2222eeee"': values["token_url"],
        'subscription_id = "*"': f'subscription_id = "*"\n{endpoints}',
    }
    written(example, etc, changes)
    (etc / "network.toml").write_text(service.text.split("[[feed]]")[0])
    process = Process("the collector", [harness, "run", "-c", etc], folder / "collector.log")
    events = state / "events/contoso.ndjson"
    until(lambda: len(lines(events)) > 10, "events")
    return process, events


def answer(port, path, token=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def reloads_and_ends(process, events):
    os.kill(process.child.pid, signal.SIGHUP)
    if status := process.stop(20):
        raise Fault(f"the collector ended with {status} after SIGTERM")
    return f"{len(lines(events))} events, SIGHUP and SIGTERM obeyed"


def systemd(harness, service, folder):
    """`systemd-analyze verify` reads the unit with the drop-in of the example."""
    analyze = installed("systemd-analyze")
    if analyze is None:
        raise Fault("systemd-analyze is missing: install the package `systemd`")
    units = folder / "units"
    (units / "host-harness.service.d").mkdir(parents=True)
    unit = (ROOT / "deploy/host-harness.service").read_text().replace("/usr/local/bin/host-harness", str(harness))
    (units / "host-harness.service").write_text(unit)
    drop_in = (ROOT / "examples/systemd/credentials.conf").read_text()
    for text, good in ((drop_in, True), (drop_in.replace("LoadCredential=", "LoadsCredential="), False)):
        (units / "host-harness.service.d/credentials.conf").write_text(text)
        done = subprocess.run([analyze, "verify", units / "host-harness.service"], capture_output=True, text=True)
        if (done.returncode == 0 and not done.stderr) is not good:
            raise Fault(f"systemd-analyze verify ended with {done.returncode}: {done.stderr}")
    port = free_port()
    process, events = configured(
        harness, service, folder, "systemd/collector.toml", "/run/credentials/host-harness.service", {"9464": port}
    )
    if (status := answer(port, "/healthz")) != 200:
        raise Fault(f"/healthz answered {status}")
    return f"unit and drop-in verified; {reloads_and_ends(process, events)}"


def compose(harness, service, folder):
    """A reader of the Compose specification accepts the file, and knows a fault in it."""
    try:
        from compose_spec import PyCompose
    except ImportError:
        raise Fault("compose-spec is missing: install tests/requirements.txt") from None
    text = (ROOT / "examples/compose/compose.yaml").read_text()
    PyCompose.from_yaml(text).validate()
    for good, bad in (("read_only", "read_mostly"), ("secrets: [contoso", "secrets: [fabrikam")):
        try:
            PyCompose.from_yaml(text.replace(good, bad, 1)).validate()
        except ValueError:
            continue
        raise Fault(f"{bad} was accepted in compose.yaml")
    whole = json.loads(PyCompose.from_yaml(text).to_json())
    [spec] = whole["services"].values()
    if {volume.split(":")[0] for volume in spec["volumes"] if volume[0] != "."} != whole["volumes"].keys():
        raise Fault("the volumes of compose.yaml are not those of its service")
    if not (ROOT / "examples/compose" / spec["build"]["context"] / spec["build"]["dockerfile"]).is_file():
        raise Fault(f"compose.yaml builds from {spec['build']}, which does not exist")
    port = free_port()
    process, events = configured(
        harness, service, folder, "compose/etc/collector.toml", "/run/secrets", {"0.0.0.0:9464": f"127.0.0.1:{port}"}
    )
    found = [answer(port, "/healthz"), answer(port, "/metrics"), answer(port, "/metrics", "a-token-of-the-test")]
    if found != [200, 401, 200]:
        raise Fault(f"/healthz, and /metrics without and with the token, answered {found}")
    return f"compose.yaml read; {reloads_and_ends(process, events)}"


TRIALS = [systemd, compose]
