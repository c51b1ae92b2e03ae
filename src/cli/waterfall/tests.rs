use super::super::shown::{Approval, Shown};
use super::*;

const MS: u64 = 1_000_000;

fn span(id: u64, parent: u64, start_ms: u64, end_ms: u64) -> Span {
    Span {
        trace: 0x0abc,
        span: id,
        parent,
        start: start_ms * MS,
        end: end_ms * MS,
        thread: "T1".to_owned(),
        status: "completed".to_owned(),
        ..Span::default()
    }
}

fn turn(id: u64, parent: u64, start_ms: u64, end_ms: u64, agent: &str) -> Span {
    let agent = agent.to_owned();
    let tokens = (Some(12_345), Some(67));
    Span {
        kind: Kind::Turn,
        agent,
        index: Some(0),
        input: tokens.0,
        output: tokens.1,
        ..span(id, parent, start_ms, end_ms)
    }
}

fn tool(id: u64, parent: u64, start_ms: u64, end_ms: u64, tool: &str) -> Span {
    Span {
        kind: Kind::Tool,
        tool: tool.to_owned(),
        call: id.to_string(),
        ..span(id, parent, start_ms, end_ms)
    }
}

fn small() -> Tree {
    let failed =
        Span { status: "failed".into(), error: Some("exit_code".into()), ..tool(2, 1, 100, 300, "shell") };
    let declined = Span { status: "declined".into(), ..tool(3, 1, 300, 450, "apply_patch") };
    let child = Span { thread: "T2".into(), status: "interrupted".into(), ..turn(5, 4, 600, 900, "worker") };
    let below = Span {
        thread: "T2".into(),
        ..tool(6, 5, 650, 650, "a\u{1b}[2J tool with é and a name that is long")
    };
    let hook = Span { name: "codex.hook preToolUse".into(), ..span(7, 1, 900, 1000) };
    let connection = Span {
        kind: Kind::Connection,
        client: "vscode 1.2".into(),
        thread: String::new(),
        ..span(8, 0, 0, 2000)
    };
    let answer = |call: &str, decision: &str| Approval {
        call: call.to_owned(),
        decision: decision.to_owned(),
        resolution: "none".to_owned(),
        wait_s: Some(0.15),
        ..Approval::default()
    };
    let approvals = vec![answer("3", "denied"), answer("4", "approved")];
    let spawn = tool(4, 1, 500, 600, "spawn_agent");
    // Ends are written before what they belong to, and this one twice.
    let spans = vec![
        below,
        child,
        spawn,
        failed.clone(),
        failed,
        declined,
        hook,
        connection,
        turn(1, 0, 0, 1000, "codex"),
    ];
    Tree::new(Shown { spans, approvals })
}

fn drawn(width: usize, unicode: bool) -> String {
    text(&small(), Look { width, unicode, colour: false })
}

#[test]
fn a_small_tree() {
    let expected = [
        "                       time                       took  tokens in/out, status",
        "",
        "connection of vscode 1.2, 2.0 s",
        "",
        "thread T1 codex, 1 turn, 3 calls, 12.3k/67",
        "trace 00000000000000000000000000000abc  Thu, 01 Jan 1970 00:00:00 GMT",
        "turn 1 codex           ███████████████████████   1.0 s  12.3k/67",
        "├ shell                ··████▉················  200 ms  failed: exit_code",
        "├ apply_patch          ······▕███▎············  150 ms  declined in 150 ms",
        "├ spawn_agent          ···········▐█▊·········  100 ms  approved in 150 ms",
        "│ │ thread T2 worker, 1 turn, 1 call, 12.3k/67",
        "│ └ turn 1 worker      ·············▕██████▋··  300 ms  12.3k/67, interrupted",
        "│   └ a\u{fffd}[2J tool with… ··············▕········    0 us",
        "└ hook preToolUse      ····················▐██  100 ms",
    ];
    let drawn = drawn(80, true);
    assert_eq!(drawn.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn ascii_where_the_locale_knows_no_more() {
    let text = drawn(80, false);
    assert!(text.is_ascii(), "{text}");
    assert!(
        text.contains("|-shell                ..#####................  200 ms  failed: exit_code\n"),
        "{text}"
    );
    assert!(
        text.contains("| `-turn 1 worker      .............########..  300 ms  12.3k/67, interrupted\n"),
        "{text}"
    );
    assert!(text.contains("|   `-a?[2J tool with~"), "{text}");
}

#[test]
fn narrow_terminals_get_what_fits() {
    let text = drawn(40, false);
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("t") && !line.contains("thread")).collect();
    let expected = [
        "               time    took  tokens in/o~",
        "",
        "connection of vscode 1.2, 2.0 s",
        "",
        "|-shell        #..  200 ms  failed: exi~",
        "|-apply_patch  ##.  150 ms  declined in~",
        "|-spawn_agent  .|.  100 ms  approved in~",
        "| `-turn 1 wo~ .##  300 ms  interrupted",
        "|   `-a?[2J t~ .|.    0 us",
        "`-hook preToo~ ..|  100 ms",
    ];
    assert_eq!(lines, expected);
    for width in [0, 1, 39, 60, 69, 70, 99, 100, 200, 5000] {
        let longest = drawn(width, true).lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(width.clamp(70, 200)), "{width}: {longest:?}");
    }
}

#[test]
fn colours_only_when_asked_for() {
    assert!(!drawn(80, true).contains('\u{1b}'));
    let text = text(&small(), Look { width: 80, unicode: true, colour: true });
    assert!(text.contains("\u{1b}[31mfailed: exit_code\u{1b}[0m"));
    assert!(!text.contains("[2J tool with…\u{1b}"));
}

#[test]
fn spans_that_are_each_others_parents_are_shown_once() {
    let tree = Tree::new(Shown {
        spans: vec![turn(1, 2, 0, 5, "a"), turn(2, 1, 1, 4, "b"), turn(3, 3, 1, 4, "c")],
        approvals: vec![],
    });
    let text = text(&tree, Look { width: 80, unicode: false, colour: false });
    for agent in ["a", "b", "c"] {
        assert_eq!(text.matches(&format!("turn 1 {agent} ")).count(), 1, "{text}");
    }
}

#[test]
fn a_tree_that_is_deep_ends() {
    let spans = (1..2000).map(|id| turn(id, id - 1, id, 10_000 - id, "deep")).collect();
    let text = text(
        &Tree::new(Shown { spans, approvals: vec![] }),
        Look { width: 80, unicode: true, colour: false },
    );
    assert_eq!(text.matches("turn 1 d").count(), 1999);
}
