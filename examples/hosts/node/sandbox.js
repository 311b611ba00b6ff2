// @ts-check
// The sandbox: runs each call of a plugin in a thread of its own, with a limit on memory and on time. The second half of the
// file is that thread. It has no secrets and sends nothing: it hands each request to the host, and waits for the answer.

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { MessageChannel, Worker, isMainThread, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { transpile } from "@bytecodealliance/jco-transpile";

/** @import { Answer, Asked } from "./host.js" */

/** Memory of one call; the time of the plugin's own code; the time of the whole call, with the requests that it waits for. */
const [MEMORY_BYTES, OWN_MS, CALL_MS] = [64 << 20, 5_000, 60_000];
/** The export of a plugin: another version of the contract would be another export. */
const CONTRACT = "collector:source/plugin@0.2.0";
const [LOG_LINES, LOG_LINE_CHARACTERS, REQUEST_BYTES] = [100, 2_000, 64 << 10];

/** A failure that the host makes itself, in the form of the contract. */
export const failure = (/** @type {string} */ code, /** @type {string} */ cause) => ({ reaction: "fix-plugin", code, cause });

/** Makes JavaScript of a component, once, and compiles its modules with a limit on their memory. */
export async function load(/** @type {string} */ component) {
  const bytes = await readFile(component);
  const folder = join(import.meta.dirname, "plugins", createHash("sha256").update(bytes).digest("hex"));
  if (!existsSync(folder)) {
    const { files } = await transpile(component, { name: "plugin", instantiation: "async" });
    const made = `${folder}.${process.pid}`;
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(made, name)), { recursive: true });
      await writeFile(join(made, name), content);
    }
    await rename(made, folder).catch(() => {});
  }
  const names = (await readdir(folder)).filter((name) => name.endsWith(".wasm"));
  const compiled = names.map(async (name) => [name, await WebAssembly.compile(bounded(await readFile(join(folder, name))))]);
  return { entry: pathToFileURL(join(folder, "plugin.js")).href, modules: Object.fromEntries(await Promise.all(compiled)) };
}

/** Gives the memory of a module a maximum. JavaScript has no other limit for memory that a module makes itself. */
function bounded(/** @type {Buffer<ArrayBuffer>} */ wasm) {
  const number = (/** @type {number} */ at) => {
    let [value, shift, byte] = [0, 0, 0];
    do {
      byte = wasm[at++];
      value += (byte & 127) * 2 ** shift;
      shift += 7;
    } while (byte & 128);
    return [value, at];
  };
  const written = (/** @type {number} */ value) => {
    const bytes = [];
    for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128);
    return [...bytes, value];
  };
  for (let at = 8; at < wasm.length;) {
    const [length, start] = number(at + 1);
    if (wasm[at] === 5) {
      // Section 5: the number of memories, then flags, minimum and maximum in pages of 64 KiB.
      const [least] = number(start + 2);
      if (wasm[start] !== 1 || wasm[start + 1] > 1 || least > MEMORY_BYTES >> 16)
        throw failure("plugin-limit", "its memory is of another kind, or too large");
      const section = [1, 1, ...written(least), ...written(MEMORY_BYTES >> 16)];
      return Buffer.concat([
        wasm.subarray(0, at),
        Buffer.from([5, ...written(section.length), ...section]),
        wasm.subarray(start + length),
      ]);
    }
    at = start + length;
  }
  return wasm;
}

/** Makes one call in a thread of its own, which ends when its time is over. `carry` answers its requests. */
export function call(plugin, name, values, carry, tell) {
  const { port1: port, port2 } = new MessageChannel();
  const signal = new Int32Array(new SharedArrayBuffer(4));
  const data = { plugin, name, values, port: port2, signal };
  const worker = new Worker(new URL(import.meta.url), {
    workerData: data,
    transferList: [port2],
    env: {},
    resourceLimits: { maxOldGenerationSizeMb: 256 },
  });
  const answered = new Promise((resolve, reject) => {
    const over = () => reject(failure("plugin-limit", `the call ${name} takes too long`));
    const whole = setTimeout(over, CALL_MS).unref();
    // The time of the plugin itself: it stands still while a request is under way.
    let [left, since] = [OWN_MS, performance.now()];
    let own = setTimeout(over, left).unref();
    port.on("message", async (/** @type {Asked} */ asked) => {
      clearTimeout(own);
      left -= performance.now() - since;
      if (left <= 0) return over();
      port.postMessage(await carry(asked));
      Atomics.store(signal, 0, 1);
      Atomics.notify(signal, 0);
      since = performance.now();
      own = setTimeout(over, left).unref();
    });
    worker.on("message", ({ log, answer, error }) => (log ? tell(log) : error ? reject(error) : resolve(answer)));
    worker.on("error", (error) => reject(failure("plugin-trapped", String(error))));
    worker.on("exit", () => {
      clearTimeout(whole);
      clearTimeout(own);
      port.close();
      reject(failure("plugin-trapped", "the call ended without an answer"));
    });
  });
  return answered.finally(() => worker.terminate());
}

/** The other thread: makes the one call. Every import of the component is a few lines here, and there are no others. */
async function thread() {
  const { plugin, name, values, port, signal } = workerData;
  let log = 0;
  class Fields {
    constructor(/** @type {[string, Uint8Array][]} */ list = []) {
      this.list = list;
    }
    static fromList(/** @type {[string, Uint8Array][]} */ list) {
      return new Fields(list);
    }
    entries() {
      return this.list;
    }
  }
  class Pollable {
    block() {}
  }
  class OutputStream {
    bytes = Buffer.alloc(0);
    checkWrite() {
      return 65_536n;
    }
    write(/** @type {Uint8Array} */ chunk) {
      if (this.bytes.length > REQUEST_BYTES) throw { tag: "closed" };
      this.bytes = Buffer.concat([this.bytes, chunk]);
    }
    flush() {}
    subscribe() {
      return new Pollable();
    }
  }
  class InputStream {
    constructor(/** @type {Uint8Array} */ bytes) {
      this.bytes = bytes;
    }
    blockingRead(/** @type {bigint} */ length) {
      if (!this.bytes.length) throw { tag: "closed" };
      const read = this.bytes.subarray(0, Number(length));
      this.bytes = this.bytes.subarray(read.length);
      return read;
    }
  }
  class OutgoingBody {
    stream = new OutputStream();
    write() {
      return this.stream;
    }
    static finish() {}
  }
  class OutgoingRequest {
    method = "GET";
    scheme = "https";
    authority = "";
    path = "/";
    content = new OutgoingBody();
    constructor(/** @type {Fields} */ headers) {
      this.headers = headers;
    }
    body() {
      return this.content;
    }
    setMethod(/** @type {{ tag: string, val?: string }} */ { tag, val }) {
      this.method = val ?? tag.toUpperCase();
    }
    setPathWithQuery(path = "/") {
      this.path = path;
    }
    setScheme(/** @type {{ tag: string, val?: string }} */ scheme) {
      this.scheme = (scheme?.val ?? scheme?.tag ?? "https").toLowerCase();
    }
    setAuthority(authority = "") {
      this.authority = authority;
    }
  }
  class RequestOptions {
    setConnectTimeout() {}
  }
  class IncomingBody {
    constructor(/** @type {Uint8Array} */ bytes) {
      this.bytes = bytes;
    }
    stream() {
      return new InputStream(this.bytes);
    }
  }
  class IncomingResponse {
    constructor(/** @type {Answer} */ answer) {
      this.answer = answer;
    }
    status() {
      return this.answer.status;
    }
    headers() {
      return new Fields(this.answer.headers.map(([name, value]) => [name, Buffer.from(value)]));
    }
    consume() {
      return new IncomingBody(this.answer.body);
    }
  }
  class FutureIncomingResponse {
    constructor(/** @type {OutgoingRequest} */ request) {
      this.request = request;
    }
    subscribe() {
      return new Pollable();
    }
    /** Sends the request, whose body is complete by now, and waits for the other thread to carry it. */
    get() {
      const { method, scheme, authority, path, headers, content } = this.request;
      const written = headers.list.map(([header, value]) => [header.toLowerCase(), Buffer.from(value).toString("latin1")]);
      port.postMessage({ method, address: `${scheme}://${authority}${path}`, headers: written, body: content.stream.bytes });
      // The notice of the previous answer may arrive only now.
      while (!Atomics.load(signal, 0)) Atomics.wait(signal, 0, 0);
      Atomics.store(signal, 0, 0);
      const { answer, error } = receiveMessageOnPort(port)?.message;
      return { tag: "ok", val: error ? { tag: "err", val: error } : { tag: "ok", val: new IncomingResponse(answer) } };
    }
  }
  const imports = {
    "collector:source/log": {
      write(/** @type {string} */ level, /** @type {string} */ message) {
        if (++log <= LOG_LINES)
          parentPort?.postMessage({ log: `the plugin says (${level}): ${message.slice(0, LOG_LINE_CHARACTERS)}` });
      },
    },
    // This host signs nothing: it takes client secrets only.
    "collector:source/credentials": {
      clientAssertion() {
        throw "not-configured";
      },
    },
    "wasi:clocks/monotonic-clock": {},
    "wasi:io/error": { Error: class {} },
    "wasi:io/poll": { Pollable },
    "wasi:io/streams": { InputStream, OutputStream },
    "wasi:http/types": {
      Fields,
      FutureIncomingResponse,
      IncomingBody,
      IncomingResponse,
      OutgoingBody,
      OutgoingRequest,
      RequestOptions,
    },
    "wasi:http/outgoing-handler": { handle: (/** @type {OutgoingRequest} */ request) => new FutureIncomingResponse(request) },
  };
  const { instantiate } = await import(plugin.entry);
  const instance = await instantiate((/** @type {string} */ module) => plugin.modules[module], imports);
  try {
    const exported = instance[CONTRACT];
    // jco also gives each export a short name, without package and version.
    const found = Object.keys(instance).filter((key) => key.includes(":"));
    if (!exported) throw failure("version-refused", `the plugin exports ${found}, expected ${CONTRACT}`);
    parentPort?.postMessage({ answer: exported[name](...values) });
  } catch (error) {
    // A failure of the contract is thrown as it is; an error of JavaScript is a trap.
    parentPort?.postMessage({ error: error instanceof Error ? failure("plugin-trapped", String(error)) : error });
  }
}

if (!isMainThread) await thread();
