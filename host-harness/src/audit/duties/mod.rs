//! The duties of a host, tried on any host: a command runs the probe, a plugin that tries every breach, against a service
//! that observes. docs/embedding.md explains each duty.

mod evidence;
mod observer;
mod report;
mod trial;

use std::ffi::OsString;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use self::evidence::Evidence;
pub use self::report::{DutyRow, DutyVerdict, HostReport};
pub use self::trial::TrialError;

/// The plugin that tries every breach.
pub const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/conformance-probe.wasm"));

/// A duty of a host.
pub struct Duty {
    /// The name, as in docs/embedding.md.
    pub name: &'static str,
    /// The requirement.
    pub asks: &'static str,
    /// Says whether the breach was tried.
    was_tried: fn(&Evidence) -> bool,
    /// Describes the breach, if it succeeded.
    breach: fn(&Evidence) -> Option<String>,
}

macro_rules! duties {
    ($($name:literal, $asks:literal, $was_tried:expr, $breach:expr;)*) => {
        /// Every duty, in the order of docs/embedding.md.
        pub const DUTIES: &[Duty] =
            &[$(Duty { name: $name, asks: $asks, was_tried: $was_tried, breach: $breach },)*];
    };
}

duties! {
    "shapes", "only requests of a declared method, origin and path leave",
        |all| all.polled("requests"), Evidence::undeclared;
    "origins", "a request leaves only to an origin that the operator allows, too",
        |all| all.polled("requests"), Evidence::unallowed;
    "headers", "headers that are not declared do not leave",
        |all| all.polled("requests"), Evidence::undeclared_header;
    "redirects", "a redirect is an answer, and not followed",
        |all| all.asked("/data/redirect"), Evidence::redirected;
    "own-credentials", "no request leaves with a credential of the plugin's own",
        |all| all.polled("requests"), Evidence::own_credential;
    "token-requests", "requests for a token leave from fetch-token alone",
        |all| all.polled("requests"), |all| all.remarked("token-requests", "a call of poll sent a request for a token");
    "pure-calls", "prepare and normalize have no HTTP",
        |all| all.has_event("good"), Evidence::http_in_pure_calls;
    "placeholders", "the plugin gets placeholders of its credentials",
        Evidence::signed_in, |all| all.remarked("placeholders", "the settings held the secret itself");
    "places", "a secret is at its declared place, and nowhere else",
        |all| all.polled("requests"), Evidence::misplaced;
    "token", "the host keeps the token of the answer",
        Evidence::signed_in, Evidence::token_seen;
    "echoes", "the plugin sees no secret that an answer repeats",
        |all| all.asked("/data/echo/body"), Evidence::echoed;
    "bare-settings", "normalize gets the settings without credentials",
        |all| all.has_event("good"),
        |all| all.printed("told-credential-in-normalize", "the settings of normalize had the credential, or its placeholder");
    "output", "no secret is in what the host prints",
        Evidence::signed_in, Evidence::secret_printed;
    "time", "a call ends after seconds of its own work",
        |all| all.polled("time"), Evidence::endless;
    "memory", "a call has a limit on memory",
        |all| all.polled("memory"), Evidence::took_memory;
    "requests", "a call has a limit on requests",
        |all| all.polled("request-count"), Evidence::all_requests;
    "answers", "the body of an answer is limited while it is read",
        |all| all.asked("/data/endless"), Evidence::whole_answer;
    "cursors", "a cursor is short, and was not seen before in the poll",
        |all| all.polled("cursors") && all.polled("cursor-length"), Evidence::any_cursor;
    "pages", "a poll has a limit on pages",
        |all| all.polled("pages"), Evidence::all_pages;
    "page-bytes", "a poll has a limit on bytes",
        |all| all.polled("page-bytes"), Evidence::all_page_bytes;
    "log", "lines of the plugin are limited, and are text",
        |all| all.prints("conformance-log"), Evidence::flooded;
    "fresh-instances", "no instance serves two scopes",
        |all| all.polled("good"), |all| all.told("fresh-instances", "an instance remembered another scope");
    "complete", "a poll that fails half-way gives no events",
        |all| all.polled("half"), |all| all.printed("conformance-event-half", "an event of half a poll was printed");
    "events", "an event is one line",
        |all| all.polled("event-lines"), Evidence::split_event;
    "scopes", "a scope that fails does not stop the others",
        Evidence::shows_next_scope, Evidence::stopped;
}

/// The scopes of the probe, in the order in which a host polls them. The last one stops a host without a limit on time.
const SCOPES: &[&str] = &[
    "requests",
    "half",
    "event-lines",
    "cursors",
    "cursor-length",
    "pages",
    "page-bytes",
    "endless-answer",
    "request-count",
    "memory",
    "log",
    "good",
    "time",
];

/// Runs a host's command with the probe until each breach was tried, or no further one is. A host that sends nothing
/// for the time of `patience` is killed, and one that runs when `stop` is set, too.
pub fn examine_host(command: &[OsString], patience: Duration, stop: &AtomicBool) -> Result<HostReport, TrialError> {
    let mut all = Evidence::default();
    let mut with_unallowed = true;
    loop {
        let left: Vec<&str> = SCOPES.iter().copied().filter(|scope| !all.polled(scope)).collect();
        if left.is_empty() {
            break;
        }
        let ran = trial::run(command, &left, with_unallowed, patience, stop)?;
        let polled_more = left.iter().any(|scope| ran.polled(scope));
        all.add(ran);
        // A host may refuse a plan with an origin that is not allowed as a whole, which is a good answer.
        let refused_plan = !polled_more && with_unallowed;
        with_unallowed = with_unallowed && polled_more;
        if !polled_more && !refused_plan {
            break;
        }
    }
    Ok(HostReport::of(&all))
}
