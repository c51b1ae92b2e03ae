//! Spans as trees, grouped by the thread that their roots belong to.

use std::collections::{HashMap, HashSet};

use super::shown::{Approval, Kind, Shown, Span};

/// Spans in the order in which they are shown.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub spans: Vec<Span>,
    approvals: HashMap<(String, String), Approval>,
    children: HashMap<usize, Vec<usize>>,
    /// Connections, by their start.
    pub connections: Vec<usize>,
    /// Roots by the thread they belong to, both by their start.
    pub threads: Vec<(String, Vec<usize>)>,
}

/// One span on its way through a tree.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub at: usize,
    /// For every ancestor below the root, and for the span itself: whether it is the last child.
    pub last: Vec<bool>,
}

/// What a thread did.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub agent: String,
    pub turns: u64,
    pub tools: u64,
    pub input: i64,
    pub output: i64,
}

impl Tree {
    /// Puts spans in order. One that is there twice is shown once: its id says that it is the same.
    pub fn new(shown: Shown) -> Tree {
        let mut known = HashMap::new();
        let mut spans: Vec<Span> = Vec::new();
        for span in shown.spans {
            known.entry((span.trace, span.span)).or_insert_with(|| {
                spans.push(span);
                spans.len() - 1
            });
        }
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_by_key(|at| {
            spans.get(*at).map(|span| (span.start, std::cmp::Reverse(span.end), span.span))
        });
        let mut tree = Tree { spans, ..Tree::default() };
        let mut roots = Vec::new();
        for at in &order {
            let Some(span) = tree.spans.get(*at) else { continue };
            match known.get(&(span.trace, span.parent)) {
                _ if span.kind == Kind::Connection => tree.connections.push(*at),
                Some(parent) if span.parent != 0 && parent != at => {
                    tree.children.entry(*parent).or_default().push(*at);
                }
                _ => roots.push(*at),
            }
        }
        let mut reached: HashSet<usize> =
            roots.iter().flat_map(|root| tree.walk(*root)).map(|it| it.at).collect();
        // Spans that are each other's parents hang on no root.
        for at in order {
            let connection = tree.spans.get(at).is_none_or(|span| span.kind == Kind::Connection);
            if !connection && !reached.contains(&at) {
                roots.push(at);
                reached.extend(tree.walk(at).map(|it| it.at));
            }
        }
        for root in roots {
            let thread = tree.spans.get(root).map(|span| span.thread.clone()).unwrap_or_default();
            match tree.threads.iter_mut().find(|(known, _)| *known == thread) {
                Some((_, roots)) => roots.push(root),
                None => tree.threads.push((thread, vec![root])),
            }
        }
        tree.approvals =
            shown.approvals.into_iter().map(|it| ((it.turn.clone(), it.call.clone()), it)).collect();
        tree
    }

    /// The answer that a call waited for.
    pub fn approval(&self, span: &Span) -> Option<&Approval> {
        self.approvals.get(&(span.turn.clone(), span.call.clone())).filter(|_| !span.call.is_empty())
    }

    /// The span and all below it, each before its children.
    pub fn walk(&self, root: usize) -> impl Iterator<Item = Visit> + '_ {
        let mut waiting = vec![Visit { at: root, last: Vec::new() }];
        let mut seen = HashSet::from([root]);
        std::iter::from_fn(move || {
            let next = waiting.pop()?;
            let children = self.children.get(&next.at).map_or(&[][..], Vec::as_slice);
            for (number, child) in children.iter().enumerate().rev() {
                if seen.insert(*child) {
                    let mut last = next.last.clone();
                    last.push(number + 1 == children.len());
                    waiting.push(Visit { at: *child, last });
                }
            }
            Some(next)
        })
    }

    /// The time from the first start to the last end in a tree.
    pub fn extent(&self, root: usize) -> (u64, u64) {
        let spans = self.walk(root).filter_map(|visit| self.spans.get(visit.at));
        spans.fold((u64::MAX, 0), |(start, end), span| (start.min(span.start), end.max(span.end)))
    }

    /// What every thread did.
    pub fn totals(&self) -> HashMap<&str, Totals> {
        let mut totals: HashMap<&str, Totals> = HashMap::new();
        for span in self.spans.iter().filter(|span| !span.thread.is_empty()) {
            let sum = totals.entry(&span.thread).or_default();
            match span.kind {
                Kind::Turn => {
                    // A review is not who the thread's agent is.
                    if sum.agent.is_empty() || sum.agent == "review" {
                        sum.agent.clone_from(&span.agent);
                    }
                    sum.turns += 1;
                    sum.input += span.input.unwrap_or(0);
                    sum.output += span.output.unwrap_or(0);
                }
                Kind::Tool => sum.tools += 1,
                _ => {}
            }
        }
        totals
    }

    /// Threads in the order in which they first appear in the trees.
    pub fn order(&self) -> Vec<&str> {
        let mut order: Vec<&str> = Vec::new();
        let roots = self.threads.iter().flat_map(|(_, roots)| roots);
        let spans = roots.flat_map(|root| self.walk(*root)).filter_map(|visit| self.spans.get(visit.at));
        let mut seen = HashSet::new();
        for span in spans.filter(|span| !span.thread.is_empty()) {
            if seen.insert(span.thread.as_str()) {
                order.push(&span.thread);
            }
        }
        order
    }
}
