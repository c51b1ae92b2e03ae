//! A waterfall of turns, tools and subagents: spans in, text out.
//!
//! One time axis per trace, from its first start to its last end, so that the bars of one tree can be compared.

mod bar;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use super::shown::{Kind, Span};
use super::terminal::{self, Look};
use super::tree::{Totals, Tree, Visit};

const RED: &str = "31";
const YELLOW: &str = "33";
const CYAN: &str = "36";
const GREEN: &str = "32";
const DIM: &str = "2";
const BOLD: &str = "1";

/// Columns of a line.
#[derive(Debug, PartialEq, Eq)]
struct Columns {
    name: usize,
    bar: usize,
    note: usize,
}

/// A duration needs no more than `999 ms`, `119.9 s`.
const TOOK: usize = 7;

impl Columns {
    fn of(width: usize) -> Columns {
        let width = width.clamp(40, 200);
        let name = (width * 28 / 100).clamp(14, 44);
        let note = (width * 3 / 10).clamp(11, 32);
        // A space before the bar and before the duration, two before the note.
        Columns { name, bar: width - name - TOOK - note - 4, note }
    }
}

/// Draws the trees.
pub(super) fn text(tree: &Tree, look: Look) -> String {
    let mut drawing = Drawing { tree, look, columns: Columns::of(look.width), out: String::new() };
    drawing.draw();
    drawing.out
}

struct Drawing<'t> {
    tree: &'t Tree,
    look: Look,
    columns: Columns,
    out: String,
}

impl Drawing<'_> {
    fn draw(&mut self) {
        let tree = self.tree;
        self.head();
        if !tree.connections.is_empty() {
            self.out.push('\n');
        }
        for span in tree.connections.iter().filter_map(|at| tree.spans.get(*at)) {
            let took = terminal::duration(span.end - span.start);
            let client = if span.client.is_empty() { "a client" } else { &span.client };
            let line = format!("connection of {client}, {took}");
            self.line(&line, DIM);
        }
        let totals = tree.totals();
        for (thread, roots) in &tree.threads {
            self.out.push('\n');
            let mut named: HashSet<&str> = HashSet::from([thread.as_str()]);
            let line = match totals.get(thread.as_str()) {
                Some(totals) => thread_line(thread, totals),
                None => "no thread".to_owned(),
            };
            self.line(&line, BOLD);
            for root in roots {
                let Some(first) = tree.spans.get(*root) else { continue };
                let at = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_nanos(first.start));
                self.line(&format!("trace {:032x}  {at}", first.trace), DIM);
                let axis = tree.extent(*root);
                for visit in tree.walk(*root) {
                    let Some(span) = tree.spans.get(visit.at) else { continue };
                    if !span.thread.is_empty() && named.insert(&span.thread) {
                        let totals = totals.get(span.thread.as_str());
                        let line =
                            totals.map_or_else(String::new, |totals| thread_line(&span.thread, totals));
                        let guides = self.guides(&visit, true);
                        self.line(&format!("{guides}{line}"), BOLD);
                    }
                    self.span(span, &visit, axis);
                }
            }
        }
    }

    fn head(&mut self) {
        let Columns { name, bar, note } = self.columns;
        let note = self.cut("tokens in/out, status", note);
        let line = format!("{:<name$} {:<bar$} {:>TOOK$}  {note}", "", "time", "took");
        self.line(&line, DIM);
    }

    fn line(&mut self, text: &str, colour: &str) {
        self.out.push_str(&self.look.paint(colour, &self.shown(text)));
        self.out.push('\n');
    }

    // Text of a span came from outside.
    fn shown(&self, text: &str) -> String {
        let ascii = |c: char| if c.is_ascii() { c } else { '?' };
        let text = terminal::printable(text).replace('\n', " ");
        if self.look.unicode { text } else { text.chars().map(ascii).collect() }
    }

    fn guides(&self, visit: &Visit, above: bool) -> String {
        let [through, branch, end] =
            if self.look.unicode { ["│ ", "├ ", "└ "] } else { ["| ", "|-", "`-"] };
        let mut guides = String::new();
        for (level, last) in visit.last.iter().enumerate() {
            let own = level + 1 == visit.last.len();
            guides.push_str(match (own && !above, last) {
                (true, true) => end,
                (true, false) => branch,
                (false, true) if !own => "  ",
                (false, _) => through,
            });
        }
        guides
    }

    fn span(&mut self, span: &Span, visit: &Visit, axis: (u64, u64)) {
        let Columns { name, bar, note } = self.columns;
        let (state, colour) = self.state(span);
        // Deep below it would be all guides: the name is worth more.
        let guides: Vec<char> = self.guides(visit, false).chars().collect();
        let guides: String =
            guides.get(guides.len().saturating_sub(name / 2)..).unwrap_or_default().iter().collect();
        let label = self.cut(&format!("{guides}{}", self.shown(&label(span))), name);
        let drawn = bar::draw(span.start, span.end, axis, bar, self.look.unicode);
        let drawn = drawn.paint(|text| self.look.paint(colour, text), |text| self.look.paint(DIM, text));
        let took = terminal::duration(span.end - span.start);
        let mut line = format!("{label:<name$} {drawn} {took:>TOOK$}");
        let used = match (span.input, span.output) {
            (None, None) => String::new(),
            (input, output) => tokens(input.unwrap_or(0), output.unwrap_or(0)),
        };
        let state = self.shown(&state);
        let joined = [used.as_str(), ", "].concat();
        // Where there is no room for both, how it went is worth more.
        let before = match joined.len() + state.chars().count() {
            _ if state.is_empty() => used,
            length if used.is_empty() || length > note => String::new(),
            _ => joined,
        };
        let _ = write!(line, "  {before}{}", self.look.paint(colour, &self.cut(&state, note)));
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    fn state(&self, span: &Span) -> (String, &'static str) {
        let approval = self.tree.approval(span);
        let waited = approval.and_then(|approval| approval.wait_s);
        let waited =
            waited.map_or(String::new(), |s| format!(" in {}", terminal::duration((s * 1e9) as u64)));
        match (&span.error, span.status.as_str()) {
            (Some(error), _) if error.is_empty() => ("failed".to_owned(), RED),
            (Some(error), _) => (format!("failed: {error}"), RED),
            (None, "declined") => (format!("declined{waited}"), YELLOW),
            (None, "" | "completed") => {
                let colour = if span.kind == Kind::Turn { CYAN } else { GREEN };
                let approved = approval.filter(|approval| approval.decision == "approved");
                let approved = approved.map(|approval| match approval.resolution.as_str() {
                    "none" | "" => format!("approved{waited}"),
                    "session_approval" => "approved for session".to_owned(),
                    _ => "approved as a rule".to_owned(),
                });
                (approved.unwrap_or_default(), colour)
            }
            (None, status) => (status.to_owned(), YELLOW),
        }
    }

    fn cut(&self, text: &str, width: usize) -> String {
        if text.chars().count() <= width {
            return text.to_owned();
        }
        let kept = text.chars().take(width.saturating_sub(1));
        kept.chain(std::iter::once(if self.look.unicode { '…' } else { '~' })).collect()
    }
}

fn label(span: &Span) -> String {
    match span.kind {
        Kind::Turn if span.agent == "review" => "review".to_owned(),
        Kind::Turn => match span.index {
            Some(index) => format!("turn {} {}", index + 1, span.agent),
            None => format!("turn {}", span.agent),
        },
        Kind::Tool if !span.tool.is_empty() => span.tool.clone(),
        _ => span.name.strip_prefix("codex.").unwrap_or(&span.name).to_owned(),
    }
}

fn thread_line(thread: &str, totals: &Totals) -> String {
    let Totals { agent, turns, tools, input, output } = totals;
    let many = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut line = format!("thread {thread}");
    if !agent.is_empty() {
        let _ = write!(line, " {agent}");
    }
    let _ = write!(line, ", {}, {}", many(*turns, "turn"), many(*tools, "call"));
    if input + output > 0 {
        let _ = write!(line, ", {}", tokens(*input, *output));
    }
    line
}

fn tokens(input: i64, output: i64) -> String {
    format!("{}/{}", terminal::count(input), terminal::count(output))
}
