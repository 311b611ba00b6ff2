//! Paired blocks: ours and the other take turns, and each pair of blocks gives one ratio. What else the machine does falls
//! on both, and the median of the ratios is what is told. Time is that of this process on processors.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A block is long beside the clock's own steps, and short beside what disturbs it.
const BLOCK: Duration = Duration::from_millis(40);

/// What a row gave, per call.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Median of the blocks, in nanoseconds.
    pub ours: f64,
    /// The same of the other.
    pub other: f64,
    /// The other by ours: the median of the pairs, the smallest and the largest.
    pub ratio: [f64; 3],
}

/// Measures so many pairs of blocks, after one that does not count.
pub fn measure(pairs: usize, mut ours: impl FnMut(), mut other: impl FnMut()) -> Measured {
    let (our_calls, other_calls) = (calls(&mut ours), calls(&mut other));
    let blocks: Vec<[f64; 2]> =
        (0..pairs).map(|_| [block(our_calls, &mut ours), block(other_calls, &mut other)]).collect();
    let median_of = |values: &mut dyn Iterator<Item = f64>| sorted(values)[pairs / 2];
    let ratios = sorted(&mut blocks.iter().map(|[ours, other]| other / ours));
    Measured {
        ours: median_of(&mut blocks.iter().map(|[ours, _]| *ours)),
        other: median_of(&mut blocks.iter().map(|[_, other]| *other)),
        ratio: [ratios[pairs / 2], ratios[0], ratios[pairs - 1]],
    }
}

fn sorted(values: &mut dyn Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// How many calls fill a block.
fn calls(work: &mut impl FnMut()) -> u32 {
    let (begun, mut calls) = (time(), 0);
    while time() - begun < BLOCK {
        work();
        calls += 1;
    }
    calls
}

/// Nanoseconds of one call.
fn block(calls: u32, work: &mut impl FnMut()) -> f64 {
    let begun = time();
    for _ in 0..calls {
        work();
    }
    (time() - begun).as_nanos() as f64 / f64::from(calls)
}

/// The time that this process had on processors, all its threads together.
fn time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
