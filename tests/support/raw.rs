//! What a transcript says, counted from its lines alone: no code of factline's takes part.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde_json::Value;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    pub input: u64,
    pub cached: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
}

impl Tokens {
    pub fn add(&mut self, other: Tokens) {
        self.input += other.input;
        self.cached += other.cached;
        self.cache_write += other.cache_write;
        self.output += other.output;
        self.reasoning += other.reasoning;
    }
}

#[derive(Debug, Clone, Default)]
pub struct Turn {
    pub thread: String,
    pub status: String,
    pub tokens: Tokens,
    pub client: String,
}

#[derive(Debug, Default)]
pub struct Session {
    /// By id; of a review the outer one.
    pub turns: BTreeMap<String, Turn>,
    /// Calls of tools, by thread and item.
    pub tools: BTreeSet<(String, String)>,
    pub approvals: u64,
    /// Errors the server reported.
    pub errors: u64,
    pub steers: BTreeMap<String, u64>,
    /// Ids of threads, turns and items.
    pub ids: BTreeSet<String>,
}

const TOOLS: [&str; 9] = [
    "commandExecution",
    "fileChange",
    "mcpToolCall",
    "webSearch",
    "dynamicToolCall",
    "imageGeneration",
    "imageView",
    "collabAgentToolCall",
    "subAgentActivity",
];

impl Session {
    pub fn tokens(&self) -> Tokens {
        let mut all = Tokens::default();
        self.turns.values().for_each(|turn| all.add(turn.tokens));
        all
    }

    pub fn turns_by_status(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        self.turns.values().for_each(|turn| *all.entry(turn.status.clone()).or_default() += 1);
        all
    }

    /// The rule: the `last` of each usage whose turn was started on this stream and whose `total` differs from the
    /// thread's total before. Two clients of one server both get what is said: the second copy is none.
    pub fn read(path: &Path) -> Session {
        let mut session = Session::default();
        let mut totals: HashMap<String, Value> = HashMap::new();
        let mut outer: HashMap<String, String> = HashMap::new();
        let mut reviews: HashMap<String, String> = HashMap::new();
        let mut said: HashMap<String, BTreeMap<u64, u32>> = HashMap::new();
        let mut asked: HashMap<(u64, String), String> = HashMap::new();
        let mut opted_out = BTreeSet::new();
        for line in std::fs::read_to_string(path).unwrap().lines() {
            // A line of the malformed session holds half a character: no message.
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            let conn = line["conn"].as_u64().unwrap_or(0);
            let message = &match line["msg"].is_null() {
                true => on_the_wire(path, &line, conn),
                false => line["msg"].clone(),
            };
            if !message.is_object() {
                continue;
            }
            let (method, params) = (message["method"].as_str().unwrap_or(""), &message["params"]);
            let thread = params["threadId"].as_str().unwrap_or("").to_owned();
            let from_client = line["dir"] == "client";
            if from_client && !method.is_empty() && !message["id"].is_null() {
                asked.insert((conn, message["id"].to_string()), method.to_owned());
                let optional = params["capabilities"]["optOutNotificationMethods"].as_array();
                if optional.is_some_and(|all| all.iter().any(|it| it == "turn/started")) {
                    opted_out.insert(conn);
                }
            }
            if !from_client && method.is_empty() {
                let of = asked.remove(&(conn, message["id"].to_string()));
                if of.as_deref() == Some("turn/steer") {
                    let result = if message["error"].is_null() { "accepted" } else { "rejected" };
                    *session.steers.entry(result.to_owned()).or_default() += 1;
                }
                if let (Some("review/start"), Some(id)) =
                    (of.as_deref(), message["result"]["turn"]["id"].as_str())
                {
                    let thread = message["result"]["reviewThreadId"].as_str().unwrap_or("").to_owned();
                    reviews.insert(id.to_owned(), thread);
                }
            }
            if from_client {
                continue;
            }
            if method.ends_with("/requestApproval") && !message["id"].is_null() {
                session.approvals += 1;
            }
            if !message["id"].is_null() {
                continue;
            }
            // The n-th of one connection is the n-th of another.
            let key = format!("{method}{params}");
            let copies = said.entry(key).or_default();
            let most = copies.iter().filter(|(other, _)| **other != conn).map(|(_, count)| *count).max();
            let mine = copies.entry(conn).or_default();
            *mine += 1;
            if *mine <= most.unwrap_or(0) {
                continue;
            }
            match method {
                "turn/started" => {
                    let turn = &params["turn"];
                    let id = turn["id"].as_str().unwrap().to_owned();
                    let root = turn["rootTurnId"].as_str().unwrap_or("").to_owned();
                    let id = match reviews.contains_key(&root) && root != id {
                        true => {
                            outer.insert(id, root.clone());
                            root
                        }
                        false => id,
                    };
                    let started = Turn { thread, status: "interrupted".into(), ..Turn::default() };
                    session.turns.entry(id).or_insert(started);
                }
                "turn/completed" => {
                    let id = params["turn"]["id"].as_str().unwrap().to_owned();
                    let id = outer.get(&id).cloned().unwrap_or(id);
                    let status = params["turn"]["status"].as_str().unwrap().to_owned();
                    match session.turns.get_mut(&id) {
                        Some(turn) => turn.status = status,
                        None if opted_out.contains(&conn) => {
                            session.turns.insert(id, Turn { thread, status, ..Turn::default() });
                        }
                        None => {}
                    }
                }
                "error" => session.errors += 1,
                "thread/tokenUsage/updated" => {
                    let (total, last) = (&params["tokenUsage"]["total"], &params["tokenUsage"]["last"]);
                    let repeated = totals.insert(thread.clone(), total.clone()).as_ref() == Some(total);
                    let id = params["turnId"].as_str().unwrap_or("").to_owned();
                    let id = outer.get(&id).cloned().unwrap_or(id);
                    let of = session.turns.get_mut(&id).filter(|turn| turn.thread == thread);
                    if let Some(turn) = of.filter(|_| !repeated) {
                        let number = |key: &str| last[key].as_u64().unwrap_or(0);
                        turn.tokens.add(Tokens {
                            input: number("inputTokens"),
                            cached: number("cachedInputTokens"),
                            cache_write: number("cacheWriteInputTokens"),
                            output: number("outputTokens"),
                            reasoning: number("reasoningOutputTokens"),
                        });
                    }
                }
                "item/started" | "item/completed" => {
                    let (item, id) = (&params["item"], params["item"]["id"].as_str().unwrap_or(""));
                    session.ids.insert(id.to_owned());
                    if item["type"].as_str().is_some_and(|kind| TOOLS.contains(&kind)) {
                        session.tools.insert((thread.clone(), id.to_owned()));
                    }
                }
                _ => {}
            }
        }
        session.ids.extend(session.turns.keys().cloned());
        session.ids.extend(session.turns.values().map(|turn| turn.thread.clone()));
        session.ids.remove("");
        session
    }
}

/// A long message is in the recorded bytes alone.
fn on_the_wire(transcript: &Path, line: &Value, conn: u64) -> Value {
    let (Some(off), Some(len), Some(dir)) =
        (line["off"].as_u64(), line["len"].as_u64(), line["dir"].as_str())
    else {
        return Value::Null;
    };
    let name = if conn > 1 { format!("{dir}.{conn}.raw") } else { format!("{dir}.raw") };
    let bytes = std::fs::read(transcript.with_file_name(name)).unwrap_or_default();
    let part = bytes.get(off as usize..(off + len) as usize).unwrap_or_default();
    serde_json::from_slice(part).unwrap_or(Value::Null)
}
