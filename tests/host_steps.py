"""Calls functions of the example host in Python with what a hostile plugin or a poor service gives it. host_steps.js does the
same in Node. tests/hosts.py runs both.

    tests/host_steps.py PLUGIN.wasm
"""

import base64
import contextlib
import http.client
import io
import json
import socket
import sys
import threading
import time
from types import SimpleNamespace
from urllib.parse import urlencode, urlsplit

sys.path.insert(0, "examples/hosts/python")
import host as example
import sandbox

SECRET, ORIGIN = "a secret~of tests €", "https://service.example"


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except sandbox.Failure as failure:
        return failure.code


def expect(name, found, expected):
    if found != expected:
        sys.exit(f"host_steps.py: {name}: found {found!r}, expected {expected!r}")


def new_host():
    made = example.Host.__new__(example.Host)
    path = SimpleNamespace(tag="prefix", payload="/data/")
    made.shapes = [SimpleNamespace(method="GET", origin=ORIGIN, path=path, credentials=[], captures=None)]
    made.origins, made.sealed = [ORIGIN], [example.Sealed(None, SECRET, "sealed-1")]
    return made


def judged(path, headers=()):
    return outcome(new_host().judge, "GET", f"{ORIGIN}{path}", headers, b"", "discover")


for path in ("/data/..;/x", "/data/.;x/y", "/data/a%3bb", "/data/%3B"):
    expect(path, judged(path), "request-denied")
expect("a parameter of a segment", judged("/data/a;b=..")[1], None)
for value in ("a\r\n b", "a\nb", "a\0", "a\x7f"):
    expect("a header", judged("/data/a", [("accept", value)]), "request-denied")
expect("a header with a tab", judged("/data/a", [("accept", "a\tb")])[1], None)

# An answer with a token that no shape declares.
headers = [("x-token", "of-the-service"), ("x-request-id", "7"), ("content-type", "application/json")]
for mark in ("", "\ufeff"):
    given = new_host()
    body = f'{mark}{{"access_token":"token-of-tests","expires_in":1,"more":"x"}}'.encode()
    answer = given.check(example.Answer(200, headers, body), None)
    expect("a token", json.loads(answer.body), {"access_token": given.sealed[-1].placeholder, "expires_in": 1})
    expect("a token's headers", [name for name, _ in answer.headers], ["x-request-id", "content-type"])
for echo in (SECRET, urlencode({"": SECRET}), base64.b64encode(SECRET.encode()).decode()):
    expect(echo, outcome(new_host().check, example.Answer(400, [], echo.encode()), None), "credential-echoed")
deep = example.Answer(200, [], b"[" * 100_000)
expect("a deep answer", outcome(new_host().check, deep, None), "not-json")

deep = b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
for body in (b'{"a":NaN}', b'{"a":-Infinity}', '{"a":1}'.encode("utf-16"), b'\xef\xbb\xbf{"a":1}', deep, b"[]"):
    batch = SimpleNamespace(events=[SimpleNamespace(uid="1", body=body)], state=b"")
    expect(body[:20], outcome(example.lines, batch), "plugin-trapped")

# A scope with an error of any kind is one line, and the first of two scopes with one id is polled.
given, polled = new_host(), []
given.sign_in, given.token, given.settings = lambda: None, None, "{}"
scopes = [SimpleNamespace(id="one", name="first"), SimpleNamespace(id="one", name="second"), SimpleNamespace(id="two", name="")]
given.ask = lambda *_, **__: SimpleNamespace(scopes=scopes, skipped=[])
given.collect = lambda scope: polled.append(scope.name) or {}["absent"]
with contextlib.redirect_stderr(io.StringIO()) as told:
    expect("scopes", (given.run(), polled), (False, ["first", ""]))
expect("lines of scopes", len(told.getvalue().splitlines()), 2)

# Of many denied requests, few are told, and each line begins with the host's words.
used = {"requests": 0, "bytes": 0, "told": 0}
asked = {"method": "credential-echoed", "scheme": "https", "authority": "a", "path": "/", "headers": [], "body": b""}
with contextlib.redirect_stderr(io.StringIO()) as told:
    for _ in range(1_000):
        expect("a denied request", outcome(new_host().carry, asked, 0, "describe", False, used), "request-denied")
found = told.getvalue().splitlines()
expect("lines of denied requests", (len(found), found[0].startswith("a request of describe failed")), (5, True))


def served(*parts, seconds=60):
    """Sends a request to a service that answers with these parts, and a pause before each."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            for part in parts:
                time.sleep(0.2)
                connection.sendall(part)

    threading.Thread(target=serve, daemon=True).start()
    url = urlsplit(f"http://127.0.0.1:{listener.getsockname()[1]}/")
    try:
        return example.send("GET", url, {}, None, time.monotonic() + seconds).body
    except (sandbox.Failure, http.client.HTTPException) as error:
        return getattr(error, "code", type(error))


head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
expect("a whole answer", served(head + b"content-length: 2\r\n\r\n", b"ab"), b"ab")
expect("a truncated answer", served(head + b"content-length: 3\r\n\r\n", b"ab"), http.client.IncompleteRead)
begun = time.monotonic()
expect("an answer that drips", served(head + b"\r\n", *[b"a"] * 100, seconds=4), "plugin-limit")
expect("an answer that drips ends before its last part", time.monotonic() - begun < 20, True)


def denying(_, until):
    time.sleep(max(0, until - time.monotonic()))
    raise sandbox.Failure("request-denied", "of tests")


# A call whose time is over ends, although the host only denies its requests.
settings = {"client_key": "11111111-2222-3333-4444-555555555555", "token_url": "aaaabbbb-0000-cccc-1111-dddd2222eeee"}
settings |= {"subscription_id": "*", "client_secret": "sealed-1"}
plugin, sandbox.CALL_SECONDS = sandbox.Plugin(sys.argv[1]), 1
expect("the time of a call", outcome(plugin.call, "fetch-token", (json.dumps(settings),), denying, print), "plugin-limit")
sandbox.CALL_SECONDS = 60
spent = sandbox.Spent(SimpleNamespace(set_epoch_deadline=lambda _: None))
spent.left = 0
try:
    expect("the plugin's own time", spent.beside(lambda *_: "an answer", None), "no answer")
except TimeoutError:
    pass
sandbox.CONTRACT = "collector:source/plugin@0.3.0"
expect("another version", outcome(sandbox.Plugin, sys.argv[1]), "version-refused")
print("python: judges the requests, answers and events of host_steps.py")
