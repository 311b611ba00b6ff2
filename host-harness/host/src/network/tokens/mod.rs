//! Answers of token endpoints, kept for all feeds of all tenants: an equal credential is an equal identity. The same
//! request is not sent again while its token is valid, nor more often than a service accepts: Entra ID refuses the
//! sixteenth equal request within five minutes. The kind of request and of credential does not matter here.
//!
//! The request budget is our own code: rate limiters block or refuse, and read a clock themselves. Here the time is an
//! argument, and a refusal says when the next request may leave.

mod answers;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use ring::hmac;
use tokio::sync::watch;
use uuid::Uuid;

use self::answers::{Answers, Fetched};
use crate::credentials::redact;
use crate::credentials::secret::Secret;
use crate::limits::{
    TOKEN_ANSWER_BYTES, TOKEN_EXCHANGE, TOKEN_REQUESTS, TOKEN_REQUESTS_OF_ALL, TOKEN_WINDOW, TOKENS_KEPT, milliseconds,
};
use crate::network::{IncomingResponse, OutgoingRequest, Transport, TransportError};

/// The member that holds the token in OAuth's answers.
pub const TOKEN: &str = "access_token";

/// Says whether a token may contain a character: headers carry no others unchanged.
pub fn is_of_tokens(character: char) -> bool {
    character.is_ascii_graphic()
}

/// The kept answers, and the recent number of times that each request was sent.
pub struct Tokens {
    /// A random key made at start, so that nobody else can tell which request a name belongs to.
    key: hmac::Key,
    kept: Mutex<KeptAnswers>,
    sent: Mutex<HashMap<Name, Counted>>,
    /// The number of equal requests that this process sends within [`TOKEN_WINDOW`].
    budget: AtomicUsize,
}

/// The name of a request, derived from its whole content.
type Name = [u8; 32];

/// The kept answers of all requests.
#[derive(Default)]
struct KeptAnswers {
    entries: HashMap<Name, Arc<Entry>>,
    /// The number of entries that each tenant began.
    begun: HashMap<Arc<str>, usize>,
}

/// The answers to one request, and its pending fetch.
struct Entry {
    /// The tenant that asked first.
    begun_by: Arc<str>,
    state: Mutex<(Answers, Option<PendingFetch>)>,
}

/// The times at which one request was sent, in Unix milliseconds, and the last token's lifetime.
#[derive(Default)]
struct Counted {
    times: VecDeque<u64>,
    /// The lifetime of the last answer's token, in milliseconds; `None` if it had none.
    life: Option<u64>,
}

/// A request was sent as often as its service accepts.
struct BudgetSpent {
    /// The number of requests that this process sends within [`TOKEN_WINDOW`].
    budget: usize,
    /// When the request may be sent again, in Unix milliseconds.
    opens: u64,
    /// The lifetime of the last token, in milliseconds; `None` if there was none.
    life: Option<u64>,
}

/// A request in progress, and its outcome once it ended.
#[derive(Clone)]
struct PendingFetch {
    begun: u64,
    outcome: watch::Receiver<Option<FetchResult>>,
}

type FetchResult = Result<Arc<Fetched>, TransportError>;

/// A request to a token endpoint, its sender, and the freshness that it demands.
#[derive(Clone)]
pub struct TokenRequest {
    /// The form of the request by which it is compared with others: a signed part, which differs each time, is replaced
    /// by the identity of its signer.
    pub likeness: OutgoingRequest,
    /// The places on the request that were signed.
    pub signed: Vec<String>,
    /// Whether the host put every credential on the request, so that feeds with equal credentials may share the answer.
    pub is_shared: bool,
    /// Digest of the plugin that sends the request.
    pub plugin: Arc<str>,
    /// The tenant that sends the request.
    pub tenant: Arc<str>,
    /// The member of the answer that holds the token.
    pub captures: String,
    /// The freshness that the token must have.
    pub freshness: Freshness,
    /// The current time, in Unix milliseconds.
    pub now: u64,
}

/// The freshness that a request demands of its token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Freshness {
    /// Any token that is valid.
    #[default]
    Any,
    /// A token fetched at this time or later, in Unix milliseconds.
    Since(u64),
    /// Another token than this one, which a service refused.
    Not(Secret),
}

/// The outcome of a request for a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// The service's answer, fetched now or earlier.
    Answer {
        /// The answer, adjusted to the present time.
        response: IncomingResponse,
        /// The time from which the token is not given any more, in Unix milliseconds; `None` if the answer is not kept.
        renew_at: Option<u64>,
        /// Whether the answer is that of an earlier, equal request, so that this one was not sent.
        is_kept: bool,
    },
    /// The host's answer in the service's place: the same request was made too often.
    TooOften {
        /// The answer, in the form that the service would give it.
        response: IncomingResponse,
        /// The explanation for people.
        why: String,
    },
}

/// The next step for a request.
enum SendStep {
    Done(Sent),
    /// An equal request is in progress.
    Wait(PendingFetch),
    /// The request is to be sent, and its outcome is to be announced.
    Send(watch::Sender<Option<FetchResult>>, PendingFetch, Sending),
}

/// The data that is needed when a request's answer arrives.
struct Sending {
    entry: Arc<Entry>,
    counted_as: Name,
    tenant: Arc<str>,
    now: u64,
    /// Whether there was a valid token that was not fresh enough.
    renews: bool,
}

impl Default for Tokens {
    fn default() -> Tokens {
        let random = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()];
        let key = hmac::Key::new(hmac::HMAC_SHA256, random.as_flattened());
        Tokens { key, kept: Mutex::default(), sent: Mutex::default(), budget: AtomicUsize::new(TOKEN_REQUESTS) }
    }
}

impl Tokens {
    /// Divides the number of requests that a service accepts among so many processes with the same credentials, this one
    /// included. No two of them have to tell each other of a request.
    pub fn share_among(&self, processes: usize) {
        let share = TOKEN_REQUESTS_OF_ALL / processes.max(1);
        self.budget.store(share.clamp(1, TOKEN_REQUESTS), Ordering::Relaxed);
    }

    /// Sends a request for a token, or returns the answer of an equal one.
    ///
    /// A token that is not fresh enough is still returned if a token was fetched within [`TOKEN_WINDOW`] for the same
    /// reason: the next one would be no better. It is also returned if the service accepts no further request, unless
    /// the token was refused. Otherwise the answer is 429 in the service's place until the service accepts another
    /// request.
    ///
    /// A separate task sends the request, so that a caller that goes away neither blocks nor ends the request for
    /// others who wait for the same answer. The task uses `transport`, that of the tenant that asked first: answers are
    /// shared, connections never. `clean` removes from the answer the secrets that no other caller would recognise.
    pub async fn send(
        self: &Arc<Tokens>,
        transport: &Arc<dyn Transport>,
        request: OutgoingRequest,
        asked: &TokenRequest,
        clean: impl FnOnce(&mut IncomingResponse) + Send + 'static,
    ) -> Result<Sent, TransportError> {
        let [kept_as, counted_as] = self.names(asked);
        let entry = self.entry(kept_as, &asked.tenant);
        let (mut pending, is_kept) = loop {
            match self.next(&entry, counted_as, asked) {
                SendStep::Done(sent) => return Ok(sent),
                SendStep::Wait(pending) if pending.suits(&asked.freshness) => break (pending, true),
                SendStep::Wait(mut pending) => drop(pending.end().await),
                SendStep::Send(sender, pending, sending) => {
                    let (tokens, transport) = (Arc::clone(self), Arc::clone(transport));
                    tokio::spawn(async move {
                        let outcome = tokens.fetch(&*transport, request, &sending, clean).await;
                        tokens.store(&sending, &outcome);
                        sender.send_replace(Some(outcome));
                    });
                    break (pending, false);
                }
            }
        };
        let (fetched, asked) = (pending.end().await?, asked.clone());
        redact::aside(fetched.bytes() > redact::LONG, move || fetched.given_to(&asked, is_kept))
            .await
            .ok_or_else(unread)
    }

    /// The names under which the answer to a request is kept, and under which its sends are counted. A service counts
    /// by credential, whatever plugin and tenant a request comes from.
    fn names(&self, asked: &TokenRequest) -> [Name; 2] {
        let TokenRequest { likeness, signed, is_shared, plugin, tenant, .. } = asked;
        let whose = if *is_shared { [plugin, "of all", ""] } else { [&**plugin, "of one", tenant] };
        [whose, ["", "counted", ""]].map(|purpose| {
            let mut digest = hmac::Context::with_key(&self.key);
            let mut part = |bytes: &[u8]| {
                digest.update(&(bytes.len() as u64).to_le_bytes());
                digest.update(bytes);
            };
            purpose.iter().for_each(|word| part(word.as_bytes()));
            let OutgoingRequest { method, url, headers, body } = likeness;
            [method.as_bytes(), url.as_str().as_bytes(), body].into_iter().for_each(&mut part);
            part(&(headers.len() as u64).to_le_bytes());
            headers.iter().flat_map(|(name, value)| [name, value]).for_each(|word| part(word.as_bytes()));
            signed.iter().for_each(|place| part(place.as_bytes()));
            let mut name = Name::default();
            name.copy_from_slice(digest.sign().as_ref());
            name
        })
    }

    /// Returns the entry of a request. If its tenant began too many entries, the entry is forgotten at once.
    fn entry(&self, name: Name, tenant: &Arc<str>) -> Arc<Entry> {
        let mut kept = self.kept.lock();
        let KeptAnswers { entries, begun } = &mut *kept;
        if let Some(entry) = entries.get(&name) {
            return Arc::clone(entry);
        }
        let entry = Arc::new(Entry { begun_by: Arc::clone(tenant), state: Mutex::default() });
        let begun = begun.entry(Arc::clone(tenant)).or_default();
        if *begun < TOKENS_KEPT {
            *begun += 1;
            entries.insert(name, Arc::clone(&entry));
        }
        entry
    }

    fn next(&self, entry: &Arc<Entry>, counted_as: Name, asked: &TokenRequest) -> SendStep {
        let mut state = entry.state.lock();
        let (answers, pending) = &mut *state;
        let now = asked.now;
        if let Some(known) = answers.find(&asked.freshness, &asked.captures, now) {
            return SendStep::Done(known.given_to(asked, true));
        }
        if let Some(pending) = pending.as_ref().filter(|pending| pending.is_under_way()) {
            return SendStep::Wait(pending.clone());
        }
        let good = answers.good(now);
        if let Err(spent) = self.count(counted_as, now) {
            let better_than_none = good.filter(|_| !matches!(asked.freshness, Freshness::Not(_)));
            let too_often = || answers::too_often(&spent, now);
            return SendStep::Done(better_than_none.map_or_else(too_often, |good| good.given_to(asked, true)));
        }
        let sending = Sending {
            entry: Arc::clone(entry),
            counted_as,
            tenant: Arc::clone(&asked.tenant),
            now,
            renews: good.is_some(),
        };
        let (sender, outcome) = watch::channel(None);
        let begun = pending.insert(PendingFetch { begun: now, outcome });
        SendStep::Send(sender, begun.clone(), sending)
    }

    async fn fetch(
        &self,
        transport: &dyn Transport,
        request: OutgoingRequest,
        sending: &Sending,
        clean: impl FnOnce(&mut IncomingResponse) + Send + 'static,
    ) -> FetchResult {
        let late = |_| TransportError::Timeout(TOKEN_EXCHANGE.as_secs());
        let mut answer = tokio::time::timeout(TOKEN_EXCHANGE, transport.send(request)).await.map_err(late)??;
        let (tenant, now) = (Arc::clone(&sending.tenant), sending.now);
        let fetched = redact::aside(answer.body.len() + answer.header_bytes() > redact::LONG, move || {
            clean(&mut answer);
            Arc::new(Fetched::new(answer, tenant, now))
        });
        fetched.await.ok_or_else(unread)
    }

    /// Keeps the outcome of a request, before it is announced to those who wait.
    fn store(&self, sending: &Sending, outcome: &FetchResult) {
        match outcome {
            Ok(fetched) => {
                if let Some(counted) = self.sent.lock().get_mut(&sending.counted_as) {
                    counted.life = fetched.life();
                }
            }
            Err(error) if !error.may_have_arrived() => self.uncount(sending.counted_as, sending.now),
            Err(_) => {}
        }
        let (answers, pending) = &mut *sending.entry.state.lock();
        // A plugin's answers from an endpoint of its own must not fill the host.
        if let Some(fetched) = outcome.as_ref().ok().filter(|fetched| fetched.bytes() <= TOKEN_ANSWER_BYTES) {
            answers.keep(fetched, sending.renews);
        }
        *pending = None;
    }

    /// Counts a request that is about to be sent.
    fn count(&self, name: Name, now: u64) -> Result<(), BudgetSpent> {
        let window = milliseconds(TOKEN_WINDOW);
        let mut sent = self.sent.lock();
        let Counted { times, life } = sent.entry(name).or_default();
        times.retain(|sent| (now.saturating_sub(window) + 1..=now).contains(sent));
        let budget = self.budget.load(Ordering::Relaxed);
        match times.len().checked_sub(budget).and_then(|place| times.get(place)) {
            Some(first) => Err(BudgetSpent { budget, opens: first + window, life: *life }),
            None => {
                times.push_back(now);
                Ok(())
            }
        }
    }

    /// Undoes the count of a request that reached no service.
    fn uncount(&self, name: Name, sent: u64) {
        if let Some(Counted { times, .. }) = self.sent.lock().get_mut(&name)
            && let Some(place) = times.iter().rposition(|time| *time == sent)
        {
            times.remove(place);
        }
    }

    /// Forgets entries whose answers would not be given again and for which nobody waits.
    pub fn sweep(&self, now: u64) {
        let mut kept = self.kept.lock();
        let KeptAnswers { entries, begun } = &mut *kept;
        let is_wanted = |entry: &Arc<Entry>| Arc::strong_count(entry) > 1 || entry.state.lock().0.is_of_use(now);
        for (_, entry) in entries.extract_if(|_, entry| !is_wanted(entry)) {
            if let Some(begun) = begun.get_mut(&entry.begun_by) {
                *begun -= 1;
            }
        }
        begun.retain(|_, begun| *begun > 0);
        let begin = now.saturating_sub(milliseconds(TOKEN_WINDOW));
        self.sent.lock().retain(|_, counted| counted.times.back().is_some_and(|last| *last > begin));
    }
}

fn unread() -> TransportError {
    TransportError::other("it could not be searched")
}

impl PendingFetch {
    /// Says whether the answer will be this fresh.
    fn suits(&self, freshness: &Freshness) -> bool {
        !matches!(freshness, Freshness::Since(time) if *time > self.begun)
    }

    /// Says whether the outcome will be announced: a task that panicked announces nothing.
    fn is_under_way(&self) -> bool {
        self.outcome.has_changed().is_ok()
    }

    async fn end(&mut self) -> FetchResult {
        match self.outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(TransportError::other("the request panicked in the host")),
        }
    }
}

#[cfg(test)]
mod tests;
