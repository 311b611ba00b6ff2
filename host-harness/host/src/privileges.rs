//! Privileges that a process gives up, for itself and for the processes that it starts.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Gives up the privileges that starting a program may bring (set-user-ID, file capabilities), and core files, which
/// would hold secrets. Must be called before a thread starts.
pub fn give_up() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    {
        #[expect(unsafe_code, reason = "a function of the C library that takes numbers")]
        let answer = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Keeps other processes of this user from reading the memory and the environment of this process, and from tracing it.
/// A program that this process starts is readable again until it calls this function, too.
pub fn hide_memory() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
