//! The steps of one feed, in the order of the contract's calls, with the way to each origin before them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, future, stream};
use source_host::blame::Blame;
use source_host::contract::{Discovery, Failure, PollResult, Reaction};
use source_host::credentials::redact;
use source_host::feed::admitted::AdmittedFeed;
use source_host::feed::tenants::Tenants;
use source_host::feed::{Clock, Feed};
use source_host::limits;
use source_host::network::client::Network;
use source_host::progress::Doing;
use tokio::sync::mpsc::{self, UnboundedSender};
use url::Url;

use crate::check::ladder::{Ladder, Question, StepTrouble};
use crate::check::probe::{Rung, probe};
use crate::check::remarks::{
    CREDENTIALS_IN_CLEAR, EXPIRES, NO_EVENT, NO_TLS, ORIGIN_NOT_ALLOWED, SETTINGS_INVALID, SETTINGS_ODD, expiring, list,
};
use crate::check::run::{CheckRun, Heard, Listener, redacted};
use crate::check::skew::{Skew, clocks};
use crate::config::Problem;

/// One feed that is being checked.
pub(super) struct Call<'a> {
    pub(super) admitted: &'a Arc<AdmittedFeed>,
    pub(super) network: &'a Network,
    pub(super) tenants: &'a Tenants,
    pub(super) clock: &'a Clock,
    pub(super) skew: Skew,
}

impl Call<'_> {
    pub(super) async fn climb(&self, odd: &[&Problem], tell: Option<UnboundedSender<Heard>>) -> Ladder {
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
