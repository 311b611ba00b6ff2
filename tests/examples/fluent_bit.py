"""Fluent Bit's inputs, as the library that Tenzir has built in: each with the options of the example. Fluent Bit's own
program, its outputs and its storage are not run."""

import json

import yaml

from stage import Collector, compare, free_port, lines, settled, uid, until, written
from tenzir import PROGRAM, Tenzir

# Of the program, and not of an input of the library: the tag, the parser, which this trial replaces, and the storage.
NOT_OF_THE_INPUT = {"name", "tag", "parser", "storage.type"}


class FluentBit(Tenzir):
    name = "fluent-bit"

    def __init__(self, folder, example, changes, variables=None):
        [given] = yaml.safe_load(written(example, folder, changes).read_text())["pipeline"]["inputs"]
        options = {name: str(value).lower() if value is True else str(value) for name, value in given.items()}
        options = ", ".join(f"{json.dumps(name)}: {json.dumps(options[name])}" for name in options.keys() - NOT_OF_THE_INPUT)
        self.out = folder / "out.ndjson"
        pipeline = folder / "fluent-bit.tql"
        pipeline.write_text(
            f"from_fluent_bit {json.dumps(given['name'])}, options={{{options}}}, raw=true\n"
            f'to_file "{self.out}", append=true {{\n  write_ndjson\n}}\n'
        )
        super().__init__(folder, pipeline, variables)

    def came(self):
        """The records. Without a parser, an input gives the line as a text."""
        records = [record["message"] for record in lines(self.out)]
        texts = [record.get("log", record.get("exec")) for record in records]
        found = [record if text is None else text for record, text in zip(records, texts, strict=True)]
        return [json.loads(one) if isinstance(one, str) else one for one in found]


def while_the_collector_is_killed(collector, pipeline):
    """Does not restart Fluent Bit: Tenzir ends the library at once, without the delivery that the program makes at its end."""
    pipeline.start()
    collector.start()
    collector.sends(200)
    collector.kill()
    collector.start()
    collector.sends(200)
    return settled(collector, pipeline, pipeline.came)


def http(harness, service, folder):
    collector, port = Collector(harness, service, folder / "collector"), free_port()
    written("fluent-bit/sink.toml", collector.configuration, {"9880": port})
    return while_the_collector_is_killed(collector, FluentBit(folder, "fluent-bit/http.yaml", {"9880": port}))


def tail(harness, service, folder):
    collector, events = Collector(harness, service, folder / "collector"), folder / "events"
    path = {"/var/lib/host-harness/events": events}
    written("syslog-ng/sink.toml", collector.configuration, path)
    pipeline = FluentBit(folder, "fluent-bit/tail.yaml", path | {"/var/lib/fluent-bit": folder})
    return while_the_collector_is_killed(collector, pipeline)


def exec(harness, service, folder):
    """Fluent Bit starts polls one after the other, here each 3 s."""
    collector = Collector(harness, service, folder / "collector")
    (collector.configuration / "sink.toml").write_text('[[sink]]\nid = "fluent-bit"\ntype = "stdout"\n')
    changes = {
        "/usr/local/bin/host-harness": harness,
        "/etc/host-harness": collector.configuration,
        "/var/lib/host-harness": collector.folder,
        "/var/log/host-harness.log": folder / "host-harness.log",
        "interval_sec: 3600": "interval_sec: 3",
    }
    pipeline = FluentBit(folder, "fluent-bit/exec.yaml", changes, service.variables)
    pipeline.start()
    collector.sends(150)
    expected = collector.events()
    until(lambda: expected.keys() <= set(map(uid, pipeline.came())), f"{len(expected)} events of Fluent Bit")
    came = [event for event in pipeline.came() if uid(event) in expected]
    return compare(expected, came, repeated=0)


TRIALS = [http, tail, exec] if PROGRAM.exists() else []
