"""Receivers in the place of Splunk's HTTP Event Collector: one that follows Splunk's documentation, and that of Tenzir."""

import json
from pathlib import Path

from receiver import Receiver, Refusal, parsed
from stage import Collector, free_port, lines, over_restarts, settled, uid, written
from tenzir import PROGRAM, receiving

TOKEN = "0a1b2c3d-0000-4000-8000-0123456789ab"


def told(code, text):
    return json.dumps({"text": text, "code": code}).encode()


class EventCollector(Receiver):
    name = "Splunk's receiver"

    def take(self, path, headers, body):
        """JSON objects one after the other, each with `event`."""
        if path != "/services/collector/event":
            raise Refusal(404, told(404, "The requested URL was not found on this server."))
        match headers.get("authorization", "").split():
            case ["Splunk", token] if token == TOKEN:
                pass
            case ["Splunk", _]:
                raise Refusal(403, told(4, "Invalid token"))
            case [_, _]:
                raise Refusal(401, told(3, "Invalid authorization"))
            case _:
                raise Refusal(401, told(2, "Token is required"))
        envelopes = [parsed(line) for line in body.splitlines()]
        if not envelopes:
            raise Refusal(400, told(5, "No data"))
        for envelope in envelopes:
            if not isinstance(envelope, dict) or not isinstance(envelope.get("time"), int | float):
                raise Refusal(400, told(6, "Invalid data format"))
            if not envelope.get("event"):
                raise Refusal(400, told(12, "Event field is required"))
            if envelope.get("index") != "security":
                raise Refusal(400, told(7, "Incorrect index"))
            event = envelope["event"]
            tenant = next(label for label in event["metadata"]["labels"] if label.startswith("tenant:")).split(":")[1]
            expected = (event["time"] / 1000, "azure:secure_score:ocsf", f"host-harness:{tenant}")
            if (envelope["time"], envelope["sourcetype"], envelope["source"]) != expected:
                raise Refusal(400, told(6, "Invalid data format"))
        return [envelope["event"] for envelope in envelopes], told(0, "Success")


def configured(harness, service, folder, port):
    collector = Collector(harness, service, folder / "collector")
    network = Path(collector.configuration, "azure.toml")
    line = f'allow_credentials_over_http = ["http://127.0.0.1:{port}"]\n'
    network.write_text(network.read_text().replace("[network]\n", f"[network]\n{line}", 1))
    written("splunk/sink.toml", collector.configuration, {"https://splunk.example:8088": f"http://127.0.0.1:{port}"})
    service.variables["SPLUNK_HEC_TOKEN"] = TOKEN
    return collector


def documented(harness, service, folder):
    """Over restarts and crashes of both, and past a full queue, an index that the token lacks, and a body that is too large."""
    receiver = EventCollector(
        Refusal(503, told(9, "Server is busy"), retry_after="1"),
        Refusal(400, told(7, "Incorrect index")),
        Refusal(413),
        Refusal(429, retry_after="1"),
    )
    collector = configured(harness, service, folder, receiver.port)
    words = over_restarts(collector, receiver, receiver.came)
    return f"{words}, {receiver.answered(200, 400, 413, 429, 503)}"


def tenzir(harness, service, folder):
    """The operator `accept_splunk` of Tenzir, an implementation by others."""
    port = free_port()
    collector = configured(harness, service, folder, port)
    pipeline, out = receiving(folder, f'accept_splunk "127.0.0.1:{port}", hec_token="{TOKEN}"')

    def came():
        # It takes texts that look like a time for one: one member of each event.
        events = [envelope["event"] for envelope in lines(out)]
        for event in events:
            event["metadata"]["log_version"] = event["metadata"]["log_version"].removesuffix("T00:00:00Z")
        return events

    collector.start()
    collector.sends(300)
    return settled(collector, pipeline, came)


TRIALS = [documented, *([tenzir] if PROGRAM.exists() else [])]
