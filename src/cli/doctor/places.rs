//! Files that are to be written.

use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags, access};

use super::check::{Check, Report};
use crate::config::{AnalyticsSink, Config, Sink};

/// Files of JSON lines.
pub(super) fn files(config: &Config, report: &mut Report) {
    for destination in config.destinations() {
        if let Sink::File { dir } = &destination.sink {
            report.about(destination.shown());
            report.add(file(destination.signal.name(), &dir.join(format!("{}.jsonl", destination.signal))));
        }
    }
    if let Some(AnalyticsSink::File(path)) = config.analytics_sink() {
        report.about(path.display().to_string());
        report.add(file("analytics", path));
    }
}

/// Where `tap` says what is wrong.
pub(super) fn log(config: &Config, report: &mut Report) {
    if let Some(log) = &config.log {
        report.add(file("log", &log.value));
    }
}

/// Whether a file can be appended to. Nothing is changed.
fn file(step: &'static str, path: &Path) -> Check {
    let advice = "name another place, or change whose it is";
    let opened = std::fs::OpenOptions::new()
        .append(true)
        // Neither through a link nor waiting for the reader of a pipe.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(path);
    match opened.and_then(|file| file.metadata()) {
        Ok(about) if !about.is_file() => Check::fail(step, "is no regular file", advice),
        Ok(about) if about.mode() & 0o077 != 0 => Check::warn(
            step,
            "can be written, and read by others on this machine",
            format!("chmod 600 {}", path.display()),
        ),
        Ok(_) => Check::ok(step, "can be written"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match writable_above(path) {
            Ok(dir) => Check::ok(step, format!("is not there yet; {} can be written", dir.display())),
            Err((dir, error)) => {
                Check::fail(step, format!("{} cannot be written: {error}", dir.display()), advice)
            }
        },
        Err(error) => Check::fail(step, format!("cannot be written: {error}"), advice),
    }
}

/// The nearest directory above that is there, if it can be written.
pub(super) fn writable_above(path: &Path) -> Result<PathBuf, (PathBuf, io::Error)> {
    let above = path.ancestors().skip(1).find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    match access(above, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(above.to_owned()),
        Err(error) => Err((above.to_owned(), error.into())),
    }
}
