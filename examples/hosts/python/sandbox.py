"""The sandbox: runs each call of a plugin in a fresh instance, with a limit on memory and on time.

Every import of the component is a few lines here, and there are no others: a component that imports anything else does not
start. The plugin has no socket: `wasi:http` hands each request to the host, and returns the answer that the host gives.
"""

import itertools
import threading
import time

from wasmtime import Config, Engine, Store
from wasmtime.component import Component, Linker, ResourceAny, ResourceHost, ResourceType, Variant

MEMORY_BYTES = 64 << 20
OWN_SECONDS = 5  # of the plugin's own code
CALL_SECONDS = 60  # of the whole call, with the requests that it waits for
TICK_SECONDS = 0.1
REQUEST_BYTES = 64 << 10
LOG_LINES = 100

# The export of a plugin: another version of the contract would be another export.
CONTRACT = "collector:source/plugin@0.2.0"

# The package writes a case without a value as None, where the other cases have values that differ from it.
CLOSED = None


class Failure(Exception):
    """A failure of the contract: the host's own, or that of a plugin."""

    def __init__(self, code, cause, reaction="fix-plugin"):
        super().__init__(f"{code}: {cause}")
        self.code, self.reaction = code, reaction


class Plugin:
    """One component, compiled once."""

    def __init__(self, path):
        config = Config()
        config.epoch_interruption = True
        self.engine = Engine(config)
        self.component = Component.from_file(self.engine, path)
        exports = list(self.component.type.exports(self.engine))
        if CONTRACT not in exports:
            raise Failure("version-refused", f"the plugin exports {', '.join(exports)}, expected {CONTRACT}")
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self):
        never = threading.Event()
        while not never.wait(TICK_SECONDS):
            self.engine.increment_epoch()

    def call(self, name, values, carry, tell):
        """Makes one call of the contract. `carry` answers a request of the plugin, `tell` gets its log lines."""
        store = Store(self.engine)
        store.set_limits(memory_size=MEMORY_BYTES, table_elements=20_000, instances=8, tables=8, memories=4)
        spent = Spent(store)
        try:
            linker = Linker(self.engine)
            link(linker, self.component.type.imports(self.engine), lambda asked: spent.beside(carry, asked), tell)
            instance = linker.instantiate(store, self.component)
            exported = instance.get_export_index(store, name, instance.get_export_index(store, CONTRACT))
            answer = instance.get_func(store, exported)(store, *values)
        except Failure:
            raise
        except Exception as error:
            words = str(error).partition("\n")[0]
            raise Failure("plugin-limit" if spent.is_over() else "plugin-trapped", f"{name}: {words}") from error
        failed = answer.payload if isinstance(answer, Variant) and answer.tag == "err" else None
        if failed is not None:
            raise Failure(failed.code, failed.cause, failed.reaction)
        return answer.payload if isinstance(answer, Variant) else answer


class Spent:
    """The time of the plugin's own code, which stands still while a request is under way, and the time of the call."""

    def __init__(self, store):
        self.store, self.left, self.until = store, OWN_SECONDS, time.monotonic() + CALL_SECONDS
        self._go_on()

    def _go_on(self):
        self.since = time.monotonic()
        if self.left <= 0 or self.since >= self.until:
            # No failure of a request, which the plugin could catch: this ends the call.
            raise TimeoutError("the call takes too long")
        self.store.set_epoch_deadline(max(1, round(self.left / TICK_SECONDS)))

    def beside(self, carry, asked):
        self.left -= time.monotonic() - self.since
        try:
            return carry(asked, self.until)
        finally:
            self._go_on()

    def is_over(self):
        now = time.monotonic()
        return now >= self.until or now - self.since >= self.left - TICK_SECONDS


def link(linker, imported, carry, tell):
    """Defines the imports of one call: resources are numbers in a table of this call."""
    table, kinds, numbers = {}, {}, itertools.count(1)

    def own(store, kind, thing):
        number = next(numbers)
        table[number] = thing
        return ResourceHost.own(number, kinds[kind]).to_any(store)

    def with_things(function):
        """Gives a function the things of this table in place of resources: each must be read exactly once."""

        def called(store, *values):
            things = (table[value.to_host(store).rep] if isinstance(value, ResourceAny) else value for value in values)
            return function(store, *things)

        return called

    def write_log(_, level, message):
        table["log"] = table.get("log", 0) + 1
        if table["log"] <= LOG_LINES:
            tell(f"the plugin says ({level}): {message}")

    def write(_, body, chunk):
        if len(body) > REQUEST_BYTES:
            return Variant("err", CLOSED)
        body.extend(chunk)
        return Variant("ok")

    def set_(name, read):
        def method(_, request, value):
            request[name] = read(value)
            return Variant("ok")

        return method

    def read(_, body, length):
        if not body:
            return CLOSED
        chunk = bytes(body[:length])
        del body[:length]
        return chunk

    def get(store, request):
        """Sends the request, whose body is complete by now."""
        try:
            answer = carry(request)
        except Failure as failure:
            denied = failure.code == "request-denied"
            error = Variant("HTTP-request-denied") if denied else Variant("internal-error", "the host has no answer")
            return Variant("some", error)
        return Variant("some", own(store, "incoming-response", answer))

    def new_request(store, headers):
        return own(store, "outgoing-request", {"headers": headers, "body": bytearray()})

    def method_name(method):
        return method.payload or method.tag.upper()

    def scheme(scheme):
        return (scheme.payload or scheme.tag).lower()

    interfaces = {
        "collector:source/log": {"write": write_log},
        # This host signs nothing: it takes client secrets only.
        "collector:source/credentials": {"client-assertion": lambda *_: Variant("err", "not-configured")},
        "wasi:clocks/monotonic-clock": {},
        "wasi:io/error": {"error": None},
        "wasi:io/poll": {"pollable": None, "[method]pollable.block": lambda *_: None},
        "wasi:io/streams": {
            "input-stream": None,
            "output-stream": None,
            "[method]output-stream.check-write": lambda *_: 65_536,
            "[method]output-stream.write": write,
            "[method]output-stream.flush": lambda *_: Variant("ok"),
            "[method]output-stream.subscribe": lambda store, _: own(store, "pollable", None),
            "[method]input-stream.blocking-read": read,
        },
        "wasi:http/types": {
            "fields": None,
            "outgoing-request": None,
            "outgoing-body": None,
            "request-options": None,
            "incoming-response": None,
            "incoming-body": None,
            "future-incoming-response": None,
            "[static]fields.from-list": lambda store, pairs: own(store, "fields", pairs),
            "[method]fields.entries": lambda store, fields: fields,
            "[constructor]outgoing-request": new_request,
            "[method]outgoing-request.body": lambda store, request: own(store, "outgoing-body", request["body"]),
            "[method]outgoing-request.set-method": set_("method", method_name),
            "[method]outgoing-request.set-path-with-query": set_("path", lambda path: path or "/"),
            "[method]outgoing-request.set-scheme": set_("scheme", lambda value: scheme(value) if value else "https"),
            "[method]outgoing-request.set-authority": set_("authority", lambda authority: authority or ""),
            "[constructor]request-options": lambda store: own(store, "request-options", None),
            "[method]request-options.set-connect-timeout": lambda *_: Variant("ok"),
            "[method]outgoing-body.write": lambda store, body: own(store, "output-stream", body),
            "[static]outgoing-body.finish": lambda *_: None,
            "[method]future-incoming-response.subscribe": lambda store, _: own(store, "pollable", None),
            "[method]future-incoming-response.get": get,
            "[method]incoming-response.status": lambda store, response: response.status,
            "[method]incoming-response.headers": lambda store, response: own(store, "fields", response.fields()),
            "[method]incoming-response.consume": lambda store, response: own(store, "incoming-body", response),
            "[method]incoming-body.stream": lambda store, body: own(store, "input-stream", bytearray(body.body)),
        },
        "wasi:http/outgoing-handler": {
            "handle": lambda store, request, _: own(store, "future-incoming-response", request)
        },
    }
    with linker.root() as root:
        for name in imported:
            if name.split("@")[0] not in interfaces:
                raise Failure("plugin-trapped", f"the plugin imports {name}, which is not among the allowed imports")
            with root.add_instance(name) as instance:
                for item, function in interfaces[name.split("@")[0]].items():
                    if function is None:
                        kinds[item] = len(kinds)
                        # The plugin drops what it no longer needs.
                        instance.add_resource(
                            item, ResourceType.host(kinds[item]), lambda _, number: table.pop(number, None) and None
                        )
                    else:
                        instance.add_func(item, with_things(function))
