// Calls functions of the example host in Node with what a hostile plugin or a poor service gives it. tests/hosts.py puts this
// file beside a copy of the host that exports them; host_steps.py does the same in Python.

import assert from "node:assert/strict";
import { carried, checked, judged, lines } from "./host.js";
import { call, failure } from "./sandbox.js";

const [SECRET, ORIGIN] = ["a secret~of tests €", "https://service.example"];
const shape = { method: "GET", origin: ORIGIN, path: { tag: "prefix", val: "/data/" }, credentials: [], captures: undefined };
const network = { shapes: [shape], origins: [ORIGIN], sealed: [] };
const sent = (path) => judged({ method: "GET", address: ORIGIN + path, headers: [], body: Buffer.of() }, "discover", network);
const answered = (body, sealed, headers = []) => checked({ status: 200, headers, body: Buffer.from(body) }, undefined, sealed);

for (const path of ["/data/..;/x", "/data/.;x/y", "/data/a%3bb", "/data/%3B"])
  assert.throws(() => sent(path), { code: "request-denied" }, path);
sent("/data/a;b=..");

// An answer with a token that no shape declares.
for (const mark of ["", "\ufeff"]) {
  const [sealed, body] = [[], `${mark}{"access_token":"token-of-tests","expires_in":1,"more":"x"}`];
  const answer = answered(body, sealed, [["x-token", "of-the-service"], ["x-request-id", "7"]]);
  assert.deepEqual(JSON.parse(answer.body), { access_token: sealed[0].placeholder, expires_in: 1 });
  assert.deepEqual(answer.headers, [["x-request-id", "7"]]);
}
for (const echo of [SECRET, `${new URLSearchParams({ a: SECRET })}`, Buffer.from(SECRET).toString("base64")])
  assert.throws(() => answered(echo, [{ secret: SECRET }]), { code: "credential-echoed" }, echo);

for (const body of ['{"a":NaN}', "\ufeff{}", "[]", Buffer.from('{"a":1}', "utf16le")])
  assert.throws(() => lines({ events: [{ uid: "1", body: Buffer.from(body) }], state: [] }), String(body));

// Of many denied requests, few are told, and each line begins with the host's words.
const [told, used, write] = [[], { requests: 0, bytes: 0, told: 0 }, process.stderr.write];
process.stderr.write = (line) => told.push(line);
for (let count = 0; count < 1_000; count++)
  await carried({ method: "credential-echoed", address: `${ORIGIN}/`, headers: [], body: Buffer.of() }, "describe", undefined, used);
process.stderr.write = write;
assert.equal(told.length, 5);
assert.match(told[0], /^a request of describe failed/);

/** Calls a plugin of JavaScript, whose request the host denies each time. */
function called(version, poll) {
  const text = `export const instantiate = (_, imports) => ({ "collector:source/plugin@${version}": { poll() { ${poll} } } });`;
  const plugin = { entry: `data:text/javascript,${encodeURIComponent(text)}`, modules: {} };
  return call(plugin, "poll", [], async () => ({ error: { tag: "HTTP-request-denied" } }), () => {});
}

// A call whose time is over ends, although the host only denies its requests.
const http = 'const { FutureIncomingResponse, OutgoingRequest, Fields } = imports["wasi:http/types"];';
const endless = `${http} for (;;) new FutureIncomingResponse(new OutgoingRequest(new Fields())).get();`;
await assert.rejects(called("0.2.0", endless), failure("plugin-limit", "the call poll takes too long"));
await assert.rejects(called("0.3.0", ""), { code: "version-refused", cause: /exports collector:source\/plugin@0\.3\.0, expected/ });
console.log("node: judges the requests, answers and events of host_steps.js");
process.exit();
