//! Sums of turns, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::read::Turn;
use crate::cli::terminal::printable;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum By {
    /// The day a turn began, in UTC
    Day,
    /// The model
    Model,
    /// The thread
    Thread,
    /// The client's name
    Client,
}

impl By {
    const fn name(self) -> &'static str {
        match self {
            By::Day => "day",
            By::Model => "model",
            By::Thread => "thread",
            By::Client => "client",
        }
    }
}

/// What some turns come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    turns: u64,
    completed: u64,
    failed: u64,
    interrupted: u64,
    input: u64,
    cached: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
}

impl Sum {
    fn add(&mut self, turn: &Turn) {
        self.turns += 1;
        match turn.status.as_str() {
            "completed" => self.completed += 1,
            "failed" => self.failed += 1,
            "interrupted" => self.interrupted += 1,
            _ => {}
        }
        for (sum, tokens) in [
            (&mut self.input, turn.input),
            (&mut self.cached, turn.cached),
            (&mut self.cache_write, turn.cache_write),
            (&mut self.output, turn.output),
            (&mut self.reasoning, turn.reasoning),
        ] {
            *sum = sum.saturating_add(tokens);
        }
    }

    fn columns(&self) -> [u64; 8] {
        let total = self.input.saturating_add(self.output);
        [
            self.turns,
            self.failed,
            self.interrupted,
            self.input,
            self.cached,
            self.output,
            self.reasoning,
            total,
        ]
    }

    fn json(&self) -> Value {
        json!({
            "turns": self.turns, "completed": self.completed, "failed": self.failed,
            "interrupted": self.interrupted, "input_tokens": self.input, "cached_input_tokens": self.cached,
            "cache_write_input_tokens": self.cache_write, "output_tokens": self.output,
            "reasoning_output_tokens": self.reasoning, "total_tokens": self.input.saturating_add(self.output),
        })
    }
}

const COLUMNS: [&str; 8] =
    ["turns", "failed", "interrupted", "input", "cached", "output", "reasoning", "total"];

/// Lines with their sums, and the sum of all.
#[derive(Debug)]
pub(super) struct Report {
    by: By,
    lines: BTreeMap<String, Sum>,
    total: Sum,
}

pub(super) fn report(turns: &[Turn], by: By) -> Report {
    let mut report = Report { by, lines: BTreeMap::new(), total: Sum::default() };
    for turn in turns {
        let key = match by {
            By::Day => day(turn.start),
            By::Model => turn.model.clone(),
            By::Thread => turn.thread.clone(),
            By::Client => turn.client.clone(),
        };
        report.lines.entry(if key.is_empty() { "unknown".to_owned() } else { key }).or_default().add(turn);
        report.total.add(turn);
    }
    report
}

impl Report {
    pub fn json(&self) -> Value {
        let line = |(key, sum): (&String, &Sum)| {
            let mut line = sum.json();
            if let Value::Object(members) = &mut line {
                members.insert(self.by.name().to_owned(), json!(key));
            }
            line
        };
        let lines: Vec<Value> = self.lines.iter().map(line).collect();
        json!({"by": self.by.name(), "lines": lines, "total": self.total.json()})
    }

    pub fn table(&self) -> String {
        let mut rows: Vec<Vec<String>> =
            vec![std::iter::once(self.by.name()).chain(COLUMNS).map(str::to_owned).collect()];
        let row = |key: &str, sum: &Sum| {
            std::iter::once(printable(key).replace('\n', " "))
                .chain(sum.columns().into_iter().map(thousands))
                .collect::<Vec<_>>()
        };
        rows.extend(self.lines.iter().map(|(key, sum)| row(key, sum)));
        rows.push(row("total", &self.total));
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..=COLUMNS.len()).map(width).collect();
        let mut out = String::new();
        for row in &rows {
            for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Writing to a text does not fail.
                let _ = match place {
                    0 => write!(out, "{cell:<width$}"),
                    _ => write!(out, "  {cell:>width$}"),
                };
            }
            out.push('\n');
        }
        out
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The day in UTC, as ISO 8601 writes it. Days to a date of the Gregorian calendar by eras of 400 years.
fn day(ns: u64) -> String {
    if ns == 0 {
        return String::new();
    }
    let days = ns / 86_400_000_000_000 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    // A year that begins in March has its leap day at the end.
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let at = |seconds: u64| day(seconds * 1_000_000_000);
        assert_eq!(at(1), "1970-01-01");
        assert_eq!(at(951_782_399), "2000-02-28");
        assert_eq!(at(951_782_400), "2000-02-29");
        assert_eq!(at(951_868_800), "2000-03-01");
        assert_eq!(at(1_709_164_800), "2024-02-29");
        assert_eq!(at(1_767_225_599), "2025-12-31");
        assert_eq!(at(4_107_542_400), "2100-03-01");
    }

    #[test]
    fn numbers_have_their_thousands_apart() {
        for (number, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), shown);
        }
    }
}
