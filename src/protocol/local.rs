//! What only the disk of the server's machine tells: read where the user allows it, when both are one machine.
//!
//! Of a repository only its root, its remote and whether it is a linked work tree are looked at; they leave as
//! hashes and flags.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes of a file of git that are read at most.
const READ: u64 = 256 * 1024;

/// The work tree that a directory lies in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checkout {
    /// Its root.
    pub root: PathBuf,
    /// Whether it is linked to a repository elsewhere (`git worktree`).
    pub linked: bool,
    /// Address of `origin`, else of the first remote.
    pub remote: Option<String>,
}

/// The work tree around `inside`, if it lies in one.
pub(super) fn checkout(inside: &Path) -> Option<Checkout> {
    for root in inside.ancestors().take(64) {
        let git = root.join(".git");
        if git.is_dir() {
            let remote = read(&git.join("config")).and_then(|config| remote(&config));
            return Some(Checkout { root: root.to_owned(), linked: false, remote });
        }
        if git.is_file() {
            let text = read(&git)?;
            let target = root.join(text.lines().next()?.strip_prefix("gitdir:")?.trim());
            let linked = target.parent().is_some_and(|parent| parent.ends_with("worktrees"));
            let common = if linked { target.parent()?.parent()? } else { target.as_path() };
            let remote = read(&common.join("config")).and_then(|config| remote(&config));
            return Some(Checkout { root: root.to_owned(), linked, remote });
        }
    }
    None
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(READ).read_to_string(&mut text).ok()?;
    Some(text)
}

fn remote(config: &str) -> Option<String> {
    let mut section = None;
    let mut first = None;
    for line in config.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.strip_prefix("remote \"").and_then(|name| name.strip_suffix('"'));
        } else if let (Some(name), Some((key, url))) = (section, line.split_once('='))
            && key.trim() == "url"
        {
            let url = url.trim().to_owned();
            if name == "origin" {
                return Some(url);
            }
            first.get_or_insert(url);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_comes_before_other_remotes_wherever_it_stands() {
        let config =
            "[core]\n\turl = no\n[remote \"up\"]\n\turl = a\n[remote \"origin\"]\n\tfetch = x\n\turl = b\n";
        assert_eq!(remote(config).as_deref(), Some("b"));
        assert_eq!(remote("[remote \"up\"]\nurl=a").as_deref(), Some("a"));
        assert_eq!(remote("[branch \"main\"]\nurl = a"), None);
    }

    #[test]
    fn a_linked_work_tree_has_the_remote_of_its_repository() {
        let dir = tempfile::tempdir().unwrap();
        let (main, linked) = (dir.path().join("main"), dir.path().join("linked/src"));
        std::fs::create_dir_all(main.join(".git/worktrees/linked")).unwrap();
        std::fs::create_dir_all(&linked).unwrap();
        std::fs::write(main.join(".git/config"), "[remote \"origin\"]\n url = git@example.org:a/b.git\n")
            .unwrap();
        let link = format!("gitdir: {}\n", main.join(".git/worktrees/linked").display());
        std::fs::write(dir.path().join("linked/.git"), link).unwrap();
        let found = checkout(&linked).unwrap();
        assert_eq!((found.linked, found.remote.as_deref()), (true, Some("git@example.org:a/b.git")));
        assert_eq!(found.root, dir.path().join("linked"));
        assert!(!checkout(&main).unwrap().linked);
    }
}
