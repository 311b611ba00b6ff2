"""Measures the stores with many scopes: bytes a scope, and the transaction of a poll in which nothing changed.

    cargo xtask bench --only store --scopes 10000,1000000 --figures 2

Each scope has the row, the state and as many figures as a real poll of the simulated service leaves; with fewer figures than the 15
of its subscriptions, the state is shorter by the same share. PostgreSQL is Debian's with its own settings, on the disk of the temporary
folder. Its tables are those that `host-harness schema` prints, and the statements are read from the code of the store; pgbench sends
them, one poll a transaction, over as many connections as there are collectors. SQLite is Python's, with the tables and the settings of
the code, and the statements of a poll. Prints one line of JSON for each figure.
"""

import argparse
import glob
import json
import os
import pwd
import re
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCOPES_OF_TENANT, SHARDS = 20, 256
STORE = ROOT / "host-harness/src/store"


def told(**figure):
    print(json.dumps(figure), flush=True)


def statement(name):
    """A statement of the store in PostgreSQL, by its name in the code."""
    text = (STORE / "postgres/writing.rs").read_text()
    return re.search(rf'const {name}: &str =\s*"(.*?)";', text, re.S).group(1)


class Sample:
    """The row, the state and the figures of a scope, as a poll of the simulated service leaves them."""

    def __init__(self, harness, folder, figures):
        command = [harness, "simulate", "--tenants", "1", "--subscriptions", "1"]
        simulator = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            text, env = "", dict(os.environ)
            for line in simulator.stdout:
                text += line
                if export := re.match(r"# export (\w+)=(.*)", line):
                    env[export.group(1)] = export.group(2)
                    break
            Path(folder, "sample.toml").write_text(text)
            poll = [harness, "poll", "-c", "sample.toml", "--state", "sample.db"]
            subprocess.run(poll, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        finally:
            simulator.kill()
        database = sqlite3.connect(Path(folder, "sample.db"))
        self.discovered, self.standing = database.execute("SELECT discovered, standing FROM scope").fetchone()
        rows = database.execute("SELECT subject, kind, title, value, maximum, weight FROM history ORDER BY subject").fetchall()
        state = database.execute("SELECT value FROM state").fetchone()[0]
        self.figures = rows[:figures]
        self.state = state[: len(state) * len(self.figures) // len(rows)]


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def figure_rows(sample):
    """The figures as rows of a table `f`, for both databases."""
    rows = (f"({quoted(row[0])}, {quoted(row[1])}, {quoted(row[2])}, {row[3]}, {row[4]}, {row[5]})" for row in sample.figures)
    return f"WITH f (subject, kind, title, value, maximum, weight) AS (VALUES {', '.join(rows)})"


def filled(scopes, sample):
    """The statements that make rows of so many scopes."""
    tenants = f"generate_series(0, {scopes // SCOPES_OF_TENANT} - 1) AS tenant"
    all_scopes = f"generate_series(0, {scopes} - 1) AS number"
    of_scope = f"'tenant-' || (number / {SCOPES_OF_TENANT})"
    shard = f"(number / {SCOPES_OF_TENANT} % {SHARDS})::smallint"
    figure = "subject, 1790000000000, kind, title, value, maximum, weight"
    return [
        f"INSERT INTO feed SELECT (tenant % {SHARDS})::smallint, 'tenant-' || tenant, '0123456789abcdef', '0123456789abcdef' FROM {tenants}",
        "INSERT INTO scope (feed, scope, tenant, shard, discovered, standing, figure, written)"
        f" SELECT {of_scope}, rpad(number::text, 36, '-'), {of_scope}, {shard}, {quoted(sample.discovered)}, {quoted(sample.standing)},"
        f" {quoted(sample.figures[0][0])}, 1790000000000 FROM {all_scopes} ORDER BY number",
        f"INSERT INTO state SELECT number, decode(md5(number::text) || {quoted(sample.state[16:].hex())}, 'hex') FROM scope",
        f"{figure_rows(sample)} INSERT INTO figure SELECT number, {figure} FROM scope, f",
        f"{figure_rows(sample)} INSERT INTO history SELECT shard, number, {figure} FROM scope, f",
        f"INSERT INTO kept SELECT 'tenant-' || tenant, 'tenant-' || tenant, (tenant % {SHARDS})::smallint, 1000 FROM {tenants}",
        "UPDATE shard SET holder = 'one', epoch = 1",
    ]


def script(scopes, sample):
    """The transaction of one poll, for pgbench."""
    tenant, scope = f"ARRAY['tenant-' || (:number / {SCOPES_OF_TENANT})]::text[]", "ARRAY[rpad((:number)::text, 36, '-')]::text[]"
    # pgbench takes what follows a colon for a variable, within a text, too.
    discovered = sample.discovered.replace(":", "=")
    of_rows = [tenant, scope, tenant, f"ARRAY[{quoted(discovered)}]::text[]", f"ARRAY[rpad(:time::text, {len(sample.standing)}, 'x')]::text[]"]
    of_rows += ["ARRAY[NULL]::text[]", "ARRAY[:time]::bigint[]"]
    shard = f"ARRAY[:number / {SCOPES_OF_TENANT} % {SHARDS}]::smallint[]"
    state = f"ARRAY[decode(md5((:time)::text) || {quoted(sample.state[16:].hex())}, 'hex')]"
    steps = [
        ("MARK", ["'collector-' || :client_id", ":time"]),
        ("FENCE", [shard]),
        ("KNOWN", [tenant, scope, tenant]),
        ("FIGURES", [tenant, scope, tenant, "ARRAY[true]"]),
        ("KEPT", [tenant]),
        ("CHANGE_SCOPES", of_rows),
        ("KEEP_STATES", ["ARRAY[:row]::bigint[]", state]),
        ("KEEP_SUMS", [tenant, tenant, shard, "ARRAY[0]::bigint[]"]),
    ]
    lines = [rf"\set number random(0, {scopes - 1})", r"\set row :number + 1"]
    # Each collector counts on.
    lines += [r"\set time :time + 1", "BEGIN;"]
    for name, values in steps:
        text = statement(name)
        for place in range(len(values), 0, -1):
            text = text.replace(f"${place}", f"({values[place - 1]})")
        lines.append(" ".join(text.split()) + ";")
    return "\n".join([*lines, "COMMIT;", ""])


class Server:
    """A server of PostgreSQL on a socket in its folder. It does not run as root."""

    def __init__(self, folder):
        unpacked = ROOT / "target/postgres/usr/lib"
        found = glob.glob("/usr/lib/postgresql/*/bin") + [str(unpacked / "postgresql/15/bin")]
        self.bin = next(Path(path) for path in found if Path(path, "initdb").exists())
        self.env = os.environ | {"LD_LIBRARY_PATH": next(iter(glob.glob(f"{unpacked}/*-linux-gnu")), "")}
        self.folder, self.user = Path(folder, "server"), []
        self.folder.mkdir()
        if os.geteuid() == 0:
            user = "postgres" if "postgres" in {entry.pw_name for entry in pwd.getpwall()} else "nobody"
            shutil.chown(self.folder, user)
            self.user = ["setpriv", f"--reuid={user}", "--clear-groups"]
        self.run([*self.user, self.bin / "initdb", "-D", self.folder / "data", "-U", "postgres", "-A", "trust", "--locale=C", "-E", "UTF8"])
        self.control("start", "-l", self.folder / "log", "-o", f"-k {self.folder} -c listen_addresses=")

    def control(self, *arguments):
        self.run([*self.user, self.bin / "pg_ctl", "-D", self.folder / "data", "-w", "-t", "300", *arguments])

    def run(self, command):
        done = subprocess.run(list(map(str, command)), env=self.env, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")

    def client(self, program, *arguments, text=None):
        command = [self.bin / program, "-h", self.folder, "-U", "postgres", *arguments]
        done = subprocess.run(list(map(str, command)), env=self.env, input=text, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{program} ended with {done.returncode}: {done.stdout[-1000:]} {done.stderr[-1000:]}")
        return done.stdout

    def ask(self, question, database="collector"):
        return self.client("psql", "-d", database, "-XAt", "-v", "ON_ERROR_STOP=1", text=question).strip()


def postgres(harness, folder, scopes, sample, seconds, collectors):
    server = Server(folder)
    try:
        server.ask("CREATE ROLE collector", "postgres")
        server.ask("CREATE DATABASE collector OWNER collector", "postgres")
        schema = subprocess.run([harness, "schema", "--role", "collector"], check=True, capture_output=True, text=True).stdout
        server.ask(schema)
        server.ask("ALTER DATABASE collector SET search_path = host_harness")
        for text in filled(scopes, sample):
            server.ask(text)
        server.ask("VACUUM ANALYZE")
        server.ask("CHECKPOINT")
        total, history = (int(server.ask(SIZE + tables)) for tables in ("", " AND relname LIKE 'history%'"))
        sizes = {"bytes_a_scope": round(total / scopes), "bytes_of_history_a_figure": round(history / scopes / len(sample.figures))}
        told(row=f"postgres-bytes-{scopes}", figures=len(sample.figures), **sizes)
        file = Path(folder, "poll.sql")
        file.write_text(script(scopes, sample))
        for count in collectors:
            server.ask("TRUNCATE writer")
            before = [int(count) for count in server.ask(COUNTS).split("|")]
            said = server.client("pgbench", "-n", "-M", "prepared", "-D", "time=1790000000000", "-c", count, "-j", count, "-T", seconds, "-f", file, "collector")
            found = {name: re.search(pattern, said) for name, pattern in FOUND.items()}
            if not all(found.values()) or found["failed"].group(1) != "0":
                raise SystemExit(f"pgbench said: {said}"[-3000:])
            latency, a_second = (float(found[name].group(1)) for name in ("latency", "a_second"))
            pages, log = (after - before for after, before in zip(map(int, server.ask(COUNTS).split("|")), before))
            polls = int(found["polls"].group(1))
            figures = {"milliseconds": latency, "polls_a_second": round(a_second), "pages": round(pages / polls), "log_bytes": round(log / polls)}
            told(row=f"postgres-poll-{scopes}", collectors=count, **figures)
    finally:
        server.control("stop", "-m", "immediate")


SIZE = """
    SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'host_harness'::regnamespace"""

# Pages that were looked at, and bytes of the log of changes.
COUNTS = "SELECT blks_hit + blks_read, pg_current_wal_insert_lsn() - '0/0' FROM pg_stat_database WHERE datname = 'collector'"

FOUND = {
    "polls": r"transactions actually processed: (\d+)",
    "latency": r"latency average = ([\d.]+) ms",
    "a_second": r"tps = ([\d.]+)",
    "failed": r"number of failed transactions: (\d+)",
}


def sqlite(folder, scopes, sample, seconds):
    file = Path(folder, f"collector-{scopes}.db")
    database = sqlite3.connect(file, isolation_level=None)
    code = (STORE / "sqlite/schema.rs").read_text()
    steps = re.search(r"MIGRATIONS: &\[&str\] = &\[(.*?)\n\];", code, re.S).group(1)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")
    for step in re.findall(r'"(.*?)"', steps, re.S):
        database.executescript(step)
    numbers = f"WITH RECURSIVE n (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM n WHERE number < {scopes} - 1)"
    database.execute("BEGIN")
    of_scope = f"'tenant-' || (number / {SCOPES_OF_TENANT})"
    database.execute(
        f"INSERT INTO scope (number, feed, scope, tenant, discovered, standing, figure) {numbers} SELECT number + 1, {of_scope},"
        f" substr(number || '{'-' * 36}', 1, 36), {of_scope}, ?, ?, ? FROM n",
        (sample.discovered, sample.standing, sample.figures[0][0]),
    )
    database.execute("INSERT INTO state (scope, value) SELECT number, ? FROM scope", (sample.state,))
    before = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(
        f"INSERT INTO history (scope, subject, time, kind, title, value, maximum, weight) {figure_rows(sample)}"
        " SELECT number, subject, 1790000000000, kind, title, value, maximum, weight FROM scope, f ORDER BY 1, 2"
    )
    history = (database.execute("PRAGMA page_count").fetchone()[0] - before) * 4_096 / scopes / len(sample.figures)
    database.execute("COMMIT")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    told(row=f"sqlite-bytes-{scopes}", figures=len(sample.figures), bytes_a_scope=round(file.stat().st_size / scopes), bytes_of_history_a_figure=round(history))
    database.execute("PRAGMA synchronous = FULL")
    cache = re.search(r"STORE_CACHE_KIB: \w+ = ([\d_]+)", (ROOT / "host-harness/src/limits.rs").read_text())
    database.execute(f"PRAGMA cache_size = -{cache.group(1).replace('_', '')}")
    times, end, number = [], time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number = (number + 7_919) % scopes
        feed, scope = f"tenant-{number // SCOPES_OF_TENANT}", str(number).ljust(36, "-")
        begun = time.monotonic()
        database.execute("BEGIN")
        database.execute("SELECT sum(bytes) FILTER (WHERE feed = ?), sum(bytes) FROM kept WHERE tenant = ?", (feed, feed)).fetchall()
        row = database.execute("SELECT number FROM scope WHERE feed = ? AND scope = ? AND tenant = ?", (feed, scope, feed)).fetchone()[0]
        database.execute("UPDATE scope SET standing = ? WHERE number = ?", (str(begun).ljust(len(sample.standing), "x"), row))
        state = os.urandom(16) + sample.state[16:]
        upsert = "INSERT INTO state (scope, value) VALUES (?, ?) ON CONFLICT (scope) DO UPDATE SET value = excluded.value"
        database.execute(upsert, (row, state))
        for figure in sample.figures:
            last = "SELECT value FROM history WHERE scope = ? AND subject = ? ORDER BY time DESC LIMIT 1"
            database.execute(last, (row, figure[0])).fetchone()
        database.execute("COMMIT")
        times.append((time.monotonic() - begun) * 1e3)
    told(row=f"sqlite-poll-{scopes}", milliseconds=round(statistics.mean(times), 3), median=round(statistics.median(times), 3))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("harness")
    parser.add_argument("--scopes", default="10000,1000000")
    parser.add_argument("--collectors", default="1,2,3")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--figures", type=int, default=15)
    parser.add_argument("--only", choices=["postgres", "sqlite"])
    given = parser.parse_args()
    numbers = lambda text: [int(part) for part in text.split(",")]
    for scopes in numbers(given.scopes):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            sample = Sample(Path(given.harness).resolve(), folder, given.figures)
            if given.only != "postgres":
                sqlite(folder, scopes, sample, given.seconds)
            if given.only != "sqlite":
                postgres(given.harness, folder, scopes, sample, given.seconds, numbers(given.collectors))


main()
