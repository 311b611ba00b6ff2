//! Malicious results of `normalize`: events, notices, figures and state, and forbidden acts of a pure call.

use std::sync::atomic::{AtomicUsize, Ordering};

use waki::Client;
use waki::bindings::wasi::clocks::monotonic_clock;

use super::{notice, unheard_of, wide};
use crate::contract::*;
use crate::mode::Mode;
use crate::{Settings, read};

/// Changes a good batch as the mode says.
pub fn batch(settings: &Settings, mut batch: Batch) -> Result<Batch, Failure> {
    if let Some(event) = batch.events.first().cloned() {
        make_events(settings, &mut batch, &event);
        make_others(settings, &mut batch, &event);
        break_purity(settings, &mut batch, &event)?;
    }
    Ok(batch)
}

/// Returns too many or too large events, or bodies that are not events.
fn make_events(settings: &Settings, batch: &mut Batch, event: &Event) {
    let amount = settings.amount;
    let body = |body: Vec<u8>| Event { body, ..event.clone() };
    match settings.mode {
        Mode::Events => {
            let one = |index: usize| Event { uid: format!("{}/{index}", event.uid), ..event.clone() };
            batch.events = (0..amount).map(one).collect();
        }
        Mode::EventsAlike => batch.events = vec![event.clone(); 2],
        Mode::EventsLong => {
            let long = format!("{{\"a\":[{}1]}}", "1,".repeat(32_000)).into_bytes();
            batch.events = (0..amount)
                .map(|index| Event { uid: format!("{}/{index}", event.uid), ..body(long.clone()) })
                .collect();
        }
        Mode::EventBytes => {
            batch.events[1].body = format!("{{\"a\":\"{}\"}}", "x".repeat(amount - 8)).into_bytes();
        }
        Mode::EventUidBytes => batch.events[0].uid = wide("", amount),
        Mode::EventCutShort => batch.events.push(body(b"{\"a\":".to_vec())),
        Mode::EventOnTwoLines => batch.events.push(body(b"{\"a\":\n1}".to_vec())),
        Mode::EventNotUtf8 => batch.events.push(body(b"{\"a\":\"\xff\"}".to_vec())),
        Mode::EventDeep => {
            let (open, close) = ("[".repeat(amount), "]".repeat(amount));
            batch.events[0].body = format!("{{\"a\":{open}{close}}}").into_bytes();
        }
        Mode::EventSurrogate => batch.events[0].body = b"{\"a\":\"\\ud800\"}".to_vec(),
        Mode::EventKeyTwice => batch.events[0].body = b"{\"a\":1,\"\\u0061\":2}".to_vec(),
        Mode::EventUidOther => batch.events[0].body = b"{\"metadata\":{\"uid\":\"another\"}}".to_vec(),
        Mode::EventList => batch.events.push(body(b"[]".to_vec())),
        Mode::EventForged => batch.events.push(body(b"{} {\"tenant\":\"other\"}".to_vec())),
        Mode::Copies => batch.events = (0..amount).map(|_| body(aliased())).collect(),
        _ => {}
    }
}

/// Returns too many, too large or odd states, notices and figures.
fn make_others(settings: &Settings, batch: &mut Batch, event: &Event) {
    let amount = settings.amount;
    match settings.mode {
        Mode::StateBytes => batch.state = vec![b'1'; amount],
        Mode::StateForeign => batch.state = b"the state of somebody else".to_vec(),
        Mode::NoticesOfBatch => batch.notices.resize(amount, notice()),
        Mode::NoticesEscapes => {
            let odd = |index: usize| Notice { code: format!("odd-{index}"), message: "\\".repeat(4_000) };
            batch.notices = (0..amount).map(odd).collect();
        }
        Mode::NoticeUnlisted => batch.notices.push(unheard_of()),
        Mode::Measures => {
            let measure = batch.measures[0].clone();
            batch.measures.resize(amount, measure);
        }
        Mode::FiguresFresh => {
            let measure = batch.measures[0].clone();
            let fresh = |index: usize| Measure { subject: format!("{}/{index}", event.uid), ..measure.clone() };
            batch.measures = (0..amount).map(fresh).collect();
        }
        Mode::MeasureOdd => batch.measures[0].value = f64::NAN,
        Mode::MeasureSubjectBytes => batch.measures[0].subject = wide("", amount),
        _ => {}
    }
}

/// Uses memory, the clock, a timer or the network, which a pure call may not.
fn break_purity(settings: &Settings, batch: &mut Batch, event: &Event) -> Result<(), Failure> {
    match settings.mode {
        Mode::MemoryOfCalls => batch.state = format!("1 {}", CALLS.fetch_add(1, Ordering::SeqCst)).into_bytes(),
        Mode::ClockInEvent => {
            let body = format!("{{\"class_uid\":2003,\"now\":{}}}", monotonic_clock::now()).into_bytes();
            batch.events[1] = Event { uid: "now".to_owned(), body, ..event.clone() };
        }
        Mode::TimerInNormalize => monotonic_clock::subscribe_duration(1_000_000).block(),
        Mode::HttpInNormalize => drop(read(Client::new().get(&format!("{}/data/1", settings.origin)))?),
        _ => {}
    }
    Ok(())
}

/// Number of calls that this instance has handled.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Returns the same mebibyte each time: the host would copy it as often as the plugin returns it.
#[expect(unsafe_code, reason = "a hostile author writes this, and the host has to bear it")]
fn aliased() -> Vec<u8> {
    static ONE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    const SIZE: usize = 1 << 20;
    let make = || {
        let mut body = b"{}".to_vec();
        body.resize(SIZE, b' ');
        body.shrink_to_fit();
        body.leak().as_mut_ptr() as usize
    };
    // SAFETY: the memory is never freed twice, because the host does not return to free it.
    unsafe { Vec::from_raw_parts(*ONE.get_or_init(make) as *mut u8, SIZE, SIZE) }
}
