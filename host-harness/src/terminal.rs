//! How things are shown at a terminal: one decision about colours for the log, the usage and everything else that might
//! write escape codes.

use std::ffi::OsString;
use std::io::IsTerminal;

/// Whether escape codes may be written, as the environment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// To nobody.
    Never,
    /// To a terminal, and to nothing else.
    OnTerminals,
    /// To files and pipes, too.
    Always,
}

impl Colours {
    /// Asks the variables that people set for all their programs: `NO_COLOR` (<https://no-color.org>), `CLICOLOR_FORCE`,
    /// `CLICOLOR` and `TERM`.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Colours {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        if set("NO_COLOR").is_some() {
            return Colours::Never;
        }
        if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
            return Colours::Always;
        }
        let is_capable = set("TERM").is_some_and(|terminal| terminal != "dumb");
        if is_capable && set("CLICOLOR").is_none_or(|value| value != "0") {
            Colours::OnTerminals
        } else {
            Colours::Never
        }
    }

    /// Whether escape codes may go to this stream.
    pub fn on(self, stream: &impl IsTerminal) -> bool {
        match self {
            Colours::Never => false,
            Colours::OnTerminals => stream.is_terminal(),
            Colours::Always => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Colours::{Always, Never, OnTerminals};
    use super::*;

    #[test]
    fn colours_follow_what_people_set_for_all_their_programs() {
        for (variables, expected) in [
            (&[("TERM", "xterm-256color")][..], OnTerminals),
            (&[], Never),
            (&[("TERM", "")], Never),
            (&[("TERM", "dumb")], Never),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], Never),
            (&[("TERM", "xterm"), ("NO_COLOR", "0")], Never),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], OnTerminals),
            (&[("TERM", "xterm"), ("CLICOLOR", "0")], Never),
            (&[("TERM", "xterm"), ("CLICOLOR", "1")], OnTerminals),
            (&[("TERM", "dumb"), ("CLICOLOR", "1")], Never),
            (&[("CLICOLOR_FORCE", "1")], Always),
            (&[("TERM", "xterm"), ("CLICOLOR_FORCE", "0")], OnTerminals),
            (&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], Never),
        ] {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            assert_eq!(Colours::of(variable), expected, "{variables:?}");
        }
    }
}
