//! `completions` and `man`: the command line for shells and for manual pages.

use std::io::{self, Write};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::arguments::Arguments;
use crate::cli::{STDOUT, UsageError};

const NAME: &str = "host-harness";

/// Prints a script that completes command lines in this shell.
pub fn completions(shell: Shell) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut script);
    io::stdout().write_all(&script).context(STDOUT)?;
    Ok(0)
}

/// Prints the manual page of the program, or of one of its commands.
pub fn page(command: Option<&str>) -> anyhow::Result<u8> {
    let mut program = Arguments::command();
    program.build();
    let described = match command {
        None => program,
        Some(name) => {
            let found = program.get_subcommands().find(|known| known.get_name() == name);
            let names = || program.get_subcommands().map(clap::Command::get_name).collect::<Vec<_>>().join(", ");
            found.ok_or_else(|| UsageError(format!("found {name:?}, expected a command: {}", names())))?.clone()
        }
    };
    let mut page = Vec::new();
    Man::new(described).render(&mut page)?;
    io::stdout().write_all(&page).context(STDOUT)?;
    Ok(0)
}
