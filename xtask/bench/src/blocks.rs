//! Paired blocks: blocks of this plugin and of the other side take turns, and each pair of blocks gives one ratio.
//! Other load on the machine affects both blocks of a pair, and the result is the median of the ratios. Times are
//! processor times.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time of a block: long in comparison with the steps of the clock, and short in comparison with disturbances.
const BLOCK: Duration = Duration::from_millis(40);

/// One side of a row.
pub trait Work {
    /// Makes so many calls, and returns the processor time that they took.
    fn run(&mut self, calls: u32) -> Result<Duration, String>;

    /// The least time of a block.
    fn block(&self) -> Duration {
        BLOCK
    }
}

/// Work in this process: the time is that of the process, all its threads together.
impl<F: FnMut()> Work for F {
    fn run(&mut self, calls: u32) -> Result<Duration, String> {
        let begun = time();
        (0..calls).for_each(|_| self());
        Ok(time() - begun)
    }
}

/// The results of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The median of our figures.
    pub ours: f64,
    /// The median of the other side's figures, if there is another side.
    pub other: Option<f64>,
    /// The median of the pairs' ratios: above 1, ours is better.
    pub ratio: Option<f64>,
    /// The smallest and the largest ratio; without another side, the smallest and the largest of our figures.
    pub spread: [f64; 2],
}

/// Whether the smaller or the larger figure is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Smaller,
    Larger,
}

/// Measures pairs of blocks; the figures are nanoseconds a call.
pub fn measure(pairs: usize, ours: &mut dyn Work, other: Option<&mut dyn Work>) -> Result<Measured, String> {
    let our_calls = calls(ours)?;
    let Some(other) = other else {
        let blocks: Result<Vec<f64>, String> = (0..pairs).map(|_| block(our_calls, ours)).collect();
        return Ok(alone(&blocks?));
    };
    let other_calls = calls(other)?;
    let blocks: Result<Vec<[f64; 2]>, String> =
        (0..pairs).map(|_| Ok([block(our_calls, ours)?, block(other_calls, other)?])).collect();
    Ok(paired(Better::Smaller, &blocks?))
}

/// Returns the medians of pairs, each with our figure and the other side's.
pub fn paired(better: Better, pairs: &[[f64; 2]]) -> Measured {
    let ratio = |[ours, other]: &[f64; 2]| match better {
        Better::Smaller => other / ours,
        Better::Larger => ours / other,
    };
    let (ratio, spread) = median(pairs.iter().map(ratio));
    let (ours, _) = median(pairs.iter().map(|[ours, _]| *ours));
    let (other, _) = median(pairs.iter().map(|[_, other]| *other));
    Measured { ours, other: Some(other), ratio: Some(ratio), spread }
}

/// Returns the median of figures that nothing is compared with.
pub fn alone(figures: &[f64]) -> Measured {
    let (ours, spread) = median(figures.iter().copied());
    Measured { ours, other: None, ratio: None, spread }
}

/// Returns the median, and the smallest and the largest value.
fn median(values: impl Iterator<Item = f64>) -> (f64, [f64; 2]) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), [at(0), at(values.len().saturating_sub(1))])
}

/// Returns the number of calls that fill a block.
fn calls(work: &mut dyn Work) -> Result<u32, String> {
    let (least, mut calls) = (work.block(), 1_u32);
    loop {
        let took = work.run(calls)?;
        if took >= least / 2 {
            return Ok((f64::from(calls) * least.as_secs_f64() / took.as_secs_f64()).ceil() as u32);
        }
        calls = calls.saturating_mul(2);
    }
}

/// Returns the nanoseconds of one call.
fn block(calls: u32, work: &mut dyn Work) -> Result<f64, String> {
    Ok(work.run(calls)?.as_nanos() as f64 / f64::from(calls))
}

/// Returns the processor time of this process, all its threads together.
pub fn time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_says_that_ours_is_better() {
        let pairs = [[2.0, 4.0], [1.0, 3.0], [1.0, 1.0]];
        let times = paired(Better::Smaller, &pairs);
        assert_eq!((times.ours, times.other, times.ratio, times.spread), (1.0, Some(3.0), Some(2.0), [1.0, 3.0]));
        let rates = paired(Better::Larger, &pairs);
        assert_eq!((rates.ratio, rates.spread), (Some(0.5), [1.0 / 3.0, 1.0]));
        assert_eq!(alone(&[3.0, 1.0, 2.0]), Measured { ours: 2.0, other: None, ratio: None, spread: [1.0, 3.0] });
    }

    #[test]
    fn a_block_has_as_many_calls_as_fill_it() {
        struct Fixed;
        impl Work for Fixed {
            fn run(&mut self, calls: u32) -> Result<Duration, String> {
                Ok(Duration::from_millis(3) * calls)
            }
        }
        assert_eq!(calls(&mut Fixed), Ok(14));
        assert_eq!(measure(7, &mut Fixed, Some(&mut Fixed)).map(|measured| measured.ratio), Ok(Some(1.0)));
    }
}
