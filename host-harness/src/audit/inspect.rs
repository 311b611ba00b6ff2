//! The page that a reviewer signs: a component's properties and, for each feed of a configuration, every request that
//! may leave, with its credentials, with the party that allows it, and with amounts a day. The host denies all other
//! requests.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use source_host::contract::{Credential, Description, Path, Place, Shape};
use source_host::limits::{DAY, Limits};
use source_host::network::egress::{Leave, canonical};
use source_host::plugin::About;

use crate::built_in::{self, needs};
use crate::collector::once::Ready;

/// The page's part about one feed.
#[derive(Debug, Serialize)]
pub struct Sheet {
    /// Id of the feed.
    pub feed: String,
    /// Id of the tenant whose data the feed polls.
    pub tenant: String,
    /// Digest of the plugin's component.
    pub plugin_sha256: String,
    /// Digest of the plan: of `shapes` as compact JSON, without whether each may leave.
    pub plan_sha256: String,
    /// Time between two polls of a scope.
    pub interval_seconds: u64,
    /// Number of scopes, if the settings alone determine it; otherwise only the service knows it, and `a_day` is for
    /// one scope.
    pub scopes: Option<usize>,
    /// Every kind of request.
    pub shapes: Vec<ShapeLine>,
    /// The amounts a day.
    pub a_day: Day,
}

/// One kind of request, and whether it may leave.
#[derive(Debug, Serialize)]
pub struct ShapeLine {
    /// The shape as the plugin declared it.
    #[serde(flatten)]
    pub shape: Shape,
    /// The party that allows the request; without one, the request is denied.
    pub allowed: Option<Leave>,
    /// The line of `[network]` that would allow a denied request.
    pub remedy: Option<String>,
    /// Whether credentials go, or would go, over http, where others on the route can read them.
    pub credentials_in_clear: bool,
}

/// The amounts a day.
#[derive(Debug, Serialize)]
pub struct Day {
    /// Number of polls that are due.
    pub polls: u64,
    /// Number of requests, including those for tokens.
    pub requests: Amount,
    /// Bytes of the response bodies, decompressed.
    pub received_bytes: Amount,
    /// Number of events.
    pub events: Amount,
    /// Bytes of the events.
    pub event_bytes: Amount,
}

/// An amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// The observed amount for the built-in plugin; for other plugins, nothing is known.
    pub estimate: Option<u64>,
    /// The largest amount within the limits of calls and polls, which the host enforces. Retries of failed polls are
    /// not included; each counts as a poll.
    pub bound: u64,
}

impl Sheet {
    /// Makes the page of an open feed, without any request.
    pub async fn of(ready: &Ready, limits: &Limits) -> Sheet {
        let (admitted, feed) = (&ready.admitted, &ready.feed);
        let lines = feed.plan().shapes.iter().map(|shape| {
            let origin = canonical(&shape.origin).unwrap_or_default();
            let carries = !shape.credentials.is_empty();
            let is_clear = origin.starts_with("http://");
            let leave = admitted.allowed.leave(&origin);
            let allowed = leave.filter(|_| !carries || admitted.allowed.takes_credentials(&origin));
            let remedy = allowed.is_none().then(|| match leave {
                Some(_) => admitted.allowed.line_in_clear([origin.as_str()]),
                None => admitted.allowed.line_for(&origin, carries),
            });
            ShapeLine { shape: shape.clone(), allowed, remedy, credentials_in_clear: carries && is_clear }
        });
        let scopes = feed.scopes_of_settings().await;
        Sheet {
            feed: admitted.id.to_string(),
            tenant: admitted.tenant.to_string(),
            plugin_sha256: admitted.plugin_digest().to_owned(),
            plan_sha256: admitted.plan_digest().unwrap_or_default(),
            interval_seconds: admitted.interval.as_secs(),
            scopes,
            shapes: lines.collect(),
            a_day: Day::of(admitted.interval, scopes.unwrap_or(1), built_in::is(admitted.plugin.about()), limits),
        }
    }
}

impl Day {
    fn of(interval: Duration, scopes: usize, built_in: bool, limits: &Limits) -> Day {
        let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let scopes = number(scopes);
        let polls = scopes.saturating_mul(DAY.as_secs().div_ceil(interval.as_secs().max(1)));
        // Each step may fetch a token, renew it and be repeated; a poll may restart once, and a search goes with it.
        let calls = number(limits.pages).saturating_mul(8).saturating_add(4).saturating_mul(polls);
        let requests = calls.saturating_mul(number(limits.requests));
        let events = polls.saturating_mul(number(limits.events));
        let estimate = |amount: u64| built_in.then_some(amount);
        let told = scopes.saturating_mul(needs::EVENTS);
        let amount = |estimated, bound| Amount { estimate: estimate(estimated), bound };
        Day {
            polls,
            requests: amount(polls.saturating_mul(needs::REQUESTS).saturating_add(needs::TOKENS), requests),
            received_bytes: amount(
                polls.saturating_mul(needs::BYTES),
                calls.saturating_mul(number(limits.response_bytes)),
            ),
            events: amount(told, events),
            event_bytes: amount(
                told.saturating_mul(needs::EVENT_BYTES),
                events.saturating_mul(number(limits.event_bytes)),
            ),
        }
    }
}

/// The page as one JSON object.
pub fn json(about: &About, description: &Description, sheets: Option<&[Sheet]>) -> serde_json::Result<Value> {
    let mut value = json!({
        "name": description.name,
        "version": description.version,
        "imports": about.imports,
        "exports": about.exports,
        "sha256": about.sha256,
        "bytes": about.bytes,
        "events": description.events,
        "interval_seconds": description.interval_seconds,
        "settings_schema": serde_json::from_str::<Value>(&description.settings_schema)?,
    });
    if let Some(sheets) = sheets {
        value["feeds"] = serde_json::to_value(sheets)?;
    }
    Ok(value)
}

/// The page for people.
pub fn text(about: &About, description: &Description, sheets: Option<&[Sheet]>) -> String {
    let mut text =
        format!("{} {}, {} bytes, sha256 {}\n", description.name, description.version, about.bytes, about.sha256);
    // Writing to a text does not fail.
    for kind in &description.events {
        let _ = writeln!(text, "collects {} ({}), classes {:?}", kind.title, kind.name, kind.class_uids);
    }
    for import in &about.imports {
        let _ = writeln!(text, "imports {import}");
    }
    for export in &about.exports {
        let _ = writeln!(text, "exports {export}");
    }
    match sheets {
        None => {
            let _ = writeln!(text, "settings {}", description.settings_schema);
        }
        Some(sheets) => sheets.iter().for_each(|sheet| page(&mut text, sheet)),
    }
    text
}

fn page(text: &mut String, sheet: &Sheet) {
    let Sheet { feed, tenant, plugin_sha256, plan_sha256, interval_seconds, scopes, shapes, a_day } = sheet;
    let _ = writeln!(text, "\nfeed {feed} of tenant {tenant}");
    let _ = writeln!(text, "  plugin_sha256 = \"{plugin_sha256}\"");
    let _ = writeln!(text, "  plan_sha256 = \"{plan_sha256}\"");
    let _ = writeln!(text, "  may send nothing but:");
    for ShapeLine { shape, allowed, remedy, credentials_in_clear } in shapes {
        let leave = match (allowed, remedy) {
            (Some(Leave::BuiltIn), _) => "allowed for the built-in plugin".to_owned(),
            (Some(Leave::Operator), _) => "allowed by [network]".to_owned(),
            (None, remedy) => format!("NOT ALLOWED without `{}` in [network]", remedy.as_deref().unwrap_or_default()),
        };
        let clear = if *credentials_in_clear { ", CREDENTIALS IN CLEAR TEXT" } else { "" };
        let _ = writeln!(text, "  {}; {leave}{clear}", shape_text(shape));
    }
    let (whose, polls) = match scopes {
        Some(count) => (format!("the {count} scopes of its settings"), a_day.polls),
        None => ("each scope that the service names".to_owned(), a_day.polls),
    };
    let _ = writeln!(text, "  a day, for {whose}, every {interval_seconds} s: {polls} polls");
    let rows = [
        ("requests", a_day.requests),
        ("bytes received", a_day.received_bytes),
        ("events", a_day.events),
        ("bytes of events", a_day.event_bytes),
    ];
    // Without an estimate, which only the built-in plugin has, the table has no column for it.
    let estimated = rows.iter().any(|(_, amount)| amount.estimate.is_some());
    let mut line = |name: &str, estimate: &str, bound: &str| {
        let estimate = if estimated { format!(" {estimate:>16}") } else { String::new() };
        let _ = writeln!(text, "    {name:<16}{estimate} {bound:>24}");
    };
    line("", "estimate", "at most");
    for (name, Amount { estimate, bound }) in rows {
        line(name, &estimate.map_or_else(String::new, |estimate| estimate.to_string()), &bound.to_string());
    }
    let basis = if estimated { format!("estimate: {}; ", needs::BASIS) } else { String::new() };
    let _ = writeln!(text, "    {basis}at most: the limits of calls and polls, a retry being one poll more");
}

/// Writes a shape on one line.
fn shape_text(shape: &Shape) -> String {
    let path = match &shape.path {
        Path::Exact(path) => path.clone(),
        Path::Prefix(prefix) => format!("{prefix}…"),
    };
    let uses = shape.credentials.iter().map(|used| {
        let credential = match &used.credential {
            Credential::Setting(setting) => format!("`{setting}`"),
            Credential::Assertion(setting) => format!("an assertion of `{setting}`"),
            Credential::Token => "the token".to_owned(),
        };
        match &used.place {
            Place::FormField(field) => format!("{credential} in the form field {field}"),
            Place::Header(header) => format!("{credential} in the header {header}"),
            Place::Bearer => format!("{credential} as bearer"),
        }
    });
    let uses: Vec<String> = uses.collect();
    let credentials = if uses.is_empty() { "no credential".to_owned() } else { uses.join(", ") };
    let sealed = shape.captures.as_ref().map(|key| format!(", and `{key}` of the answer stays with the host"));
    // The page shows the origin that the host compares: a name in another script may look like a known one.
    let origin = canonical(&shape.origin).unwrap_or_else(|| shape.origin.clone());
    format!("{} {origin}{path} with {credentials}{}", shape.method, sealed.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_follow_from_scopes_interval_and_limits() {
        let limits = Limits { pages: 10, requests: 3, events: 7, event_bytes: 100, ..Limits::default() };
        let day = Day::of(Duration::from_secs(3_600), 2, true, &limits);
        assert_eq!((day.polls, day.requests), (48, Amount { estimate: Some(123), bound: 48 * 84 * 3 }));
        assert_eq!(day.events, Amount { estimate: Some(52), bound: 336 });
        assert_eq!(day.event_bytes.bound, 33_600);
        assert_eq!(Day::of(Duration::from_secs(50_000), 1, false, &limits).polls, 2);
        assert_eq!(Day::of(DAY, 1, false, &limits).requests.estimate, None);
    }

    #[test]
    fn only_the_built_in_plugin_has_estimates() {
        for (built_in, words) in [(true, "estimate: 25 controls a subscription"), (false, "    at most: the limits of")]
        {
            let sheet = Sheet {
                feed: String::new(),
                tenant: String::new(),
                plugin_sha256: String::new(),
                plan_sha256: String::new(),
                interval_seconds: 3_600,
                scopes: None,
                shapes: Vec::new(),
                a_day: Day::of(DAY, 1, built_in, &Limits::default()),
            };
            let mut text = String::new();
            page(&mut text, &sheet);
            assert!(text.contains(words) && text.contains("estimate") == built_in, "{text}");
        }
    }
}
