//! How many values of a dimension are told apart.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::OTHER;
use super::table::ATTRIBUTES;
use crate::fact::bounded;

/// Bytes of a value; what is longer is cut.
const LONGEST: usize = 64;

/// The values that are told apart, per dimension. The first that come stay: a series must not change its name.
#[derive(Debug, Default)]
pub(super) struct Bounds(Mutex<HashMap<&'static str, HashSet<String>>>);

impl Bounds {
    /// The value to use for `value` of the dimension `key`.
    pub fn bound(&self, key: &'static str, value: &str) -> String {
        let value = bounded(value, LONGEST);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values = known.entry(key).or_default();
        if values.contains(value) {
            return value.to_owned();
        }
        let most = ATTRIBUTES.iter().find(|(name, _)| *name == key).map_or(0, |(_, most)| *most);
        if values.len() >= most {
            return OTHER.to_owned();
        }
        values.insert(value.to_owned());
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_number_become_other_and_the_first_ones_stay() {
        let bounds = Bounds::default();
        for number in 0..1000 {
            bounds.bound("gen_ai.tool.name", &format!("tool{number}"));
        }
        assert_eq!(bounds.bound("gen_ai.tool.name", "tool63"), "tool63");
        assert_eq!(bounds.bound("gen_ai.tool.name", "tool64"), OTHER);
        assert_eq!(bounds.bound("gen_ai.agent.name", "tool64"), "tool64", "each dimension counts for itself");
        assert_eq!(bounds.bound("gen_ai.agent.name", &"ü".repeat(100)).len(), LONGEST);
        assert_eq!(bounds.bound("no.dimension", "x"), OTHER);
    }
}
