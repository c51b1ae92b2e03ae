//! The last measurement of every series that belongs to a trace.
//!
//! The SDK for Rust keeps no exemplars (0.33), so they are kept here and put into the finished data points.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::table::Instrument;

/// Series whose exemplar is kept; what comes beyond has none until the next export.
const MOST: usize = 4096;

/// Dimensions in the order of their names.
pub(super) type Series = Vec<(String, String)>;

/// Where and when something was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Place {
    /// ns since 1970.
    pub time: u64,
    /// 0 for none.
    pub trace: u128,
    pub span: u64,
}

/// A measurement and where it was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exemplar {
    pub value: f64,
    pub place: Place,
}

/// Exemplars since the last export.
#[derive(Debug, Default)]
pub(super) struct Exemplars(Mutex<HashMap<(&'static str, Series), Exemplar>>);

impl Exemplars {
    pub fn keep(&self, instrument: Instrument, series: Series, exemplar: Exemplar) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (instrument.described().name, series);
        if kept.len() < MOST || kept.contains_key(&key) {
            kept.insert(key, exemplar);
        }
    }

    pub fn of(&self, name: &'static str, series: Series) -> Option<Exemplar> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(name, series)).copied()
    }

    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
