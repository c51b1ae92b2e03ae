//! Times and sizes with units, as people write them.

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Milliseconds: a bare number, or one with `ms`, `s`, `m`, `h` or `d`.
pub(super) fn duration(text: &str) -> Option<u64> {
    read(text, &DURATIONS, |unit, known| unit == known)
}

/// Bytes: a bare number, or one with a unit such as `MiB` or `MB`.
pub(super) fn size(text: &str) -> Option<u64> {
    read(text, &SIZES, str::eq_ignore_ascii_case)
}

pub(super) fn shown_duration(millis: u64) -> String {
    shown(millis, &DURATIONS)
}

pub(super) fn shown_size(bytes: u64) -> String {
    // Powers of two first, as the defaults are.
    let binary: Vec<(&str, u64)> = SIZES.into_iter().filter(|(_, factor)| factor.is_power_of_two()).collect();
    shown(bytes, &binary)
}

fn read(text: &str, units: &[(&str, u64)], same: impl Fn(&str, &str) -> bool) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    match unit.trim_start() {
        "" => Some(number),
        unit => number.checked_mul(units.iter().find(|(known, _)| same(unit, known))?.1),
    }
}

fn shown(number: u64, units: &[(&str, u64)]) -> String {
    let fits = |factor: &u64| number > 0 && number.is_multiple_of(*factor);
    match units.iter().rfind(|(_, factor)| fits(factor)) {
        Some((unit, factor)) => format!("{}{unit}", number / factor),
        None => format!("{number}{}", units.first().map_or("", |(unit, _)| unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_with_and_without_units() {
        for (text, millis) in [("100", 100), ("100ms", 100), ("10 s", 10_000), ("7d", 604_800_000), ("0", 0)]
        {
            assert_eq!(duration(text), Some(millis), "{text}");
        }
        for (text, bytes) in [("1GiB", 1 << 30), ("512 mib", 512 << 20), ("10MB", 10_000_000), ("7", 7)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in
            ["", "s", "-1", "1.5s", "10 parsecs", "99999999999999999999", "18446744073709551615TiB", "1M1"]
        {
            assert_eq!((duration(bad), size(bad)), (None, None), "{bad}");
        }
    }

    #[test]
    fn they_are_shown_in_the_largest_unit_that_says_them_exactly() {
        assert_eq!(shown_duration(604_800_000), "7d");
        assert_eq!(shown_duration(1_500), "1500ms");
        assert_eq!(shown_size(8 << 20), "8MiB");
        assert_eq!((shown_size(1_000_000), shown_duration(0)), ("1000000B".to_owned(), "0ms".to_owned()));
    }
}
