//! Test Connection: steps from the settings to a sample event. The steps are the contract's own calls in their order,
//! after a test of the route to each origin. The first step that fails stops the check; if there are several scopes,
//! each has steps of its own.

mod command;
mod display;
pub mod probe;
mod remarks;
mod report;
mod run;
mod skew;
mod steps;
mod unusable;

use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use source_host::clock::Clock;
use source_host::limits::Limits;
use tokio::sync::mpsc::UnboundedSender;

use crate::admitted::tenants::Tenants;
pub use crate::check::command::{general_warnings, tell};
pub use crate::check::remarks::{REMARKS, Remark, expiring};
pub use crate::check::report::{CheckReport, Question, Step, StepStatus, StepTrouble, status};
use crate::check::run::Heard;
use crate::check::skew::{Skew, SkewTransport};
use crate::check::steps::FeedCheck;
pub use crate::check::unusable::{broken, left_out};
use crate::config::admission::Checked;
use crate::limits;

/// Checks the connection of every feed, several at the same time. The reports come in the order of the configuration.
pub fn check<'a>(checked: &'a Checked, clock: &'a Clock) -> impl Stream<Item = CheckReport> + 'a {
    check_telling(checked, clock, Vec::new())
}

/// The same, and sends each feed's steps as they end.
fn check_telling<'a>(
    checked: &'a Checked,
    clock: &'a Clock,
    tell: Vec<UnboundedSender<Heard>>,
) -> impl Stream<Item = CheckReport> + 'a {
    let skew = Skew::default();
    let (network, seen, now) = (checked.network.clone(), skew.clone(), Arc::clone(clock));
    let tenants = Arc::new(Tenants::new(move |tenant| {
        let inner = Arc::new(network.transport(&Limits::default())?);
        Ok(Arc::new(SkewTransport { inner, tenant: tenant.to_owned(), skew: seen.clone(), clock: Arc::clone(&now) }))
    }));
    let mut tell = tell.into_iter();
    let reports = checked.feeds.iter().map(move |admitted| {
        let (tenants, skew, tell) = (Arc::clone(&tenants), skew.clone(), tell.next());
        async move {
            let odd = checked.warnings.iter().filter(|warning| warning.place.feed.as_deref() == Some(&*admitted.id));
            let feed = FeedCheck { admitted, network: &checked.network, tenants: &tenants, clock, skew };
            feed.report(&odd.collect::<Vec<_>>(), tell).await
        }
    });
    stream::iter(reports).buffered(limits::POLLS_IN_FLIGHT)
}
