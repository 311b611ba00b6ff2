"""Two servers of PostgreSQL, of which one is the primary and the other its synchronous standby, and the log that the database itself
keeps of all that collectors write."""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

from relay import Relay

ROOT = Path(__file__).resolve().parent.parent.parent

# In the transaction of each write: whoever wrote, under whatever lease, and in an order that the locks of the shards decide. Nothing of
# it is the collector's, and a standby has it with the data.
LOG = """
CREATE SCHEMA trial;
CREATE TABLE trial.log (
    number bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), who text DEFAULT session_user, what text NOT NULL,
    shard smallint, epoch bigint, is_held boolean, tenant text, scope text, next bigint, id_time bigint, outcome text, sink text, uid text, outbox bigint
);
CREATE INDEX log_lease ON trial.log (shard, number) WHERE what = 'lease';
CREATE INDEX log_queued ON trial.log (outbox) WHERE what = 'queued';
CREATE FUNCTION trial.lease() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO trial.log (what, shard, epoch, is_held)
    SELECT 'lease', shard, epoch, holder IS NOT NULL FROM new_rows ORDER BY shard;
    RETURN NULL;
END $$;
CREATE FUNCTION trial.written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO trial.log (what, shard, tenant, scope, next, id_time, outcome)
    SELECT 'row', shard, tenant, scope, (standing::json ->> 'due')::bigint, (standing::json ->> 'id_time')::bigint,
        standing::json -> 'outcome' ->> 'code' FROM new_rows;
    RETURN NULL;
END $$;
CREATE FUNCTION trial.queued() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO trial.log (what, shard, tenant, scope, sink, uid, outbox)
    SELECT 'queued', shard, tenant, scope, sink, uid, number FROM new_rows ORDER BY number;
    RETURN NULL;
END $$;
CREATE FUNCTION trial.gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO trial.log (what, shard, tenant, scope, sink, uid, outbox)
    SELECT 'gone', shard, tenant, scope, sink, uid, number FROM old_rows ORDER BY number;
    RETURN NULL;
END $$;
CREATE TRIGGER trial AFTER UPDATE ON host_harness.shard REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
    EXECUTE FUNCTION trial.lease();
CREATE TRIGGER trial_added AFTER INSERT ON host_harness.scope REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
    EXECUTE FUNCTION trial.written();
CREATE TRIGGER trial_changed AFTER UPDATE ON host_harness.scope REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
    EXECUTE FUNCTION trial.written();
CREATE TRIGGER trial_queued AFTER INSERT ON host_harness.outbox REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
    EXECUTE FUNCTION trial.queued();
CREATE TRIGGER trial_gone AFTER DELETE ON host_harness.outbox REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT
    EXECUTE FUNCTION trial.gone();
"""

SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 60
wal_keep_size = 256MB
hot_standby = on
synchronous_commit = on
"""


def programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) + [str(ROOT / "target/postgres/usr/lib/postgresql/15/bin")]
    return next(Path(path) for path in found if Path(path, "initdb").exists())


def family(pid):
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid, *map(int, children.read_text().split())] if children.exists() else [pid]


class Server:
    """One server, which does not run as root. Its rows are in a file system of their own, where one can be made."""

    def __init__(self, folder, name, port, disk_megabytes):
        self.bin, self.port, self.child = programs(), port, None
        unpacked = ROOT / "target/postgres/usr/lib"
        self.env = os.environ | {"LD_LIBRARY_PATH": str(next(iter(glob.glob(f"{unpacked}/*-linux-gnu")), ""))}
        self.folder = Path(folder, name)
        self.folder.mkdir()
        self.disk, self.data = self.folder / "disk", self.folder / "disk/data"
        self.disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={disk_megabytes}m,mode=755", "none", self.disk]
        self.is_mounted = subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
        self.user = []
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(self.folder, user)
            shutil.chown(self.disk, user)
            self.user = ["setpriv", f"--reuid={user}", "--clear-groups"]

    def run(self, program, *arguments):
        command = [*self.user, self.bin / program, *map(str, arguments)]
        done = subprocess.run(command, env=self.env, cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{program} ended with {done.returncode}: {done.stderr[-2000:]}")

    def make(self):
        self.run("initdb", "-D", self.data, "-X", self.folder / "wal", "-U", "postgres", "-A", "trust")
        with open(self.data / "postgresql.conf", "a") as settings:
            settings.write(SETTINGS)

    def copy(self, port):
        """Becomes the standby of the server behind a port, with nothing of its own."""
        for old in (self.data, self.folder / "wal"):
            shutil.rmtree(old, ignore_errors=True)
        source = f"host=127.0.0.1 port={port} user=postgres"
        self.run("pg_basebackup", "-D", self.data, f"--waldir={self.folder / 'wal'}", "-d", source, "-R", "-c", "fast", "-X", "stream")
        self.start()

    def start(self):
        command = [*self.user, self.bin / "postgres", "-D", self.data, "-p", str(self.port), "-k", self.folder]
        with open(self.folder / "log", "ab") as log:
            # The name of the standby in `synchronous_standby_names`.
            command += ["-c", f"cluster_name={self.folder.name}"]
            self.child = subprocess.Popen(command, env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait()

    def wait(self):
        end = time.monotonic() + 60
        while self.ask("SELECT 1", "postgres", may_fail=True) != [["1"]]:
            if time.monotonic() > end:
                raise SystemExit(f"PostgreSQL does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def runs(self):
        return self.child is not None and self.child.poll() is None

    def kill(self):
        """Kills all its processes."""
        if self.runs():
            for number in family(self.child.pid):
                try:
                    os.kill(number, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.child.wait()

    def ask(self, question, database="collector", may_fail=False):
        command = [self.bin / "psql", "-h", self.folder, "-p", str(self.port), "-U", "postgres", "-d", database, "-XAtF", "\t", "-c", question]
        done = subprocess.run(list(map(str, command)), env=self.env, capture_output=True, text=True)
        if done.returncode != 0:
            if may_fail:
                return None
            raise SystemExit(f"psql ended with {done.returncode}: {done.stderr[-2000:]}, at {question[:200]}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def end(self):
        self.kill()
        if self.is_mounted:
            subprocess.run(["umount", "-l", self.disk], check=True)


class Database:
    """A primary and a standby, and what looks after them: whoever is told to, as Patroni would be."""

    def __init__(self, folder, ports, disk_megabytes, is_synchronous):
        folder = Path(folder, "postgres")
        folder.mkdir()
        self.servers = [Server(folder, name, port, disk_megabytes) for name, port in zip(("left", "right"), ports)]
        self.primary, self.standby = self.servers
        self.is_synchronous = is_synchronous
        # By the primary's port: what the standby reads of it comes through here.
        self.ways = {port: Relay(port) for port in ports}

    def make(self, schema, roles):
        self.primary.make()
        self.primary.start()
        self.ask("CREATE ROLE collector LOGIN", "postgres")
        self.ask("CREATE DATABASE collector OWNER collector", "postgres")
        for role in roles:
            self.ask(f"CREATE ROLE {role} LOGIN IN ROLE collector; ALTER ROLE {role} SET role = collector", "postgres")
        self.ask("SET role = collector; " + schema)
        self.ask(LOG)
        self.rebuild()

    def ask(self, question, database="collector", may_fail=False):
        return self.primary.ask(question, database, may_fail)

    def way(self):
        """The way from the primary to the standby."""
        return self.ways[self.primary.port]

    def rebuild(self):
        """Makes the standby anew, and lets each commit wait for it."""
        self.standby.kill()
        self.way().turn("open")
        self.standby.copy(self.way().port)
        self.wait_for_standby(self.is_synchronous)
        state = "sync" if self.is_synchronous else "async"
        end = time.monotonic() + 60
        while self.ask("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'", may_fail=True) != [[state]]:
            if time.monotonic() > end:
                raise SystemExit("the standby does not follow")
            time.sleep(0.1)

    def wait_for_standby(self, is_on):
        """Says whether commits wait for the standby."""
        names = "left, right" if is_on else ""
        self.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        self.ask("SELECT pg_reload_conf()")

    def fail_over(self):
        """Kills the primary, and makes the standby the primary. It has no standby itself until one is rebuilt."""
        self.primary.kill()
        self.way().turn("closed")
        self.primary, self.standby = self.standby, self.primary
        self.ask("SELECT pg_promote()")

    def end(self):
        for server in self.servers:
            server.end()
