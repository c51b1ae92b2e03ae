//! What the benches share: medians, and the lines `ratio NAME VALUE` that bars are held against.

/// Prints a figure that has a bar.
pub fn ratio(name: &str, value: f64) {
    println!("ratio {name} {value:.3}");
}

/// The middle of what was measured; 0 of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// A number from the environment, for a run that is shorter or longer than usual.
pub fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
