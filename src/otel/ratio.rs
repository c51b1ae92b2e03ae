//! A share of all traces, chosen by their ids.

/// Decides which traces belong to a share of them.
///
/// It looks at the low 56 bits, which are random in a trace id of W3C Trace Context level 2 ("Random Trace ID Flag"):
/// ids here are UUIDs of version 7, whose high bits are a time, the same for all turns of a while. A trace is kept if
/// its bits are at least as large as the part to reject, as in consistent probability sampling (OpenTelemetry
/// specification, "TraceState: Probability Sampling").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// The smallest value of the random bits that is kept.
    from: u64,
}

const RANDOM_BITS: u32 = 56;

impl Ratio {
    /// This share, from 0 to 1; what lies outside is 0 or 1, and no number is 1.
    pub fn new(share: f64) -> Self {
        let share = if share.is_nan() { 1.0 } else { share.clamp(0.0, 1.0) };
        // Exact: 2^56 and every share of it that matters is a number that f64 has.
        Self { from: ((1.0 - share) * (1u64 << RANDOM_BITS) as f64) as u64 }
    }

    /// Whether every trace belongs to it.
    pub fn is_all(self) -> bool {
        self.from == 0
    }

    /// Whether this trace belongs to it.
    pub fn keeps(self, trace: u128) -> bool {
        (trace as u64 & ((1 << RANDOM_BITS) - 1)) >= self.from
    }
}

#[cfg(test)]
mod tests {
    use super::Ratio;

    /// UUIDs of version 7 of one millisecond, but for their random part.
    fn turns() -> impl Iterator<Item = u128> {
        let high = 0x01a2_01f3_bbc2_7210_u128 << 64 | 0x8000_0000_0000_0000;
        (0..10_000u64).map(move |n| high | u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2))
    }

    #[test]
    fn the_share_of_turns_is_the_one_asked_for() {
        for share in [0.0, 0.01, 0.25, 0.5, 0.9, 1.0] {
            let kept = turns().filter(|trace| Ratio::new(share).keeps(*trace)).count() as f64 / 10_000.0;
            assert!((kept - share).abs() < 0.02, "{kept} instead of {share}");
        }
    }

    #[test]
    fn what_a_small_share_keeps_a_larger_one_keeps_as_well() {
        for trace in turns() {
            assert!(!Ratio::new(0.1).keeps(trace) || Ratio::new(0.3).keeps(trace));
        }
    }

    #[test]
    fn shares_out_of_range_are_all_or_nothing() {
        let trace = turns().next().unwrap_or_default();
        assert!(Ratio::new(7.0).keeps(trace) && Ratio::new(f64::NAN).keeps(trace));
        assert!(!Ratio::new(-1.0).keeps(trace | ((1 << 56) - 1)));
    }
}
