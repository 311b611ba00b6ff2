//! Compiles a plugin in a separate process, which sets its own limits before it reads the first byte of the plugin. A
//! compiler has no fuel: if it takes too long or too much memory, only its process ends.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::cause::{self, Cause, FileFault};
use crate::limits::{self, CompileLimits};
use crate::plugin::bound::{Bound, LimitAmount};
use crate::plugin::{features, fence};
use crate::{privileges, text};

/// The compiler of plugins. A trusted plugin is compiled by this process where there is no other compiler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Compiler {
    /// No compiler: this host runs trusted plugins only.
    #[default]
    Nobody,
    /// This program, started with [`COMMAND`] for each plugin, within these limits. It must be of the same build,
    /// because its output runs as native code.
    Program(PathBuf, CompileLimits),
    /// This process, without limits of memory and time, for plugins whose authors are trusted.
    ThisProcess,
}

impl Compiler {
    /// The running program, which must offer [`COMMAND`]. The process stays the same program if its file is replaced.
    pub fn this_program() -> Compiler {
        let program =
            if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() };
        program.map_or(Compiler::Nobody, |program| Compiler::Program(program, CompileLimits::default()))
    }
}

/// First argument of a program that acts as the compiler: it reads the plugin from standard input and writes the code
/// to standard output. Three numbers follow, the limits in bytes of memory, seconds of CPU time and bytes of code.
pub const COMMAND: &str = "compile-plugin";

/// The reason why there is no code. The plugin is at fault, unless there is no compiler or it cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The compiler refuses the plugin, with this message.
    #[error(transparent)]
    Refused(EngineRefusal),
    /// The compilation exceeds a limit.
    #[error("compiling the plugin exceeded the limit on {limit}, {value} (plugin)")]
    Limit {
        /// The limit.
        limit: Bound,
        /// The amount of the limit.
        value: LimitAmount,
    },
    /// The compiler crashed on the plugin.
    #[error("the compiler crashed on the plugin: {status}; {words} (plugin)")]
    Broken {
        /// How its process ended.
        status: ExitStatus,
        /// The end of its error output.
        words: String,
    },
    /// This host has no compiler.
    #[error("this host compiles no plugins but those that it trusts")]
    Nobody,
    /// The compiler cannot be started, which is a fault of the host.
    #[error("the compiler cannot be started: {0} (harness)")]
    Host(Cause),
}

/// The reason why the engine or its compiler refuses a plugin: the engine's error, or the message of a compiler in
/// another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineRefusal(Cause);

impl EngineRefusal {
    pub(super) fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> EngineRefusal {
        EngineRefusal(Cause::new(error))
    }
}

impl fmt::Display for EngineRefusal {
    /// Writes the message with its causes on one line: parts of it may come from the plugin, and the compiler writes
    /// lists of bytes on several lines.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = cause::chain(&self.0);
        formatter.write_str(&text::plain(&words.split_whitespace().collect::<Vec<_>>().join(" ")))
    }
}

/// The message contains all causes, so that no source remains.
impl Error for EngineRefusal {}

/// Has `program` compile a plugin, and returns the code.
pub(crate) fn compile(program: &PathBuf, limits: &CompileLimits, plugin: &[u8]) -> Result<Vec<u8>, CompileError> {
    let host = |error: io::Error| CompileError::Host(Cause::new(FileFault { file: program.clone(), error }));
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
    let Some((code, mut left)) = read(&mut compiler.0, limits) else {
        return over(Bound::Time, LimitAmount::Time(limits.wall_time));
    };
    let code = code.map_err(host)?;
    if code.len() as u64 > limits.code_bytes {
        return over(Bound::CompiledCode, LimitAmount::Bytes(limits.code_bytes));
    }
    let status = loop {
        match compiler.0.try_wait().map_err(host)? {
            Some(status) => break status,
            None if left.is_zero() => return over(Bound::Time, LimitAmount::Time(limits.wall_time)),
            None => {
                thread::sleep(limits::COMPILER_LOOK);
                left = left.saturating_sub(limits::COMPILER_LOOK);
            }
        }
    };
    let mut words = String::new();
    let _ = said.rewind().and_then(|()| said.take(limits::COMPILER_WORDS_BYTES).read_to_string(&mut words));
    let unfenced = words.strip_prefix(UNFENCED).and_then(|words| words.split_once('\n'));
    if let Some((why, _)) = unfenced {
        let why = text::plain(why);
        tracing::warn!(why, "a plugin was compiled without a filter of system calls, but within the compiler's limits");
    }
    let words = unfenced.map_or(&*words, |(_, rest)| rest);
    if status.success() {
        return Ok(code);
    }
    match exit_cause(status, words) {
        ExitCause::Processor => over(Bound::ProcessorTime, LimitAmount::Time(limits.cpu_time)),
        ExitCause::Memory => over(Bound::Memory, LimitAmount::Bytes(limits.memory_bytes)),
        ExitCause::Refusal => Err(CompileError::Refused(EngineRefusal::new(words))),
        ExitCause::Unknown => Err(CompileError::Broken { status, words: text::plain(text::cut(words.trim(), 512)) }),
    }
}

fn file_of(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Reads the compiler's output, at most one byte beyond its limit, and returns the rest of the compiler's time, too;
/// `None` if reading takes too long.
fn read(compiler: &mut Child, limits: &CompileLimits) -> Option<(io::Result<Vec<u8>>, Duration)> {
    let output = compiler.stdout.take()?;
    let (send, receive) = mpsc::channel();
    let most = limits.code_bytes.saturating_add(1);
    thread::spawn(move || {
        let mut code = Vec::new();
        let _ = send.send(output.take(most).read_to_end(&mut code).map(|_| code));
    });
    let mut left = limits.wall_time;
    // A process that was stopped and woken had no more time than one step.
    while !left.is_zero() {
        let step = left.min(limits::COMPILER_STEP);
        match receive.recv_timeout(step) {
            Err(mpsc::RecvTimeoutError::Timeout) => left -= step,
            code => return code.ok().map(|code| (code, left)),
        }
    }
    None
}

/// Kills a compiler when nobody waits for it any more.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // The compiler may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The reason why a compiler ended without code.
enum ExitCause {
    Processor,
    Memory,
    Refusal,
    Unknown,
}

// Messages of a process without memory, which may end at any allocation. The row of memory in `tests/foreign.rs`
// provokes the first, and the test below the others.

/// The message of the standard library before it aborts.
const NO_ALLOCATION: &str = "memory allocation of";

/// The system's message for `ENOMEM`.
const NO_MEMORY: &str = "Cannot allocate memory";

/// The system's message for `EAGAIN`, with which it refuses to start a thread.
const NO_THREAD: &str = "Resource temporarily unavailable";

fn exit_cause(status: ExitStatus, words: &str) -> ExitCause {
    let starved = [NO_ALLOCATION, NO_MEMORY, NO_THREAD];
    match status.signal() {
        Some(libc::SIGXCPU) => ExitCause::Processor,
        _ if starved.iter().any(|sign| words.contains(sign)) => ExitCause::Memory,
        None if status.code() == Some(REFUSED.into()) => ExitCause::Refusal,
        _ => ExitCause::Unknown,
    }
}

/// Exit status of a compiler that refuses a plugin.
const REFUSED: u8 = 10;

/// Begins the line that a compiler writes if it could not set up its fence; the reason follows.
const UNFENCED: &str = "unfenced: ";

/// The compiler's side: sets its limits and its fence, reads a plugin from standard input, and writes its code to
/// standard output. `numbers` are the arguments after [`COMMAND`]. Returns the exit status.
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
            // The limits hold without the fence.
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

/// Starts the threads of the engine's compiler, and waits until each runs, because the fence forbids new threads.
#[cfg(feature = "parallel-compilation")]
fn start_threads() -> Result<(), String> {
    rayon::ThreadPoolBuilder::new().build_global().map_err(|error| error.to_string())?;
    rayon::broadcast(|_| ());
    Ok(())
}

/// Does nothing, because the engine compiles on the thread that calls it.
#[cfg(not(feature = "parallel-compilation"))]
fn start_threads() -> Result<(), String> {
    Ok(())
}

/// Sets the limits of this process. Written memory counts: reserving gigabytes of address space costs nothing.
#[cfg(target_os = "linux")]
fn restrict(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
    let only = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Data, only(memory_bytes))?;
    // One second more, so that the signal that names the reason arrives before the one that kills.
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu_seconds), maximum: Some(cpu_seconds + 1) })?;
    // Only error messages go to a file.
    setrlimit(Resource::Fsize, only(limits::COMPILER_WORDS_BYTES << 4))?;
    setrlimit(Resource::Nofile, only(16))?;
    // Without a parent, nobody takes the compiler's output.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Polls have priority.
    let _ = nice(10);
    Ok(())
}

/// Does nothing: without such limits, those of time and size remain, which the parent enforces.
#[cfg(not(target_os = "linux"))]
fn restrict(_memory_bytes: u64, _cpu_seconds: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_that_there_is_no_memory_and_no_thread() {
        for (code, words) in [(libc::ENOMEM, NO_MEMORY), (libc::EAGAIN, NO_THREAD)] {
            assert!(io::Error::from_raw_os_error(code).to_string().contains(words), "{words}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_causes_on_one_line() {
        let error = io::Error::other("a list\n  of bytes\x1b[31m");
        assert_eq!(EngineRefusal::new(error).to_string(), text::plain("a list of bytes\x1b[31m"));
    }
}
