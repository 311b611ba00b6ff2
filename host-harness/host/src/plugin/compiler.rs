//! Compiling a plugin: in a process of its own, which takes its limits before it reads the first byte of it. A
//! compiler has no fuel; what takes too long or too much ends with its process, and nothing else does.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::{self, CompileLimits};
use crate::plugin::bound::Bound;
use crate::plugin::{features, fence};
use crate::{privileges, text};

/// Who compiles plugins; a trusted one is compiled by this process where there is nobody else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Compiler {
    /// Nobody: this host runs trusted plugins and no others.
    #[default]
    Nobody,
    /// This program, started with [`COMMAND`] for each plugin, within these limits. It must be of the same build: what it
    /// writes runs as native code.
    Program(PathBuf, CompileLimits),
    /// This process, without limits of memory and time: for plugins whose authors one trusts.
    ThisProcess,
}

impl Compiler {
    /// The running program, which must offer [`COMMAND`]. It stays the same one when its file is replaced meanwhile.
    pub fn this_program() -> Compiler {
        let program =
            if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() };
        program.map_or(Compiler::Nobody, |program| Compiler::Program(program, CompileLimits::default()))
    }
}

/// First argument of a program that is to compile: the plugin on standard input, its code on standard output. Then follow
/// the bytes of memory, the seconds on a processor and the bytes of code that it may take.
pub const COMMAND: &str = "compile-plugin";

/// Why there is no code. Each is the plugin's fault, but for the last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The compiler refuses it, with these words.
    #[error("{0}")]
    Refused(String),
    /// It takes more than it may.
    #[error("compiling the plugin passed the limit of {limit}, {value} (plugin)")]
    Limit {
        /// Which limit.
        limit: Bound,
        /// Its value.
        value: String,
    },
    /// The compiler itself broke down on it.
    #[error("the compiler broke down on the plugin: {0} (plugin)")]
    Broken(String),
    /// There is no compiler here.
    #[error("this host compiles no plugins but those that it trusts")]
    Nobody,
    /// The compiler cannot be started (harness).
    #[error("the compiler cannot be started: {0} (harness)")]
    Host(String),
}

/// Has a plugin compiled by `program`, and gives its code.
pub(crate) fn compile(program: &PathBuf, limits: &CompileLimits, plugin: &[u8]) -> Result<Vec<u8>, CompileError> {
    let host = |error: io::Error| CompileError::Host(format!("{}: {error}", program.display()));
    let (input, mut said) = (file_of(plugin).map_err(host)?, tempfile::tempfile().map_err(host)?);
    let numbers = [limits.memory_bytes, limits.cpu_time.as_secs(), limits.code_bytes];
    let compiler = Command::new(program)
        .arg(COMMAND)
        .args(numbers.map(|number| number.to_string()))
        // The environment holds the operator's secrets.
        .env_clear()
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(said.try_clone().map_err(host)?)
        .spawn();
    let mut compiler = Ending(compiler.map_err(host)?);
    let over = |limit, value| Err(CompileError::Limit { limit, value });
    let begun = Instant::now();
    let Some(code) = read(&mut compiler.0, limits) else {
        return over(Bound::Time, words_of(limits.wall_time));
    };
    let code = code.map_err(host)?;
    if code.len() as u64 > limits.code_bytes {
        return over(Bound::CompiledCode, format!("{} bytes", limits.code_bytes));
    }
    let status = loop {
        match compiler.0.try_wait().map_err(host)? {
            Some(status) => break status,
            None if begun.elapsed() >= limits.wall_time => return over(Bound::Time, words_of(limits.wall_time)),
            None => thread::sleep(limits::COMPILER_LOOK),
        }
    };
    let mut words = String::new();
    let _ = said.rewind().and_then(|()| said.take(limits::COMPILER_WORDS_BYTES).read_to_string(&mut words));
    let unfenced = words.strip_prefix(UNFENCED).and_then(|words| words.split_once('\n'));
    if let Some((why, _)) = unfenced {
        let why = text::plain(why);
        tracing::warn!(why, "a plugin was compiled without a fence of system calls; the limits of the compiler held");
    }
    let words = unfenced.map_or(&*words, |(_, rest)| rest);
    if status.success() {
        return Ok(code);
    }
    match cause(status, words) {
        Cause::Processor => over(Bound::ProcessorTime, words_of(limits.cpu_time)),
        Cause::Memory => over(Bound::Memory, format!("{} bytes", limits.memory_bytes)),
        Cause::Refusal => Err(CompileError::Refused(text::plain(words.trim()))),
        Cause::Unknown => Err(CompileError::Broken(format!("{status}; {}", text::plain(text::cut(words.trim(), 512))))),
    }
}

fn file_of(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn words_of(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// What the compiler writes, a byte beyond its limit at the most; none if that takes too long.
fn read(compiler: &mut Child, limits: &CompileLimits) -> Option<io::Result<Vec<u8>>> {
    let output = compiler.stdout.take()?;
    let (send, receive) = mpsc::channel();
    let most = limits.code_bytes.saturating_add(1);
    thread::spawn(move || {
        let mut code = Vec::new();
        let _ = send.send(output.take(most).read_to_end(&mut code).map(|_| code));
    });
    receive.recv_timeout(limits.wall_time).ok()
}

/// A compiler that ends when nobody waits for it any more.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a compiler ended that gave no code.
enum Cause {
    Processor,
    Memory,
    Refusal,
    Unknown,
}

fn cause(status: ExitStatus, words: &str) -> Cause {
    let starved = ["memory allocation of", "Cannot allocate memory", "Resource temporarily unavailable"];
    match status.signal() {
        Some(libc::SIGXCPU) => Cause::Processor,
        _ if starved.iter().any(|sign| words.contains(sign)) => Cause::Memory,
        None if status.code() == Some(REFUSED.into()) => Cause::Refusal,
        _ => Cause::Unknown,
    }
}

/// Exit status of a compiler that refuses a plugin.
const REFUSED: u8 = 10;

/// Begins the line of a compiler that could not put up its fence; the reason follows.
const UNFENCED: &str = "unfenced: ";

/// The other side: takes its limits, puts up its fence, reads a plugin from standard input and writes its code to standard output. `numbers`
/// are what follows [`COMMAND`]; gives the exit status.
pub fn serve(numbers: &[String]) -> u8 {
    let compiled = || -> Result<Vec<u8>, String> {
        let numbers: Vec<u64> = numbers.iter().map_while(|number| number.parse().ok()).collect();
        let [memory_bytes, cpu_seconds, code_bytes] = numbers[..] else {
            return Err("expected three numbers: bytes of memory, seconds, bytes of code".to_owned());
        };
        restrict(memory_bytes, cpu_seconds).map_err(|error| format!("the limits cannot be set: {error}"))?;
        let given_up = privileges::give_up().and_then(|()| privileges::hide_memory());
        given_up.map_err(|error| format!("privileges cannot be given up: {error}"))?;
        let engine = features::compiler().map_err(|error| format!("{error:#}"))?;
        start_threads()?;
        if let Err(error) = fence::put_up() {
            // The limits hold without it.
            let words = format!("{UNFENCED}{error}\n");
            io::stderr().write_all(words.as_bytes()).map_err(|error| error.to_string())?;
        }
        let mut plugin = Vec::new();
        io::stdin().lock().read_to_end(&mut plugin).map_err(|error| error.to_string())?;
        let code = engine.precompile_component(&plugin).map_err(|error| format!("{error:#}"))?;
        let most = usize::try_from(code_bytes.saturating_add(1)).unwrap_or(usize::MAX);
        Ok(if code.len() > most { code[..most].to_vec() } else { code })
    };
    let written = compiled().and_then(|code| {
        let mut output = io::stdout().lock();
        output.write_all(&code).and_then(|()| output.flush()).map_err(|error| error.to_string())
    });
    match written {
        Ok(()) => 0,
        Err(words) => {
            let _ = io::stderr().write_all(words.as_bytes());
            REFUSED
        }
    }
}

/// Starts the threads that the engine compiles with, and waits until each runs: behind the fence none can be started.
#[cfg(feature = "parallel-compilation")]
fn start_threads() -> Result<(), String> {
    rayon::ThreadPoolBuilder::new().build_global().map_err(|error| error.to_string())?;
    rayon::broadcast(|_| ());
    Ok(())
}

/// Starts none: the engine compiles on the thread that calls it.
#[cfg(not(feature = "parallel-compilation"))]
fn start_threads() -> Result<(), String> {
    Ok(())
}

/// Written memory is what counts: address space is reserved by the gigabyte and costs nothing.
#[cfg(target_os = "linux")]
fn restrict(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
    let only = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Data, only(memory_bytes))?;
    // A second more, so that the signal that says why comes before the one that cannot.
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu_seconds), maximum: Some(cpu_seconds + 1) })?;
    // Only its words go to a file.
    setrlimit(Resource::Fsize, only(limits::COMPILER_WORDS_BYTES << 4))?;
    setrlimit(Resource::Nofile, only(16))?;
    // Without a parent nobody takes what it makes.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Polls come first.
    let _ = nice(10);
    Ok(())
}

/// Without such limits, those of time and size remain, which the parent holds.
#[cfg(not(target_os = "linux"))]
fn restrict(_memory_bytes: u64, _cpu_seconds: u64) -> io::Result<()> {
    Ok(())
}
