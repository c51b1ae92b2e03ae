//! Which records of a batch to send next, when some of them may be refused.

use std::ops::Range;

use super::outcome::Split;

/// The way through one batch, from its first record to its last.
///
/// After a refusal for a bad record, the bad one is searched for by halves. A half that is accepted needs no
/// further look, and tells that the other one holds the bad record; what lies behind the smallest half known
/// to be bad goes out in one request afterwards. One bad record among n so costs at most log2(n) + 3
/// requests, log2 rounded up. It is given up only when it was refused alone. After a refusal for size, parts
/// stay as small as they had to become.
#[derive(Debug)]
pub(crate) struct Cut {
    next: usize,
    end: usize,
    /// There is a bad record in `next..bad_end`.
    bad_end: Option<usize>,
    /// Records in a part, at most.
    step: usize,
}

impl Cut {
    pub(crate) fn new(records: usize) -> Self {
        Self { next: 0, end: records, bad_end: None, step: records }
    }

    /// The part to send; `None` when all were settled.
    pub(crate) fn part(&self) -> Option<Range<usize>> {
        if self.next >= self.end {
            return None;
        }
        let length = match self.bad_end {
            Some(bad_end) => ((bad_end - self.next) / 2).max(1),
            None => self.end - self.next,
        };
        Some(self.next..self.next + length.min(self.step.max(1)))
    }

    /// Whether nothing was settled and nothing found out yet.
    pub(crate) fn untouched(&self) -> bool {
        self.next == 0 && !self.searching()
    }

    /// Whether a bad record is known to be there and not found yet.
    pub(crate) fn searching(&self) -> bool {
        self.bad_end.is_some()
    }

    /// The part is settled, one way or another.
    pub(crate) fn pass(&mut self) {
        if let Some(part) = self.part() {
            self.next = part.end;
            self.bad_end = self.bad_end.filter(|bad_end| *bad_end > part.end);
        }
    }

    /// The part was refused. Returns the record that was refused alone, which has then been passed.
    pub(crate) fn refuse(&mut self, split: Split) -> Option<usize> {
        let part = self.part()?;
        if part.len() == 1 {
            self.next = part.end;
            self.bad_end = None;
            return Some(part.start);
        }
        if split == Split::TooBig {
            self.step = part.len() / 2;
            self.bad_end = None;
        } else {
            self.bad_end = Some(part.end);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Requests made, records accepted and records given up, against a collector that refuses `bad` records.
    fn run(records: usize, bad: &BTreeSet<usize>) -> (usize, Vec<usize>, BTreeSet<usize>) {
        let (mut cut, mut requests, mut taken, mut given_up) =
            (Cut::new(records), 0, vec![], BTreeSet::new());
        while let Some(part) = cut.part() {
            requests += 1;
            if bad.range(part.clone()).next().is_none() {
                taken.extend(part);
                cut.pass();
            } else {
                given_up.extend(cut.refuse(Split::BadRecord));
            }
        }
        (requests, taken, given_up)
    }

    #[test]
    fn one_bad_record_costs_log2_and_three_requests_wherever_it_is() {
        for records in [1_usize, 2, 3, 7, 8, 100, 512, 1000] {
            let bound = records.next_power_of_two().ilog2() as usize + 3;
            for bad in 0..records {
                let (requests, taken, given_up) = run(records, &[bad].into());
                assert!(requests <= bound, "{records} {bad}: {requests}");
                assert_eq!(given_up, [bad].into());
                assert_eq!(taken.len(), records - 1);
            }
        }
        assert_eq!(run(512, &BTreeSet::new()).0, 1);
    }

    proptest! {
        #[test]
        fn every_record_is_settled_once_and_only_bad_ones_are_given_up(
            records in 0_usize..300, bad in prop::collection::btree_set(0_usize..300, 0..20),
        ) {
            let bad: BTreeSet<_> = bad.range(..records).copied().collect();
            let (requests, taken, given_up) = run(records, &bad);
            prop_assert_eq!(&given_up, &bad);
            let good: Vec<_> = (0..records).filter(|record| !bad.contains(record)).collect();
            prop_assert_eq!(taken, good);
            prop_assert!(requests <= 1 + bad.len() * 12);
        }

        #[test]
        fn a_size_limit_gives_up_only_what_is_too_big_alone(
            sizes in prop::collection::vec(1_usize..100, 0..100), limit in 1_usize..200,
        ) {
            let (mut cut, mut given_up, mut taken) = (Cut::new(sizes.len()), vec![], 0);
            while let Some(part) = cut.part() {
                if sizes[part.clone()].iter().sum::<usize>() <= limit {
                    taken += part.len();
                    cut.pass();
                } else {
                    given_up.extend(cut.refuse(Split::TooBig));
                }
            }
            prop_assert!(given_up.iter().all(|record| sizes[*record] > limit));
            prop_assert_eq!(given_up.len() + taken, sizes.len());
        }
    }
}
