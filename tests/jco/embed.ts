// An embedding of the plugin in TypeScript: it loads the component, describes it and asks for its plan. It compiles only
// if the generator gives each type of the contract a name of its own.

import { readFile } from "node:fs/promises";
import { WASIShim } from "@bytecodealliance/preview2-shim/instantiation";
import { instantiate, type ImportObject } from "./plugin/plugin.js";
import type {
  Credential,
  CredentialUse,
  DeclaredCredential,
  Failure,
  Page,
  Place,
  PollResult,
  Problem,
} from "./plugin/interfaces/collector-source-plugin.js";

/** A credential as a reviewer reads it; each case of the variant is another shape. */
function named(credential: Credential): string {
  switch (credential.tag) {
    case "setting":
      return `the setting ${credential.val}`;
    case "assertion":
      return `an assertion of ${credential.val}`;
    case "token":
      return "the token";
  }
}

function placed(place: Place): string {
  switch (place.tag) {
    case "form-field":
      return `form field ${place.val}`;
    case "header":
      return `header ${place.val}`;
    case "bearer":
      return "bearer";
  }
}

/** What a host keeps of a declared credential is not what stands on a request. */
const declared = ({ setting, kind }: DeclaredCredential): string => `${setting}: ${kind}`;
const used = ({ credential, place }: CredentialUse): string => `${named(credential)} as ${placed(place)}`;

/** What a host passes on to `normalize`. */
const collected = (pages: Page[]): PollResult => ({ tag: "pages", val: pages });
const failed = (failure: Failure): PollResult => ({ tag: "failure", val: failure });

const imports = {
  ...new WASIShim().getImportObject(),
  "collector:source/log": { write: (level: string, message: string) => console.error(level, message) },
  "collector:source/credentials": {
    clientAssertion: (): string => {
      throw "not-configured";
    },
  },
} as unknown as ImportObject;
const load = async (path: string) => WebAssembly.compile(await readFile(new URL(`./plugin/${path}`, import.meta.url)));
const { plugin } = await instantiate(load, imports);

const description = plugin.describe();
console.log(description.name, description.credentials.map(declared).join(", "));
const settings = {
  client_key: "11111111-2222-3333-4444-555555555555",
  client_secret: "a-placeholder-of-the-host",
  token_url: "aaaabbbb-0000-cccc-1111-dddd2222eeee",
  subscription_id: "20ff7fc3-e762-44dd-bd96-b71116dcdc23",
};
for (const shape of plugin.prepare(JSON.stringify(settings)).shapes) {
  const path = shape.path.tag === "exact" ? shape.path.val : `${shape.path.val}…`;
  console.log(shape.method, shape.origin + path, shape.credentials.map(used).join(", "));
}
try {
  plugin.prepare("{}");
} catch (error) {
  const problems = error as Problem[];
  console.log("without settings:", problems.map((problem) => problem.setting).join(", "));
}
const lost: Failure = { reaction: "try-later", code: "transport", cause: "the service was not reached", waitSeconds: 17 };
const page: Page = { kind: "secure-scores", body: new TextEncoder().encode('{"value":[]}') };
console.log(collected([page]).tag, failed(lost).tag);
