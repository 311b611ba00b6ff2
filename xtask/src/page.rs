//! The status page in a browser: its tests, and its pictures in the documents. Needs Python 3, and npm for the tests.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Stop, cargo, debian, run, target_folder, workspace};

/// Status of a command that found no browser.
const NO_BROWSER: u8 = 3;

/// Runs the tests, or those with a name in their names.
pub fn test(name: Option<&str>) -> Result<(), Stop> {
    let folder = target_folder().join("page");
    fs::create_dir_all(&folder).map_err(|error| format!("failed to create {}: {error}", folder.display()))?;
    for file in ["package.json", "package-lock.json"] {
        let from = workspace().join("tests/browser").join(file);
        fs::copy(&from, folder.join(file)).map_err(|error| format!("failed to copy {}: {error}", from.display()))?;
    }
    run(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&folder))?;
    python("page.py", &folder.join("node_modules/axe-core/axe.min.js"), name)
}

/// Makes the pictures.
pub fn screenshots() -> Result<(), Stop> {
    python("screenshots.py", &workspace().join("docs"), None)
}

fn python(script: &str, argument: &Path, name: Option<&str>) -> Result<(), Stop> {
    let mut command = Command::new("python3");
    if let Err(error) = debian::with_chromium(&workspace(), &mut command) {
        eprintln!("error: tests/browser/{script} DID NOT RUN: {error}");
        return Err(Stop::Told(NO_BROWSER));
    }
    cargo(["build", "--locked", "--package", "host-harness"].iter())?;
    command.arg(workspace().join("tests/browser").join(script));
    command.arg(target_folder().join("debug/host-harness")).arg(argument).args(name);
    Ok(run(&mut command)?)
}
