//! PostgreSQL servers of the tests' own: those of Debian, installed, or unpacked by `cargo xtask test`.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{PATIENCE, root};

/// The user `nobody`: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

/// The superuser of the servers.
pub const SUPERUSER: &str = "super";

/// A server on a loopback port and a socket. It ends with the value, and with the process of the test.
pub struct Server {
    child: Child,
    pub folder: PathBuf,
    pub port: u16,
}

impl Server {
    /// The server that the tests of a process share. It syncs nothing.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Server::start("fsync = off\nmax_connections = 300\n"))
    }

    /// Starts a server with these lines in its configuration.
    pub fn start(settings: &str) -> Server {
        Server::with_files(settings, &[])
    }

    /// Starts a server with these lines in its configuration, and these files in its folder.
    pub fn with_files(settings: &str, files: &[(&str, &str)]) -> Server {
        let folder = made();
        let data = folder.join("data");
        fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        for (name, text) in files {
            let file = data.join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            if is_root() {
                chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        Server::on(folder)
    }

    /// Starts the server of a folder on a free port.
    pub fn on(folder: PathBuf) -> Server {
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(server) = Server::begin(&folder, port) {
                return server;
            }
        }
        panic!("PostgreSQL does not start: {}", said(&folder));
    }

    /// Starts the server of a folder again, on the port that it had.
    pub fn again(folder: PathBuf, port: u16) -> Server {
        Server::begin(&folder, port).unwrap_or_else(|| panic!("PostgreSQL does not start: {}", said(&folder)))
    }

    fn begin(folder: &Path, port: u16) -> Option<Server> {
        // The shell waits for the end of the test's process, which closes the pipe, and then ends the server.
        let script = r#"exec 3<&0
            "$@" </dev/null >>"$0/log" 2>&1 &
            read end <&3
            kill -QUIT $! 2>/dev/null; wait
            test "$end" = keep || rm -rf "$0""#;
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(folder).arg(program("postgres"));
        command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string(), "-k"]).arg(folder);
        prepared(&mut command);
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut server = Server { child, folder: folder.to_owned(), port };
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let pid = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
            if pid.lines().nth(7).is_some_and(|status| status.trim() == "ready") && pid.contains(&format!("\n{port}\n"))
            {
                return Some(server);
            }
            if said(folder).contains("could not create any TCP/IP sockets") {
                server.child.kill().unwrap();
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("PostgreSQL does not start: {}", said(folder));
    }

    /// Ends the server as a crash does, and keeps its folder.
    pub fn crash(mut self) -> PathBuf {
        self.child.stdin.take().unwrap().write_all(b"keep\n").unwrap();
        self.child.wait().unwrap();
        self.folder.clone()
    }

    /// The address of a role's database on the loopback port.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Connects as the superuser.
    pub async fn superuser(&self, database: &str) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.url(SUPERUSER, database), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Returns one of PostgreSQL's own programs for users.
    pub fn client(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        prepared(&mut command);
        command
    }

    /// Makes a database of its own, which belongs to the role of the same name, and returns that name.
    pub async fn database(&self) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("state{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let superuser = self.superuser("postgres").await;
        superuser.batch_execute(&format!("CREATE ROLE {name} LOGIN")).await.unwrap();
        superuser.batch_execute(&format!("CREATE DATABASE {name} OWNER {name}")).await.unwrap();
        name
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The log of a folder's server.
pub fn said(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// Makes a folder with a new cluster.
fn made() -> PathBuf {
    let folder = tempfile::tempdir().unwrap().keep();
    opened(&folder);
    let mut command = Command::new(program("initdb"));
    command.args(["--no-sync", "--no-instructions", "-A", "trust", "-E", "UTF8", "--locale=C", "-U", SUPERUSER]);
    command.arg("-D").arg(folder.join("data"));
    prepared(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// Lets the server's user write into a folder.
fn opened(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn prepared(command: &mut Command) {
    let unpacked = root().join("target/postgres");
    if program("postgres").starts_with(&unpacked) {
        let libraries = fs::read_dir(unpacked.join("usr/lib")).unwrap().flatten().map(|folder| folder.path());
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
    }
    command.env("TZ", "UTC").env("LC_ALL", "C").current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns a program of PostgreSQL.
pub fn program(name: &str) -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|folder| folder.path());
    let unpacked = root().join("target/postgres/usr/lib/postgresql/15");
    let found = installed.chain([unpacked]).map(|folder| folder.join("bin").join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "PostgreSQL's {name} is missing: install the package `postgresql-15` (Debian), or run `cargo xtask test`, which \
             unpacks Debian's into target/postgres"
        )
    })
}
