//! What the stream of a real server surprises with, each from a recorded session.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may fail loudly

#[path = "support/recorded.rs"]
mod recorded;

use std::collections::BTreeMap;

use factline::fact::vocabulary::*;
use factline::fact::{Capture, Envelope, Fact};
use factline::protocol::{Ended, Observer, Sender};
use recorded::{Saw, facts, session};

fn points<'a, T>(saw: &'a [Saw], pick: impl Fn(&'a Fact<'static>) -> Option<T>) -> Vec<(&'a Envelope, T)> {
    saw.iter()
        .filter_map(|saw| match saw {
            Saw::Point(envelope, fact) => Some((envelope, pick(fact)?)),
            _ => None,
        })
        .collect()
}

macro_rules! all {
    ($saw:expr, $Variant:ident) => {
        points($saw, |fact| match fact {
            Fact::$Variant(fact) => Some(fact),
            _ => None,
        })
    };
}

/// Turns with their starts and ends.
fn turns(saw: &[Saw]) -> Vec<(TurnStart<'static>, TurnEnd<'static>)> {
    let mut open = BTreeMap::new();
    let mut done = Vec::new();
    for saw in saw {
        match saw {
            Saw::Start(envelope, Fact::TurnStart(start)) => {
                assert!(open.insert(envelope.span, start.clone()).is_none());
            }
            Saw::End(envelope, _, Fact::TurnEnd(end)) => {
                done.push((open.remove(&envelope.span).unwrap(), end.clone()));
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "turns are left open");
    done
}

fn tools(saw: &[Saw]) -> Vec<(ToolStart<'static>, ToolEnd<'static>)> {
    let mut open = BTreeMap::new();
    let mut done = Vec::new();
    for saw in saw {
        match saw {
            Saw::Start(envelope, Fact::ToolStart(start)) => {
                open.insert(envelope.span, start.clone());
            }
            Saw::End(envelope, _, Fact::ToolEnd(end)) => {
                done.push((open.remove(&envelope.span).unwrap(), end.clone()))
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "tools are left open");
    done
}

#[test]
fn a_review_is_one_turn_under_the_id_that_review_start_answered() {
    let saw = facts(&session("15-review"));
    let reviews: Vec<_> = turns(&saw).into_iter().filter(|(start, _)| start.agent == "review").collect();
    assert_eq!(reviews.len(), 5);
    for (start, _) in &reviews {
        let inner = start.inner_id.as_ref().expect("the id of its turn/started");
        assert_ne!(*inner, start.turn_id);
        assert_eq!(start.root_id.as_ref(), Some(&start.turn_id));
    }
    let ended = all!(&saw, ReviewCompleted);
    assert_eq!(ended.len(), 5);
    let targets: Vec<_> = ended.iter().filter_map(|(_, review)| review.review_target.as_deref()).collect();
    assert_eq!(targets, ["uncommittedChanges", "commit", "baseBranch", "custom", "custom"]);
    assert_eq!(ended.iter().filter(|(_, review)| review.status == "interrupted").count(), 1);
    // turn/interrupt wants the inner id; the time of the request is on the turn all the same.
    assert_eq!(reviews.iter().filter(|(_, end)| end.interrupt_requested_at_ms.is_some()).count(), 1);
}

#[test]
fn a_steer_says_why_it_was_rejected_although_the_errors_differ_only_in_their_text() {
    let reasons = |name: &str| -> Vec<String> {
        let saw = facts(&session(name));
        all!(&saw, TurnSteered)
            .iter()
            .map(|(_, steer)| {
                assert_eq!(steer.result == "rejected", steer.error_type.is_some());
                steer.error_type.as_deref().unwrap_or("accepted").to_owned()
            })
            .collect()
    };
    let mut seen = reasons("07-steer");
    seen.sort();
    assert_eq!(
        seen,
        [
            "accepted",
            "accepted",
            "empty_input",
            "expected_turn_mismatch",
            "input_too_large",
            "no_active_turn"
        ]
    );
    assert_eq!(reasons("15-review"), ["non_steerable_review"]);
    assert_eq!(reasons("14-compaction"), ["non_steerable_compact"]);
}

#[test]
fn a_prompt_on_a_busy_thread_joins_the_running_turn_and_starts_no_other() {
    let saw = facts(&session("07-steer"));
    let queued = all!(&saw, TurnQueued);
    assert_eq!(queued.len(), 1);
    let (_, prompt) = &queued[0];
    assert_eq!(prompt.submission_type, "queued");
    assert!(prompt.wait_s.unwrap() > 0.0);
    let turns = turns(&saw);
    assert_eq!(turns.len(), 3);
    assert!(turns.iter().any(|(start, _)| Some(&start.turn_id) == prompt.turn_id.as_ref()));
    assert!(turns.iter().all(|(start, _)| start.queue_s.is_some_and(|wait| wait >= 0.0)));
}

#[test]
fn what_a_client_leaves_open_is_interrupted_and_nobody_saw_it_end() {
    let saw = facts(&session("08-interrupt"));
    let ends = turns(&saw);
    assert_eq!(ends.len(), 5);
    let unseen: Vec<_> = ends.iter().filter(|(_, end)| end.end_observed == Some(false)).collect();
    assert_eq!(unseen.len(), 1, "the turn in which the client closed");
    assert_eq!(unseen[0].1.status, "interrupted");
    assert_eq!(ends.iter().filter(|(_, end)| end.status == "interrupted").count(), 4);
    assert!(ends.iter().all(|(_, end)| end.error_type.is_none()), "interrupted is no failure");
    // Items that have no item/completed end with their turn.
    let open: Vec<_> = tools(&saw).into_iter().filter(|(_, end)| end.end_observed == Some(false)).collect();
    assert!(!open.is_empty());
    assert!(open.iter().all(|(_, end)| end.status == "interrupted" && end.error_type.is_none()));
}

#[test]
fn a_killed_server_leaves_interrupted_turns_and_the_next_process_goes_on() {
    let saw = facts(&session("31-killed"));
    let turns = turns(&saw);
    assert_eq!(turns.len(), 5);
    assert_eq!(turns.iter().filter(|(_, end)| end.end_observed == Some(false)).count(), 2);
    assert_eq!(turns.iter().filter(|(_, end)| end.status == "completed").count(), 3);
    let ended: Vec<_> = saw
        .iter()
        .filter_map(|saw| match saw {
            Saw::End(_, _, Fact::ConnectionEnd(end)) => Some(end.ended.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(ended, ["killed", "client_closed"]);
}

#[test]
fn ids_of_client_and_server_are_different_spaces() {
    let saw = facts(&session("04-commands"));
    let asked = all!(&saw, ApprovalRequested);
    let answered = all!(&saw, ApprovalResolved);
    assert_eq!((asked.len(), answered.len()), (7, 7));
    // The server counts from 0 too: the same numbers are client requests of other methods.
    let ids: Vec<_> = asked.iter().map(|(_, approval)| approval.request_id.to_string()).collect();
    assert_eq!(ids, ["0", "1", "2", "3", "4", "5", "6"]);
    let decisions: Vec<_> =
        answered.iter().map(|(_, it)| (it.decision.as_ref(), it.resolution.as_ref())).collect();
    assert_eq!(
        decisions.iter().filter(|it| **it == ("approved", "session_approval")).count()
            + decisions.iter().filter(|it| **it == ("approved", "exec_policy_amendment")).count(),
        2
    );
    assert!(decisions.contains(&("denied", "none")) && decisions.contains(&("aborted", "none")));
    assert!(answered.iter().all(|(_, it)| it.wait_s.unwrap() >= 0.0 && it.source == "user"));
    let responses = all!(&saw, Response);
    assert!(
        responses.iter().all(|(_, response)| response.method.is_some()),
        "every answer found its request"
    );
}

#[test]
fn an_approval_that_an_interrupt_leaves_open_is_aborted_by_nobody() {
    let saw = facts(&session("08-interrupt"));
    let answered = all!(&saw, ApprovalResolved);
    assert_eq!(answered.len(), 1);
    assert_eq!((answered[0].1.decision.as_ref(), answered[0].1.source.as_ref()), ("aborted", "none"));
}

#[test]
fn an_items_fields_are_those_of_its_end() {
    let saw = facts(&session("04-commands"));
    let commands: Vec<_> =
        tools(&saw).into_iter().filter(|(start, _)| start.item_type == "commandExecution").collect();
    assert_eq!(commands.len(), 18, "a command that the sandbox stops at once has no item and no span");
    // An asked command starts as the agent's and ends with a process; one that was declined has none.
    let sources: Vec<_> = commands.iter().map(|(_, end)| end.source.as_deref().unwrap().to_owned()).collect();
    assert!(sources.iter().any(|source| source == "unifiedExecStartup"));
    assert!(commands.iter().any(|(_, end)| end.status == "declined" && end.error_type.is_none()));
    assert!(
        commands
            .iter()
            .any(|(_, end)| end.exit_code == Some(3) && end.error_type.as_deref() == Some("exit_code"))
    );
    assert!(
        commands.iter().any(|(_, end)| end.execution_s == Some(0.0)),
        "some start and end in the same millisecond"
    );
}

#[test]
fn a_patch_counts_its_files_and_lines_without_showing_them() {
    let saw = facts(&session("05-file-change"));
    let patches: Vec<_> = tools(&saw).into_iter().filter(|(start, _)| start.tool == "apply_patch").collect();
    let (_, first) = &patches[0];
    assert_eq!((first.added, first.modified, first.deleted), (Some(1), Some(1), Some(0)));
    assert_eq!((first.lines_added, first.lines_removed), (Some(6), Some(1)));
    assert!(patches.iter().any(|(_, end)| end.moved == Some(1) && end.deleted == Some(1)));
    assert!(
        patches
            .iter()
            .all(|(start, end)| end.result.is_none() && end.paths.0.is_empty() && start.cwd.is_none())
    );
}

#[test]
fn subagents_have_threads_turns_and_the_call_that_made_them() {
    let saw = facts(&session("10-subagents"));
    let threads = all!(&saw, ThreadInitialized);
    let of_subagents: Vec<_> =
        threads.iter().filter(|(_, it)| it.source.as_deref() == Some("subagent")).collect();
    assert_eq!((threads.len(), of_subagents.len()), (5, 3));
    for (_, thread) in &of_subagents {
        assert!(thread.parent_id.is_some());
        assert!(thread.created_at.unwrap() > 1_700_000_000, "its birth is in its id");
    }
    let children: Vec<_> =
        turns(&saw).into_iter().filter(|(start, _)| start.root_id.as_ref() != Some(&start.turn_id)).collect();
    assert_eq!(children.len(), 5);
    assert!(tools(&saw).iter().any(|(start, end)| start.tool == "spawn_agent" && end.agents.0.len() == 1));
    assert!(tools(&saw).iter().any(|(start, _)| start.tool == "subagent.started"));
}

#[test]
fn history_that_a_resume_or_fork_replays_is_no_turn_and_no_usage() {
    for (name, expected) in [("02-resume", 3), ("03-fork", 6)] {
        let saw = facts(&session(name));
        let turns = turns(&saw);
        assert_eq!(turns.len(), expected, "{name}");
        let of_turns: u64 = turns.iter().map(|(_, end)| end.input.unwrap_or(0)).sum();
        let of_facts: u64 = all!(&saw, TurnUsage).iter().map(|(_, usage)| usage.input).sum();
        assert_eq!(of_turns, of_facts, "{name}");
        // What the server itself reported of these turns to its backend.
        let sent = std::fs::read_to_string(session(name).with_file_name("analytics.jsonl")).unwrap();
        let mut real = 0;
        for line in sent.lines() {
            let post: serde_json::Value = serde_json::from_str(line).unwrap();
            for event in post["body"]["events"].as_array().unwrap() {
                real += event["event_params"]["input_tokens"].as_u64().unwrap_or(0);
            }
        }
        assert_eq!(of_turns, real, "{name}");
    }
}

#[test]
fn a_fork_and_a_resume_link_to_the_turn_they_go_on_from() {
    use factline::fact::Relation;
    let relations = |name: &str| -> Vec<Relation> {
        let saw = facts(&session(name));
        saw.iter()
            .filter_map(|saw| match saw {
                Saw::Start(envelope, Fact::TurnStart(_)) => Some(envelope.links.clone()),
                _ => None,
            })
            .flatten()
            .map(|link| link.relation)
            .collect()
    };
    assert!(relations("03-fork").iter().filter(|it| **it == Relation::ForkedFrom).count() >= 3);
    assert!(relations("02-resume").contains(&Relation::ResumedFrom));
    assert!(relations("02-resume").contains(&Relation::PreviousTurn));
}

#[test]
fn two_clients_of_one_server_share_its_product_and_see_each_turn_once() {
    let saw = facts(&session("18-websocket"));
    let connections: Vec<_> = saw
        .iter()
        .filter_map(|saw| match saw {
            Saw::Start(_, Fact::ConnectionStart(start)) => Some(start.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(connections.len(), 2);
    let products: Vec<_> = connections.iter().map(|it| it.product_client_id.clone().unwrap()).collect();
    assert_eq!(products[0], products[1], "the product is the first client's");
    assert_ne!(connections[0].client_name, connections[1].client_name);
    assert!(connections.iter().all(|it| it.transport == "websocket"));
    let turns = turns(&saw);
    let mut ids: Vec<_> = turns.iter().map(|(start, _)| start.turn_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), turns.len());
}

#[test]
fn a_thread_outlives_the_client_that_started_it() {
    let saw = facts(&session("32-unix-socket"));
    assert!(turns(&saw).iter().all(|(_, end)| end.status == "completed"));
    assert_eq!(turns(&saw).len(), 3);
}

#[test]
fn failures_name_their_kind_and_status_and_retries_are_none() {
    let saw = facts(&session("09-errors"));
    let failed: Vec<_> = turns(&saw).into_iter().filter(|(_, end)| end.status == "failed").collect();
    let kinds: Vec<_> = failed.iter().map(|(_, end)| end.error_type.as_deref().unwrap().to_owned()).collect();
    assert!(kinds.contains(&"usage_limit_exceeded".to_owned()), "{kinds:?}");
    let too_many: Vec<_> = failed.iter().filter(|(_, end)| end.http_status == Some(429)).collect();
    assert!(!too_many.is_empty());
    assert!(failed.iter().all(|(_, end)| end.message.is_none()), "error texts are content");
    let errors = all!(&saw, Error);
    assert!(errors.iter().any(|(_, error)| error.will_retry == Some(true)));
    assert!(errors.len() > failed.len(), "an error that a retry cures is no failed turn");
}

#[test]
fn compactions_say_why_and_when_and_a_failed_one_ends_with_its_error() {
    let saw = facts(&session("14-compaction"));
    let starts: Vec<_> = saw
        .iter()
        .filter_map(|saw| match saw {
            Saw::Start(_, Fact::CompactionStart(start)) => {
                Some((start.trigger.to_string(), start.phase.to_string()))
            }
            _ => None,
        })
        .collect();
    let ends: Vec<_> = saw
        .iter()
        .filter_map(|saw| match saw {
            Saw::End(_, _, Fact::CompactionEnd(end)) => Some(end.status.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(starts.len(), ends.len());
    assert!(starts.contains(&("manual".into(), "standalone_turn".into())));
    assert!(
        starts.contains(&("auto".into(), "mid_turn".into()))
            && starts.contains(&("auto".into(), "pre_turn".into()))
    );
    assert_eq!(ends.iter().filter(|status| *status == "failed").count(), 1);
}

#[test]
fn hooks_are_told_apart_though_their_id_repeats_and_holds_a_path() {
    let saw = facts(&session("22-hooks"));
    let starts: Vec<_> = saw
        .iter()
        .filter_map(|saw| match saw {
            Saw::Start(envelope, Fact::HookStart(start)) => Some((envelope.span, start.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(starts.len(), 36);
    let mut spans: Vec<_> = starts.iter().map(|(span, _)| *span).collect();
    spans.sort_unstable();
    spans.dedup();
    assert_eq!(spans.len(), 36, "each run has an id of its own");
    assert!(!format!("{starts:?}").contains("hooks.json"));
    assert!(starts.iter().all(|(_, start)| start.path.is_none()));
    let failed = saw
        .iter()
        .filter(|saw| matches!(saw, Saw::End(_, _, Fact::HookEnd(end)) if end.error_type.is_some()));
    assert!(failed.count() >= 1);
}

#[test]
fn goals_skills_apps_plugins_and_imports_are_facts() {
    let goals = facts(&session("21-goals"));
    assert_eq!(all!(&goals, GoalChanged).len(), 12);
    let skills = facts(&session("11-skills"));
    let named: Vec<_> =
        all!(&skills, SkillInvoked).iter().map(|(_, skill)| skill.skill_name.to_string()).collect();
    assert!(
        named.contains(&"user-greeter".to_owned()) && named.contains(&"repo-checker".to_owned()),
        "{named:?}"
    );
    let apps = facts(&session("13-apps"));
    assert_eq!(all!(&apps, AppMentioned).len(), 1);
    let used: Vec<_> = all!(&apps, AppUsed)
        .iter()
        .map(|(_, app)| app.invocation_type.as_deref().unwrap().to_owned())
        .collect();
    assert_eq!(used, ["explicit", "implicit", "implicit"]);
    let plugins = facts(&session("12-plugins"));
    let states: Vec<_> =
        all!(&plugins, PluginStateChanged).iter().map(|(_, it)| it.state.to_string()).collect();
    assert!(states.starts_with(&["installed".to_owned()]), "{states:?}");
    assert!(
        ["disabled", "enabled", "uninstalled"].iter().all(|it| states.contains(&(*it).to_owned())),
        "{states:?}"
    );
    assert_eq!(all!(&plugins, PluginUsed).len(), 1);
    assert_eq!(all!(&plugins, PluginInstallFailed).len(), 1);
    let imports = facts(&session("34-import"));
    let counts: Vec<_> = all!(&imports, ImportCompleted)
        .iter()
        .map(|(_, it)| (it.item_type.to_string(), it.success_count))
        .collect();
    assert_eq!(
        counts,
        [("CONFIG".to_owned(), 1), ("AGENTS_MD".to_owned(), 2), ("MCP_SERVER_CONFIG".to_owned(), 1)]
    );
    let admin = facts(&session("24-thread-admin"));
    assert_eq!(all!(&admin, ThreadArchived).len(), 2);
    assert_eq!(all!(&admin, ThreadClosed).len(), 1);
}

#[test]
fn lines_that_are_no_messages_are_counted_and_the_rest_is_observed() {
    let saw = facts(&session("19-malformed"));
    assert_eq!(turns(&saw).len(), 3);
    let unknown = points(&saw, |fact| match fact {
        Fact::Request(request) => request.original_method.clone(),
        Fact::Notification(notification) => notification.original_method.clone(),
        _ => None,
    });
    let names: Vec<_> = unknown.iter().map(|(_, name)| name.to_string()).collect();
    assert_eq!(names, ["no/such/method", "no/such/notification"]);
}

#[test]
fn an_item_that_completes_after_its_turn_keeps_its_own_times() {
    let kept = recorded::Facts::default();
    use tracing_subscriber::layer::SubscriberExt as _;
    let subscriber = tracing_subscriber::registry().with(kept.clone());
    tracing::subscriber::with_default(subscriber, || {
        let mut observer = Observer::new(Capture::NONE);
        let turn = "01a201f3-be67-75b2-961c-ab62bf230953";
        let mut server = |t_ms: u64, message: String| {
            observer.message(1, Sender::Server, t_ms * 1_000, message.as_bytes());
        };
        server(
            1,
            format!(
                r#"{{"method":"turn/started","params":{{"threadId":"t","turn":{{"id":"{turn}"}}}},"emittedAtMs":1}}"#
            ),
        );
        server(
            2,
            format!(
                r#"{{"method":"item/started","params":{{"threadId":"t","turnId":"{turn}","item":{{"type":"commandExecution","id":"c","startedAtMs":2}}}},"emittedAtMs":2}}"#
            ),
        );
        server(
            5,
            format!(
                r#"{{"method":"turn/completed","params":{{"threadId":"t","turn":{{"id":"{turn}","status":"interrupted","durationMs":4}}}},"emittedAtMs":5}}"#
            ),
        );
        server(
            9,
            format!(
                r#"{{"method":"item/completed","params":{{"threadId":"t","turnId":"{turn}","item":{{"type":"commandExecution","id":"c","status":"failed","exitCode":-1,"startedAtMs":2,"completedAtMs":8}}}},"emittedAtMs":9}}"#
            ),
        );
        observer.finish(Ended::ServerExited);
    });
    let saw = kept.0.lock().unwrap().clone();
    let times: Vec<_> = saw
        .iter()
        .filter_map(|saw| match saw {
            Saw::End(envelope, end, Fact::ToolEnd(fact)) => {
                Some((envelope.time, end.time, fact.status.to_string()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(times, [(2_000_000, 8_000_000, "failed".to_owned())]);
}

#[test]
fn a_carrier_in_the_request_is_the_parent_of_its_turn_and_all_below() {
    let kept = recorded::Facts::default();
    use tracing_subscriber::layer::SubscriberExt as _;
    let subscriber = tracing_subscriber::registry().with(kept.clone());
    tracing::subscriber::with_default(subscriber, || {
        let mut observer = Observer::new(Capture::NONE);
        let carrier = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let turn = "01a201f3-be67-75b2-961c-ab62bf230953";
        observer.message(1, Sender::Client, 1, format!(r#"{{"id":1,"method":"turn/start","params":{{"threadId":"t","input":[]}},"trace":{{"traceparent":"{carrier}"}}}}"#).as_bytes());
        observer.message(
            1,
            Sender::Server,
            2,
            format!(r#"{{"id":1,"result":{{"turn":{{"id":"{turn}"}}}}}}"#).as_bytes(),
        );
        observer.message(
            1,
            Sender::Server,
            3,
            format!(r#"{{"method":"turn/started","params":{{"threadId":"t","turn":{{"id":"{turn}"}}}}}}"#)
                .as_bytes(),
        );
        observer.finish(Ended::ClientClosed);
    });
    let saw = kept.0.lock().unwrap().clone();
    let envelope = saw
        .iter()
        .find_map(|saw| match saw {
            Saw::Start(envelope, Fact::TurnStart(_)) => Some(envelope.clone()),
            _ => None,
        })
        .unwrap();
    assert_eq!(envelope.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    assert_eq!((envelope.parent, envelope.remote), (0x00f0_67aa_0ba9_02b7, true));
}
