//! One poll of each scope, now: opens every feed of a configuration, finds its scopes, and writes their events.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::config::{Config, FeedConfig, Problem};
use crate::contract::{self, Failure, Measure, Reaction, Scope};
use crate::egress::Origins;
use crate::engine::Host;
use crate::feed::{Clock, Feed, FeedError, Identity, Polled};
use crate::limits::{self, Limits};
use crate::live::Network;
use crate::plugin::{BUILT_IN_ORIGINS, Plugin};
use crate::redact;
use crate::secret::Secret;
use crate::transport::Transport;

/// Why there was no poll at all.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// The configuration is wrong.
    #[error("the configuration has {} problems", .0.len())]
    Configuration(Vec<Problem>),
    /// Something of the host failed.
    #[error("{0}")]
    Host(String),
    /// The output cannot be written.
    #[error("failed to write the events: {0}")]
    Output(#[from] std::io::Error),
}

/// What came of a poll of everything.
#[derive(Debug, Default)]
pub struct Report {
    /// Scopes that were collected, or have nothing to collect.
    pub good: usize,
    /// Feeds and scopes that failed.
    pub failed: usize,
    /// Events written.
    pub events: usize,
    /// Figures of the scopes.
    pub rows: Vec<Row>,
}

/// A figure and whose it is.
#[derive(Debug)]
pub struct Row {
    /// Id of the feed.
    pub feed: String,
    /// The scope as people call it.
    pub scope: String,
    /// The figure.
    pub measure: Measure,
}

impl Report {
    /// The exit status: 0 done, 1 nothing collected, 3 partly done.
    pub fn status(&self) -> u8 {
        match (self.good, self.failed) {
            (_, 0) => 0,
            (0, _) => 1,
            _ => 3,
        }
    }
}

/// Where events go, and where words for people go.
pub struct Output<'a> {
    /// One event a line, and nothing else.
    pub events: &'a mut (dyn Write + Send),
    /// Sentences.
    pub people: &'a mut (dyn Write + Send),
}

/// A feed that is ready, under its name.
pub struct Ready {
    /// Id of the feed.
    pub id: String,
    /// Id of the tenant.
    pub tenant: String,
    /// The feed.
    pub feed: Feed,
    secrets: Vec<Secret>,
}

/// Opens every feed; all problems of all feeds come at once. `plugin` takes the place of what the feeds name.
pub async fn open(
    host: &Host,
    file: &Path,
    config: Config,
    plugin: Option<&Path>,
    clock: &Clock,
) -> Result<(Vec<Ready>, Vec<Problem>), OnceError> {
    let whole = |key: &str, message: String| {
        OnceError::Configuration(vec![Problem { file: file.to_owned(), line: 0, key: key.to_owned(), message }])
    };
    let ca = config.network.ca_file.as_ref().map(|path| (path, std::fs::read(path)));
    let ca = match ca {
        None => None,
        Some((_, Ok(pem))) => Some(pem),
        Some((path, Err(error))) => {
            return Err(whole("network.ca_file", format!("cannot read {}: {error}", path.display())));
        }
    };
    let network = Network::new(ca.as_deref(), config.network.allow_addresses.clone())
        .map_err(|error| whole("network.ca_file", error))?;
    let allowed = Origins::new(&config.network.allow).map_err(|origin| whole("network.allow", origin))?;
    let mut plugins: BTreeMap<Option<PathBuf>, Plugin> = BTreeMap::new();
    let mut transports: BTreeMap<String, Arc<dyn Transport>> = BTreeMap::new();
    let (mut ready, mut problems, mut warnings) = (Vec::new(), Vec::new(), config.warnings);
    for mut feed in config.feeds {
        let path = plugin.map(Path::to_owned).or_else(|| feed.plugin.take());
        let plugin = match plugins.get(&path) {
            Some(plugin) => plugin.clone(),
            None => {
                let loaded = Plugin::load(host, path.as_deref());
                let loaded = loaded.map_err(|error| whole(&format!("feed {}: plugin", feed.id), error))?;
                plugins.entry(path).or_insert(loaded).clone()
            }
        };
        let allowed = if plugin.about().built_in {
            let own = Origins::new(BUILT_IN_ORIGINS).map_err(OnceError::Host)?;
            allowed.and(&own)
        } else {
            allowed.clone()
        };
        let limits = Limits::default();
        let transport = match transports.get(&feed.tenant) {
            Some(transport) => Arc::clone(transport),
            None => {
                let new = network.transport(&limits).map_err(|error| OnceError::Host(error.to_string()))?;
                let new: Arc<dyn Transport> = Arc::new(new);
                Arc::clone(transports.entry(feed.tenant.clone()).or_insert(new))
            }
        };
        let identity = Identity {
            tenant: feed.tenant.clone(),
            feed: feed.id.clone(),
            limits,
            allowed,
            transport,
            clock: Arc::clone(clock),
        };
        match open_feed(file, plugin, feed, identity).await? {
            Ok((feed, odd)) => {
                warnings.extend(odd);
                ready.push(feed);
            }
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok((ready, warnings)) } else { Err(OnceError::Configuration(problems)) }
}

type Opened = Result<(Ready, Vec<Problem>), Vec<Problem>>;

async fn open_feed(file: &Path, plugin: Plugin, config: FeedConfig, identity: Identity) -> Result<Opened, OnceError> {
    let FeedConfig { id, tenant, settings, lines, sealed, .. } = config;
    let problem = |setting: &str, message: String| {
        let key = setting.trim_start_matches('/').replace('/', ".");
        let line = lines.get(key.split('.').next().unwrap_or_default()).copied().unwrap_or(0);
        Problem { file: file.to_owned(), line, key: format!("feed {id}: settings.{key}"), message }
    };
    let found = |problem_of: &contract::Problem| {
        problem(&problem_of.setting, format!("found {}, expected {}", problem_of.found, problem_of.expected))
    };
    let secrets: Vec<Secret> = settings.secrets().cloned().collect();
    let description = plugin.describe().await.0.map_err(|error| OnceError::Host(error.to_string()))?;
    let is_credential = |setting: &str| description.credentials.iter().any(|known| known.setting == setting);
    let no_secrets: Vec<&String> = sealed.iter().filter(|setting| !is_credential(setting)).collect();
    let mut problems: Vec<Problem> = no_secrets
        .iter()
        .map(|setting| {
            let message = "found a secret, which the plugin never sees, expected a plain value: add `plain = true`";
            problem(setting, message.to_owned())
        })
        .collect();
    match Feed::open(plugin, settings, identity).await {
        Ok(feed) if problems.is_empty() => {
            let mut warnings: Vec<Problem> = feed.plan().warnings.iter().map(found).collect();
            warnings.extend(feed.oddities().into_iter().map(|(setting, words)| problem(&setting, words)));
            Ok(Ok((Ready { id, tenant, feed, secrets }, warnings)))
        }
        Ok(_) => Ok(Err(problems)),
        Err(FeedError::Settings(others)) => {
            // What the plugin says of a placeholder is of no use to anybody.
            let told = |other: &&contract::Problem| {
                !no_secrets.iter().any(|setting| other.setting.trim_start_matches('/') == setting.as_str())
            };
            problems.extend(others.iter().filter(told).map(found));
            Ok(Err(problems))
        }
        Err(FeedError::Call(error)) => Err(OnceError::Host(error.to_string())),
    }
}

/// Polls every scope of every feed once. Scopes are read at the same time and written in their order.
pub async fn poll(feeds: &[Ready], clock: &Clock, output: Output<'_>) -> Result<Report, OnceError> {
    let mut desk = Desk { output, report: Report::default() };
    for ready in feeds {
        let scopes = match desk.scopes(ready).await {
            Ok(scopes) => scopes,
            Err(failure) => {
                desk.tell(ready, "", &failure);
                continue;
            }
        };
        let polls = scopes.iter().map(|scope| async move {
            let polled = patiently(|| async {
                let polled = ready.feed.poll(scope, clock(), None).await;
                match polled.failure {
                    Some(failure) => Err(failure),
                    None => Ok(polled),
                }
            });
            (scope, polled.await)
        });
        let mut polls = stream::iter(polls).buffered(limits::POLLS_IN_FLIGHT);
        while let Some((scope, polled)) = polls.next().await {
            match polled {
                Ok(polled) => desk.deliver(ready, scope, polled)?,
                Err(failure) if failure.reaction == Reaction::NoData => {
                    desk.no_data(ready, scope, &failure);
                    desk.report.good += 1;
                }
                Err(failure) => desk.tell(ready, &called(scope), &failure),
            }
        }
    }
    Ok(desk.report)
}

/// Where everything is written and counted.
struct Desk<'a> {
    output: Output<'a>,
    report: Report,
}

impl Desk<'_> {
    async fn scopes(&mut self, ready: &Ready) -> Result<Vec<Scope>, Failure> {
        patiently(|| ready.feed.sign_in()).await?;
        let discovery = patiently(|| ready.feed.discover()).await?;
        for notice in &discovery.notices {
            self.warn(ready, "", &notice.message);
        }
        for skipped in &discovery.skipped {
            self.tell(ready, &called(&skipped.scope), &skipped.why);
        }
        Ok(discovery.scopes)
    }

    fn deliver(&mut self, ready: &Ready, scope: &Scope, polled: Polled) -> std::io::Result<()> {
        let Some(batch) = polled.batch else { return Ok(()) };
        for notice in polled.notices.iter().chain(&batch.notices) {
            self.warn(ready, &called(scope), &notice.message);
        }
        if let Some(outcome) = &batch.outcome {
            self.no_data(ready, scope, outcome);
        }
        let mut lines = Vec::new();
        for event in &batch.events {
            lines.extend_from_slice(&event.body);
            lines.push(b'\n');
        }
        self.output.events.write_all(&lines)?;
        self.output.events.flush()?;
        self.report.good += 1;
        self.report.events += batch.events.len();
        let row = |measure| Row { feed: ready.id.clone(), scope: called(scope), measure };
        self.report.rows.extend(batch.measures.into_iter().map(row));
        Ok(())
    }

    /// Nothing to collect and nobody at fault.
    fn no_data(&mut self, ready: &Ready, scope: &Scope, outcome: &Failure) {
        let fix = outcome.fix.as_deref().unwrap_or("nothing needs to be done");
        self.warn(ready, &called(scope), &format!("{} ({}); {fix}", outcome.cause, outcome.code));
    }

    /// Says that something failed, whose fault it is, and what mends it.
    fn tell(&mut self, ready: &Ready, scope: &str, failure: &Failure) {
        self.report.failed += 1;
        let (cause, code, whose) = (&failure.cause, &failure.code, failure.whose());
        let mut text = format!("error: {}{scope}: {cause} ({code}, {whose})", who(ready));
        let details = [
            ("status", failure.status.map(|status| status.to_string())),
            ("code", failure.service_code.clone()),
            ("request id", failure.request_id.clone()),
        ];
        for (name, value) in details {
            if let Some(value) = value {
                text += &format!("; {name} {value}");
            }
        }
        text += &format!("\n  fix: {}", failure.fix.as_deref().unwrap_or_else(|| usual_fix(failure)));
        self.say(ready, &text);
    }

    fn warn(&mut self, ready: &Ready, scope: &str, message: &str) {
        self.say(ready, &format!("warning: {}{scope}: {message}", who(ready)));
    }

    /// Nobody may be listening; the events matter more.
    fn say(&mut self, ready: &Ready, text: &str) {
        let _ = writeln!(self.output.people, "{}", redact::redact(text, &ready.secrets));
    }
}

/// What to do where the failure does not say.
fn usual_fix(failure: &Failure) -> &'static str {
    match failure.reaction {
        Reaction::Wait => "poll again after that time; look for others that use this credential",
        Reaction::TryLater | Reaction::Restart => {
            "poll again later; if it lasts, give the request id to the service's support"
        }
        Reaction::MendPlugin => {
            "nothing of the answer was used: keep it, and report it to the service or the plugin's authors"
        }
        Reaction::StateUnusable => "restore the state from a backup, or remove it to begin anew",
        _ => "see the cause",
    }
}

fn who(ready: &Ready) -> String {
    format!("tenant {}, feed {}", ready.tenant, ready.id)
}

fn called(scope: &Scope) -> String {
    match &scope.name {
        Some(name) => format!(", {name} ({})", scope.id),
        None => format!(", {}", scope.id),
    }
}

/// Tries again what may pass by itself, within the patience of a person at a terminal.
async fn patiently<T, F: Future<Output = Result<T, Failure>>>(attempt: impl Fn() -> F) -> Result<T, Failure> {
    let mut waited = Duration::ZERO;
    for retry in 0.. {
        let mut failure = match attempt().await {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        let Some(wait) = pause(&failure, retry) else { return Err(failure) };
        if waited + wait > limits::POLL_WAIT {
            let until = std::time::SystemTime::now() + wait;
            failure.cause +=
                &format!("; it asks to wait {} s, until {}", wait.as_secs(), httpdate::fmt_http_date(until));
            return Err(failure);
        }
        if retry >= limits::POLL_RETRIES {
            return Err(failure);
        }
        tokio::time::sleep(wait).await;
        waited += wait;
    }
    unreachable!("the retries are bounded")
}

/// How long to wait before another attempt; none if that would be of no use.
fn pause(failure: &Failure, retry: usize) -> Option<Duration> {
    match failure.reaction {
        Reaction::Wait | Reaction::TryLater => {
            let backoff = 1 << retry.min(4);
            Some(Duration::from_secs(failure.wait_seconds.map_or(backoff, u64::from)))
        }
        _ => None,
    }
}

/// The scores of a report as a table for people.
pub fn table(report: &Report, kind: &str) -> String {
    let rows: Vec<[String; 5]> = report
        .rows
        .iter()
        .filter(|row| row.measure.kind == kind)
        .map(|row| {
            let Measure { title, value, maximum, .. } = &row.measure;
            let percent = if *maximum > 0.0 { format!("{:.1} %", value / maximum * 100.0) } else { "-".to_owned() };
            let scope = row.scope.trim_start_matches(", ").to_owned();
            [row.feed.clone(), scope, title.clone(), format!("{value:.2} / {maximum}"), percent]
        })
        .collect();
    let head = ["feed", "scope", "score", "points", ""].map(str::to_owned);
    let width =
        |column: usize| std::iter::once(&head).chain(&rows).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    std::iter::once(&head).chain(&rows).map(line).collect()
}
