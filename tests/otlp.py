"""Reads what the sink `otlp` sends with OpenTelemetry's own package, and compares it with the lines of a sink `file`.

python tests/otlp.py HOST_HARNESS
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

SEVERITIES = {0: 0, 1: 9, 2: 13, 3: 14, 4: 17, 5: 18, 6: 21, 99: 0}


class Receiver(BaseHTTPRequestHandler):
    """Takes logs as the specification of OTLP/HTTP says; the first request of each path has to come again."""

    taken = {}
    lock = threading.Lock()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.headers["content-encoding"] == "gzip"
        body = gzip.decompress(body)
        with Receiver.lock:
            requests = Receiver.taken.setdefault(self.path, [])
            requests.append(None)
            if len(requests) == 1:
                self.send_response(429)
                self.send_header("retry-after", "1")
                self.send_header("content-length", "0")
                return self.end_headers()
        kind, request = self.headers["content-type"], ExportLogsServiceRequest()
        if kind == "application/x-protobuf":
            request.ParseFromString(body)
            answer = ExportLogsServiceResponse().SerializeToString()
        else:
            assert kind == "application/json", kind
            json_format.Parse(body, request)
            answer = b"{}"
        with Receiver.lock:
            requests.append(request)
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def plain(value):
    """The value of an `AnyValue` in Python."""
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return {member.key: plain(member.value) for member in value.kvlist_value.values}
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def spelled(value):
    """JSON in which 1 and 1.0 differ, as they do in the service's answers."""
    return json.dumps(value, sort_keys=True)


def records(path):
    """Each record's uid, resource and record."""
    for request in filter(None, Receiver.taken[path]):
        for logs in request.resource_logs:
            resource = {one.key: plain(one.value) for one in logs.resource.attributes}
            for scope in logs.scope_logs:
                assert scope.scope.name == "host-harness" and scope.scope.version, scope.scope
                for record in scope.log_records:
                    [uid] = [plain(one.value) for one in record.attributes if one.key == "log.record.uid"]
                    yield uid, resource, record


def main(harness):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with tempfile.TemporaryDirectory() as folder:
        simulation = subprocess.Popen([harness, "simulate"], stdout=subprocess.PIPE, text=True)
        text, variables = "", {}
        for line in simulation.stdout:
            if line.startswith("# export "):
                name, value = line.removeprefix("# export ").strip().split("=", 1)
                variables[name] = value
                if len(variables) == text.count("[[feed]]"):
                    break
            else:
                text += line
        sinks = "".join(
            f'[[sink]]\nid = "{name}"\ntype = "otlp"\nencoding = "{name}"\nurl = "{url}/{name}"\n' for name in ("protobuf", "json")
        )
        config = Path(folder, "collector.toml")
        config.write_text(text + '[[sink]]\nid = "lake"\ntype = "file"\npath = "all.ndjson"\n' + sinks)
        command = [harness, "poll", "-c", config, "--state", Path(folder, "state.db")]
        subprocess.run(command, check=True, env=os.environ | variables, stderr=subprocess.DEVNULL)
        simulation.terminate()
        events = [json.loads(line) for line in Path(folder, "all.ndjson").read_text().splitlines()]
    assert len(events) > 50, len(events)
    for name in ("protobuf", "json"):
        came = list(records(f"/{name}"))
        found = {uid: (resource, record) for uid, resource, record in came}
        assert len(came) == len(found) == len(events), (len(came), len(found), len(events))
        for event in events:
            resource, record = found[event["metadata"]["uid"]]
            assert spelled(plain(record.body)) == spelled(event), event["metadata"]["uid"]
            assert record.time_unix_nano == event["time"] * 1_000_000
            assert record.observed_time_unix_nano > 0
            assert record.severity_number == SEVERITIES[event["severity_id"]]
            assert record.severity_text == event["severity"]
            labels = dict(label.split(":", 1) for label in event["metadata"]["labels"])
            assert resource["service.name"] == "host-harness"
            assert resource["host_harness.tenant"] == labels["tenant"] and resource["host_harness.feed"] == labels["feed"]
            assert resource["cloud.provider"] == "azure"
            assert resource["cloud.account.id"] == event["cloud"]["account"]["uid"]
    print(f"{len(events)} events read in both encodings, each equal to its line")


if __name__ == "__main__":
    main(sys.argv[1])
