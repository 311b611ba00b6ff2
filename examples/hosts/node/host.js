// @ts-check
// A host for polling source plugins in Node: polls every scope of a tenant once and prints the events.
//
//     node host.js PLUGIN.wasm SETTINGS.json SECRETS.json ORIGIN…
//
// The plugin is code of somebody else, and has no network and no secret: sandbox.js runs it. This file sends its requests:
// only those that the plugin declared, to an ORIGIN that was allowed, with each secret put in at its declared place. The
// duties of a host that are kept here are listed in docs/embedding.md.

import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { call, failure, load } from "./sandbox.js";

/**
 * @import { Batch, Credential, Description, Discovery, Page, Plan, PollStep, Scope, Shape, Token }
 *     from "./plugin/interfaces/collector-source-plugin.js"
 * @typedef {{ credential: Credential, placeholder: string, secret: string }} Sealed
 * @typedef {{ method: string, address: string, headers: [string, string][], body: Uint8Array }} Asked
 * @typedef {{ status: number, headers: [string, string][], body: Buffer }} Answer
 * @typedef {{ shapes: Shape[], origins: string[], sealed: Sealed[] }} Network
 */

// One call of the plugin; sandbox.js has its limits on memory and on time.
const [REQUESTS, REQUEST_BYTES, ANSWER_BYTES, ANSWERS_BYTES, HEADER_BYTES] = [128, 64 << 10, 8 << 20, 32 << 20, 32 << 10];
/** Lines that one call of the plugin gets for its requests that fail: it may try without end. */
const [TOLD_REQUESTS, LOG_LINE_CHARACTERS] = [5, 2_000];
/** Time within which a token is renewed at most once: a service that refuses every token is not asked at each step. */
const RENEWAL_MS = 300_000;
// One poll of one scope.
const [PAGES, PAGES_BYTES, CURSOR_CHARACTERS, POLL_MS] = [100, 32 << 20, 64 << 10, 600_000];
const [SCOPES, EVENTS, EVENT_BYTES, STATE_BYTES] = [20_000, 20_000, 64 << 10, 8 << 20];

/** The identity of the feed, from which the ids of its events follow. */
const [TENANT, FEED] = ["contoso", "contoso-prod"];

/** Headers that carry no credential. A request has no other header but those that its shape declares. */
const PLAIN_HEADERS = ["accept", "accept-language", "content-type", "if-none-match", "user-agent"];
/** Headers of the connection, which the host itself writes. */
const OWN_HEADERS = ["host", "content-length", "accept-encoding", "expect", "te", "trailer"];
/** The members of a token endpoint's answer that the plugin gets. */
const TOKEN_MEMBERS = ["token_type", "expires_in", "error", "error_description", "error_codes"];
/** The headers of that answer that the plugin gets, besides ids of the request. */
const TOKEN_HEADERS = ["content-type", "date", "retry-after", "server", "via"];

const denied = (/** @type {string} */ why) => failure("request-denied", why);

/** Makes the calls of the contract in their order. */
async function host(/** @type {string[]} */ [component, settingsFile, secretsFile, ...origins]) {
  const plugin = await load(component);
  const ask = (
    /** @type {string} */ name,
    /** @type {unknown[]} */ values,
    /** @type {Network | undefined} */ network = undefined,
  ) => {
    const used = { requests: 0, bytes: 0, told: 0 };
    return call(plugin, name, values, (/** @type {Asked} */ asked) => carried(asked, name, network, used), tell);
  };
  const secrets = JSON.parse(await readFile(secretsFile, "utf8"));
  const plain = JSON.parse(await readFile(settingsFile, "utf8"));
  /** @type {Description} */
  const description = await ask("describe", []);

  // The plugin gets placeholders of its credentials, also of those that stand among the settings.
  const names = description.credentials.map((credential) => credential.setting);
  for (const name of names) if (name in plain) secrets[name] ??= plain[name];
  const bare = Object.fromEntries(Object.entries(plain).filter(([name]) => !names.includes(name)));
  const given = names.filter((name) => secrets[name]);
  const settingsWith = (/** @type {(name: string, index: number) => string} */ placeholder) =>
    JSON.stringify({ ...bare, ...Object.fromEntries(given.map((name, index) => [name, placeholder(name, index)])) });
  /** @type {Plan} */
  const plan = await ask("prepare", [settingsWith((_, index) => `sealed-${index}`)]);
  /** @type {Sealed[]} */
  const sealed = given.map((name) => ({ credential: { tag: "setting", val: name }, ...placeholderOf(secrets[name]) }));
  const settings = settingsWith((_, index) => sealed[index].placeholder);
  const network = { shapes: plan.shapes, origins, sealed };

  let token = /** @type {Token | undefined} */ (await ask("fetchToken", [settings], network))?.value;
  let renewed = -Infinity;
  /** @type {Discovery} */
  const found = await ask("discover", [settings, token], network);
  if (found.scopes.length + found.skipped.length > SCOPES) throw failure("plugin-limit", "too many scopes");
  /** @type {Map<string, Scope>} */
  const scopes = new Map();
  for (const scope of found.scopes) if (!scopes.has(scope.id)) scopes.set(scope.id, scope);
  for (const scope of scopes.values()) {
    const due = Date.now();
    try {
      const pages = await poll(scope);
      const context = {
        feed: FEED,
        tenant: TENANT,
        scope,
        pollId: pollId(scope.id, due),
        collectedAtMilliseconds: BigInt(Date.now()),
      };
      // `normalize` gets the settings without credentials, and no network.
      /** @type {Batch} */
      const batch = await ask("normalize", [JSON.stringify(bare), context, { tag: "pages", val: pages }, undefined]);
      process.stdout.write(lines(batch));
      if (batch.outcome) throw batch.outcome;
    } catch (error) {
      // One scope that fails does not stop the others.
      tell(`${scope.id}: ${error.code ?? "host-failed"}: ${error.cause ?? error}`);
      process.exitCode = 1;
    }
  }

  /** Reads all pages of a scope, or none. @param {Scope} scope */
  async function poll(scope) {
    const [pages, cursors, begun] = [/** @type {Page[]} */ ([]), new Set(), performance.now()];
    /** @type {string | undefined} */
    let cursor;
    do {
      const step = await pollStep(scope, cursor);
      pages.push(...step.pages);
      cursor = step.next;
      const bytes = pages.reduce((sum, page) => sum + page.body.length, 0);
      if (bytes > PAGES_BYTES) throw failure("page-bytes-limit", "the pages of the poll are too large");
      if (pages.length > PAGES || cursors.size >= PAGES) throw failure("page-limit", "the poll has too many pages");
      if (performance.now() - begun > POLL_MS) throw failure("poll-time-limit", "the poll takes too long");
      if (cursor === undefined) return pages;
      if (cursor.length > CURSOR_CHARACTERS) throw failure("plugin-limit", "the cursor is too long");
      if (cursors.has(cursor)) throw failure("cursor-repeated", "the links of the pages form a loop");
      cursors.add(cursor);
    } while (true);
  }

  /** One step, and once more with another token if the service refuses this one. @returns {Promise<PollStep>} */
  async function pollStep(/** @type {Scope} */ scope, /** @type {string | undefined} */ cursor) {
    try {
      return await ask("poll", [settings, token, scope, cursor], network);
    } catch (error) {
      if (error.reaction !== "renew-token" || performance.now() - renewed < RENEWAL_MS) throw error;
      renewed = performance.now();
      token = (await ask("fetchToken", [settings], network))?.value;
      return await ask("poll", [settings, token, scope, cursor], network);
    }
  }
}

/** The events as lines: each is one JSON object on one line, with a uid of its own. */
function lines(/** @type {Batch} */ batch) {
  const uids = new Set(batch.events.map((event) => event.uid));
  if (batch.events.length > EVENTS || batch.state.length > STATE_BYTES)
    throw failure("plugin-limit", "too many events, or too large a state");
  if (uids.size < batch.events.length) throw failure("plugin-trapped", "two events have the same uid");
  return batch.events
    .map(({ body }) => {
      const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
      if (body.length > EVENT_BYTES || /[\r\n]/.test(text) || !text.startsWith("{"))
        throw failure("plugin-trapped", "an event is not one line of JSON");
      JSON.parse(text);
      return `${text}\n`;
    })
    .join("");
}

/** The id of a poll: the same feed, scope and due time give the same id on every host. A host that keeps a state adds a key. */
function pollId(/** @type {string} */ scope, /** @type {number} */ due) {
  const namespace = Buffer.from("8d2c9f0e64b14c579a3d1be077f526c4", "hex");
  const id = createHash("sha1").update(namespace).update(`${FEED}\n${scope}\n${due}`).digest().subarray(0, 16);
  id[6] = (id[6] & 0x0f) | 0x50;
  id[8] = (id[8] & 0x3f) | 0x80;
  return id.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

const placeholderOf = (/** @type {string} */ secret) => ({ placeholder: `sealed-${randomBytes(16).toString("hex")}`, secret });

/** Prints a line for people; words of a plugin are text and nothing else. */
const tell = (/** @type {string} */ line) =>
  process.stderr.write(`${line.slice(0, LOG_LINE_CHARACTERS).replace(/[^\P{C}]/gu, " ")}\n`);

/** Carries one request: judges it, puts its credentials in, sends it, and checks the answer for secrets. */
async function carried(/** @type {Asked} */ asked, /** @type {string} */ name, /** @type {Network | undefined} */ network, used) {
  try {
    if (!network) throw denied("this call runs without HTTP");
    if (++used.requests > REQUESTS) throw failure("plugin-limit", "the call sends too many requests");
    const { request, captures } = judged(asked, name, network);
    const answer = await sent(request);
    used.bytes += answer.body.length;
    if (used.bytes > ANSWERS_BYTES) throw failure("plugin-limit", "the answers to the call are too large");
    return { answer: checked(answer, captures, network.sealed) };
  } catch (error) {
    // The line begins with the host's words: method and address are the plugin's.
    if (++used.told <= TOLD_REQUESTS)
      tell(`a request of ${name} failed: ${error.cause ?? error}: ${asked.method} ${asked.address.split("?")[0]}`);
    const codes = {
      "request-denied": "HTTP-request-denied",
      ECONNREFUSED: "connection-refused",
      ENOTFOUND: "destination-not-found",
      ABORT_ERR: "HTTP-response-timeout",
    };
    return { error: codes[error.code] ? { tag: codes[error.code] } : { tag: "internal-error", val: "the host has no answer" } };
  }
}

/** Says whether a request may leave, and returns it with its credentials in place. */
function judged(
  /** @type {Asked} */ { method, address, headers: written, body },
  /** @type {string} */ name,
  /** @type {Network} */ { shapes, origins, sealed },
) {
  const url = new URL(address);
  // An address that another reader could understand differently does not leave: dot segments, also before `;`, encoded
  // slashes, user names.
  if (address.split("?")[0] !== url.origin + url.pathname || /%(2[ef5]|3b|5c|[01])|\/\.\.?;/i.test(url.pathname))
    throw denied("its address has two readings");
  const shape = shapes.find(
    ({ method: of, origin, path }) =>
      of === method &&
      origin === url.origin &&
      (path.tag === "exact" ? url.pathname === path.val : url.pathname.startsWith(path.val) && url.pathname !== path.val),
  );
  if (!shape) throw denied("no declared request matches it");
  if (!origins.includes(url.origin)) throw denied("its origin is not allowed");
  if (url.protocol !== "https:" && !["127.0.0.1", "[::1]"].includes(url.hostname))
    throw denied("everybody on the way can read what goes without TLS");
  // A call that has read data could send it to the token endpoint.
  if (shape.captures !== undefined && name !== "fetchToken") throw denied("a request for a token leaves from fetch-token alone");

  const headers = new Map(written.filter(([header]) => !OWN_HEADERS.includes(header)));
  const isForm = headers.get("content-type")?.startsWith("application/x-www-form-urlencoded") ?? false;
  const form = isForm ? [...new URLSearchParams(Buffer.from(body).toString())] : [];
  /** @type {(() => void)[]} */
  const puts = [];
  for (const { credential, place } of shape.credentials) {
    const fields = place.tag === "form-field" ? form.filter(([field]) => field === place.val) : [];
    const header = place.tag === "header" ? place.val.toLowerCase() : "authorization";
    const [before, found] =
      place.tag === "form-field" ? ["", fields[0]?.[1]] : [place.tag === "bearer" ? "Bearer " : "", headers.get(header)];
    if (!found) continue;
    const match = sealed.find((one) => isSame(one.credential, credential) && found === before + one.placeholder);
    if (!match || fields.length > 1) throw denied("it has a credential of the plugin's own");
    const write = (/** @type {string} */ value) =>
      place.tag === "form-field" ? (fields[0][1] = value) : headers.set(header, value);
    write("");
    puts.push(() => write(before + match.secret));
  }
  // What is left has no placeholder, no other header, and no body but a form beside a credential of the host.
  const rest = [address, ...headers, ...form, Buffer.from(body.length && !isForm ? body : []).toString()].flat().join("\n");
  if (sealed.some(({ placeholder }) => rest.includes(placeholder)))
    throw denied("a credential is in a place for which it was not declared");
  const odd = [...headers].find(([header, value]) => value && !PLAIN_HEADERS.includes(header));
  if (odd) throw denied(`its header ${odd[0]} is not declared`);
  if (body.length > REQUEST_BYTES || (body.length && !(isForm && puts.length)))
    throw denied("its body is too large, or no form with a credential");
  if (name === "poll" && sealed.length && !puts.length)
    throw denied("it carries no credential, and this call knows the tenant's data");
  for (const put of puts) put();
  const request = {
    url,
    method,
    headers: Object.fromEntries(headers),
    body: isForm ? new URLSearchParams(form).toString() : undefined,
  };
  return { request, captures: shape.captures };
}

const isSame = (/** @type {Credential} */ one, /** @type {Credential} */ other) =>
  one.tag === other.tag && (one.tag === "token" || one.val === /** @type {{ val: string }} */ (other).val);

/** Sends a request. A redirect is an answer, and following it is the plugin's decision: it would have to be declared. */
function sent({ url, method, headers, body }) {
  return new Promise((/** @type {(answer: Answer) => void} */ resolve, reject) => {
    const options = {
      method,
      headers: { ...headers, "accept-encoding": "identity" },
      maxHeaderSize: HEADER_BYTES,
      signal: AbortSignal.timeout(30_000),
    };
    const request = (url.protocol === "https:" ? https : http).request(url, options, (response) => {
      /** @type {Buffer[]} */
      const chunks = [];
      let bytes = 0;
      response.on("data", (chunk) => {
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES) request.destroy(new Error("the answer is too large"));
        else chunks.push(chunk);
      });
      const raw = response.rawHeaders;
      const pairs = raw.flatMap((value, at) =>
        at % 2 ? [/** @type {[string, string]} */ ([raw[at - 1].toLowerCase(), value])] : [],
      );
      response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: pairs, body: Buffer.concat(chunks) }));
      response.on("error", reject);
    });
    request.on("error", reject).end(body);
  });
}

/** The members of an answer that is a JSON object, also after a byte order mark; undefined for any other answer. */
function object(/** @type {Buffer} */ body) {
  try {
    const members = JSON.parse(new TextDecoder().decode(body));
    return typeof members === "object" && members && !Array.isArray(members) ? members : undefined;
  } catch {}
}

/** The answer as the plugin gets it: without the token that the host keeps, and without any secret. */
function checked(
  /** @type {Answer} */ { status, headers, body },
  /** @type {string | undefined} */ captures,
  /** @type {Sealed[]} */ sealed,
) {
  if (headers.some(([name, value]) => name === "content-encoding" && value !== "identity"))
    throw failure("encoded", "the answer is compressed");
  headers = headers.filter(([name]) => !["set-cookie", "content-length", "transfer-encoding"].includes(name));
  const members = object(body);
  // An answer with a token is known by its form, too: the plugin may leave out the declaration.
  if (members && Object.hasOwn(members, "access_token")) captures ??= "access_token";
  if (captures !== undefined) {
    if (!members) throw failure("not-json", "the token endpoint's answer is no JSON object");
    headers = headers.filter(([name]) => TOKEN_HEADERS.includes(name) || name.endsWith("request-id"));
    const token = members[captures];
    const known = Object.fromEntries(Object.entries(members).filter(([name]) => TOKEN_MEMBERS.includes(name)));
    if (status === 200 && typeof token === "string" && token) {
      const fresh = { credential: /** @type {Credential} */ ({ tag: "token" }), ...placeholderOf(token) };
      sealed.push(fresh);
      known[captures] = fresh.placeholder;
    }
    body = Buffer.from(JSON.stringify(known));
  }
  const seen = [...headers.flat().map((text) => Buffer.from(text, "latin1")), body];
  for (const { secret } of sealed) {
    const spellings = [
      secret,
      encodeURIComponent(secret),
      // The spelling of a form that this host sends: space is `+`, and `~` is `%7E`.
      new URLSearchParams([["", secret]]).toString().slice(1),
      JSON.stringify(secret).slice(1, -1),
      Buffer.from(secret).toString("base64").replace(/.?=*$/, ""),
    ];
    if (spellings.some((spelling) => seen.some((part) => part.includes(spelling))))
      throw failure("credential-echoed", "the answer holds a secret");
  }
  return { status, headers, body };
}

await host(process.argv.slice(2)).catch((error) => {
  // `prepare` reports all problems of the settings at once.
  for (const problem of Array.isArray(error) ? error : [])
    tell(`${problem.setting}: found ${problem.found}, expected ${problem.expected}`);
  if (!Array.isArray(error)) tell(`${error.code ?? "host-failed"}: ${error.cause ?? error}`);
  process.exitCode = 1;
});
