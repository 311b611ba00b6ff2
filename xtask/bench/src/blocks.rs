//! Paired blocks: blocks of this plugin and of the other side take turns, and each pair of blocks gives one ratio.
//! Other load on the machine affects both blocks of a pair, and the result is the median of the ratios. Times are CPU
//! times of this process.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time of a block: long in comparison with the steps of the clock, and short in comparison with disturbances.
const BLOCK: Duration = Duration::from_millis(40);

/// The results of a row, per call.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// The median time of the plugin's blocks, in nanoseconds.
    pub ours: f64,
    /// The median time of the other side's blocks, in nanoseconds.
    pub other: f64,
    /// The time of the other side divided by the plugin's: the median, the smallest and the largest of the pairs.
    pub ratio: [f64; 3],
}

/// Measures `pairs` pairs of blocks, after one pair that does not count.
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

/// Returns the number of calls that fill a block.
fn calls(work: &mut impl FnMut()) -> u32 {
    let (begun, mut calls) = (time(), 0);
    while time() - begun < BLOCK {
        work();
        calls += 1;
    }
    calls
}

/// Returns the nanoseconds of one call.
fn block(calls: u32, work: &mut impl FnMut()) -> f64 {
    let begun = time();
    for _ in 0..calls {
        work();
    }
    (time() - begun).as_nanos() as f64 / f64::from(calls)
}

/// Returns the CPU time of this process, all its threads together.
fn time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
