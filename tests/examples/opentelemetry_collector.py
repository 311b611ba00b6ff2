"""Receivers in the place of the OpenTelemetry Collector: one that follows the specification of OTLP/HTTP, and that of Tenzir."""

from pathlib import Path

import yaml
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from receiver import Receiver, Refusal
from stage import ROOT, Collector, Fault, free_port, lines, over_restarts, settled, uid, written
from tenzir import PROGRAM, receiving

TOKEN = "a-token-of-the-test"


class OtlpReceiver(Receiver):
    name = "the receiver of OTLP"
    media = "application/x-protobuf"

    def take(self, path, headers, body):
        if headers.get("authorization") != f"Bearer {TOKEN}":
            raise Refusal(401)
        if path != "/v1/logs":
            raise Refusal(404)
        if headers.get("content-type") != self.media:
            raise Refusal(415)
        request = ExportLogsServiceRequest()
        try:
            request.ParseFromString(body)
        except DecodeError:
            raise Refusal(400) from None
        records = [
            record for resource in request.resource_logs for scope in resource.scope_logs for record in scope.log_records
        ]
        return [plain(record.body) for record in records], ExportLogsServiceResponse().SerializeToString()


def plain(value):
    """The value of an `AnyValue` in Python."""
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return {member.key: plain(member.value) for member in value.kvlist_value.values}
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def configured(harness, service, folder, port):
    collector = Collector(harness, service, folder / "collector")
    network = Path(collector.configuration, "azure.toml")
    line = f'allow_credentials_over_http = ["http://127.0.0.1:{port}"]\n'
    network.write_text(network.read_text().replace("[network]\n", f"[network]\n{line}", 1))
    changes = {"https://otel.example:4318": f"http://127.0.0.1:{port}"}
    written("opentelemetry/sink.toml", collector.configuration, changes)
    service.variables["OTLP_TOKEN"] = TOKEN
    return collector


def specified(harness, service, folder):
    """Over restarts and crashes of both, and past a receiver that is too busy or has a full queue behind it."""
    receiver = OtlpReceiver(Refusal(429, retry_after="1"), Refusal(503, retry_after="1"), Refusal(502))
    collector = configured(harness, service, folder, receiver.port)
    words = over_restarts(collector, receiver, receiver.came)
    return f"{words}, {receiver.answered(200, 429, 502, 503)}; {settings()}"


def partial_success(harness, service, folder):
    """A receiver that rejects a record of a request: the request is not sent again, and its events are in the dead letters."""

    class Rejecting(OtlpReceiver):
        def take(self, path, headers, body):
            events, answer = super().take(path, headers, body)
            if self.events:
                return events, answer
            rejected = ExportLogsServiceResponse()
            rejected.partial_success.rejected_log_records = 1
            rejected.partial_success.error_message = "a record is too old"
            return events[1:], rejected.SerializeToString()

    receiver = Rejecting()
    collector = configured(harness, service, folder, receiver.port)
    receiver.start()
    collector.start()
    collector.sends(200)
    words = settled(collector, receiver, receiver.came, lost=1, repeated=0)
    [letters] = collector.folder.glob("dead-letters-*.ndjson")
    letters = [letter["event"] for letter in lines(letters)]
    found = {uid(event) for event in [*receiver.came(), *letters]}
    if found != collector.events().keys():
        raise Fault("an event is neither at the receiver nor in the dead letters")
    return f"{words}, {len(letters)} dead letters"


def tenzir(harness, service, folder):
    """The operator `accept_otlp` of Tenzir, an implementation by others."""
    port = free_port()
    collector = configured(harness, service, folder, port)
    pipeline, out = receiving(folder, f'accept_otlp "127.0.0.1:{port}", transport="http"')
    collector.start()
    collector.sends(300)

    def came():
        bodies = [record["body"]["json_value"] for record in lines(out)]
        return [plain(json_format.Parse(body, AnyValue())) for body in bodies]

    return settled(collector, pipeline, came, repeated=0)


def settings():
    """The files of the example are YAML, and the service names what they have."""
    for file in sorted((ROOT / "examples/opentelemetry").glob("*.yaml")):
        whole = yaml.safe_load(file.read_text())
        [pipeline] = whole["service"]["pipelines"].values()
        for kind in ("receivers", "exporters"):
            if set(pipeline[kind]) != whole[kind].keys():
                raise Fault(f"{file.name}: the pipeline has other {kind}")
        if set(whole["service"]["extensions"]) != whole["extensions"].keys():
            raise Fault(f"{file.name}: the service has other extensions")
    return "the files are YAML"


TRIALS = [specified, partial_success, *([tenzir] if PROGRAM.exists() else [])]
