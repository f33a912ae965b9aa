//! The arithmetic of what is told: the spread of a figure over rounds, and percentiles of one round.

use serde::Serialize;

/// One figure over all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

/// The spread of some values; `None` if there are none. Of an even number the median is the mean of the middle two.
pub fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    let median = if sorted.len().is_multiple_of(2) {
        (sorted.get(middle.checked_sub(1)?)? + upper) / 2.0
    } else {
        upper
    };
    Some(Spread {
        min: *sorted.first()?,
        median,
        max: *sorted.last()?,
    })
}

/// The value that so many of a thousand do not exceed, by nearest rank: always one that was measured.
pub fn percentile(sorted: &[i64], of_thousand: usize) -> Option<i64> {
    let rank = (sorted.len() * of_thousand).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// A count as a figure. Counts here are far below 2^52.
pub fn number(count: impl TryInto<i64>) -> f64 {
    let count: i64 = count.try_into().unwrap_or(i64::MAX);
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts, bytes and microseconds of one run stay far below 2^52"
    )]
    let number = count as f64;
    number
}

/// `a` of `b`; nothing if `b` is nothing.
pub fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let of = |values: &[f64]| spread(values).map(|spread| (spread.min, spread.median, spread.max));
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Some((1.0, 2.5, 4.0)));
        assert_eq!(of(&[7.0]), Some((7.0, 7.0, 7.0)));
    }

    #[test]
    fn what_could_not_be_measured_has_no_spread() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[f64::NAN]), None);
        assert_eq!(spread(&[f64::NAN, 2.0]).map(|spread| spread.median), Some(2.0));
        assert!(ratio(1.0, 0.0).is_nan());
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let thousand: Vec<i64> = (1..=1000).collect();
        assert_eq!(percentile(&thousand, 500), Some(500));
        assert_eq!(percentile(&thousand, 990), Some(990));
        assert_eq!(percentile(&thousand, 999), Some(999));
        assert_eq!(percentile(&thousand, 1000), Some(1000));
        assert_eq!(percentile(&[5], 999), Some(5));
        assert_eq!(percentile(&[1, 9], 500), Some(1));
        assert_eq!(percentile(&[1, 9], 501), Some(9));
        assert_eq!(percentile(&[], 500), None);
    }
}
