//! The plugin's mapping in VRL, the language of Vector, run natively: a peer of `cargo xtask bench`.
//!
//! `vrl-peer PROGRAM INPUT` prints the events as one line, a JSON array. Then each line of standard input is a number of
//! calls; the answer is a line with the nanoseconds of processor time that these calls took.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::process::ExitCode;

use rustix::time::{ClockId, clock_gettime};
use vrl::compiler::state::RuntimeState;
use vrl::compiler::{Context, Program, TargetValue, TimeZone, compile};
use vrl::diagnostic::Formatter;
use vrl::value::{Secrets, Value};

/// Vector's own allocator choice on Linux is a fast one, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let mut file = |what: &str| {
        let name = arguments.next().ok_or_else(|| format!("found no {what}, expected vrl-peer PROGRAM INPUT"))?;
        std::fs::read_to_string(&name).map_err(|error| format!("{name}: {error}"))
    };
    let (source, input) = (file("program")?, file("input")?);
    let program = compile(&source, &vrl::stdlib::all())
        .map_err(|problems| Formatter::new(&source, problems).to_string())?
        .program;
    let input: serde_json::Value = serde_json::from_str(&input).map_err(|error| format!("the input: {error}"))?;
    let input = Value::from(input);
    let mut out = std::io::stdout().lock();
    let mut answer = |line: &str| {
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| format!("failed to answer: {error}"))
    };
    let events = serde_json::to_string(&mapped(&program, &input)?).map_err(|error| error.to_string())?;
    answer(&events)?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let calls: u32 = line.trim().parse().map_err(|_| format!("found {line:?}, expected a number of calls"))?;
        let begun = time();
        for _ in 0..calls {
            call(&program, &input)?;
        }
        answer(&(time() - begun).to_string())?;
    }
    Ok(())
}

/// Maps one poll and writes its events, each on a line.
fn call(program: &Program, input: &Value) -> Result<(), String> {
    let events = mapped(program, input)?;
    let mut lines = Vec::new();
    for event in events.as_array().unwrap_or_default() {
        serde_json::to_writer(&mut lines, event).map_err(|error| error.to_string())?;
        lines.push(b'\n');
    }
    std::hint::black_box(lines);
    Ok(())
}

fn mapped(program: &Program, input: &Value) -> Result<Value, String> {
    let mut target = TargetValue {
        // Bytes are shared, and not copied: the pages cost nothing here.
        value: input.clone(),
        metadata: Value::Object(BTreeMap::new()),
        secrets: Secrets::default(),
    };
    let (mut state, timezone) = (RuntimeState::default(), TimeZone::default());
    program
        .resolve(&mut Context::new(&mut target, &mut state, &timezone))
        .map_err(|error| format!("the program failed: {error}"))?;
    Ok(target.value)
}

/// Returns the processor time of this process in nanoseconds.
fn time() -> i128 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
