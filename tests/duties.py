"""Tests `conformance --host`: the hosts of this project keep every duty, and careless copies of the examples, which leave the
duties out, are found out for each of them.

    tests/duties.py HOST-HARNESS PLUGIN-HOST=COMMAND…

A name that ends in `-silent` is a host that prints no line of the plugin, so that the duty `log` cannot be seen.
"""

import concurrent.futures
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

harness = os.path.abspath(sys.argv[1])
hosts = dict(argument.split("=", 1) for argument in sys.argv[2:])
EXAMPLES = Path("examples/hosts").resolve()

# How the copy of the host in Node leaves out each duty: a file, and a text with its replacement.
CARELESS_NODE = {
    "shapes": ("host.js", 'if (!shape) throw denied("no declared request matches it");',
               "if (!shape) return { request: { url, method, headers: {} }, captures: undefined };"),
    "origins": ("host.js", "if (!origins.includes(url.origin))", "if (false)"),
    "headers": ("host.js", "if (odd)", "if (false)"),
    "redirects": ("host.js", "      let bytes = 0;\n", "      let bytes = 0;\n      const to = response.headers.location;\n"
                  "      if (to) return resolve(sent({ url: new URL(to), method, headers, body }));\n"),
    "own-credentials": ("host.js", "if (!match || fields.length > 1)", "if (!match) puts.push(() => {});\n    if (!match) continue;\n    if (false)"),
    "token-requests": ("host.js", 'if (shape.captures !== undefined && name !== "fetchToken")', "if (false)"),
    "pure-calls": ("host.js", 'if (!network) throw denied("this call runs without HTTP");',
                   "if (!network) return { answer: await sent({ ...asked, url: new URL(asked.address), headers: {} }) };"),
    "placeholders": ("host.js", "...placeholderOf(secrets[name]) }));", "placeholder: secrets[name], secret: secrets[name] }));"),
    "places": ("host.js", "if (sealed.some(({ placeholder }) => rest.includes(placeholder)))", "if (false)"),
    "token": ("host.js", "...placeholderOf(token) };", "placeholder: token, secret: token };"),
    "echoes": ("host.js", "if (spellings.some(", "if (false && spellings.some("),
    "bare-settings": ("host.js", '[JSON.stringify(bare), context,', '[settings, context,'),
    "output": ("host.js", "  for (const put of puts) put();\n", "  for (const put of puts) put();\n  tell(JSON.stringify([...headers]));\n"),
    "time": ("sandbox.js", "[64 << 20, 5_000, 60_000]", "[64 << 20, 600_000, 600_000]"),
    "memory": ("sandbox.js", "bounded(await readFile(join(folder, name)))", "await readFile(join(folder, name))"),
    "requests": ("host.js", "if (++used.requests > REQUESTS)", "if (false)"),
    "answers": ("host.js", "if (bytes > ANSWER_BYTES)", "if (false)"),
    "cursors": ("host.js", "if (cursors.has(cursor))", "if (false)"),
    "pages": ("host.js", "if (pages.length > PAGES || cursors.size >= PAGES)", "if (false)"),
    "page-bytes": ("host.js", "if (bytes > PAGES_BYTES)", "if (false)"),
    "log": ("sandbox.js", "if (++log <= LOG_LINES)", "if (true)"),
    "complete": ("host.js", "const step = await pollStep(scope, cursor);",
                 'const step = await pollStep(scope, cursor).catch(() => /** @type {PollStep} */ ({ pages: [], notices: [] }));'),
    "events": ("host.js", "/[\\r\\n]/.test(text) || ", ""),
    "scopes": ("host.js", "    } catch (error) {\n      // One scope", "      if (scope.id === \"half\") break;\n    } catch (error) {\n      // One scope"),
}

# In the host in Node, each call is a thread, and cannot share an instance. The one in Python can.
CARELESS_PYTHON = {
    "fresh-instances": [
        ("sandbox.py", "store = Store(self.engine)", "self.carry = carry\n        kept = getattr(self, 'kept', None)\n"
         "        store = kept[0] if kept else Store(self.engine)"),
        ("sandbox.py", "spent.beside(carry, asked)", "spent.beside(self.carry, asked)"),
        ("sandbox.py", "instance = linker.instantiate(store, self.component)",
         "instance = kept[1] if kept else linker.instantiate(store, self.component)\n            self.kept = (store, instance)"),
    ],
}


def careless(folder, example, edits):
    """Makes a copy of an example with these edits."""
    copy = Path(folder, example)
    shutil.copytree(EXAMPLES / example, copy, symlinks=True, ignore=shutil.ignore_patterns("node_modules", "plugin*"))
    if example == "node":
        (copy / "node_modules").symlink_to(EXAMPLES / "node/node_modules")
    for name, old, new in edits:
        text = (copy / name).read_text()
        if text.count(old) != 1:
            sys.exit(f"{example}/{name}: found {text.count(old)} times, expected once: {old}")
        (copy / name).write_text(text.replace(old, new))
    return copy


def examined(command, *options):
    """Returns the exit status, and the duties that are broken and that were not seen."""
    run = [harness, "conformance", "--host", "--json", *options, "--", *shlex.split(command)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=500)
    if not done.stdout:
        sys.exit(f"{command}: found no report, expected one\n{done.stderr}")
    rows = json.loads(done.stdout)["duties"]
    status = {word: {row["duty"] for row in rows if row["status"] == word} for word in ("kept", "broken", "not-seen")}
    return done.returncode, status, done.stdout


def keeps(name, command):
    code, found, report = examined(command)
    unseen = {"log"} if name.endswith("-silent") else set()
    if (code, found["broken"], found["not-seen"]) != (3 if unseen else 0, set(), unseen):
        return f"{name}: found status {code} and {report}, expected that it keeps every duty"
    print(f"{name}: keeps {len(found['kept'])} duties")


def breaks(name, command, duties):
    code, found, report = examined(command, "--wait", "15")
    if code != 1 or not duties <= found["broken"]:
        return f"{name}: found status {code} and {report}, expected that it breaks {sorted(duties - found['broken'])}, too"
    print(f"{name}: is found out for {len(duties)} duties")


with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
    node = careless(folder, "node", CARELESS_NODE.values())
    python = careless(folder, "python", CARELESS_PYTHON["fresh-instances"])
    jobs = [
        pool.submit(breaks, "a careless host in Node", f"node {node}/host.js", set(CARELESS_NODE)),
        *(pool.submit(keeps, name, command) for name, command in hosts.items()),
        pool.submit(breaks, "a careless host in Python", f"{sys.executable} {python}/host.py", set(CARELESS_PYTHON)),
    ]
    faults = [fault for job in jobs if (fault := job.result())]
known = {row["duty"] for row in json.loads(examined("true")[2])["duties"]}
if missing := known - set(CARELESS_NODE) - set(CARELESS_PYTHON):
    faults.append(f"no careless host leaves out {sorted(missing)}")
sys.exit("\n".join(faults) or None)
