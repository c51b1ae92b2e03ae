//! A bar on a time axis.

/// What a bar is drawn of: the axis before it, the bar, the axis after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bar {
    before: String,
    bar: String,
    after: String,
}

impl Bar {
    /// Puts it together, the bar in one way and the axis in another.
    pub fn paint(&self, bar: impl Fn(&str) -> String, axis: impl Fn(&str) -> String) -> String {
        [axis(&self.before), bar(&self.bar), axis(&self.after)].concat()
    }
}

/// Draws a span of time on an axis that is `width` columns wide.
pub(super) fn draw(start: u64, end: u64, axis: (u64, u64), width: usize, unicode: bool) -> Bar {
    // Eighths of a column: what block characters can show.
    let eighths = width as u64 * 8;
    let length = axis.1.saturating_sub(axis.0).max(1);
    let place = |time: u64| {
        let since = time.clamp(axis.0, axis.1) - axis.0;
        (u128::from(since) * u128::from(eighths) / u128::from(length)) as u64
    };
    // What took no time is still to be seen.
    let from = place(start).min(eighths.saturating_sub(1));
    let to = place(end).max(from + 1);
    let (first, last) = (from / 8, (to - 1) / 8);
    let empty = |columns: u64| if unicode { "·" } else { "." }.repeat(columns as usize);
    let column = |at: u64| {
        let (left, right) = (from.max(at * 8) - at * 8, to.min(at * 8 + 8) - at * 8);
        if unicode { block(left, right) } else { dash(left, right, first == last) }
    };
    let after = (width as u64).saturating_sub(last + 1);
    Bar { before: empty(first), bar: (first..=last).map(column).collect(), after: empty(after) }
}

// There are blocks for every eighth from the left, but from the right only for one half and one eighth.
fn block(left: u64, right: u64) -> char {
    match (left, right) {
        (0, 8) => '█',
        (0, 7) => '▉',
        (0, 6) => '▊',
        (0, 5) => '▋',
        (0, 4) => '▌',
        (0, 3) => '▍',
        (0, 2) => '▎',
        (0, 1) => '▏',
        (1..=2, 7..=8) => '█',
        (3..=5, 7..=8) => '▐',
        (_, 8) => '▕',
        (left, _) if left < 4 => '▏',
        _ => '▕',
    }
}

fn dash(left: u64, right: u64, alone: bool) -> char {
    if right - left >= 4 || !alone { '#' } else { '|' }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(start: u64, end: u64, width: usize, unicode: bool) -> String {
        draw(start, end, (100, 200), width, unicode).paint(str::to_owned, str::to_owned)
    }

    #[test]
    fn a_bar_stands_where_its_time_is() {
        assert_eq!(drawn(100, 200, 10, true), "██████████");
        assert_eq!(drawn(150, 200, 10, true), "·····█████");
        assert_eq!(drawn(120, 145, 10, true), "··██▌·····");
        assert_eq!(drawn(115, 130, 10, true), "·▐█·······");
        assert_eq!(drawn(100, 200, 10, false), "##########");
        assert_eq!(drawn(120, 145, 10, false), "..###.....");
    }

    #[test]
    fn no_time_and_time_outside_are_still_seen() {
        assert_eq!(drawn(100, 100, 4, true), "▏···");
        assert_eq!(drawn(200, 200, 4, true), "···▕");
        assert_eq!(drawn(150, 150, 4, false), "..|.");
        assert_eq!(drawn(0, 50, 4, false), "|...");
        assert_eq!(drawn(300, u64::MAX, 4, false), "...|");
        assert_eq!(draw(5, 5, (5, 5), 3, false).paint(str::to_owned, str::to_owned), "|..");
    }
}
