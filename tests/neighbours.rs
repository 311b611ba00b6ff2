//! A good tenant beside each mode of the hostile plugin, on the same threads. `cargo xtask neighbours` measures all of
//! them, in seven pairs of blocks; otherwise two modes are measured, in one pair each.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use host_harness::overview::Query;
use host_harness::{environment, limits};
use source_host::limits::{Limits, milliseconds as whole_milliseconds};
use tokio::task::JoinSet;

use crate::mode::Mode;
use crate::shares::{self, Scene};
use crate::support::NOON;
use crate::support::hostile::polled;
use crate::support::stage::Stage;
use crate::tricks::cases::CASES;

/// Time, counted from its due time, within which a poll of the good tenant must end: the lateness that the collector
/// promises.
const DEADLINE: Duration = Duration::from_secs(5);

/// Polls of the good tenant in one block. The interval is the time from the end of one poll until the next is due.
const POLLS: u32 = 20;
const INTERVAL: Duration = Duration::from_millis(25);

/// Hostile calls at the same time: as many as one tenant may have.
const ATTACKS: usize = limits::POLLS_OF_TENANT;

/// The interval at which the status is read meanwhile.
const STATUS: Duration = Duration::from_millis(100);

/// The load beside the good tenant.
#[derive(Clone, Copy)]
enum Attack {
    Nobody,
    /// Calls of a hostile plugin, one after the other in each slot.
    Calls(Mode, u32),
    /// A collector with a hostile feed, whose loop must not stand still either.
    Collector(Mode, u32),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_tenant_beside_each_hostile_mode() {
    let pairs = environment::text("NEIGHBOURS").map(|pairs| pairs.parse::<usize>().unwrap());
    let all = CASES.iter().map(|case| Attack::Calls(case.mode, case.amount));
    let all = all.chain(shares::modes().map(|mode| Attack::Collector(mode, amount(mode))));
    let attacks: Vec<Attack> = match pairs {
        // Nobody beside nobody shows what the machine itself adds.
        Some(_) => std::iter::once(Attack::Nobody).chain(all).collect(),
        None => vec![Attack::Calls(Mode::Loop, 0), Attack::Collector(Mode::NoticesEscapes, 1_000)],
    };
    // Work that is done once, such as compiling, must not count.
    block(Attack::Nobody).await;
    let (mut table, mut missed) = (String::new(), 0);
    for attack in &attacks {
        let mut differences = Vec::new();
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for pair in 0..pairs.unwrap_or(1) {
            // The order of the two must not matter.
            if pair % 2 == 0 {
                alone.push(block(Attack::Nobody).await);
                beside.push(block(*attack).await);
            } else {
                beside.push(block(*attack).await);
                alone.push(block(Attack::Nobody).await);
            }
            differences.push(milliseconds(beside[pair]) - milliseconds(alone[pair]));
        }
        let worst = beside.iter().copied().max().unwrap_or_default();
        missed += usize::from(worst > DEADLINE);
        let row = format!(
            "| {} | {:.1} | {:.1} | {:+.1} | {:.1} | {} |",
            name(*attack),
            median(alone.iter().copied().map(milliseconds).collect()),
            median(beside.iter().copied().map(milliseconds).collect()),
            median(differences),
            milliseconds(worst),
            if worst > DEADLINE { "yes" } else { "no" },
        );
        if pairs.is_some() {
            eprintln!("{row}");
        }
        writeln!(table, "{row}").unwrap();
    }
    assert_eq!(table.lines().count(), attacks.len());
    assert!(pairs.is_none() || missed == 0, "{missed} modes make the good tenant miss {DEADLINE:?}");
}

/// Returns the longest time of one block: of the good tenant's polls from their due times, or of a collector's loop for
/// a reader.
async fn block(attack: Attack) -> Duration {
    let good = tokio::spawn(async {
        let mut longest = Duration::ZERO;
        for _ in 0..POLLS {
            let due = tokio::time::Instant::now() + INTERVAL;
            tokio::time::sleep_until(due).await;
            polled(Mode::Good, 0, Limits::default(), 0).await.0.unwrap();
            longest = longest.max(due.elapsed());
        }
        longest
    });
    let turn = match attack {
        Attack::Nobody => Duration::ZERO,
        Attack::Calls(mode, amount) => {
            let mut attacks = JoinSet::new();
            for _ in 0..ATTACKS {
                attacks.spawn(async move {
                    loop {
                        drop(polled(mode, amount, Limits::default(), 0).await);
                    }
                });
            }
            while !good.is_finished() {
                tokio::time::sleep(INTERVAL).await;
            }
            attacks.shutdown().await;
            Duration::ZERO
        }
        Attack::Collector(mode, amount) => {
            let scene = Scene::new();
            let stage = scene.start(&shares::configuration("", mode, amount, "interval = \"1s\"")).await;
            driven(stage, || good.is_finished()).await
        }
    };
    good.await.unwrap().max(turn)
}

/// Drives a collector on the clock of the machine, and returns its longest turn. The status is read at intervals.
async fn driven(mut stage: Stage, is_over: impl Fn() -> bool) -> Duration {
    let (begun, mut longest, mut read) = (Instant::now(), Duration::ZERO, Duration::ZERO);
    while !is_over() {
        let elapsed = begun.elapsed();
        stage.now.store(NOON + whole_milliseconds(elapsed), Ordering::SeqCst);
        let turn = Instant::now();
        stage.collector.start_due();
        if elapsed >= read + STATUS {
            read = elapsed;
            let draft = stage.collector.draft(&Query::default());
            tokio::task::spawn_blocking(move || draft.cleaned());
        }
        longest = longest.max(turn.elapsed());
        tokio::select! {
            ended = timed(stage.collector.ended()) => longest = longest.max(ended),
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
    stage.end().await;
    longest
}

/// Returns the longest time that one poll of a future took.
async fn timed(work: impl Future<Output = ()>) -> Duration {
    let (mut work, mut longest) = (std::pin::pin!(work), Duration::ZERO);
    std::future::poll_fn(move |context| {
        let begun = Instant::now();
        let polled = work.as_mut().poll(context);
        longest = longest.max(begun.elapsed());
        polled.map(|()| longest)
    })
    .await
}

/// The amount of a mode for a collector's feed.
fn amount(mode: Mode) -> u32 {
    match mode {
        Mode::ScopesFresh => 20_000,
        Mode::ScopesFailing => 2_000,
        Mode::PagesSlow | Mode::LogLines => 90,
        _ => 1_000,
    }
}

fn name(attack: Attack) -> String {
    match attack {
        Attack::Nobody => "nobody".to_owned(),
        Attack::Calls(mode, _) => mode.to_string(),
        Attack::Collector(mode, _) => format!("{mode}, in a collector"),
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
