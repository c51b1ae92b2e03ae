//! The lab in which the real codex plays scenarios against mock back ends (tests/codexlab/drive.py).
#![allow(dead_code)] // each suite uses its part

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::named_by;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The codex that `variable` names, if it and all that the lab needs is here; says what is missing.
pub fn codex(variable: &str) -> Option<PathBuf> {
    let codex = named_by(variable, "a native codex binary (`.ci/parts codex` installs one)")?;
    let works = |program: &str, arguments: &[&str]| {
        let quiet =
            Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    };
    let missing = if !rustix::process::geteuid().is_root() {
        "root, for a network namespace"
    } else if !works("python3", &["-c", "import sys; sys.exit(sys.version_info < (3, 9))"]) {
        "python3 (3.9 or later)"
    } else if !works("git", &["--version"]) {
        "git"
    } else if !works("unshare", &["-n", "sh", "-c", "ip link set lo up"]) {
        "`unshare -n` and `ip` (packages util-linux and iproute2), and the right to use them"
    } else {
        return Some(codex);
    };
    println!("skipped: the lab for the real codex needs {missing}");
    None
}

/// The command that plays a scenario with `via` in front of codex, and leaves the driver's recording below `dir`.
pub fn drive(codex: &Path, scenario: &str, dir: &Path, via: &str) -> Command {
    let mut command = Command::new("python3");
    command
        .arg(root().join("tests/codexlab/drive.py"))
        .arg("--out")
        .arg(dir)
        .arg(&scenario[..2])
        .current_dir(dir)
        .env("CODEX_BIN", codex)
        .env("CODEX_VIA", via)
        .env("LAB_DIR", dir.join("lab"));
    command
}

/// Runs `play` on each of `todo`, two at a time. What codex does depends on how fast the machine is: what failed
/// is played again alone, twice at most, and fails for good if it does then.
pub fn play_all(todo: &[&'static str], play: impl Fn(&str, &str) -> Result<(), String> + Sync) {
    let todo = std::sync::Mutex::new(todo.iter());
    let again = std::sync::Mutex::new(Vec::new());
    let next = || todo.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(scenario) = next() {
                    if let Err(difference) = play(scenario, scenario) {
                        println!("{scenario}: to be played again: {difference}");
                        again.lock().unwrap().push(scenario);
                    }
                }
            });
        }
    });
    for scenario in again.into_inner().unwrap() {
        let alone = |attempt| play(scenario, &format!("{scenario}-{attempt}"));
        if let Err(difference) = alone(2).or_else(|_| alone(3)) {
            panic!("{scenario}: {difference}");
        }
    }
}
