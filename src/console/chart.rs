//! Small pictures of numbers, as shapes for inline SVG.

/// A bar of a sparkline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) x: usize,
    pub(super) y: i64,
    pub(super) height: i64,
}

/// The height of a sparkline.
pub(super) const SPARK_HEIGHT: i64 = 20;
/// From one bar to the next.
const STEP: usize = 4;

/// Bars of a common scale; what is not nothing can be seen.
pub(super) fn bars(counts: &[i64]) -> Vec<Bar> {
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let height = |count: i64| match count {
        ..=0 => 0,
        count => (count * SPARK_HEIGHT / most).max(2),
    };
    let bar = |(place, &count): (usize, &i64)| Bar {
        x: place * STEP,
        y: SPARK_HEIGHT - height(count),
        height: height(count),
    };
    counts.iter().enumerate().map(bar).collect()
}

/// A line over time, in a box of 600 by 120.
pub(super) struct Line {
    /// The points of a polyline.
    pub(super) points: String,
    /// The same, closed below.
    pub(super) area: String,
    /// What the top of the box stands for.
    pub(super) top: f64,
}

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// The line through these values, the last at the right edge; none for fewer than two.
pub(super) fn line(values: &[f64], most_values: usize) -> Option<Line> {
    if values.len() < 2 {
        return None;
    }
    let top = nice(values.iter().copied().fold(1.0, f64::max));
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let step = WIDTH / (count(most_values.max(values.len())) - 1.0);
    let first = WIDTH - step * (count(values.len()) - 1.0);
    let points: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(place, value)| {
            let (x, y) = (first + step * count(place), HEIGHT - value / top * HEIGHT);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let points = points.join(" ");
    let area = format!("{first:.1},{HEIGHT} {points} {WIDTH},{HEIGHT}");
    Some(Line { points, area, top })
}

/// The next of 1, 2, 5, 10, 20, … that is no less.
fn nice(value: f64) -> f64 {
    let mut magnitude = 1.0;
    while magnitude * 10.0 < value {
        magnitude *= 10.0;
    }
    [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * magnitude)
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_among_many_can_still_be_seen() {
        let heights: Vec<i64> = bars(&[0, 1, 1_000]).iter().map(|bar| bar.height).collect();
        assert_eq!(heights, [0, 2, SPARK_HEIGHT]);
        assert!(bars(&[]).is_empty());
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        for (value, top) in [(0.3, 1.0), (3.0, 5.0), (12.0, 20.0), (900.0, 1_000.0)] {
            assert!((nice(value) - top).abs() < f64::EPSILON, "{value}");
        }
    }
}
