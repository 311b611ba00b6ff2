//! Measures the plugin's code, compiled natively, beside the least work.

use std::hint::black_box;

use azure_secure_score::contract::{Batch, Page, PollResult};
use azure_secure_score::http::Response;
use azure_secure_score::normalize::normalize;
use azure_secure_score::pages::{Next, PollPosition};
use azure_secure_score::settings::Settings;
use serde_json::Value;

use crate::floor;
use crate::input;
use crate::table::{Goal, Row};

/// The number of items that a poll reads: the score and its controls.
pub const RECORDS: usize = 1 + input::CONTROLS as usize;

/// A call of `normalize` that a row measures.
pub struct Call {
    /// The name of the row.
    pub name: &'static str,
    /// A description for people.
    pub what: &'static str,
    /// Settings beyond the usual ones.
    pub settings: &'static [(&'static str, &'static str)],
    /// Whether the state comes from an earlier poll.
    pub after_another: bool,
}

/// The three calls that differ in cost.
pub const CALLS: [Call; 3] = [
    Call { name: "unchanged", what: "`normalize`, nothing changed", settings: &[], after_another: true },
    Call {
        name: "snapshot",
        what: "`normalize`, all told again",
        settings: &[("emit", "snapshot")],
        after_another: true,
    },
    Call { name: "first", what: "`normalize`, at first sight", settings: &[], after_another: false },
];

/// A call with all its arguments.
pub struct Prepared {
    settings: String,
    poll_result: PollResult,
    state: Option<Vec<u8>>,
}

impl Call {
    /// Returns the call with its arguments.
    pub fn prepared(&self) -> Prepared {
        let (settings, poll_result) = (input::settings(self.settings), input::poll_result());
        let first = Prepared { settings, poll_result, state: None };
        let state = self.after_another.then(|| first.run(0).state);
        Prepared { state, ..first }
    }
}

impl Prepared {
    /// Makes the call with the time `minutes` after noon.
    pub fn run(&self, minutes: u64) -> Batch {
        let batch = Settings::trusted(&self.settings).and_then(|settings| {
            normalize(&settings, &input::context(minutes), &self.poll_result, self.state.as_deref())
        });
        match batch {
            Ok(batch) => batch,
            Err(failure) => unreachable!("the input is good: {}", failure.cause),
        }
    }

    /// Returns the pages.
    pub fn pages(&self) -> &[Page] {
        match &self.poll_result {
            PollResult::Pages(pages) => pages,
            PollResult::Failure(_) => &[],
        }
    }

    /// Returns the settings and the state.
    #[cfg(feature = "sandbox")]
    pub fn arguments(&self) -> (&str, Option<&[u8]>) {
        (&self.settings, self.state.as_deref())
    }
}

/// Does the work of `poll` on two answers, without sending a request.
pub fn poll(settings: &str, answers: &[Vec<u8>; 2]) -> Vec<Page> {
    let read = || {
        let settings = Settings::trusted(settings)?;
        let scope = input::scope();
        let mut pages = Vec::new();
        let mut place = PollPosition::read(&settings, &scope, None)?;
        for answer in answers {
            black_box(place.request(Some("token")));
            let response = Response { status: 200, headers: Vec::new(), body: answer.clone() };
            let (page, next) = place.page(response)?;
            pages.push(page);
            match next {
                Next::List(next) => place = next,
                _ => break,
            }
        }
        Ok(pages)
    };
    match read() {
        Ok(pages) => pages,
        Err::<_, azure_secure_score::contract::Failure>(failure) => {
            unreachable!("the input is good: {}", failure.cause)
        }
    }
}

/// Returns all rows of this module.
pub fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = CALLS
        .iter()
        .map(|call| {
            let (ours, other) = (call.prepared(), call.prepared());
            let events = parsed(&ours.run(1));
            let other_work = move || {
                black_box(floor::parse(other.pages()));
                black_box(floor::write(&events));
            };
            Row::of_calls(
                (format!("native-{}", call.name), format!("{}, native", call.what), "parse once, write once"),
                vec![Goal::Ratio(0.5)],
                RECORDS,
                Box::new(move || drop(black_box(ours.run(1)))),
                Some(Box::new(other_work)),
            )
        })
        .collect();
    let (settings, answers) = (input::settings(&[]), [input::scores(), input::controls()]);
    let prepared = CALLS[0].prepared();
    rows.push(Row::of_calls(
        ("native-poll".to_owned(), "`poll`, both answers read, native".to_owned(), "parse once"),
        Vec::new(),
        RECORDS,
        Box::new(move || drop(black_box(poll(&settings, &answers)))),
        Some(Box::new(move || {
            black_box(floor::parse(prepared.pages()));
        })),
    ));
    rows
}

/// Returns the events of the first poll as values.
pub fn first_events() -> Vec<Value> {
    parsed(&CALLS[2].prepared().run(1))
}

fn parsed(batch: &Batch) -> Vec<Value> {
    batch.events.iter().filter_map(|event| serde_json::from_slice(&event.body).ok()).collect()
}
