// Makes JavaScript and types of a component: `node transpile.js COMPONENT FOLDER`.

import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { transpile } from "@bytecodealliance/jco-transpile";

const [component, folder] = process.argv.slice(2);
const { files } = await transpile(component, { name: "plugin", instantiation: "async" });
for (const [name, bytes] of Object.entries(files)) {
  const path = join(folder, name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, bytes);
}
