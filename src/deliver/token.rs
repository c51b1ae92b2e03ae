//! The bearer token: from the environment, a file or a command, renewed when a backend refuses it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

use crate::config::Token;

/// No token is longer; what is, is the wrong file or program.
const LENGTH_LIMIT: u64 = 64 << 10;
/// A command may have to ask a server. What it takes, delivery waits.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// How often to look whether a command that closed its output has ended.
const LOOK: Duration = Duration::from_millis(5);

/// The `Authorization` of requests.
pub(super) struct Bearer {
    source: Token,
    /// Held while a new one is fetched, so that requests on their way at the same time fetch one.
    current: Mutex<Option<HeaderValue>>,
}

impl Bearer {
    pub(super) fn new(source: Token) -> Self {
        Self { source, current: Mutex::default() }
    }

    /// The token to use, fetched if there is none yet.
    pub(super) async fn current(&self) -> Result<HeaderValue, String> {
        let mut current = self.current.lock().await;
        if let Some(token) = &*current {
            return Ok(token.clone());
        }
        Ok(current.insert(self.fetch().await?).clone())
    }

    /// Another token than the one that was refused; `None` where there is none.
    pub(super) async fn renewed(&self, refused: &HeaderValue) -> Result<Option<HeaderValue>, String> {
        let mut current = self.current.lock().await;
        if current.as_ref().is_none_or(|token| token == refused) {
            if matches!(self.source, Token::Value(_)) {
                return Ok(None);
            }
            *current = Some(self.fetch().await?);
        }
        Ok(current.clone().filter(|token| token != refused))
    }

    async fn fetch(&self) -> Result<HeaderValue, String> {
        let source = self.source.clone();
        let read = move || match source {
            Token::Value(token) => header(token.expose().as_bytes(), "the token"),
            Token::File(path) => {
                let text =
                    read_file(&path).map_err(|error| format!("token file {}: {error}", path.display()))?;
                header(&text, "the content of the token file")
            }
            Token::Command(command) => {
                header(&run(&command, COMMAND_LIMIT)?, "the output of the token command")
            }
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

fn header(text: &[u8], what: &str) -> Result<HeaderValue, String> {
    let token = text.trim_ascii();
    if token.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if token.len() as u64 > LENGTH_LIMIT {
        return Err(format!("{what} is longer than {LENGTH_LIMIT} bytes"));
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .map_err(|_| format!("{what} cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe without a writer would be waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(LENGTH_LIMIT + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// What `command` prints. Errors don't repeat its arguments and output, which may be credentials.
fn run(command: &[String], limit: Duration) -> Result<Vec<u8>, String> {
    let (program, arguments) = command.split_first().ok_or("the token command is empty")?;
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        .env_remove("FACTLINE_ANALYTICS_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It would write between the lines of whoever runs us.
        .stderr(Stdio::null())
        // So that all of it can be ended when it takes too long.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the token command {program:?} cannot be started: {error}"))?;
    let Some(stdout) = child.stdout.take() else { return Err("the token command has no output".to_owned()) };
    let (send, receive) = channel();
    let reading = std::thread::Builder::new().name("factline-token".to_owned()).spawn(move || {
        let mut text = Vec::new();
        let read = stdout.take(LENGTH_LIMIT + 1).read_to_end(&mut text);
        // The receiver is gone when the time is up.
        let _ = send.send(read.map(|_| text));
    });
    let text = match reading {
        Ok(_) => receive.recv_timeout(limit),
        Err(_) => Err(RecvTimeoutError::Disconnected),
    };
    let whole = matches!(&text, Ok(Ok(text)) if text.len() as u64 <= LENGTH_LIMIT);
    let ended = if whole { wait(&mut child, deadline) } else { None };
    if ended.is_none() {
        end(&mut child);
    }
    match (text, ended) {
        (Ok(Ok(text)), Some(status)) if status.success() => Ok(text),
        (Ok(Ok(_)), Some(status)) => Err(format!("the token command {program:?} failed: {status}")),
        (Ok(Ok(_)), None) if !whole => {
            Err(format!("the output of the token command {program:?} is longer than {LENGTH_LIMIT} bytes"))
        }
        (Ok(Err(error)), _) => Err(format!("the output of the token command {program:?}: {error}")),
        _ => Err(format!("the token command {program:?} did not end within {} s", limit.as_secs_f32())),
    }
}

fn wait(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
            _ => return None,
        }
    }
}

fn end(child: &mut Child) {
    let group = rustix::process::Pid::from_child(child);
    // It may just have ended by itself.
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn sh(script: &str, limit: Duration) -> Result<Vec<u8>, String> {
        run(&["sh", "-c", script].map(str::to_owned), limit)
    }

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_command_prints_the_token_and_knows_nothing_of_ours() {
        assert_eq!(sh("echo ' abc '", LONG).unwrap(), b" abc \n");
        assert_eq!(header(b" abc \n", "it").unwrap(), "Bearer abc");
    }

    #[test]
    fn a_command_that_fails_hangs_or_floods_is_ended_and_says_so_without_its_words() {
        for (script, limit, words) in [
            ("echo s3cret; exit 3", LONG, "failed: exit status: 3"),
            ("exec sleep 60", Duration::from_millis(50), "did not end"),
            ("sleep 60 & sleep 60", Duration::from_millis(50), "did not end"),
            ("exec >&-; sleep 60", Duration::from_millis(50), "did not end"),
            ("while :; do echo s3cret; done", LONG, "longer than 65536"),
        ] {
            let started = Instant::now();
            let error = sh(script, limit).unwrap_err();
            assert!(error.contains(words) && !error.contains("s3cret"), "{script}: {error}");
            assert!(started.elapsed() < LONG, "{script}");
        }
        let error = run(&["/nowhere/s".to_owned(), "s3cret".to_owned()], LONG).unwrap_err();
        assert!(error.contains("cannot be started") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn what_cannot_be_a_token_is_refused() {
        for (text, words) in
            [(&b" \n"[..], "empty"), (b"a\nb", "cannot be sent"), (&[b'a'; 70_000], "longer")]
        {
            assert!(header(text, "it").unwrap_err().contains(words));
        }
        assert_eq!(format!("{:?}", header(b"s3cret", "it").unwrap()), "Sensitive");
        let dir = tempfile::tempdir().unwrap();
        assert!(read_file(dir.path()).is_err());
    }

    #[tokio::test]
    async fn a_refused_token_is_renewed_once_for_all_who_had_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let bearer = Bearer::new(Token::File(path.clone()));
        let one = bearer.current().await.unwrap();
        assert_eq!(bearer.renewed(&one).await, Ok(None));
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(bearer.current().await.unwrap(), one);
        let two = bearer.renewed(&one).await.unwrap().unwrap();
        assert_eq!(two, "Bearer two");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bearer.renewed(&one).await, Ok(Some(two.clone())));
        assert!(bearer.renewed(&two).await.unwrap_err().contains("token file"));
        let fixed = Bearer::new(Token::Value(Secret::new("x")));
        let x = fixed.current().await.unwrap();
        assert_eq!(fixed.renewed(&x).await, Ok(None));
    }
}
