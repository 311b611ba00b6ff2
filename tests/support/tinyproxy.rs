//! The proxy tinyproxy: installed, or unpacked by `cargo xtask test`.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{PATIENCE, program};

/// Tinyproxy and its log.
pub struct Tinyproxy {
    child: Child,
    pub port: u16,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Tinyproxy {
    /// Starts tinyproxy, which requires this user, if one is given.
    pub fn start(user: Option<&str>) -> Tinyproxy {
        let installed = program("tinyproxy", "tinyproxy-bin");
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let folder = tempfile::tempdir().unwrap();
            let (file, log) = (folder.path().join("tinyproxy.conf"), folder.path().join("log"));
            let user = user.map(|user| format!("BasicAuth {}\n", user.replace(':', " "))).unwrap_or_default();
            let text = format!("Port {port}\nListen 127.0.0.1\nLogFile {log:?}\nLogLevel Info\nMaxClients 50\n{user}");
            fs::write(&file, text).unwrap();
            let mut command = Command::new(&installed);
            command.arg("-d").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
            let mut proxy = Tinyproxy { child: command.spawn().unwrap(), port, log, _folder: folder };
            if proxy.listens() {
                return proxy;
            }
        }
        panic!("{} does not start", installed.display());
    }

    /// Says whether tinyproxy listens; it does not if another program took the port meanwhile.
    fn listens(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.said().contains("Accepting connections") {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("tinyproxy does not listen: {}", self.said());
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns the number of requested connections to this origin.
    pub fn connections(&self, origin: &str) -> usize {
        self.said().matches(&format!("CONNECT {}", origin.trim_start_matches("https://"))).count()
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
