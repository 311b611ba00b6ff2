//! Test Connection: a ladder of steps from the settings to a sample event. It is the contract's own calls in their order,
//! with the way to each origin before them. The first step that is not good stops the ladder; where there are several
//! scopes, each has steps of its own.

pub mod probe;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use futures_util::{Stream, StreamExt, future, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use source_host::blame::Blame;
use source_host::contract::{Discovery, Failure, Notice, PollResult, Reaction};
use source_host::credentials::expiry::{self, Nearness};
use source_host::credentials::redact;
use source_host::feed::admitted::AdmittedFeed;
use source_host::feed::tenants::Tenants;
use source_host::feed::{Clock, Feed};
use source_host::limits::{self, Limits, milliseconds};
use source_host::network::client::Network;
use source_host::network::{IncomingResponse, OutgoingRequest, Transport, TransportFuture};
use source_host::plugin::engine::Host;
use source_host::progress::Doing;
use source_host::text;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use url::Url;

use crate::check::probe::{Rung, probe};
use crate::collector::once::{OnceError, Output, usual_fix};
use crate::config::admission::{self, CheckError, Checked, LeftOut, Why};
use crate::config::{Config, Named, Problem, Told};
use crate::sink;

/// What is asked, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Are the settings good?
    Settings,
    /// Does the name of an origin lead anywhere?
    Name,
    /// Does somebody listen there?
    Connect,
    /// Is it the one that was meant?
    Tls,
    /// Is the credential accepted?
    Credential,
    /// Are there scopes?
    Scopes,
    /// May the scope be read?
    Permission,
    /// Is there anything to collect in it?
    Score,
    /// What does an event look like?
    Sample,
}

impl Question {
    /// All of them.
    pub const ALL: [Question; 9] = [
        Question::Settings,
        Question::Name,
        Question::Connect,
        Question::Tls,
        Question::Credential,
        Question::Scopes,
        Question::Permission,
        Question::Score,
        Question::Sample,
    ];

    /// As programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Question::Settings => "settings",
            Question::Name => "name",
            Question::Connect => "connect",
            Question::Tls => "tls",
            Question::Credential => "credential",
            Question::Scopes => "scopes",
            Question::Permission => "permission",
            Question::Score => "score",
            Question::Sample => "sample",
        }
    }
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    /// It is good; a cause beside it is a warning.
    Ok,
    /// It is not, and the cause says why.
    Failed,
    /// A step before it failed.
    NotReached,
    /// It was asked, and the service did not say, for example because of a fault of its own.
    Unknown,
}

impl StepStatus {
    /// As programs read it.
    pub fn name(self) -> &'static str {
        match self {
            StepStatus::Ok => "ok",
            StepStatus::Failed => "failed",
            StepStatus::NotReached => "not-reached",
            StepStatus::Unknown => "unknown",
        }
    }
}

/// One step of the ladder. Its texts are redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was asked.
    pub question: Question,
    /// What came of it.
    pub status: StepStatus,
    /// What it was asked of, an origin or a scope; empty where there is only one.
    pub about: String,
    /// What was found, in a few words.
    pub found: String,
    /// How long it took.
    pub time: Duration,
    /// What is wrong, or odd.
    pub trouble: Option<StepTrouble>,
}

/// What is wrong with a step, or odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepTrouble {
    /// The code of the plugin's table or of the host's.
    pub code: String,
    /// Who can mend it; none where nothing has to be mended.
    pub blame: Option<Blame>,
    /// The service's own code.
    pub service_code: Option<String>,
    /// The service's own id of the request.
    pub request_id: Option<String>,
    /// Why, in one sentence.
    pub cause: String,
    /// What mends it.
    pub fix: String,
}

/// What a check of one feed came to.
#[derive(Debug, Clone)]
pub struct Ladder {
    /// Id of the feed; empty where the configuration is so broken that there is none.
    pub feed: String,
    /// Id of the tenant; empty where it is not known.
    pub tenant: String,
    /// In order.
    pub steps: Vec<Step>,
    /// A sample event.
    pub sample: Option<Vec<u8>>,
    /// Scopes with something to collect.
    pub good: usize,
}

impl Ladder {
    /// Whether every step is good.
    pub fn ok(&self) -> bool {
        self.steps.iter().all(|step| step.status == StepStatus::Ok)
    }

    /// The step that stopped the ladder, or the first of several.
    pub fn stopped(&self) -> Option<&Step> {
        self.steps.iter().find(|step| matches!(step.status, StepStatus::Failed | StepStatus::Unknown))
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            let trouble = step.trouble.as_ref();
            json!({
                "step": step.question.name(),
                "status": step.status.name(),
                "milliseconds": milliseconds(step.time),
                "code": trouble.map(|trouble| trouble.service_code.as_ref().unwrap_or(&trouble.code)),
                "request_id": trouble.and_then(|trouble| trouble.request_id.as_ref()),
                "cause": trouble.map(|trouble| step.told(&trouble.cause)),
                "fix": trouble.map(|trouble| &trouble.fix),
            })
        });
        json!({ "feed": self.feed, "ok": self.ok(), "steps": steps.collect::<Vec<_>>() })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = self.head();
        for step in &self.steps {
            step.write(&mut text);
        }
        text
    }

    fn head(&self) -> String {
        match (self.feed.as_str(), self.tenant.as_str()) {
            ("", _) => "configuration\n".to_owned(),
            (feed, "") => format!("feed {feed}\n"),
            (feed, tenant) => format!("feed {feed} of tenant {tenant}\n"),
        }
    }
}

impl Step {
    /// The cause with what it is about, unless it says so itself.
    fn told(&self, cause: &str) -> String {
        if self.about.is_empty() || cause.contains(&self.about) {
            cause.to_owned()
        } else {
            format!("{}: {cause}", self.about)
        }
    }

    fn write(&self, text: &mut String) {
        let status = match (self.status, &self.trouble) {
            (StepStatus::Ok, Some(_)) => "warning".to_owned(),
            (status, _) => status.name().replace('-', " "),
        };
        let time = match self.status {
            StepStatus::NotReached => String::new(),
            _ => format!("{} ms", milliseconds(self.time)),
        };
        let words = [self.about.as_str(), self.found.as_str()].into_iter().filter(|words| !words.is_empty());
        let words = words.collect::<Vec<_>>().join(": ");
        let line = format!("  {status:<13}{:<10}{time:>8}  {words}", self.question.name());
        let _ = writeln!(text, "{}", line.trim_end());
        let Some(trouble) = &self.trouble else { return };
        let what = if self.status == StepStatus::Ok { "warning: " } else { "" };
        for (index, cause) in trouble.cause.lines().enumerate() {
            let what = if index == 0 { what } else { "" };
            let _ = writeln!(text, "      {what}{cause}");
        }
        let service = [("code", &trouble.service_code), ("request id", &trouble.request_id)];
        let service = service.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
        let blame = trouble.blame.map(|blame| blame.to_string());
        let words: Vec<String> = std::iter::once(trouble.code.clone()).chain(blame).chain(service).collect();
        let _ = writeln!(text, "      ({})", words.join(", "));
        let _ = writeln!(text, "      fix: {}", trouble.fix);
    }
}

/// What the host itself has to say.
#[derive(Debug)]
pub struct Remark {
    /// Where it shows.
    pub question: Question,
    /// Failed, or a warning.
    pub status: StepStatus,
    /// Kebab-case.
    pub code: &'static str,
    /// Why, in one sentence without a full stop.
    pub cause: &'static str,
    /// What mends it. `{place}` stands for file and line, `{line}` for a line of the configuration.
    pub fix: &'static str,
}

macro_rules! remarks {
    ($($(#[$doc:meta])* $name:ident = $question:ident, $status:ident, $code:literal, $cause:literal, $fix:literal;)*) => {
        $($(#[$doc])* const $name: Remark = Remark {
            question: Question::$question, status: StepStatus::$status, code: $code, cause: $cause, fix: $fix,
        };)*
        /// All of them, by question.
        pub const REMARKS: &[Remark] = &[$($name),*];
    };
}

remarks! {
    /// The configuration does not hold.
    SETTINGS_INVALID = Settings, Failed, "settings-invalid", "the configuration is wrong", "write what is expected in {place}";
    /// The feed is left out, and others are not.
    CREDENTIAL_UNREADABLE = Settings, Failed, "credential-unreadable", "a credential cannot be read",
        "put the credential where {place} says that it is, or mend what stands there; the other feeds go on without this one";
    /// The same for another reason.
    PLUGIN_BROKEN = Settings, Failed, "plugin-broken", "the plugin breaks down",
        "see the plugin that {place} names; the other feeds go on without this one";
    /// The operator's list does not have it.
    ORIGIN_NOT_ALLOWED = Settings, Failed, "origin-not-allowed", "requests would go to an origin that is not allowed",
        "if that is meant, write `{line}` in [network]; else mend the address";
    /// Plain http.
    CREDENTIALS_IN_CLEAR = Settings, Failed, "credentials-in-clear",
        "credentials would go over http, for everybody on the way to read",
        "write https:// in place of http://; only where nobody else can read the network between, write `{line}` in [network]";
    /// A value that is seldom meant.
    SETTINGS_ODD = Settings, Ok, "settings-odd", "something is odd", "see whether that is meant: {place}";
    /// Plain http.
    NO_TLS = Tls, Ok, "no-tls-at-all",
        "plain http: whoever is on the way reads the credentials and the data, and can answer in the service's place",
        "write https:// in place of http:// if the service speaks it";
    /// The time of every service of the feed is another.
    CLOCK_OFF = Sample, Ok, "clock-off", "this machine's clock is off", "set the clock: timedatectl set-ntp true";
    /// The services do not agree about the time.
    SERVICE_CLOCK_OFF = Sample, Ok, "service-clock-off", "the clock of a service is odd, for another's differs",
        "see whether a proxy or a gateway before that service changes the header `Date`; if none does, report it to the service";
    /// Within 30 days.
    EXPIRES = Credential, Ok, "credential-expires", "a credential runs out within 30 days",
        "create another before that day, and put it and its date into the settings";
    /// Within 7 days.
    EXPIRES_SOON = Credential, Ok, "credential-expires-soon", "a credential runs out within 7 days",
        "create another before that day, and put it and its date into the settings";
    /// The date is past, and the service takes it all the same.
    EXPIRED = Credential, Ok, "credential-expired", "by its date, a credential has run out",
        "create another, and put it and its date into the settings";
    /// Read, and nothing came of it.
    NO_EVENT = Sample, Failed, "no-event", "what was read gave no event", "look among the settings for what leaves events out";
}

impl Remark {
    fn trouble(&self, detail: &str, value: &str) -> StepTrouble {
        let fix = self.fix.replace("{place}", value).replace("{line}", value);
        let cause = if detail.is_empty() { self.cause.to_owned() } else { format!("{}: {detail}", self.cause) };
        StepTrouble { blame: Blame::of_code(self.code), ..StepTrouble::of(self.code, cause, fix) }
    }
}

/// The exit status: 0 all is good, 1 nothing is, 2 the configuration is wrong, 3 something is good.
pub fn status<'a>(ladders: impl IntoIterator<Item = &'a Ladder>) -> u8 {
    let (mut good, mut bad, mut broken) = (0, 0, false);
    for ladder in ladders {
        good += ladder.good;
        bad += usize::from(!ladder.ok());
        broken |= ladder.stopped().is_some_and(|step| step.question == Question::Settings);
    }
    match (broken, good, bad) {
        (_, _, 0) => 0,
        (true, 0, _) => 2,
        (_, 0, _) => 1,
        _ => 3,
    }
}

/// The ladders of a configuration that cannot be used: nothing is sent for any of its feeds. What is wrong with no feed
/// of its own is wrong with all of them, and has a ladder of its own, which comes first and names no feed.
pub fn broken(named: &[Named], problems: &[Problem]) -> Vec<Ladder> {
    let (of_all, of_some) = of_all_and_some(named, problems);
    let of_file = (!of_all.is_empty() || named.is_empty()).then(|| broken_ladder("", &of_all));
    let of_feed = |named: &Named| {
        let own: Vec<&Problem> = of_some.iter().copied().filter(|problem| is_of(named, problem)).collect();
        broken_ladder(&named.id, &own)
    };
    of_file.into_iter().chain(named.iter().map(of_feed)).collect()
}

/// The same for people, who read each trouble once: the feeds of which there is nothing to say share a ladder.
fn broken_for_people(named: &[Named], problems: &[Problem]) -> Vec<Ladder> {
    let mut ladders = broken(named, &Told::default().brief(problems));
    let good = ladders.extract_if(.., |ladder| ladder.stopped().is_none()).map(|ladder| ladder.feed);
    let good: Vec<String> = good.collect();
    if !good.is_empty() {
        ladders.push(broken_ladder(&good.join(", "), &[]));
    }
    ladders
}

/// Whether a problem is a feed's own.
fn is_of(named: &Named, problem: &Problem) -> bool {
    let below = |rest: &str| rest.is_empty() || rest.starts_with(['.', ':', '[']);
    problem.key.starts_with(&format!("feed {}: ", named.id))
        || problem.file == named.file && problem.key.strip_prefix(&named.key).is_some_and(below)
}

fn of_all_and_some<'a>(named: &[Named], problems: &'a [Problem]) -> (Vec<&'a Problem>, Vec<&'a Problem>) {
    problems.iter().partition(|problem| !named.iter().any(|named| is_of(named, problem)))
}

fn broken_ladder(feed: &str, problems: &[&Problem]) -> Ladder {
    let mut climb = CheckRun::new(feed, "");
    let words: Vec<String> = problems.iter().map(|problem| problem.to_string()).collect();
    let places: Vec<String> = problems.iter().map(|problem| problem.place()).collect();
    let trouble = (!words.is_empty()).then(|| SETTINGS_INVALID.trouble(&words.join("\n"), &list(places)));
    let good = "good, and nothing is sent while others of the configuration are wrong".to_owned();
    climb.note(Question::Settings, "", Duration::ZERO, trouble.map_or(Ok(good), Err));
    climb.ended()
}

/// Each once, in order.
fn list(mut words: Vec<String>) -> String {
    let mut seen = std::collections::BTreeSet::new();
    words.retain(|word| seen.insert(word.clone()));
    words.join(", ")
}

/// The whole command: the ladders for people, and a sample of each feed's events where events go; or for programs one
/// object a feed.
pub async fn tell(
    host: &Host,
    config: Config,
    plugin: Option<&Path>,
    clock: &Clock,
    as_json: bool,
    output: Output<'_>,
) -> Result<u8, OnceError> {
    let named = config.named.clone();
    let checked = match admission::check_each(host, config, plugin, clock).await {
        Ok(checked) => checked,
        Err(CheckError::Configuration(problems)) => {
            let ladders = broken(&named, &problems);
            let shown = if as_json { &ladders } else { &broken_for_people(&named, &problems) };
            for ladder in shown {
                write(ladder, as_json, output.events, output.people)?;
            }
            return Ok(status(&ladders));
        }
        Err(error) => return Err(error.into()),
    };
    let general: Vec<Problem> = general_warnings(&checked).cloned().collect();
    for warning in Told::default().brief(&general) {
        let _ = writeln!(output.people, "warning: {warning}");
    }
    if !as_json {
        return tell_people(&checked, &named, clock, output).await;
    }
    let mut ladders = Vec::new();
    let mut growing = std::pin::pin!(check(&checked, clock));
    for Named { id, .. } in &named {
        let ladder = match checked.left_out.iter().find(|out| out.feed == *id) {
            Some(out) => Some(left_out(out)),
            None => growing.next().await,
        };
        let Some(ladder) = ladder else { break };
        write(&ladder, as_json, output.events, output.people)?;
        ladders.push(ladder);
    }
    Ok(status(&ladders))
}

/// Shows each step as it ends, feed after feed, and of several feeds a total.
async fn tell_people(checked: &Checked, named: &[Named], clock: &Clock, output: Output<'_>) -> Result<u8, OnceError> {
    let Output { events, people } = output;
    let begun = Instant::now();
    let (tell, heard): (Vec<_>, Vec<UnboundedReceiver<Heard>>) =
        checked.feeds.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let show = async {
        let (mut told, mut out) = (Told::default(), Vec::new());
        let mut growing = checked.feeds.iter().zip(heard);
        for Named { id, .. } in named {
            if let Some(left) = checked.left_out.iter().find(|left| left.feed == *id) {
                let ladder = left_out(&LeftOut { problems: told.brief(&left.problems), ..left.clone() });
                write(&ladder, false, events, people)?;
                out.push(ladder);
                continue;
            }
            let Some((admitted, mut heard)) = growing.next() else { break };
            // Nobody may be listening; the sample matters as much.
            let _ = people.write_all(CheckRun::new(&admitted.id, &admitted.tenant).ladder.head().as_bytes());
            let mut sample = None;
            while let Some(one) = heard.recv().await {
                match one {
                    Heard::Step(step) => {
                        let mut text = String::new();
                        step.write(&mut text);
                        let _ = people.write_all(text::plain_lines(&text).as_bytes());
                    }
                    Heard::Sample(event) => sample = Some(event),
                }
            }
            let _ = people.write_all(b"\n");
            events.write_all(&sink::lines(sample.iter()))?;
            events.flush()?;
        }
        Ok::<_, io::Error>(out)
    };
    let (mut ladders, out) = future::join(climbing(checked, clock, tell).collect::<Vec<Ladder>>(), show).await;
    ladders.extend(out?);
    if ladders.len() > 1 {
        let good = ladders.iter().filter(|ladder| ladder.ok()).count();
        let (all, bad, time) = (ladders.len(), ladders.len() - good, begun.elapsed().as_secs_f64());
        let _ = writeln!(people, "checked {all} feeds in {time:.1} s: {good} ok, {bad} failed");
    }
    Ok(status(&ladders))
}

/// The ladder of a feed that cannot be collected now.
pub fn left_out(out: &LeftOut) -> Ladder {
    let remark = match out.why {
        Why::Credentials => CREDENTIAL_UNREADABLE,
        Why::Plugin => PLUGIN_BROKEN,
    };
    let words: Vec<String> = out.problems.iter().map(Problem::to_string).collect();
    let places = out.problems.iter().map(Problem::place).collect();
    let mut climb = CheckRun::new(&out.feed, &out.tenant);
    climb.note(Question::Settings, "", Duration::ZERO, Err(remark.trouble(&words.join("\n"), &list(places))));
    climb.ended()
}

fn write(
    ladder: &Ladder,
    as_json: bool,
    events: &mut (dyn io::Write + Send),
    people: &mut (dyn io::Write + Send),
) -> io::Result<()> {
    if as_json {
        writeln!(events, "{}", ladder.json())?;
        return events.flush();
    }
    // Nobody may be listening; the sample matters as much.
    let _ = writeln!(people, "{}", text::plain_lines(&ladder.text()));
    if let Some(sample) = &ladder.sample {
        events.write_all(&sink::lines(std::iter::once(sample)))?;
    }
    events.flush()
}

/// Checks the connection of every feed, some at the same time; the ladders come in the order of the configuration.
pub fn check<'a>(checked: &'a Checked, clock: &'a Clock) -> impl Stream<Item = Ladder> + 'a {
    climbing(checked, clock, Vec::new())
}

/// The same, where each feed's steps are told as they end.
fn climbing<'a>(
    checked: &'a Checked,
    clock: &'a Clock,
    tell: Vec<UnboundedSender<Heard>>,
) -> impl Stream<Item = Ladder> + 'a {
    let skew = Skew::default();
    let (network, seen, now) = (checked.network.clone(), skew.clone(), Arc::clone(clock));
    let tenants = Arc::new(Tenants::new(move |tenant| {
        let inner = Arc::new(network.transport(&Limits::default())?);
        Ok(Arc::new(SkewTransport { inner, tenant: tenant.to_owned(), skew: seen.clone(), clock: Arc::clone(&now) }))
    }));
    let mut tell = tell.into_iter();
    let ladders = checked.feeds.iter().map(move |admitted| {
        let (tenants, skew, tell) = (Arc::clone(&tenants), skew.clone(), tell.next());
        async move {
            let prefix = format!("feed {}: ", admitted.id);
            let odd = checked.warnings.iter().filter(|warning| warning.key.starts_with(&prefix));
            let call = Call { admitted, network: &checked.network, tenants: &tenants, clock, skew };
            call.climb(&odd.collect::<Vec<_>>(), tell).await
        }
    });
    stream::iter(ladders).buffered(limits::POLLS_IN_FLIGHT)
}

/// What is odd and belongs to no feed that is checked.
pub fn general_warnings(checked: &Checked) -> impl Iterator<Item = &Problem> {
    let of_a_feed =
        |warning: &&Problem| checked.feeds.iter().any(|feed| warning.key.starts_with(&format!("feed {}: ", feed.id)));
    checked.warnings.iter().filter(move |warning| !of_a_feed(warning))
}

/// What is said of the credential that ends first, where that is near or past.
pub fn expiring(expiries: &[(String, u64)], now: u64) -> Option<(&'static Remark, String)> {
    let (setting, end) = expiries.iter().min_by_key(|(_, end)| *end)?;
    let remark = match expiry::nearness(*end, now)? {
        Nearness::Soon => &EXPIRES,
        Nearness::VerySoon => &EXPIRES_SOON,
        Nearness::Past => &EXPIRED,
    };
    Some((remark, expiry::words(setting, *end, now)))
}

/// One feed that is being checked.
struct Call<'a> {
    admitted: &'a Arc<AdmittedFeed>,
    network: &'a Network,
    tenants: &'a Tenants,
    clock: &'a Clock,
    skew: Skew,
}

impl Call<'_> {
    async fn climb(&self, odd: &[&Problem], tell: Option<UnboundedSender<Heard>>) -> Ladder {
        let mut climb = CheckRun::new(&self.admitted.id, &self.admitted.tenant);
        climb.listener = tell.map(|tell| Listener { tell, admitted: Arc::clone(self.admitted) });
        let _ = self.steps(&mut climb, odd).await;
        if let Some((remark, words)) = clocks(&self.skew.seen(self.admitted)) {
            climb.warn(remark.trouble(&words, ""));
        }
        let mut ladder = climb.ended();
        ladder.steps = ladder.steps.into_iter().map(|step| redacted(step, self.admitted)).collect();
        ladder
    }

    /// Notes what is being done, for whoever waits for it.
    fn doing(&self, words: &str) -> Doing {
        let words = redact::redact(&format!("feed {}: {words}", self.admitted.id), self.admitted.secrets());
        self.admitted.plugin.host().progress().begin(words)
    }

    /// None where the ladder stops.
    async fn steps(&self, climb: &mut CheckRun, odd: &[&Problem]) -> Option<()> {
        let feed = self.settings(climb, odd).await?;
        self.way(climb).await?;
        self.credential(climb, &feed).await?;
        let found = self.scopes(climb, &feed).await?;
        self.read(climb, &feed, found).await;
        Some(())
    }

    async fn settings(&self, climb: &mut CheckRun, odd: &[&Problem]) -> Option<Feed> {
        let begun = Instant::now();
        let opened = self.admitted.open(self.tenants, self.clock).await;
        let feed = match opened {
            Ok(feed) => feed,
            Err(error) => {
                let trouble = SETTINGS_INVALID.trouble(&error.to_string(), &format!("feed {}", self.admitted.id));
                climb.note(Question::Settings, "", begun.elapsed(), Err(trouble));
                return None;
            }
        };
        let (forbidden, exposed) = (self.admitted.forbidden_origins(), self.admitted.exposed_origins());
        let allowed = &self.admitted.allowed;
        let troubles = [
            (&exposed, CREDENTIALS_IN_CLEAR, allowed.line_in_clear(exposed.iter().copied())),
            (&forbidden, ORIGIN_NOT_ALLOWED, allowed.line_with(forbidden.iter().copied())),
        ];
        let troubles = troubles.iter().filter(|(origins, ..)| !origins.is_empty());
        let mut troubles = troubles.map(|(origins, remark, line)| remark.trouble(&origins.join(" and "), line));
        if let Some(trouble) = troubles.next() {
            climb.note(Question::Settings, "", begun.elapsed(), Err(trouble));
            troubles.for_each(|trouble| climb.warn(trouble));
            return None;
        }
        climb.note(Question::Settings, "", begun.elapsed(), Ok(String::new()));
        if !odd.is_empty() {
            let words: Vec<String> = odd.iter().map(|problem| problem.to_string()).collect();
            let places = list(odd.iter().map(|one| one.place()).collect());
            climb.warn(SETTINGS_ODD.trouble(&words.join("\n"), &places));
        }
        Some(feed)
    }

    /// The way to each origin that the plan declares.
    async fn way(&self, climb: &mut CheckRun) -> Option<()> {
        let now = (self.clock)();
        let (mut probes, mut told) = (Vec::new(), Vec::new());
        for origin in self.admitted.origins.iter() {
            let Ok(url) = Url::parse(origin) else { continue };
            let (tell, heard) = mpsc::unbounded_channel();
            probes.push(async move { probe(self.network, &url, now, tell).await });
            told.push((origin, heard));
        }
        let mut free = true;
        let listen = async {
            for (origin, mut heard) in told {
                let _doing = self.doing(&format!("connecting to {origin}"));
                climb.tell();
                while let Some(rung) = heard.recv().await {
                    free &= rung.found.is_ok();
                    let found = rung.found.map_err(|trouble| {
                        let (code, cause) = (trouble.fault.code, trouble.to_string());
                        StepTrouble { blame: Blame::of_code(code), ..StepTrouble::of(code, cause, trouble.fix) }
                    });
                    let is_clear = rung.rung == Rung::Tls && origin.starts_with("http://");
                    climb.note(question(rung.rung), origin, rung.time, found);
                    if is_clear {
                        climb.warn(NO_TLS.trouble("", ""));
                    }
                    climb.tell();
                }
                climb.not_reached_of(origin, &[Question::Name, Question::Connect, Question::Tls]);
            }
        };
        future::join(future::join_all(probes), listen).await;
        free.then_some(())
    }

    async fn credential(&self, climb: &mut CheckRun, feed: &Feed) -> Option<()> {
        climb.tell();
        let _doing = self.doing("signing in");
        let begun = Instant::now();
        let answer = feed.sign_in().await;
        climb.note_answer(Question::Credential, "", begun.elapsed(), answer.map(|()| String::new()))?;
        if let Some((remark, detail)) = expiring(&self.admitted.expiries, (self.clock)()) {
            let trouble = remark.trouble(&detail, "");
            // The plugin may know the way to another.
            let fix = feed.fix(EXPIRES.code).await.unwrap_or_else(|| trouble.fix.clone());
            climb.warn(StepTrouble { fix, ..trouble });
        }
        Some(())
    }

    async fn scopes(&self, climb: &mut CheckRun, feed: &Feed) -> Option<Discovery> {
        climb.tell();
        let _doing = self.doing("looking for scopes");
        let begun = Instant::now();
        let answer = feed.discover().await;
        let words = |found: &Discovery| match found.scopes.as_slice() {
            [one] => one.called(),
            scopes => format!("{} scopes", scopes.len()),
        };
        let found = match answer {
            Ok(found) => found,
            Err(failure) => {
                climb.note_answer(Question::Scopes, "", begun.elapsed(), Err(failure));
                return None;
            }
        };
        climb.note(Question::Scopes, "", begun.elapsed(), Ok(words(&found)));
        climb.notices(&found.notices, "");
        Some(found)
    }

    /// Permission on each scope, what is in it, and a sample.
    async fn read(&self, climb: &mut CheckRun, feed: &Feed, found: Discovery) {
        let reads = found.scopes.iter().map(|scope| async move {
            let begun = Instant::now();
            let _doing = self.doing(&format!("reading {}", scope.called()));
            let answer = feed.pages(scope).await;
            (scope, begun.elapsed(), answer)
        });
        let mut reads = stream::iter(reads).buffered(limits::POLLS_IN_FLIGHT);
        let mut readable = Vec::new();
        climb.tell();
        while let Some((scope, time, answer)) = reads.next().await {
            let answered = match &answer {
                Ok(_) => true,
                Err(failure) => was_let_in(failure),
            };
            if answered {
                climb.note(Question::Permission, &scope.called(), time, Ok(String::new()));
                readable.push((scope, answer));
            } else {
                let _ = climb.note_answer(Question::Permission, &scope.called(), time, answer.map(|_| String::new()));
            }
            climb.tell();
        }
        for skipped in found.skipped {
            let about = skipped.scope.called();
            let _ = climb.note_answer(Question::Permission, &about, Duration::ZERO, Err(skipped.reason));
        }
        let mut sample = None;
        for (scope, answer) in readable {
            climb.tell();
            let begun = Instant::now();
            let about = scope.called();
            let made = match answer {
                Ok((pages, notices)) => {
                    let batch = feed.normalize(scope, (self.clock)(), &PollResult::Pages(pages), None).await;
                    batch.map(|batch| (batch, notices))
                }
                Err(failure) => Err(failure),
            };
            let (batch, notices) = match made {
                Ok(made) => made,
                Err(failure) => {
                    let _ = climb.note_answer(Question::Score, &about, begun.elapsed(), Err(failure));
                    continue;
                }
            };
            match batch.outcome {
                // Nothing counts yet, though there is something to tell.
                Some(outcome) if !batch.events.is_empty() => {
                    climb.note(Question::Score, &about, begun.elapsed(), Ok(String::new()));
                    climb.warn(StepTrouble::of_failure(outcome));
                }
                Some(outcome) => {
                    let _ = climb.note_answer(Question::Score, &about, begun.elapsed(), Err(outcome));
                    continue;
                }
                None => climb.note(Question::Score, &about, begun.elapsed(), Ok(count(batch.events.len()))),
            }
            climb.notices(&notices, &about);
            climb.notices(&batch.notices, &about);
            climb.ladder.good += 1;
            sample = sample.or(batch.events.into_iter().next().map(|event| (about, event)));
        }
        if let Some((about, event)) = sample {
            climb.note(Question::Sample, &about, Duration::ZERO, Ok(event.uid));
            climb.ladder.sample = Some(event.body);
        } else if climb.ladder.good > 0 {
            climb.note(Question::Sample, "", Duration::ZERO, Err(NO_EVENT.trouble("", "")));
        }
    }
}

fn count(events: usize) -> String {
    if events == 1 { "1 event".to_owned() } else { format!("{events} events") }
}

/// The step without secrets.
fn redacted(mut step: Step, admitted: &AdmittedFeed) -> Step {
    let redact = |text: &mut String| *text = redact::redact(text, admitted.secrets());
    redact(&mut step.about);
    redact(&mut step.found);
    if let Some(trouble) = &mut step.trouble {
        redact(&mut trouble.cause);
        redact(&mut trouble.fix);
    }
    step
}

fn question(rung: Rung) -> Question {
    match rung {
        Rung::Name => Question::Name,
        Rung::Connect => Question::Connect,
        Rung::Tls => Question::Tls,
    }
}

/// Whether a failure is about what was read, and not about the leave to read it.
fn was_let_in(failure: &Failure) -> bool {
    match failure.reaction {
        Reaction::NoData => true,
        Reaction::FixPlugin => failure.status.is_none_or(|status| (200..300).contains(&status)),
        _ => false,
    }
}

/// What the service did not say, for a reason of its own, is not known.
fn status_of(failure: &Failure) -> StepStatus {
    match failure.reaction {
        Reaction::Wait | Reaction::TryLater | Reaction::Restart => StepStatus::Unknown,
        _ => StepStatus::Failed,
    }
}

impl StepTrouble {
    fn of(code: &str, cause: String, fix: String) -> StepTrouble {
        StepTrouble { code: code.to_owned(), blame: None, service_code: None, request_id: None, cause, fix }
    }

    fn of_failure(mut failure: Failure) -> StepTrouble {
        if let Some(seconds) = failure.wait_seconds {
            failure.cause += &format!("; it asks to wait {seconds} s");
        }
        let fix = failure.fix.take().unwrap_or_else(|| usual_fix(&failure).to_owned());
        let blame = Some(failure.blame());
        let Failure { code, service_code, request_id, cause, .. } = failure;
        StepTrouble { code, blame, service_code, request_id, cause, fix }
    }
}

/// A ladder that grows.
struct CheckRun {
    ladder: Ladder,
    /// Who hears of each step as it ends, and of how many that was done.
    listener: Option<Listener>,
    told: usize,
}

/// Who hears of steps, and whose secrets are to be taken out.
struct Listener {
    tell: UnboundedSender<Heard>,
    admitted: Arc<AdmittedFeed>,
}

/// A step that ended, or the sample at the end.
enum Heard {
    Step(Step),
    Sample(Vec<u8>),
}

impl CheckRun {
    fn new(feed: &str, tenant: &str) -> CheckRun {
        let (feed, tenant) = (feed.to_owned(), tenant.to_owned());
        let ladder = Ladder { feed, tenant, steps: Vec::new(), sample: None, good: 0 };
        CheckRun { ladder, listener: None, told: 0 }
    }

    /// Tells of the steps that ended: nothing is added to them any more.
    fn tell(&mut self) {
        let Some(listener) = &self.listener else { return };
        for step in &self.ladder.steps[self.told..] {
            // Whoever does not listen any more does not want to know.
            let _ = listener.tell.send(Heard::Step(redacted(step.clone(), &listener.admitted)));
        }
        self.told = self.ladder.steps.len();
    }

    fn note(&mut self, question: Question, about: &str, time: Duration, found: Result<String, StepTrouble>) {
        let about = about.to_owned();
        self.ladder.steps.push(match found {
            Ok(found) => Step { question, status: StepStatus::Ok, about, found, time, trouble: None },
            Err(trouble) => {
                let found = String::new();
                Step { question, status: StepStatus::Failed, about, found, time, trouble: Some(trouble) }
            }
        });
    }

    /// The same for an answer of the plugin; none where it is a failure.
    fn note_answer(
        &mut self,
        question: Question,
        about: &str,
        time: Duration,
        answer: Result<String, Failure>,
    ) -> Option<()> {
        let status = answer.as_ref().err().map(status_of);
        self.note(question, about, time, answer.map_err(StepTrouble::of_failure));
        match (status, self.ladder.steps.last_mut()) {
            (Some(status), Some(step)) => {
                step.status = status;
                None
            }
            _ => Some(()),
        }
    }

    /// Something odd about the last step; several are told as one.
    fn warn(&mut self, trouble: StepTrouble) {
        let Some(step) = self.ladder.steps.last_mut() else { return };
        step.trouble = Some(match step.trouble.take() {
            None => trouble,
            Some(before) => StepTrouble {
                cause: format!("{}\n{}", before.cause, trouble.cause),
                fix: if before.fix == trouble.fix { before.fix } else { format!("{}; {}", before.fix, trouble.fix) },
                ..before
            },
        });
    }

    fn notices(&mut self, notices: &[Notice], about: &str) {
        for notice in notices {
            let fix = format!("nothing has to be done; it is counted as `{}`", notice.code);
            let cause = if about.is_empty() || notice.message.contains(about) {
                notice.message.clone()
            } else {
                format!("{about}: {}", notice.message)
            };
            self.warn(StepTrouble::of(&notice.code, cause, fix));
        }
    }

    /// Adds the questions that were not asked of an origin.
    fn not_reached_of(&mut self, about: &str, questions: &[Question]) {
        for question in questions {
            let asked = |step: &Step| step.question == *question && step.about == about;
            if !self.ladder.steps.iter().any(asked) {
                self.not_reached(*question, about);
            }
        }
    }

    fn not_reached(&mut self, question: Question, about: &str) {
        let (about, found) = (about.to_owned(), String::new());
        let status = StepStatus::NotReached;
        self.ladder.steps.push(Step { question, status, about, found, time: Duration::ZERO, trouble: None });
    }

    /// Every question stands there, asked or not.
    fn ended(mut self) -> Ladder {
        for question in Question::ALL {
            if !self.ladder.steps.iter().any(|step| step.question == question) {
                self.not_reached(question, "");
            }
        }
        self.tell();
        if let (Some(listener), Some(sample)) = (&self.listener, &self.ladder.sample) {
            let _ = listener.tell.send(Heard::Sample(sample.clone()));
        }
        self.ladder
    }
}

/// How many milliseconds this machine's clock is behind those of services, by tenant and origin.
#[derive(Clone, Default)]
struct Skew(Arc<Mutex<BTreeMap<(String, String), i64>>>);

impl Skew {
    /// What the feed's own services said.
    fn seen(&self, admitted: &AdmittedFeed) -> Vec<(String, i64)> {
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

/// What is odd about the clocks: this machine's, where all services agree that it is, and otherwise a service's.
fn clocks(seen: &[(String, i64)]) -> Option<(&'static Remark, String)> {
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

/// A transport that looks at the time that the answers of services give.
struct SkewTransport {
    inner: Arc<dyn Transport>,
    tenant: String,
    skew: Skew,
    clock: Clock,
}

/// Whether an answer comes from the service itself, and now: it has an id of the request, which neither proxies nor login
/// pages give, and no age, which caches give.
fn is_own(response: &IncomingResponse) -> bool {
    let has = |fits: &dyn Fn(&str) -> bool| response.headers.iter().any(|(name, _)| fits(name));
    has(&|name| name.ends_with("request-id")) && !has(&|name| name == "age")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// In milliseconds.
    const DAY: u64 = 86_400_000;

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

    #[test]
    fn of_several_credentials_the_one_that_ends_first_is_told() {
        let expiries = [("far".to_owned(), 900 * DAY), ("key".to_owned(), 500 * DAY)];
        let told = |now: u64| expiring(&expiries, now * DAY).map(|(remark, words)| (remark.code, words));
        let words = |words: &str| format!("`key` {words} 1971-05-16");
        assert_eq!(told(469), None);
        assert_eq!(told(470), Some(("credential-expires", words("runs out in 30 days, on"))));
        assert_eq!(told(493), Some(("credential-expires-soon", words("runs out in 7 days, on"))));
        assert_eq!(told(500), Some(("credential-expired", words("ran out on"))));
        assert!(expiring(&[], 0).is_none());
    }

    #[test]
    fn a_problem_is_told_with_its_feed_and_one_of_the_whole_once_without_one() {
        let named = |id: &str, key: &str| Named { id: id.to_owned(), file: "a.toml".into(), key: key.to_owned() };
        let problem = |key: &str| Problem {
            file: "a.toml".into(),
            line: 3,
            key: key.to_owned(),
            message: "found x, expected y".to_owned(),
        };
        let named = [named("a", "feed[0]"), named("b", "feed[1]")];
        let failed = |problems: &[Problem]| {
            let ladders = broken(&named, problems);
            assert_eq!(status(&ladders), 2);
            assert!(ladders.iter().all(|ladder| ladder.steps.len() == Question::ALL.len()));
            let failed = ladders.into_iter().filter(|ladder| ladder.steps[0].status == StepStatus::Failed);
            failed.map(|ladder| ladder.feed).collect::<Vec<_>>()
        };
        assert_eq!(failed(&[problem("feed[0].settings.client_key")]), ["a"]);
        assert_eq!(failed(&[problem("feed b: settings.client_key")]), ["b"]);
        assert_eq!(failed(&[problem("network.allow")]), [""]);
        assert_eq!(failed(&[problem("feed[1].id"), problem("network.allow")]), ["", "b"]);
        assert!(broken(&named, &[problem("network.allow")]).iter().all(|ladder| !ladder.ok()), "no feed is good then");
        let ladders = broken(&[], &[problem("")]);
        assert_eq!((ladders[0].feed.as_str(), ladders[0].steps[0].status), ("", StepStatus::Failed));
        assert_eq!(ladders[0].json()["steps"][0]["fix"], "write what is expected in a.toml:3");
    }
}
