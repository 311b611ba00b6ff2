"""Runs the commands of the documents as a reader does: python tests/guides.py PROGRAM [DOCUMENT…].

Each document gets a copy of the repository of its own, and one shell that runs its blocks from the top to the bottom, in the
folder of the root for README.md and docs/, else in the folder of the document. PROGRAM is `host-harness` there.
docs/testing.md has the rules for authors. tests/readers.rs checks the `toml` blocks and that commands exist.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS_FOR_A_DOCUMENT = 300
NOT_RUN = "Not run by CI:"
# Commands with these words would change the machine that runs them.
OUTSIDE = re.compile(r"(?<![\w.}])/(?:etc|usr|var|opt|root|home|srv)/|\b(?:sudo|systemctl|docker|podman|apt|apt-get)\b")

# Blocks that other tests take from the document, by document and language.
ELSEWHERE = {
    ("docs/detect.md", "jq"): "tests/detections.rs",
    ("docs/detect.md", "tql"): "tests/detect.py",
    ("docs/detect.md", "yaml"): "tests/detect.py",
    ("docs/detect.md", "spl"): "tests/detections.rs",
    ("docs/detect.md", "kusto"): "tests/kusto/check.js",
}

# Functions for hidden commands, and stand-ins for commands that CI runs elsewhere or that ask a person.
PRELUDE = r"""
set -e -o pipefail
# simulated FILE [OPTION…]: starts the simulated service, puts its tenants and its network in the place of those in FILE, and
# exports their secrets.
simulated() {
    local file=$1 own; shift
    own=$(mktemp)
    host-harness simulate "${@:---day=1h}" >"$own" &
    until grep -q '^# export' "$own"; do sleep 0.05; done
    sleep 0.1
    touch "$file"
    awk '/^\[/ { gone = /^\[\[feed\]\]|^\[feed\.|^\[network\]/ } !gone' "$file" >"$own.file"
    cat "$own" >>"$own.file"
    mv "$own.file" "$file"
    eval "$(sed -n 's/^# export/export/p' "$own")"
}
# until_true COMMAND…: waits until a command succeeds, for a minute.
until_true() {
    local end=$((SECONDS + 60))
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then echo "did not come true: $*"; "$@"; return; fi
        sleep 0.1
    done
}
read() {
    if [ "$1" != -rs ]; then builtin read "$@"; return; fi
    printf -v "$2" %s "$(printenv "$2" || echo a-pasted-value)"
}
cargo() {
    if [ "$1 $2" = "run --" ]; then shift 2; host-harness "$@"; return; fi
    grep -qF "cargo $*" "$REPOSITORY/.ci/run" || { echo "neither this shell nor .ci/run runs: cargo $*"; return 1; }
}
# Where the machine lacks SQLite's shell, Python's SQLite does the same.
command -v sqlite3 >/dev/null || sqlite3() {
    python3 - "$@" <<'END'
import sqlite3, sys
database, text = sqlite3.connect(sys.argv[1]), sys.argv[2]
if text.startswith(".backup "):
    database.backup(sqlite3.connect(text.split("'")[1]))
else:
    print(*("|".join(map(str, row)) for row in database.execute(text)), sep="\n")
    database.commit()
END
}
ended() { [ "$1" = "$2" ] || { echo "ended with status $1, not $2"; exit 1; }; }
"""


class Block:
    def __init__(self, line, language, text, before, background):
        self.line, self.language, self.text, self.background = line, language, text, background
        marked = NOT_RUN in before
        self.reason = before.split(NOT_RUN, 1)[1].strip() if marked else None


class Document:
    def __init__(self, path, text):
        self.path, self.steps, self.faults = path, [], []
        lines = text.splitlines()
        paragraph, background, number = [], False, 0
        while number < len(lines):
            line = lines[number]
            if fence := re.match(r"( *)```(\S*)", line):
                begin, number = number, number + 1
                while number < len(lines) and not lines[number].startswith(fence[1] + "```"):
                    number += 1
                body = "".join(one.removeprefix(fence[1]) + "\n" for one in lines[begin + 1 : number])
                self.steps.append(Block(begin + 1, fence[2], body, " ".join(paragraph), background))
                paragraph, background = [], False
            elif line.startswith("<!-- background -->"):
                background = True
            elif line.startswith("<!-- run:"):
                begin = number
                while not lines[number].endswith("-->"):
                    number += 1
                hidden = "\n".join(lines[begin : number + 1])
                self.steps.append(Block(begin + 1, "hidden", hidden[len("<!-- run:") : -len("-->")] + "\n", "", False))
            elif line.strip():
                # The paragraph just before a block belongs to it, also across an empty line.
                after_empty = number > 0 and not lines[number - 1].strip()
                paragraph = [line] if after_empty else [*paragraph, line]
            number += 1

    def fault(self, line, text):
        self.faults.append(f"{self.path}:{line}: {text}")


class Ports:
    """Free ports in place of the document's."""

    def __init__(self):
        self.free = {}

    def put(self, text):
        def free(found):
            return f"{found[1]}:{self.free.setdefault(found[2], str(free_port()))}"

        return re.sub(r"\b(127\.0\.0\.1|localhost):(\d{2,5})", free, text)

    def back(self, text):
        for told, free in self.free.items():
            text = text.replace(f":{free}", f":{told}")
        return text


def excerpt(document, block):
    """Returns the file beside the document that the first line of the block names as a comment, or nothing."""
    name = re.match(r"(?:#|//|;|--) (\S+)\n", block.text)
    file = name and ROOT / pathlib.Path(document.path).parent / name[1]
    return file if file and file.is_file() else None


def is_within(text, whole):
    lines = iter(line.strip() for line in whole.splitlines())
    return all(line.strip() in lines for line in text.splitlines() if line.strip())


def judge(document, block):
    """Reports a block that is neither run nor marked, and checks those that are only read."""
    if block.reason is not None:
        if len(block.reason) < 10:
            document.fault(block.line, f"no reason after \"{NOT_RUN}\"")
        return
    match block.language:
        case "console" | "sh":
            if outside := OUTSIDE.search(re.sub(r" #.*", "", block.text)):
                document.fault(block.line, f"\"{outside[0]}\" belongs to the machine, which this program leaves alone")
        case "hidden" | "text":
            return
        case "toml":
            if file := excerpt(document, block):
                if not is_within(block.text.split("\n", 1)[1], file.read_text()):
                    document.fault(block.line, f"{file.name} has other lines")
        case "json" | "ndjson":
            try:
                for part in [block.text] if block.language == "json" else block.text.splitlines():
                    json.loads(part)
            except ValueError as error:
                document.fault(block.line, f"no JSON: {error}")
        case "":
            document.fault(block.line, "the block names no language")
        case language:
            if other := ELSEWHERE.get((document.path, language)):
                name = pathlib.Path(document.path).name
                if name not in (ROOT / other).read_text():
                    document.fault(block.line, f"{other} does not read {name}")
            elif file := excerpt(document, block):
                if not is_within(block.text.split("\n", 1)[1], file.read_text()):
                    document.fault(block.line, f"{file.name} has other lines")
            else:
                document.fault(block.line, f"a block of {language} that nothing runs or reads: say \"{NOT_RUN} REASON\"")


def commands(block):
    """Returns the commands of a console block, each with the status that its comment tells, and the lines of output."""
    found, output, open_line = [], [], False
    for line in block.text.splitlines():
        if open_line or line.startswith("$ "):
            text = line if open_line else line[2:]
            if open_line:
                found[-1] = found[-1] + "\n" + text
            else:
                found.append(text)
            open_line = text.split(" #")[0].endswith("\\")
        elif line:
            output.append(line)
    return found, output


def script(document, ports, folder):
    """Returns the shell script of a document, and the output that each of its blocks should give."""
    parts, expected = [PRELUDE], {}
    for block in document.steps:
        if block.reason is not None:
            continue
        head = f"exec >'{folder}/out.{block.line}' 2>&1; echo {block.line} >'{folder}/at'\n"
        text = ports.put(block.text)
        if block.language in ("hidden", "sh"):
            parts.append(head + (f"(\n{text}) &\n" if block.background else text))
        elif block.language == "console":
            lines, expected[block.line] = commands(block)
            if not lines:
                document.fault(block.line, "a console block without a line that begins with \"$ \"")
            parts.append(head)
            for line in map(ports.put, lines):
                status = re.search(r" #.*\bends with status (\d+)", line)
                if block.background:
                    # Without its comment, so that `$!` is the process of the program itself.
                    parts.append(re.sub(r"\s+#\s.*", "", line) + " &\n")
                elif status:
                    parts.append(f"code=0; {{ {line}\n}} || code=$?; ended $code {status[1]}\n")
                else:
                    parts.append(f"{line}\n")
        elif block.language == "toml":
            if name := re.match(r"# (\S+\.toml)\n", block.text):
                parts.append(f"mkdir -p \"$(dirname {name[1]})\"; cat >{name[1]} <<'END-OF-TOML'\n{text}END-OF-TOML\n")
    return "".join(parts), expected


def differs(expected, output):
    """Returns the first line of the expected ones that the output lacks. They stand in this order; `…` stands for any text."""
    lines = iter(re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines())
    for line in expected:
        pattern = ".*".join(re.escape(part.rstrip()) if index else re.escape(part) for index, part in enumerate(line.split("…")))
        if line.strip() == "…":
            continue
        if not any(re.fullmatch(pattern, one.rstrip()) for one in lines):
            return line
    return None


def files():
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def environment(program, folder):
    kept = {key: value for key, value in os.environ.items() if not re.search("proxy|XDG_|CACHE_DIR|SECRET", key, re.IGNORECASE)}
    programs = folder / "bin"
    programs.mkdir()
    (programs / "host-harness").symlink_to(program)
    # `cargo xtask test` unpacks programs that the machine lacks.
    unpacked = [ROOT / "target" / name for name in ("jq",)]
    libraries = [str(one) for place in unpacked for one in place.glob("usr/lib/*-linux-gnu")]
    paths = [str(programs), kept["PATH"], *(str(place / "usr/bin") for place in unpacked)]
    kept |= {"PATH": ":".join(paths), "HOME": str(folder), "REPOSITORY": str(ROOT), "LC_ALL": "C.UTF-8", "TMPDIR": str(folder)}
    # No document installs into the Python of the machine.
    kept["PIP_REQUIRE_VIRTUALENV"] = "1"
    if libraries:
        kept["LD_LIBRARY_PATH"] = ":".join(libraries)
    return kept


def run(document, program, cache, names):
    """Runs the blocks of a document, in order."""
    with tempfile.TemporaryDirectory(prefix="guides-") as made:
        folder = pathlib.Path(made)
        ports = Ports()
        text, expected = script(document, ports, folder)
        if not expected and not any(block.language in ("sh", "hidden") for block in document.steps if block.reason is None):
            return
        copy = folder / "repository"
        for name in names:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        place = pathlib.Path(document.path).parent
        place = copy if str(place) in (".", "docs") else copy / place
        place.mkdir(parents=True, exist_ok=True)
        (folder / "script").write_text(text)
        variables = environment(program, folder) | {"XDG_CACHE_HOME": str(cache)}
        shell = subprocess.Popen(["bash", str(folder / "script")], cwd=place, env=variables, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            code = shell.wait(SECONDS_FOR_A_DOCUMENT)
        except subprocess.TimeoutExpired:
            code = f"no end within {SECONDS_FOR_A_DOCUMENT} s"
        finally:
            try:
                os.killpg(shell.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            shell.wait()
        output = {int(one.suffix[1:]): ports.back(one.read_text(errors="replace")) for one in folder.glob("out.*")}
        if code != 0:
            at = int((folder / "at").read_text())
            text = output[at]
            if len(text) > 4_000:
                text = f"{text[:2_000]}\n…\n{text[-2_000:]}"
            document.fault(at, f"status {code}\n{text}")
            return
        for line, lines in expected.items():
            if (missing := differs(lines, output[line])) is not None:
                document.fault(line, f"the output has no line \"{missing}\" at this place:\n{output[line][:3000]}")


def check(path, text, program, cache, names):
    document = Document(path, text)
    for block in document.steps:
        judge(document, block)
    if not document.faults:
        run(document, program, cache, names)
    return document.faults


# A text for each fault that this program finds, and one without a fault.
TRIALS = [
    ("", "```console\n$ host-harness --version\nhost-harness …\n```\n\n```json\n{}\n```\n\nNot run by CI: needs Azure.\n\n```sh\nfalse\n```\n"),
    ("", "```toml\n# a/b.toml\nlisten = \"127.0.0.1:99\"\n```\n\n<!-- run: grep -v :99 a/b.toml -->\n\n```console\n$ false   # ends with status 1\n```\n"),
    ("", "<!-- background -->\n```sh\nsleep 600\n```\n"),
    ("no reason", "Not run by CI: no.\n\n```sh\ntrue\n```\n"),
    ("belongs to the machine", "```sh\ntouch /etc/none\n```\n"),
    ("that nothing runs", "```spl\nindex=a\n```\n"),
    ("names no language", "```\na\n```\n"),
    ("no JSON", "```json\n{,}\n```\n"),
    ("status 1", "```sh\nfalse\ntrue\n```\n"),
    ("status 1", "<!-- run: false -->\n"),
    ("not 3", "```console\n$ true   # ends with status 3\n```\n"),
    ("neither this shell nor", "```console\n$ cargo xtask sing\n```\n"),
    ("has no line \"c\"", "```console\n$ printf 'a\\nb\\n'\na\nc\n```\n"),
    ("has no line \"a\"", "```console\n$ printf 'a\\nb\\n'\nb\na\n```\n"),
    ("without a line", "```console\nhost-harness --version\n```\n"),
]


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    names = files()
    wanted = sys.argv[2:] or sorted(name for name in names if name.endswith(".md") and name != "CHANGELOG.md")
    with tempfile.TemporaryDirectory(prefix="guides-cache-") as cache, concurrent.futures.ThreadPoolExecutor(3) as pool:
        begin = time.monotonic()
        trials = [pool.submit(check, "docs/trial.md", text, program, cache, []) for _, text in TRIALS]
        # Compiles the plugin once, for all documents.
        subprocess.run([program, "inspect"], env=os.environ | {"XDG_CACHE_HOME": cache}, stdout=subprocess.DEVNULL, check=True)
        jobs = [pool.submit(check, name, (ROOT / name).read_text(), program, cache, names) for name in wanted]
        faults = []
        for (fault, text), trial in zip(TRIALS, trials):
            found = trial.result()
            if bool(fault) != bool(found) or fault not in "".join(found):
                faults.append(f"this program found {found}, not \"{fault}\", in\n{text}")
        faults += [fault for job in jobs for fault in job.result()]
        print("\n".join(faults))
        print(f"{len(wanted)} documents, {len(faults)} faults, {time.monotonic() - begin:.0f} s")
        sys.exit(1 if faults else 0)


main()
