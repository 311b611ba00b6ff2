"""Tenzir of PyPI receives the collector's requests, reads its files, and runs the collector itself."""

import json
import subprocess

from stage import ROOT, Collector, Fault, Pipeline, compare, free_port, lines, over_restarts, uid, written

PROGRAM = ROOT / "target/python-detect/bin/tenzir"


class Tenzir(Pipeline):
    name = "tenzir"

    def __init__(self, folder, pipeline, variables=None):
        self.folder, self.pipeline, self.variables = folder, pipeline, variables or {}

    def command(self):
        return [PROGRAM, "--file", self.pipeline]


def receiving(folder, operator):
    """Starts a pipeline that receives by an operator of Tenzir, and returns it with the file that it writes."""
    out, file = folder / "out.ndjson", folder / "receiver.tql"
    file.write_text(f'{operator}\nto_file "{out}", append=true {{\n  write_ndjson\n}}\n')
    pipeline = Tenzir(folder, file)
    pipeline.start()
    return pipeline, out


def run(pipeline):
    """Runs a pipeline to its end, and returns its standard output."""
    done = subprocess.run([PROGRAM, "--file", pipeline], capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise Fault(f"{pipeline.name} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def http(harness, service, folder):
    """The collector posts its events. Then they are written to a file of Parquet, and read from there."""
    collector, out = Collector(harness, service, folder / "collector"), folder / "azure-secure-score.ndjson"
    address = {"127.0.0.1:8686": f"127.0.0.1:{free_port()}"}
    written("tenzir/sink.toml", collector.configuration, address)
    pipeline = Tenzir(folder, written("tenzir/http.tql", folder, address | {"/var/lib/tenzir": folder}))
    words = over_restarts(collector, pipeline, lambda: lines(out))
    run(written("tenzir/parquet.tql", folder, {"/var/lib/tenzir": folder}))
    back = folder / "back.tql"
    back.write_text(f'from_file "{folder}/azure-secure-score.parquet" {{ read_parquet }}\nwrite_ndjson\n')
    rows = [json.loads(line) for line in run(back).splitlines()]
    events = [json.loads(row["event"]) for row in rows]
    if [uid(event) for event in events] != [row["uid"] for row in rows]:
        raise Fault("the columns of the file of Parquet are not those of its events")
    return f"{words}; from Parquet {compare(collector.events(), events)}"


def shell(harness, service, folder):
    """Tenzir starts the collector, and both are ended and come back."""
    collector, out = Collector(harness, service, folder / "collector"), folder / "out.ndjson"
    (collector.configuration / "sink.toml").write_text('[[sink]]\nid = "tenzir"\ntype = "stdout"\n')
    changes = {
        "/usr/local/bin/host-harness": harness,
        "/etc/host-harness": collector.configuration,
        "/var/log/host-harness.log": folder / "host-harness.log",
        "/var/lib/tenzir/azure-secure-score.ndjson": out,
    }
    pipeline = Tenzir(folder, written("tenzir/shell.tql", folder, changes), service.variables)
    pipeline.start()
    collector.sends(200)
    pipeline.stop()
    pipeline.start()
    collector.sends(200)
    collector.drain()
    pipeline.stop()
    return compare(collector.events(), lines(out), repeated=0)


def file(harness, service, folder):
    """Tenzir takes the files that the collector put aside, and each is killed while the other works."""
    collector, events, out = Collector(harness, service, folder / "collector"), folder / "events", folder / "out.ndjson"
    changes = {"/var/lib/host-harness/events": events, 'rotate_every = "1h"': "rotate_bytes = 50_000"}
    written("tenzir/file-sink.toml", collector.configuration, changes)
    changes = {
        "/var/lib/host-harness/events": events,
        "/var/lib/tenzir/azure-secure-score.ndjson": out,
        "watch=10s": "watch=1s",
    }

    def came():
        """What Tenzir wrote, and what the collector's current files will give it later."""
        return [*lines(out), *(event for file in events.glob("*.ndjson") for event in lines(file))]

    # A file that Tenzir was reading when it was killed is read again.
    words = over_restarts(collector, Tenzir(folder, written("tenzir/file.tql", folder, changes)), came)
    return f"{words}, {len(lines(out))} of them by Tenzir"


# PyPI has Tenzir for few platforms.
TRIALS = [http, shell, file] if PROGRAM.exists() else []
