//! The folder of compiled plugins: the one that the command line names, else the one that systemd gives a service, else
//! the user's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Returns the folder; `None` if nothing names one. An empty variable counts as unset. A relative `XDG_CACHE_HOME` or
/// `HOME` is ignored, by the XDG Base Directory Specification: such a folder would depend on where the program was
/// started.
pub fn folder(named: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    named
        // Several are separated by colons, in the order of the unit's `CacheDirectory=`.
        .or_else(|| absolute("CACHE_DIRECTORY").map(|listed| first(&listed)))
        .or_else(|| absolute("XDG_CACHE_HOME").map(|folder| folder.join("host-harness")))
        .or_else(|| absolute("HOME").map(|folder| folder.join(".cache/host-harness")))
}

fn first(listed: &Path) -> PathBuf {
    match listed.to_str().and_then(|text| text.split_once(':')) {
        Some((first, _)) => PathBuf::from(first),
        None => listed.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(named: Option<&str>, variables: &[(&str, &str)], expected: Option<&str>) {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        assert_eq!(folder(named.map(PathBuf::from), variable), expected.map(PathBuf::from), "{named:?} {variables:?}");
    }

    #[test]
    fn the_folder_that_somebody_names_comes_before_those_of_the_environment() {
        let all = [("CACHE_DIRECTORY", "/var/cache/a:/var/cache/b"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/home/a")];
        check(Some("here"), &all, Some("here"));
        check(None, &all, Some("/var/cache/a"));
        check(None, &all[1..], Some("/x/host-harness"));
        check(None, &all[2..], Some("/home/a/.cache/host-harness"));
        check(None, &[], None);
    }

    #[test]
    fn an_empty_or_relative_folder_of_the_environment_is_none() {
        let odd = [("CACHE_DIRECTORY", ""), ("XDG_CACHE_HOME", "relative"), ("HOME", "")];
        check(None, &odd, None);
        check(None, &[odd[0], odd[1], ("HOME", "/home/a")], Some("/home/a/.cache/host-harness"));
    }
}
