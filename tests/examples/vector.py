"""A receiver in the place of Vector's source `http_server`, as its documentation and source say; Vector itself is not run."""

import base64

from receiver import Receiver, Refusal, parsed
from stage import ROOT, Collector, Fault, over_restarts, written

PASSWORD = "a password of the test"


class HttpServer(Receiver):
    name = "Vector's receiver"

    def take(self, path, headers, body):
        """Framing by lines, decoding of JSON. 400 for a line that is no JSON, and nothing of the request is taken."""
        wanted = base64.b64encode(f"host-harness:{PASSWORD}".encode()).decode()
        if headers.get("authorization") != f"Basic {wanted}":
            raise Refusal(401, b'{"code":401,"message":"Invalid username/password"}')
        if path != "/":
            raise Refusal(404, b'{"code":404,"message":"Not found"}')
        events = [parsed(line) for line in body.split(b"\n") if line]
        if None in events:
            raise Refusal(400, b'{"code":400,"message":"Failed decoding body"}')
        return events, b""


def http(harness, service, folder):
    """Over restarts and crashes of both, and past Vector's answers while its sink fails or is overloaded."""
    failing = Refusal(500, b'{"code":500,"message":"Error delivering contents to sink"}')
    receiver = HttpServer(failing, Refusal(503, retry_after="1"))
    collector = Collector(harness, service, folder / "collector")
    written("vector/sink.toml", collector.configuration, {"127.0.0.1:8687": f"127.0.0.1:{receiver.port}"})
    secret = base64.b64encode(f"host-harness:{PASSWORD}".encode()).decode()
    service.variables["VECTOR_AUTHORIZATION"] = f"Basic {secret}"
    words = over_restarts(collector, receiver, receiver.came)
    return f"{words}, {receiver.answered(200, 500, 503)}; {settings()}"


def settings():
    """The files of the example are YAML, and each input of a component is a component."""
    import yaml

    for file in sorted((ROOT / "examples/vector").glob("*.yaml")):
        whole = yaml.safe_load(file.read_text())
        components = whole["sources"].keys() | whole["transforms"].keys()
        for name, part in (whole["transforms"] | whole["sinks"]).items():
            if not set(part["inputs"]) <= components:
                raise Fault(f"{file.name}: {name} has an input that does not exist")
    return "the files are YAML"


TRIALS = [http]
