//! The tap changes nothing: bytes, closed ends, signals, exit codes.
#![cfg(feature = "tap")]
// The exemption of tests does not reach their own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/tap_process.rs"]
mod tap_process;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tap_process::{Setup, sh, start, start_in};

fn tap(script: &str) -> tap_process::Running {
    start(&Setup::default(), &sh(script))
}

#[test]
fn every_recorded_session_passes_unchanged_in_any_chunks() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut sessions = 0;
    let mut random = 12345_usize;
    for dir in std::fs::read_dir(corpus).unwrap() {
        for conn in ["", ".2", ".3", ".4", ".5"] {
            let raw = |side| dir.as_ref().unwrap().path().join(format!("{side}{conn}.raw"));
            let (Ok(client), Ok(server)) = (std::fs::read(raw("client")), std::fs::read(raw("server")))
            else {
                continue;
            };
            sessions += 1;
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let size = 1 + (random >> 33) % 3000;
            let script = format!(
                "dd bs={} status=none < '{}' & cat > \"$OUT/got\"; wait",
                // Many small writes for short sessions only, for time's sake.
                size.max(server.len() / 3000 + 1),
                raw("server").display()
            );
            let mut running = tap(&script);
            let mut stdin = running.stdin.take().unwrap();
            let sent = client.clone();
            let writer = std::thread::spawn(move || {
                for chunk in sent.chunks(size.max(sent.len() / 3000 + 1)) {
                    stdin.write_all(chunk).unwrap();
                }
            });
            assert!(running.read_to_end() == server, "{} bytes differ", raw("server").display());
            writer.join().unwrap();
            assert_eq!(running.wait().code, Some(0));
            assert!(std::fs::read(running.path("got")).unwrap() == client, "{}", raw("client").display());
        }
    }
    assert!(sessions > 30, "{sessions}");
}

#[test]
fn odd_bytes_pass_and_are_lines() {
    let odd = b"\xff\xfe bad\n\0\0\r\n\n{\"a\":\"\\ud800\"}\r\nno newline";
    let mut running = tap("cat");
    running.write(odd);
    running.stdin = None;
    assert_eq!(running.read_to_end(), odd);
    let ended = running.wait();
    let of = |dir: &str| -> Vec<String> {
        ended
            .log
            .iter()
            .filter_map(|line| line.strip_prefix(dir))
            .map(|line| line.trim().to_string())
            .collect()
    };
    let expected = [
        r"0 7 whole \xff\xfe bad",
        r"7 4 whole \x00\x00\r",
        "11 1 whole",
        r#"12 16 whole {\"a\":\"\\ud800\"}\r"#,
        "28 10 whole no newline",
    ];
    assert_eq!(of("client"), expected);
    assert_eq!(of("server"), expected);
    assert_eq!(ended.log.last().unwrap(), "end client_closed");
    assert!(ended.exit.contains("Finished") && ended.exit.contains("unobserved_bytes: 0"), "{}", ended.exit);
}

#[test]
fn the_exit_code_is_the_childs() {
    let ended = tap("exit 37").wait();
    assert_eq!((ended.code, ended.log.as_slice()), (Some(37), &["end server_exited".to_string()][..]));
    let ended = tap("kill -KILL $$").wait();
    assert_eq!((ended.code, ended.log.as_slice()), (Some(128 + 9), &["end killed".to_string()][..]));
    // SIGPIPE, which a Rust program ignores, is the default in the child.
    assert_eq!(tap("kill -PIPE $$; exit 3").wait().code, Some(128 + 13));
}

#[test]
fn a_command_that_can_not_be_started() {
    let fails = |command: &str| start(&Setup::default(), &[command.to_string()]).wait();
    let missing = fails("no-such-command-anywhere");
    assert_eq!(missing.code, Some(127));
    assert!(missing.exit.contains("not found in any directory of PATH"), "{}", missing.exit);
    assert_eq!(fails("/no/such/file").code, Some(127));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("program");
    std::fs::write(&file, "#!/no/such/interpreter\n").unwrap();
    let path = file.to_str().unwrap();
    let denied = fails(path);
    assert_eq!(denied.code, Some(126));
    assert!(denied.exit.contains("permission denied"), "{}", denied.exit);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    let script = fails(path);
    assert_eq!(script.code, Some(126));
    assert!(script.exit.contains("interpreter"), "{}", script.exit);
    assert_eq!(fails(dir.path().to_str().unwrap()).code, Some(126));
    assert_eq!(start(&Setup::default(), &[]).wait().code, Some(2));
}

const TRAPS: &str = "trap 'echo got-$s; kill $!; exit 42' SIG; sleep 60 & echo ready; wait";

#[test]
fn signals_sent_to_the_tap_reach_the_child() {
    let signals = [
        ("TERM", Signal::TERM),
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("USR1", Signal::USR1),
    ];
    for (name, signal) in signals {
        let mut running = tap(&TRAPS.replace("SIG", name).replace("$s", name));
        assert_eq!(running.read_line(), "ready");
        running.signal(signal);
        assert_eq!(running.read_line(), format!("got-{name}"));
        assert_eq!(running.wait().code, Some(42));
    }
}

/// As in a container whose session began outside: the kernel gives the session there as number 0.
#[test]
fn signals_reach_the_child_in_a_process_namespace_as_well() {
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]);
    if !inside.arg("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: needs `unshare` (package util-linux) and the right to make a process namespace");
        return;
    }
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    inside.arg(std::env::current_exe().unwrap()).args(["signals_sent_to_the_tap_reach_the_child", "--exact"]);
    let output = inside.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_signal_that_ends_the_child_ends_the_tap() {
    let mut running = tap("echo ready; exec sleep 1000");
    assert_eq!(running.read_line(), "ready");
    running.signal(Signal::TERM);
    let ended = running.wait();
    assert_eq!((ended.code, ended.log.last().unwrap().as_str()), (Some(128 + 15), "end killed"));
}

#[test]
fn ignored_signals_stay_ignored_and_the_exit_code_survives_an_ignored_sigchld() {
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP CHLD; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    let script = "kill -HUP $$; echo still here; read x; exit 5";
    let mut running = start_in(nohup, &Setup::default(), &sh(script));
    running.signal(Signal::HUP);
    assert_eq!(running.read_line(), "still here");
    running.signal(Signal::HUP);
    assert_eq!(running.finish().code, Some(5));
}

#[test]
fn the_client_may_close_first_and_still_be_answered() {
    let mut running = tap("cat > /dev/null; echo answer; exit 4");
    running.stdin = None;
    assert_eq!(running.read_line(), "answer");
    assert_eq!(running.read_to_end(), b"");
    assert_eq!(running.wait().code, Some(4));
}

#[test]
fn the_server_may_close_its_output_and_still_listen() {
    let mut running = tap("exec >&-; cat > \"$OUT/got\"");
    // The end of our output arrives while the child lives.
    assert_eq!(running.read_to_end(), b"");
    running.write(b"still heard\n");
    assert_eq!(running.finish().code, Some(0));
    assert_eq!(std::fs::read(running.path("got")).unwrap(), b"still heard\n");
}

#[test]
fn a_server_that_closes_its_input_closes_it_for_the_writer() {
    let mut running = tap("exec <&-; echo closed; sleep 1000 & echo $!; wait");
    assert_eq!(running.read_line(), "closed");
    let sleep = running.read_line();
    let mut stdin = running.stdin.take().unwrap();
    // An endless writer is stopped by a broken pipe, although the child lives.
    let error = loop {
        if let Err(error) = stdin.write_all(&[b'x'; 4096]) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    Command::new("kill").arg(sleep).status().unwrap();
    assert_eq!(running.wait().log.last().unwrap(), "end server_exited");
}

#[test]
fn a_reader_that_goes_away_breaks_the_servers_pipe() {
    let mut running = tap("exec yes");
    running.read_line();
    running.stdout = None;
    assert_eq!(running.wait().code, Some(128 + 13));
}

#[test]
fn a_reader_that_goes_away_is_noticed_before_anything_is_written() {
    // The child writes once, when told; without us that one write would fail.
    let mut running = tap("echo ready; read x; trap '' PIPE; echo lost 2> /dev/null || exit 9; exit 1");
    assert_eq!(running.read_line(), "ready");
    running.stdout = None;
    // The pump has seen it when the child's end has no reader any more.
    tap_process::until(|| {
        let tasks = format!("/proc/{}/task", running.process.id());
        let tasks = std::fs::read_dir(tasks).unwrap();
        let names =
            tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
        names.into_iter().all(|name| name.trim() != "tap-server")
    });
    running.write(b"go\n");
    assert_eq!(running.wait().code, Some(9));
}

#[test]
fn a_slow_reader_slows_the_server() {
    let script = "head -c 3000000 /dev/zero; echo done > \"$OUT/done\"";
    let mut running = tap(script);
    let mut some = [0; 1000];
    running.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
    // Two pipes and one buffer lie between: the server can't be done.
    assert!(!running.path("done").exists());
    assert_eq!(running.read_to_end().len(), 3_000_000 - 1000);
    assert_eq!(running.wait().code, Some(0));
    assert!(running.path("done").exists());
}

#[test]
fn what_a_child_leaves_in_the_pipe_is_relayed_and_a_grandchild_does_not_hold_the_tap() {
    let mut running = tap("sleep 1000 & echo $! > \"$OUT/pid\"; head -c 50000 /dev/zero; exit 6");
    assert_eq!(running.read_to_end().len(), 50_000);
    assert_eq!(running.wait().code, Some(6));
    let sleep = std::fs::read_to_string(running.path("pid")).unwrap();
    Command::new("kill").arg(sleep.trim()).status().unwrap();
}

#[test]
fn a_signal_ends_a_tap_whose_reader_does_not_read_when_the_child_is_gone() {
    // More than our pipe holds, so that the tap is stuck writing when the child is gone.
    let mut running = tap("head -c 110000 /dev/zero; echo $$ > \"$OUT/pid\"; exit 6");
    tap_process::until(|| {
        let pid = std::fs::read_to_string(running.path("pid")).unwrap_or_default();
        pid.ends_with('\n') && !Path::new("/proc").join(pid.trim()).exists()
    });
    running.signal(Signal::TERM);
    assert_eq!(running.wait().code, Some(6));
}

#[test]
fn the_child_inherits_no_descriptor_of_ours() {
    let setup = Setup { observer: "record", ..Setup::default() };
    let mut running = start(&setup, &["ls".into(), "/proc/self/fd".into()]);
    // What was inherited from whoever runs the tests passes through, as it does without us.
    let direct = Command::new("ls").arg("/proc/self/fd").output().unwrap().stdout;
    assert_eq!(running.read_to_end(), direct);
    assert_eq!(running.wait().code, Some(0));
}

#[test]
fn the_child_lives_as_it_would_without_a_tap() {
    // The C library may ignore signals 32 and 33, its own, in what it starts.
    let script = "umask; pwd; echo group$(ps -o pgid= -p $$ | tr -d ' '); \
        sed -nE 's/^(Sig(Blk|Ign|Cgt):).*(.{7})$/\\1\\3/p' /proc/self/status; env; echo $0";
    let mut through = start(&Setup::default(), &sh(script));
    let through = String::from_utf8(through.read_to_end()).unwrap();
    let mut direct = Command::new("sh");
    tap_process::hears_signals(&mut direct);
    let direct = String::from_utf8(direct.args(["-c", script]).output().unwrap().stdout).unwrap();
    let ours = |line: &&str| !["TAP_", "OUT=", "RUST_BACKTRACE="].iter().any(|it| line.starts_with(it));
    let lines = |text: &str| text.lines().filter(ours).map(str::to_owned).collect::<BTreeSet<_>>();
    assert!(through.contains("SigIgn:"));
    // Compared here and not by the macro, which would print the environment. The process group is that of the tests.
    assert!(lines(&through) == lines(&direct), "the child lives in another environment");
    let group = through.lines().find_map(|line| line.strip_prefix("group"));
    assert!(group.is_some_and(|number| number.parse::<u32>().is_ok()), "{group:?}");
}

#[test]
fn a_killed_tap_is_an_end_of_input_for_the_child() {
    let mut running = tap("echo ready; cat; echo ended > \"$OUT/ended\"");
    assert_eq!(running.read_line(), "ready");
    running.signal(Signal::KILL);
    running.process.wait().unwrap();
    tap_process::until(|| running.path("ended").exists());
}

#[test]
fn nothing_is_printed() {
    let mut running = tap("cat; echo mine >&2");
    running.finish();
    assert_eq!(std::fs::read_to_string(running.path("stderr")).unwrap(), "mine\n");
}

/// A relay that leaks a zombie, a thread per message or a descriptor would show here.
#[test]
fn a_long_talk_leaves_nothing_behind() {
    let mut running = tap("cat");
    let count = |running: &tap_process::Running, what: &str| {
        std::fs::read_dir(format!("/proc/{}/{what}", running.process.id())).unwrap().count()
    };
    running.write(b"first\n");
    assert_eq!(running.read_line(), "first");
    let before = (count(&running, "fd"), count(&running, "task"));
    for _ in 0..1000 {
        running.write(b"again\n");
        assert_eq!(running.read_line(), "again");
    }
    assert_eq!((count(&running, "fd"), count(&running, "task")), before);
    assert_eq!(running.finish().code, Some(0));
}
