//! Power that fails: every change that a process makes to its files is taken down by strace, and disks are made as
//! they could be at any later moment. What was synced is on them; of the rest some, in pieces, or nothing.
//!
//! Names are kept in the order in which they were changed, as file systems with a journal do, at least up to the
//! last directory that was synced. Stores to mapped memory are no calls: such files are as they were written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::emitter::{Emitter, Log};

const SECTOR: usize = 512;

enum Op {
    Create(PathBuf, usize),
    Mkdir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Write(usize, u64, Vec<u8>),
    Truncate(usize, u64),
    Sync(usize),
    SyncDir(PathBuf),
    /// So many records were said to be accepted.
    Said(u64),
}

/// What a process did.
pub struct Traced {
    root: PathBuf,
    ops: Vec<Op>,
    files: usize,
}

/// What is known of a disk that was made.
pub struct Crash {
    /// Records that had been said to be safe.
    pub said: u64,
    /// Writes of which not everything is there.
    pub lost_writes: u64,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) % n.max(1)
    }
}

impl Traced {
    /// Lets an emitter do its work in `outbox` under strace; also says who emitted.
    pub fn of(log: &Log, outbox: &Path, emitter: &Emitter, scratch: &Path) -> (Traced, u64) {
        let trace = scratch.join("trace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-y", "-x", "-s", "1000000", "--seccomp-bpf", "-o"]).arg(&trace);
        let names = "openat,mkdir,rename,unlink,unlinkat,rmdir";
        strace.args(["-e", &format!("trace={names},write,pwrite64,ftruncate,fdatasync,fsync,sendto")]);
        strace.arg(std::env::current_exe().unwrap());
        let mut running = log.emit_by(strace, outbox, emitter);
        let (status, errors) = running.wait();
        assert!(status.success(), "{errors}");
        let text = std::fs::read_to_string(&trace).unwrap();
        let traced = Traced::parse(&text, outbox);
        assert!(traced.ops.len() > 300, "only {} operations", traced.ops.len());
        (traced, running.writer)
    }

    fn parse(text: &str, root: &Path) -> Traced {
        let mut traced = Traced { root: root.into(), ops: Vec::new(), files: 0 };
        let mut names: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut lengths: BTreeMap<usize, u64> = BTreeMap::new();
        let mut unfinished: BTreeMap<&str, String> = BTreeMap::new();
        for line in text.lines() {
            let Some((process, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            if let Some(begun) = call.strip_suffix("<unfinished ...>") {
                unfinished.insert(process, begun.to_owned());
                continue;
            }
            let whole = match call.strip_prefix("<... ") {
                Some(rest) => {
                    let end = rest.split_once("resumed>").map_or("", |(_, end)| end);
                    unfinished.remove(process).unwrap_or_default() + end
                }
                None => call.to_owned(),
            };
            let Some((call, result)) = whole.rsplit_once(" = ") else { continue };
            if result.starts_with('-') || result.starts_with('?') {
                continue;
            }
            let Some((name, arguments)) = call.split_once('(') else { continue };
            traced.take(name, arguments, &mut names, &mut lengths);
        }
        traced
    }

    fn take(
        &mut self,
        name: &str,
        arguments: &str,
        names: &mut BTreeMap<PathBuf, usize>,
        lengths: &mut BTreeMap<usize, u64>,
    ) {
        let strings = strings(arguments);
        let text = |at: usize| PathBuf::from(String::from_utf8_lossy(&strings[at]).into_owned());
        // The file that a descriptor stands for, by the name it has now.
        let file = || {
            arguments
                .split_once('<')
                .and_then(|(_, rest)| rest.split_once('>'))
                .map(|(path, _)| PathBuf::from(path))
        };
        let inside = |path: &Path| path.starts_with(&self.root);
        // The numbers behind the string.
        let numbers = || {
            let rest = arguments.rsplit_once('"').map_or(arguments, |(_, rest)| rest);
            rest.trim_end()
                .trim_end_matches(')')
                .split(',')
                .filter_map(|word| word.trim().parse::<u64>().ok())
                .collect::<Vec<_>>()
        };
        match name {
            "openat"
                if arguments.contains("O_CREAT") && inside(&text(0)) && !names.contains_key(&text(0)) =>
            {
                names.insert(text(0), self.files);
                self.ops.push(Op::Create(text(0), self.files));
                self.files += 1;
            }
            "mkdir" if inside(&text(0)) => self.ops.push(Op::Mkdir(text(0))),
            "rename" if inside(&text(0)) => {
                let (from, to) = (text(0), text(1));
                let moved: Vec<_> = names
                    .iter()
                    .filter(|(path, _)| path.starts_with(&from))
                    .map(|(p, f)| (p.clone(), *f))
                    .collect();
                for (path, file) in moved {
                    names.remove(&path);
                    names.insert(moved_to(&path, &from, &to), file);
                }
                self.ops.push(Op::Rename(from, to));
            }
            "unlink" | "rmdir" if inside(&text(0)) => {
                names.remove(&text(0));
                self.ops.push(Op::Remove(text(0)));
            }
            "unlinkat" if !strings.is_empty() => {
                // Relative to a directory that is open, or absolute.
                let path = file().map_or_else(|| text(0), |dir| dir.join(text(0)));
                if inside(&path) {
                    names.remove(&path);
                    self.ops.push(Op::Remove(path));
                }
            }
            "write" | "pwrite64" => {
                let Some(file) = file().and_then(|path| names.get(&path).copied()) else { return };
                let length = lengths.entry(file).or_default();
                let at = if name == "write" { *length } else { numbers()[1] };
                *length = (*length).max(at + strings[0].len() as u64);
                self.ops.push(Op::Write(file, at, strings[0].clone()));
            }
            "ftruncate" => {
                let Some(file) = file().and_then(|path| names.get(&path).copied()) else { return };
                let length = numbers().last().copied().unwrap_or(0);
                lengths.insert(file, length);
                self.ops.push(Op::Truncate(file, length));
            }
            "fdatasync" | "fsync" => {
                let Some(path) = file() else { return };
                match names.get(&path) {
                    Some(file) => self.ops.push(Op::Sync(*file)),
                    None => self.ops.push(Op::SyncDir(path)),
                }
            }
            "sendto" => {
                let said = String::from_utf8_lossy(strings.first().map_or(&[][..], |text| text)).into_owned();
                let mut words = said.split_whitespace();
                if words.next() == Some("accepted") {
                    self.ops.push(Op::Said(words.nth(1).unwrap().parse::<u64>().unwrap() + 1));
                }
            }
            _ => {}
        }
    }

    /// Makes in `image` what may be on the disk when the power fails at a moment that `seed` gives.
    pub fn crash(&self, seed: u64, image: &Path) -> Crash {
        let mut random = Random(seed);
        let end = 1 + random.below(self.ops.len() as u64 - 1) as usize;
        let done = &self.ops[..end];
        let said =
            done.iter().rev().find_map(|op| if let Op::Said(n) = op { Some(*n) } else { None }).unwrap_or(0);
        // Names up to here are on the disk: the last one whose directory was synced afterwards.
        let sure = (0..end).rev().find(|at| self.name_is_sure(*at, done)).map_or(0, |at| at + 1);
        let names_to = sure + random.below((end - sure) as u64 + 1) as usize;
        let mut names: BTreeMap<PathBuf, Option<usize>> = BTreeMap::new();
        for op in &self.ops[..names_to] {
            match op {
                Op::Create(path, file) => drop(names.insert(path.clone(), Some(*file))),
                Op::Mkdir(path) => drop(names.insert(path.clone(), None)),
                Op::Remove(path) => drop(names.remove(path)),
                Op::Rename(from, to) => {
                    let moved: Vec<_> = names
                        .iter()
                        .filter(|(path, _)| path.starts_with(from))
                        .map(|(path, it)| (path.clone(), *it))
                        .collect();
                    for (path, it) in moved {
                        names.remove(&path);
                        names.insert(moved_to(&path, from, to), it);
                    }
                }
                _ => {}
            }
        }
        std::fs::create_dir_all(image).unwrap();
        let mut lost_writes = 0;
        let temper = random.below(4);
        for (path, it) in names {
            let path = image.join(path.strip_prefix(&self.root).unwrap());
            match it {
                // A name can't be there without its directory.
                None => std::fs::create_dir_all(path).unwrap(),
                Some(file) => {
                    let bytes = self.content(file, done, temper, &mut random, &mut lost_writes);
                    if path.parent().is_some_and(Path::exists) {
                        std::fs::write(path, bytes).unwrap();
                    }
                }
            }
        }
        Crash { said, lost_writes }
    }

    fn name_is_sure(&self, at: usize, done: &[Op]) -> bool {
        let path = match &done[at] {
            Op::Create(path, _) | Op::Mkdir(path) | Op::Remove(path) | Op::Rename(_, path) => path,
            _ => return false,
        };
        done[at..].iter().any(|op| matches!(op, Op::SyncDir(dir) if path.parent() == Some(dir)))
    }

    fn content(&self, file: usize, done: &[Op], temper: u64, random: &mut Random, lost: &mut u64) -> Vec<u8> {
        let synced = done.iter().rposition(|op| matches!(op, Op::Sync(it) if *it == file)).unwrap_or(0);
        let mut bytes: Vec<u8> = Vec::new();
        let put = |bytes: &mut Vec<u8>, at: u64, data: &[u8]| {
            let at = at as usize;
            if bytes.len() < at + data.len() {
                bytes.resize(at + data.len(), 0);
            }
            bytes[at..at + data.len()].copy_from_slice(data);
        };
        for (when, op) in done.iter().enumerate() {
            match op {
                Op::Truncate(it, length) if *it == file => bytes.resize(*length as usize, 0),
                Op::Write(it, at, data) if *it == file && when <= synced => put(&mut bytes, *at, data),
                Op::Write(it, at, data) if *it == file => {
                    // All of the rest is lost, some of it, it is torn, or the length came and the bytes did not.
                    let torn = (random.below(data.len() as u64 / SECTOR as u64 + 1) as usize) * SECTOR;
                    match (temper, random.below(2)) {
                        (0, _) | (1, 0) => *lost += 1,
                        (2, _) => {
                            put(&mut bytes, *at, &data[..torn]);
                            *lost += 1;
                        }
                        (3, 0) => {
                            put(&mut bytes, *at, &vec![0; data.len()]);
                            *lost += 1;
                        }
                        _ => put(&mut bytes, *at, data),
                    }
                }
                _ => {}
            }
        }
        bytes
    }
}

fn moved_to(path: &Path, from: &Path, to: &Path) -> PathBuf {
    let rest = path.strip_prefix(from).unwrap();
    if rest.as_os_str().is_empty() { to.into() } else { to.join(rest) }
}

/// The strings among the arguments of a call, as strace writes them.
fn strings(arguments: &str) -> Vec<Vec<u8>> {
    let (mut all, mut bytes) = (Vec::new(), arguments.bytes());
    while bytes.any(|byte| byte == b'"') {
        let mut text = Vec::new();
        loop {
            match bytes.next() {
                None | Some(b'"') => break,
                Some(b'\\') => match bytes.next() {
                    Some(b'x') => {
                        let pair = [bytes.next().unwrap(), bytes.next().unwrap()];
                        text.push(u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap());
                    }
                    Some(b'n') => text.push(b'\n'),
                    Some(b't') => text.push(b'\t'),
                    Some(b'r') => text.push(b'\r'),
                    Some(b'v') => text.push(0x0B),
                    Some(b'f') => text.push(0x0C),
                    Some(other) => {
                        assert!(!other.is_ascii_digit(), "a string that is not understood: {arguments}");
                        text.push(other);
                    }
                    None => break,
                },
                Some(byte) => text.push(byte),
            }
        }
        all.push(text);
    }
    all
}
