//! Directories and files that nobody else can read, follow or swap.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, OFlags};

use super::settings::OpenError;

/// Makes `dir` if it is missing. Ours but too open is tightened; a symlink or somebody else's is refused.
pub(crate) fn private_dir(dir: &Path) -> Result<(), OpenError> {
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|e| OpenError::io(parent, "cannot be made", e))?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(OpenError::io(dir, "cannot be made", e));
        }
        _ => {}
    }
    // Opened without following a link, then judged and changed through the same descriptor, so that
    // nothing can be put in its place between the look and the change.
    let open =
        options().read(true).custom_flags((OFlags::NOFOLLOW | OFlags::DIRECTORY).bits() as i32).open(dir);
    let open = match open {
        Ok(open) => open,
        Err(_) if fs::symlink_metadata(dir).is_ok_and(|m| m.is_symlink()) => {
            return Err(OpenError::new(dir, "is a symbolic link", "name the directory it points to"));
        }
        Err(e) => return Err(OpenError::io(dir, "cannot be opened as a directory", e)),
    };
    let found = open.metadata().map_err(|e| OpenError::io(dir, "cannot be examined", e))?;
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me {
        let what = format!("belongs to user {}, not to {me}", found.uid());
        return Err(OpenError::new(dir, what, "choose a directory of your own"));
    }
    if found.mode() & 0o777 != 0o700 {
        open.set_permissions(fs::Permissions::from_mode(0o700))
            .map_err(|e| OpenError::io(dir, "is open to others and cannot be tightened", e))?;
    }
    Ok(())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

/// A new file; one that is there already is an error.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let file = options().read(true).write(true).create_new(true).open(path)?;
    // The mode of open(2) is cut by the umask; this one is not.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// A new file that is to take another's place; what a crash left of one like it goes.
pub(crate) fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => create(path),
    }
}

/// A file for reading and writing that is made when it is missing.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    match create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => options().read(true).write(true).open(path),
        other => other,
    }
}

pub(crate) fn open_read(path: &Path) -> io::Result<File> {
    options().read(true).open(path)
}

/// Makes names that were created, renamed or removed in `dir` survive power loss.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Takes the lock, or says that somebody else has it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Waits for the lock; only for locks that are held for the time of a few file operations.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::LockExclusive)?)
}

/// Whether `path` is still the file that `file` opened.
pub(crate) fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => a.ino() == b.ino() && a.dev() == b.dev(),
        _ => false,
    }
}

/// Names of the directories in `dir`, sorted; those that begin with a dot are left out.
pub(crate) fn directories(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(names),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_dir(), entry.file_name().into_string())
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Numbers of the segments in `dir`, ascending.
pub(crate) fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let path = Path::new(&name);
        if path.extension() == Some(OsStr::new("seg"))
            && let Some(stem) = path.file_stem().and_then(OsStr::to_str).filter(|s| s.len() == 20)
        {
            numbers.extend(stem.parse::<u64>().ok());
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:020}.seg")
}

/// Bytes in all files below `dir`. Files that vanish meanwhile count nothing.
pub(crate) fn usage(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let mut sum = 0;
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(m) if m.is_dir() => sum += usage(&entry.path()),
            Ok(m) => sum += m.len(),
            Err(_) => {}
        }
    }
    sum
}

pub(crate) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// A number that nobody can guess: the keys of the standard hasher come from the system's random source.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u64(now_ns());
    hasher.finish()
}
