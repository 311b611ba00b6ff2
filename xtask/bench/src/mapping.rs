//! The plugin in the sandbox beside the same mapping in other languages. Each peer maps the same poll at first sight, and
//! its events are compared with the plugin's before anything is measured.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::blocks::Work;
use crate::equality;
use crate::groups::{Stop, Tools};
use crate::input;
use crate::native;
#[cfg(feature = "sandbox")]
use crate::native::RECORDS;
use crate::process::Process;
#[cfg(feature = "sandbox")]
use crate::table::{Goal, Row};

/// A peer that is ready to be measured.
type Peer = Result<Box<dyn Work>, Stop>;

/// A function that starts a peer and compares its events.
type Starter = fn(&Tools) -> Peer;

/// The peers.
pub const PEERS: [(&str, Starter); 4] = [("VRL", vrl), ("jq", jq), ("Python", python), ("Tenzir", tenzir)];

fn vrl(tools: &Tools) -> Peer {
    let program = tools.need(&tools.vrl, "program that runs VRL")?;
    Ok(Box::new(Resident::start(program, &tools.peers.join("vrl/normalize.vrl"))?))
}

fn jq(tools: &Tools) -> Peer {
    let program = tools.need(&tools.jq, "jq")?;
    Ok(Box::new(start_jq(program, &tools.peers.join("normalize.jq"))?))
}

fn python(tools: &Tools) -> Peer {
    let program = tools.need(&tools.python, "Python")?;
    Ok(Box::new(Resident::start(program, &tools.peers.join("normalize.py"))?))
}

fn tenzir(tools: &Tools) -> Peer {
    let program = tools.need(&tools.tenzir, "Tenzir")?;
    Ok(Box::new(start_tenzir(program, &tools.peers.join("normalize.tql"))?))
}

/// Returns the row.
#[cfg(feature = "sandbox")]
pub fn vrl_row(tools: &Tools, _: &[&'static str]) -> Result<Vec<Row>, Stop> {
    row(tools, ("mapping-vrl", "VRL, native"), vec![Goal::Ratio(4.0), Goal::Rate(90_000.0)], vrl)
}

/// Returns the row.
#[cfg(feature = "sandbox")]
pub fn jq_row(tools: &Tools, _: &[&'static str]) -> Result<Vec<Row>, Stop> {
    row(tools, ("mapping-jq", "jq"), Vec::new(), jq)
}

/// Returns the row.
#[cfg(feature = "sandbox")]
pub fn python_row(tools: &Tools, _: &[&'static str]) -> Result<Vec<Row>, Stop> {
    row(tools, ("mapping-python", "Python"), Vec::new(), python)
}

/// Returns the row.
#[cfg(feature = "sandbox")]
pub fn tenzir_row(tools: &Tools, _: &[&'static str]) -> Result<Vec<Row>, Stop> {
    row(tools, ("mapping-tenzir", "Tenzir"), Vec::new(), tenzir)
}

#[cfg(feature = "sandbox")]
fn row(tools: &Tools, (name, beside): (&str, &'static str), goals: Vec<Goal>, peer: Starter) -> Result<Vec<Row>, Stop> {
    let peer = peer(tools)?;
    let ours = crate::sandbox::first(tools.need(&tools.plugin, "component")?)?;
    let what = "`normalize`, at first sight, in the sandbox".to_owned();
    Ok(vec![Row::of_calls((name.to_owned(), what, beside), goals, RECORDS, ours, Some(peer))])
}

/// Members that no other language can make like the plugin: the uid of an event follows from the text of its item.
const UIDS: [&str; 2] = ["metadata.uid", "finding_info.related_events.uid"];

/// A program that stays: it prints its events once, and then answers each number of calls with their processor time.
struct Resident {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    _folder: TempDir,
}

impl Resident {
    /// Starts the program with its source and the file of the poll, and compares its events.
    fn start(program: &Path, source: &Path) -> Result<Resident, String> {
        let folder = folder()?;
        let poll = write(&folder, "poll.json", &described(1))?;
        let mut command = Command::new(program);
        command.arg(source).arg(poll).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("failed to start {}: {error}", program.display()))?;
        let (Some(asks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{} has no input or no output", program.display()));
        };
        let mut peer = Resident { child, asks, answers: BufReader::new(answers), _folder: folder };
        let line = peer.line()?;
        let events: Vec<Value> = serde_json::from_str(&line).map_err(|error| format!("found {line:?}: {error}"))?;
        equality::require(&native::first_events(), &events, &UIDS)?;
        Ok(peer)
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err("the program ended early; it says why above".to_owned()),
            Ok(_) => Ok(line),
            Err(error) => Err(format!("failed to read the program's answer: {error}")),
        }
    }
}

impl Work for Resident {
    fn run(&mut self, calls: u32) -> Result<Duration, String> {
        writeln!(self.asks, "{calls}").map_err(|error| format!("failed to ask the program: {error}"))?;
        let line = self.line()?;
        let nanoseconds = line.trim().parse();
        nanoseconds.map(Duration::from_nanos).map_err(|_| format!("found {line:?}, expected nanoseconds"))
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that maps many polls and ends: a process for each block. Its start, with the mapping read and compiled, does
/// not count.
struct Batch {
    folder: TempDir,
    /// Makes the command that maps so many polls, which lie in the folder.
    command: Box<NewCommand>,
    start: Duration,
}

type NewCommand = dyn Fn(&Path, u32) -> Result<Command, String>;

impl Batch {
    /// Compares the events of the program, and measures its start.
    fn start(
        folder: TempDir,
        command: impl Fn(&Path, u32) -> Result<Command, String> + 'static,
    ) -> Result<Batch, String> {
        let mut batch = Batch { folder, command: Box::new(command), start: Duration::ZERO };
        let output = batch.command(1)?.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("failed to start a peer: {error}"))?;
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let events: Result<Vec<Value>, _> = lines.map(serde_json::from_slice).collect();
        equality::require(&native::first_events(), &events.map_err(|error| error.to_string())?, &UIDS)?;
        let mut starts: Vec<Duration> = (0..5).map(|_| batch.run(0)).collect::<Result<_, _>>()?;
        starts.sort();
        batch.start = starts[starts.len() / 2];
        Ok(batch)
    }

    fn command(&self, polls: u32) -> Result<Command, String> {
        let mut command = (self.command)(self.folder.path(), polls)?;
        command.current_dir(self.folder.path());
        Ok(command)
    }
}

impl Work for Batch {
    fn run(&mut self, calls: u32) -> Result<Duration, String> {
        let ended = Process::start(self.command(calls)?.stdout(Stdio::null()))?.ended()?;
        Ok(ended.processor.saturating_sub(self.start))
    }

    /// The system counts the time of another process in hundredths of a second.
    fn block(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// jq reads the file of the poll again and again.
fn start_jq(program: &Path, source: &Path) -> Result<Batch, String> {
    let folder = folder()?;
    let mut context = described(1);
    let mut list = |name: &str| {
        let text = context.as_object_mut().and_then(|context| context.remove(name)).unwrap_or_default();
        serde_json::from_str::<Value>(text.as_str().unwrap_or_default()).map_err(|error| error.to_string())
    };
    let poll = json!({ "scores": list("scores")?, "controls": list("controls")? });
    write(&folder, "poll.json", &poll)?;
    write(&folder, "context.json", &context)?;
    std::fs::copy(source, folder.path().join("program.jq")).map_err(|error| error.to_string())?;
    let program = program.to_owned();
    Batch::start(folder, move |_, polls| {
        let mut command = Command::new(&program);
        command.args(["-c", "--argfile", "context", "context.json", "-f", "program.jq"]);
        // A jq that is unpacked, and not installed, has its libraries beside it.
        if let Some(folder) = program.ancestors().nth(2).filter(|folder| *folder != Path::new("/usr")) {
            let folders = std::fs::read_dir(folder.join("lib")).into_iter().flatten().flatten();
            let folders = std::env::join_paths(folders.map(|folder| folder.path())).unwrap_or_default();
            command.env("LD_LIBRARY_PATH", folders);
        }
        // Without a file, jq would read its standard input.
        command.arg("/dev/null").args((0..polls).map(|_| "poll.json"));
        Ok(command)
    })
}

/// Tenzir reads a file with as many lines as there are polls, each of them the poll.
fn start_tenzir(program: &Path, source: &Path) -> Result<Batch, String> {
    let (program, poll) = (program.to_owned(), format!("{}\n", described(1)));
    let mapping = std::fs::read_to_string(source).map_err(|error| format!("{}: {error}", source.display()))?;
    Batch::start(folder()?, move |folder, polls| {
        let file = folder.join("polls.ndjson");
        let written = std::fs::write(&file, poll.repeat(polls as usize));
        written.map_err(|error| format!("{}: {error}", file.display()))?;
        let pipeline = format!(
            "from_file \"{}\" {{ read_ndjson }}\n{mapping}\nwrite_ndjson strip_null_fields=true",
            file.display()
        );
        let mut command = Command::new(&program);
        command.arg(pipeline).stdin(Stdio::null());
        Ok(command)
    })
}

/// Returns the poll as one value, for programs in other languages: the bodies as text, and the host's facts.
fn described(minutes: u64) -> Value {
    let context = input::context(minutes);
    json!({
        "scores": String::from_utf8_lossy(&input::scores()),
        "controls": String::from_utf8_lossy(&input::controls()),
        "feed": context.feed,
        "tenant": context.tenant,
        "scope": { "id": context.scope.id, "name": context.scope.name, "tenant_id": context.scope.plugin_data },
        "poll_id": context.poll_id,
        "time": context.collected_at_milliseconds,
    })
}

fn folder() -> Result<TempDir, String> {
    tempfile::tempdir().map_err(|error| format!("failed to make a temporary folder: {error}"))
}

fn write(folder: &TempDir, name: &str, value: &Value) -> Result<PathBuf, String> {
    let file = folder.path().join(name);
    std::fs::write(&file, value.to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}
