//! The error of this machine's clock: a transport that reads the time in the answers of services, and the remark on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use parking_lot::Mutex;
use source_host::clock::Clock;
use source_host::limits::milliseconds;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportFuture};
use url::Url;

use crate::admitted::AdmittedFeed;
use crate::check::remarks::{CLOCK_OFF, Remark, SERVICE_CLOCK_OFF};
use crate::limits;

/// How many milliseconds this machine's clock is behind those of services, by tenant and origin.
#[derive(Clone, Default)]
pub(super) struct Skew(Arc<Mutex<BTreeMap<(String, String), i64>>>);

impl Skew {
    /// The clock errors that the feed's own services showed.
    pub(super) fn seen(&self, admitted: &AdmittedFeed) -> Vec<(String, i64)> {
        let seen = self.0.lock();
        let origins = admitted.origins.iter().filter_map(|origin| Url::parse(origin).ok());
        let origins = origins.map(|url| url.origin().ascii_serialization());
        let named = origins.filter_map(|origin| {
            let off = seen.get(&(admitted.tenant.to_string(), origin.clone()))?;
            Some((origin, *off))
        });
        named.collect()
    }
}

/// Returns the remark on the clocks: on this machine's, if all services agree about its error, and otherwise on a
/// service's.
pub(super) fn clocks(seen: &[(String, i64)]) -> Option<(&'static Remark, String)> {
    let most = milliseconds(limits::CLOCK_SKEW);
    let words = |off: i64| {
        let way = if off > 0 { "behind" } else { "ahead of" };
        format!("{} s {way}", off.unsigned_abs() / 1_000)
    };
    let (_, first) = seen.iter().find(|(_, off)| off.unsigned_abs() > most)?;
    if seen.iter().all(|(_, other)| first.abs_diff(*other) <= most) {
        return Some((&CLOCK_OFF, format!("it is {} the service's", words(*first))));
    }
    let told = seen.iter().map(|(origin, off)| match off.unsigned_abs() > most {
        true => format!("this machine's clock is {} that of {origin}", words(*off)),
        false => format!("it agrees with that of {origin}"),
    });
    Some((&SERVICE_CLOCK_OFF, told.collect::<Vec<_>>().join(", ")))
}

/// A transport that reads the time in the answers of services.
pub(super) struct SkewTransport {
    pub(super) inner: Arc<dyn Transport>,
    pub(super) tenant: String,
    pub(super) skew: Skew,
    pub(super) clock: Clock,
}

impl Transport for SkewTransport {
    fn send(&self, request: OutgoingRequest) -> TransportFuture<'_> {
        Box::pin(async move {
            let origin = request.url.origin().ascii_serialization();
            let response = self.inner.send(request).await?;
            let date = response.headers.iter().find(|(name, _)| name == "date").filter(|_| is_own(&response));
            let date = date.and_then(|(_, value)| httpdate::parse_http_date(value).ok());
            if let Some(since) = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) {
                let signed = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
                let off = signed(milliseconds(since)).saturating_sub(signed((self.clock)()));
                let mut seen = self.skew.0.lock();
                seen.insert((self.tenant.clone(), origin), off);
            }
            Ok(response)
        })
    }
}

/// Says whether an answer comes from the service itself, and was made now: it has an id of the request, which proxies
/// and login pages do not give, and no age, which caches give.
fn is_own(response: &IncomingResponse) -> bool {
    let has = |fits: &dyn Fn(&str) -> bool| response.headers.iter().any(|(name, _)| fits(name));
    has(&|name| name.ends_with("request-id")) && !has(&|name| name == "age")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_where_all_services_say_so() {
        let told = |seen: &[(&str, i64)]| {
            let seen: Vec<_> = seen.iter().map(|(origin, off)| ((*origin).to_owned(), *off * 1_000)).collect();
            clocks(&seen).map(|(remark, words)| (remark.code, words))
        };
        let (login, arm) = ("https://login", "https://arm");
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[(login, 300), (arm, -300)]), None);
        assert_eq!(told(&[(login, 301)]), Some(("clock-off", "it is 301 s behind the service's".to_owned())));
        let all = told(&[(login, -600), (arm, -605)]);
        assert_eq!(all, Some(("clock-off", "it is 600 s ahead of the service's".to_owned())));
        let one = told(&[(login, 600), (arm, 2)]);
        let words = "this machine's clock is 600 s behind that of https://login, it agrees with that of https://arm";
        assert_eq!(one, Some(("service-clock-off", words.to_owned())));
    }

    #[test]
    fn the_time_of_a_proxy_or_a_cache_does_not_count() {
        let own = |names: &[&str]| {
            let headers = names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect();
            is_own(&IncomingResponse { status: 200, headers, body: Vec::new() })
        };
        assert!(own(&["date", "x-ms-request-id"]) && own(&["request-id"]));
        assert!(!own(&["date", "server", "via"]) && !own(&["x-ms-request-id", "age"]));
    }
}
