"""A host for polling source plugins in Python: polls every scope of a tenant once and prints the events.

    python host.py PLUGIN.wasm SETTINGS.json SECRETS.json ORIGIN…

The plugin is code of somebody else, and has no network and no secret: sandbox.py runs it. This file sends its requests:
only those that the plugin declared, to an ORIGIN that was allowed, with each secret put in at its declared place. The
duties of a host that are kept here are listed in docs/embedding.md.
"""

import base64
import http.client
import json
import math
import re
import secrets as randomness
import socket
import sys
import threading
import time
import unicodedata
import uuid
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit

from wasmtime.component import Record, Variant

from sandbox import REQUEST_BYTES, Failure, Plugin

# One call of the plugin; sandbox.py has its limits on memory and on time.
REQUESTS, ANSWER_BYTES, ANSWERS_BYTES, LOG_LINE_CHARACTERS = 128, 2 << 20, 4 << 20, 2_000
# Lines that one call of the plugin gets for its requests that fail: it may try without end.
TOLD_REQUESTS = 5
# One poll of one scope. The package `wasmtime` copies lists byte by byte, about a second for a MiB.
PAGES, PAGES_BYTES, CURSOR_CHARACTERS, POLL_SECONDS = 100, 4 << 20, 64 << 10, 600
SCOPES, EVENTS, EVENT_BYTES, STATE_BYTES = 20_000, 20_000, 64 << 10, 8 << 20
# Time within which a token is renewed at most once: a service that refuses every token is not asked at each step.
RENEWAL_SECONDS = 300

# The identity of the feed, from which the ids of its events follow.
TENANT, FEED = "contoso", "contoso-prod"

# Headers that carry no credential. A request has no other header but those that its shape declares.
PLAIN_HEADERS = {"accept", "accept-language", "content-type", "if-none-match", "user-agent"}
# Headers of the connection, which the host itself writes.
OWN_HEADERS = {"host", "content-length", "accept-encoding", "expect", "te", "trailer"}
# The members of a token endpoint's answer that the plugin gets.
TOKEN_MEMBERS = {"token_type", "expires_in", "error", "error_description", "error_codes"}
# The headers of that answer that the plugin gets, besides ids of the request.
TOKEN_HEADERS = {"content-type", "date", "retry-after", "server", "via"}


@dataclass
class Sealed:
    """A secret with its placeholder, which the plugin gets."""

    credential: Variant
    secret: str
    placeholder: str


@dataclass
class Answer:
    """An answer of the service."""

    status: int
    headers: list
    body: bytes

    def fields(self):
        return [(name, value.encode("latin-1")) for name, value in self.headers]


class Host:
    """Makes the calls of the contract in their order, for one tenant."""

    def __init__(self, plugin, plain, secrets, origins):
        self.plugin, self.origins, self.shapes, self.sealed, self.renewed = plugin, origins, [], [], -math.inf
        description = self.ask("describe")
        # The plugin gets placeholders of its credentials, also of those that stand among the settings.
        names = [credential.setting for credential in description.credentials]
        secrets = {name: secrets.get(name) or plain.get(name) for name in names}
        self.bare = {name: value for name, value in plain.items() if name not in names}
        given = [name for name in names if secrets[name]]
        fixed = {name: f"sealed-{index}" for index, name in enumerate(given)}
        plan = self.ask("prepare", json.dumps({**self.bare, **fixed}))
        if isinstance(plan, list):
            problems = [f"{problem.setting}: found {problem.found}, expected {problem.expected}" for problem in plan]
            raise Failure("settings-refused", "; ".join(problems))
        self.shapes = plan.shapes
        self.sealed = [Sealed(Variant("setting", name), secrets[name], placeholder()) for name in given]
        placeholders = {sealed.credential.payload: sealed.placeholder for sealed in self.sealed}
        self.settings = json.dumps({**self.bare, **placeholders})

    def ask(self, name, *values, network=False):
        used = {"requests": 0, "bytes": 0, "told": 0}
        return self.plugin.call(name, values, lambda asked, until: self.carry(asked, until, name, network, used), tell)

    def run(self):
        """Polls every scope, and returns whether all of them were collected."""
        is_good = True
        self.sign_in()
        found = self.ask("discover", self.settings, self.token, network=True)
        if len(found.scopes) + len(found.skipped) > SCOPES:
            raise Failure("plugin-limit", "too many scopes")
        scopes = {}
        for scope in found.scopes:
            scopes.setdefault(scope.id, scope)
        for scope in scopes.values():
            try:
                self.collect(scope)
            except Exception as error:
                # One scope that fails does not stop the others.
                tell(f"{scope.id}: {error if isinstance(error, Failure) else f'host-failed: {error!r}'}")
                is_good = False
        return is_good

    def sign_in(self):
        token = self.ask("fetch-token", self.settings, network=True)
        self.token = token.value if token else None

    def collect(self, scope):
        due = now()
        pages = self.poll(scope)
        poll_id = str(uuid.uuid5(NAMESPACE, f"{FEED}\n{scope.id}\n{due}"))
        context = record(feed=FEED, tenant=TENANT, scope=scope, poll_id=poll_id, collected_at_milliseconds=now())
        # `normalize` gets the settings without credentials, and no network.
        batch = self.ask("normalize", json.dumps(self.bare), context, pages, None)
        sys.stdout.buffer.write(lines(batch))
        sys.stdout.flush()
        if batch.outcome:
            raise Failure(batch.outcome.code, batch.outcome.cause, batch.outcome.reaction)

    def poll(self, scope):
        """Reads all pages of a scope, or none."""
        pages, cursors, cursor, begun = [], set(), None, time.monotonic()
        while True:
            step = self.poll_step(scope, cursor)
            pages.extend(step.pages)
            cursor = step.next
            if sum(len(page.body) for page in pages) > PAGES_BYTES:
                raise Failure("page-bytes-limit", "the pages of the poll are too large")
            if len(pages) > PAGES or len(cursors) >= PAGES:
                raise Failure("page-limit", "the poll has too many pages")
            if time.monotonic() - begun > POLL_SECONDS:
                raise Failure("poll-time-limit", "the poll takes too long", "try-later")
            if cursor is None:
                return pages
            if len(cursor) > CURSOR_CHARACTERS:
                raise Failure("plugin-limit", "the cursor is too long")
            if cursor in cursors:
                raise Failure("cursor-repeated", "the links of the pages form a loop")
            cursors.add(cursor)

    def poll_step(self, scope, cursor):
        """One step, and once more with another token if the service refuses this one."""
        try:
            return self.ask("poll", self.settings, self.token, scope, cursor, network=True)
        except Failure as failure:
            if failure.reaction != "renew-token" or time.monotonic() - self.renewed < RENEWAL_SECONDS:
                raise
        self.renewed = time.monotonic()
        self.sign_in()
        return self.ask("poll", self.settings, self.token, scope, cursor, network=True)

    def carry(self, asked, until, name, network, used):
        """Carries one request: judges it, puts its credentials in, sends it, and checks the answer for secrets."""
        address = f"{asked['scheme']}://{asked['authority']}{asked['path']}"
        try:
            if not network:
                raise denied("this call runs without HTTP")
            used["requests"] += 1
            if used["requests"] > REQUESTS:
                raise Failure("plugin-limit", "the call sends too many requests")
            headers = [(header.lower(), value.decode("latin-1")) for header, value in asked["headers"]]
            request, captures = self.judge(asked["method"], address, headers, bytes(asked["body"]), name)
            answer = send(*request, until)
            used["bytes"] += len(answer.body)
            if used["bytes"] > ANSWERS_BYTES:
                raise Failure("plugin-limit", "the answers to the call are too large")
            return self.check(answer, captures)
        except (Failure, OSError, http.client.HTTPException, ValueError) as error:
            lost = f"the service was not reached: {type(error).__name__}"
            failure = error if isinstance(error, Failure) else Failure("transport", lost, "try-later")
            used["told"] += 1
            if used["told"] <= TOLD_REQUESTS:
                # The line begins with the host's words: method and address are the plugin's.
                tell(f"a request of {name} failed: {failure}: {asked['method']} {address.split('?')[0]}")
            raise failure from None

    def judge(self, method, address, written, body, name):
        """Says whether a request may leave, and returns it with its credentials in place."""
        url = urlsplit(address)
        origin, path = f"{url.scheme}://{url.netloc}", url.path
        # An address that another reader could understand differently does not leave: dot segments, also before `;`,
        # encoded slashes, user names, control characters.
        odd = any(part in path.lower() for part in ("%2e", "%2f", "%3b", "%5c", "%25", "%0", "%1", "\\"))
        is_plain = address.isascii() and address.isprintable() and not set(address) & set('@#" \\<>')
        if (
            odd
            or not is_plain
            or any(segment.split(";")[0] in (".", "..") for segment in path.split("/"))
            or origin != origin.lower()
        ):
            raise denied("its address has two readings")
        fits = (
            shape
            for shape in self.shapes
            if (shape.method, shape.origin) == (method, origin) and is_of(shape.path, path)
        )
        shape = next(fits, None)
        if shape is None:
            raise denied("no declared request matches it")
        if origin not in self.origins:
            raise denied("its origin is not allowed")
        if url.scheme != "https" and url.hostname not in ("127.0.0.1", "::1"):
            raise denied("everybody on the way can read what goes without TLS")
        # A call that has read data could send it to the token endpoint.
        if shape.captures is not None and name != "fetch-token":
            raise denied("a request for a token leaves from fetch-token alone")

        headers = {header: value for header, value in written if header not in OWN_HEADERS}
        if any(re.search(r"[\x00-\x08\n-\x1f\x7f]", value) for value in headers.values()):
            raise denied("a header has a control character")
        is_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        form = parse_qsl(body.decode(), keep_blank_values=True) if is_form else []
        fields, puts = dict(form), []
        for use in shape.credentials:
            place, before = use.place, "Bearer " if use.place.tag == "bearer" else ""
            into, key = (
                (fields, place.payload)
                if place.tag == "form-field"
                else (headers, (place.payload or "authorization").lower())
            )
            if not into.get(key):
                continue
            match = next(
                (
                    one
                    for one in self.sealed
                    if one.credential == use.credential and into[key] == before + one.placeholder
                ),
                None,
            )
            if match is None or len(fields) < len(form):
                raise denied("it has a credential of the plugin's own")
            into[key] = ""
            puts.append((into, key, before + match.secret))
        # What is left has no placeholder, no other header, and no body but a form beside a credential of the host.
        rest = "\n".join(
            [address, *headers, *headers.values(), *fields, *fields.values(), "" if is_form else body.decode("latin-1")]
        )
        if any(one.placeholder in rest for one in self.sealed):
            raise denied("a credential is in a place for which it was not declared")
        odd = next((header for header, value in headers.items() if value and header not in PLAIN_HEADERS), None)
        if odd:
            raise denied(f"its header {odd} is not declared")
        if len(body) > REQUEST_BYTES or body and not (is_form and puts):
            raise denied("its body is too large, or no form with a credential")
        if name == "poll" and self.sealed and not puts:
            raise denied("it carries no credential, and this call knows the tenant's data")
        for into, key, value in puts:
            into[key] = value
        return (method, url, headers, urlencode(fields).encode() if is_form else None), shape.captures

    def check(self, answer, captures):
        """The answer as the plugin gets it: without the token that the host keeps, and without any secret."""
        if any(name == "content-encoding" and value != "identity" for name, value in answer.headers):
            raise Failure("encoded", "the answer is compressed")
        unwanted = {"set-cookie", "content-length", "transfer-encoding"}
        headers, body = [(name, value) for name, value in answer.headers if name not in unwanted], answer.body
        members = members_of(body)
        # An answer with a token is known by its form, too: the plugin may leave out the declaration.
        if captures is None and members and "access_token" in members:
            captures = "access_token"
        if captures is not None:
            if members is None:
                raise Failure("not-json", "the answer with the token is no JSON object", "try-later")
            headers = [pair for pair in headers if pair[0] in TOKEN_HEADERS or pair[0].endswith("request-id")]
            token = members.get(captures)
            known = {name: value for name, value in members.items() if name in TOKEN_MEMBERS}
            if answer.status == 200 and isinstance(token, str) and token:
                self.sealed.append(Sealed(Variant("token"), token, placeholder()))
                known[captures] = self.sealed[-1].placeholder
            body = json.dumps(known).encode()
        seen = "\n".join(f"{name}: {value}" for name, value in headers).encode("latin-1") + b"\n" + body
        for one in self.sealed:
            encoded = base64.b64encode(one.secret.encode()).decode().rstrip("=")[:-1]
            # `quote_plus` is the spelling of a form that this host sends.
            percent = (quote(one.secret, safe=""), quote_plus(one.secret))
            spellings = (one.secret, *percent, json.dumps(one.secret)[1:-1], encoded)
            if any(spelling.encode() in seen for spelling in spellings):
                raise Failure("credential-echoed", "the answer holds a secret", "try-later")
        return Answer(answer.status, headers, body)


def send(method, url, headers, body, until):
    """Sends a request. A redirect is an answer, and following it is the plugin's decision: it would have to be declared."""
    connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    seconds = min(30, max(1, until - time.monotonic()))
    connection = connect(url.netloc, timeout=seconds)
    # The timeout of the connection counts for each part of an answer, and this one for the whole.
    ends_at = time.monotonic() + seconds
    ends = threading.Timer(seconds, end_of, [connection])
    ends.start()
    try:
        path = url.path + (f"?{url.query}" if url.query else "")
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        read = bytearray()
        is_whole = False
        while not is_whole:
            chunk = response.read1(65_536)
            is_whole = not chunk
            read.extend(chunk)
            if len(read) > ANSWER_BYTES:
                raise Failure("answer-too-large", "the answer is too large")
            # The timer cannot end a connection that the service closes after this answer: `connection` has let it go.
            if time.monotonic() > ends_at:
                raise Failure("plugin-limit", "the answer takes too long")
        if response.length:
            raise http.client.IncompleteRead(bytes(read), response.length)
        return Answer(response.status, [(name.lower(), value) for name, value in response.getheaders()], bytes(read))
    finally:
        ends.cancel()
        connection.close()


def end_of(connection):
    """Ends a connection from another thread: whoever reads from it finds its end."""
    try:
        # A TLS connection's own function would also forget its state, which the reader still needs.
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
    except (OSError, TypeError):
        # It has no socket yet, or no longer.
        pass


def is_of(path, actual):
    return actual == path.payload if path.tag == "exact" else actual.startswith(path.payload) and actual != path.payload


def denied(why):
    return Failure("request-denied", why)


def placeholder():
    return f"sealed-{randomness.token_hex(16)}"


def members_of(body):
    """The members of an answer that is a JSON object, also after a byte order mark; None for any other answer."""
    try:
        members = json.loads(body.decode("utf-8-sig", "replace"))
    except ValueError:
        return None
    except RecursionError:
        raise Failure("not-json", "the answer has too many levels", "try-later") from None
    return members if isinstance(members, dict) else None


def refused(constant):
    """Refuses NaN and Infinity, which Python reads as JSON."""
    raise ValueError(constant)


def lines(batch):
    """The events as lines: each is one JSON object on one line, with a uid of its own."""
    if len(batch.events) > EVENTS or len(batch.state) > STATE_BYTES:
        raise Failure("plugin-limit", "too many events, or too large a state")
    if len({event.uid for event in batch.events}) < len(batch.events):
        raise Failure("plugin-trapped", "two events have the same uid")
    for event in batch.events:
        try:
            body = json.loads(event.body.decode(), parse_constant=refused)
            is_good = isinstance(body, dict) and not set(event.body) & set(b"\r\n")
        except (ValueError, RecursionError):
            is_good = False
        if not is_good or len(event.body) > EVENT_BYTES:
            raise Failure("plugin-trapped", "an event is not one line of JSON")
    return b"".join(event.body + b"\n" for event in batch.events)


def record(**members):
    """A record of the contract, whose names have hyphens."""
    made = Record()
    for name, value in members.items():
        setattr(made, name.replace("_", "-"), value)
    return made


def now():
    return time.time_ns() // 1_000_000


def tell(line):
    """Prints a line for people; words of a plugin are text and nothing else."""
    line = "".join(" " if unicodedata.category(one)[0] == "C" else one for one in line[:LOG_LINE_CHARACTERS])
    print(line, file=sys.stderr)


# The same feed, scope and due time give the same poll id on every host. A host that keeps a state adds a key.
NAMESPACE = uuid.UUID("8d2c9f0e-64b1-4c57-9a3d-1be077f526c4")


def main(component, settings, secrets, *origins):
    plain, given = (json.load(open(file, encoding="utf-8")) for file in (settings, secrets))
    try:
        return 0 if Host(Plugin(component), plain, given, origins).run() else 1
    except Failure as failure:
        tell(str(failure))
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
