//! Answers of token endpoints, kept for all feeds, whoever's they are: an equal credential is an equal identity. The same
//! request is not sent again while its token is good, nor more often than a service bears: Entra ID refuses the sixteenth
//! equal request within five minutes. Which request it is, and what it proves who somebody is with, is no matter here.
//!
//! The budget of requests by hand: rate limiters block or refuse, and have a clock of their own. Here the time is an argument,
//! and who is refused hears when the next request may leave.

mod answers;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use ring::hmac;
use tokio::sync::watch;
use uuid::Uuid;

use self::answers::{Answers, Fetched};
use crate::credentials::redact;
use crate::credentials::secret::Secret;
use crate::limits::{TOKEN_ANSWER_BYTES, TOKEN_EXCHANGE, TOKEN_REQUESTS, TOKEN_WINDOW, TOKENS_KEPT, milliseconds};
use crate::network::{IncomingResponse, OutgoingRequest, Transport, TransportError};

/// Where OAuth has the token.
pub const TOKEN: &str = "access_token";

/// Whether tokens may have a character: no header carries others unchanged.
pub fn is_of_tokens(character: char) -> bool {
    character.is_ascii_graphic()
}

/// The kept answers, and how often each request was sent lately.
pub struct Tokens {
    /// Made at start: without it nobody can tell which request a name stands for.
    key: hmac::Key,
    kept: Mutex<KeptAnswers>,
    sent: Mutex<HashMap<Name, Counted>>,
}

/// Names a request by all that is in it.
type Name = [u8; 32];

/// What is known of each request.
#[derive(Default)]
struct KeptAnswers {
    entries: HashMap<Name, Arc<Entry>>,
    /// How many of them each tenant began.
    begun: HashMap<Arc<str>, usize>,
}

/// What is known of one request, and whether it is under way.
struct Entry {
    /// The tenant that asked first.
    begun_by: Arc<str>,
    state: Mutex<(Answers, Option<PendingFetch>)>,
}

/// How often one request was sent.
#[derive(Default)]
struct Counted {
    times: VecDeque<u64>,
    /// How long the token of the last answer was good for, in milliseconds; none if it had none.
    life: Option<u64>,
}

/// A request was sent as often as its service bears.
struct BudgetSpent {
    /// When it may be sent again, in Unix milliseconds.
    opens: u64,
    /// How long the last token was good for, in milliseconds; none if there was none.
    life: Option<u64>,
}

/// A request that is under way, and what came of it once it ended.
#[derive(Clone)]
struct PendingFetch {
    begun: u64,
    outcome: watch::Receiver<Option<FetchResult>>,
}

type FetchResult = Result<Arc<Fetched>, TransportError>;

/// What is asked of a token endpoint, by whom, and how new the answer must be.
#[derive(Clone)]
pub struct TokenRequest {
    /// The request as it is told from others: in place of what is signed anew each time stands what it is made of.
    pub likeness: OutgoingRequest,
    /// The places on the request that were signed.
    pub signed: Vec<String>,
    /// Whether the host put every credential on the request, so that others who hold the same may have the answer.
    pub is_shared: bool,
    /// Digest of the plugin that asks.
    pub plugin: Arc<str>,
    /// The tenant that asks.
    pub tenant: Arc<str>,
    /// The member of the answer that is the token.
    pub captures: String,
    /// How new the token must be.
    pub freshness: Freshness,
    /// The time, in Unix milliseconds.
    pub now: u64,
}

/// How new a token must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Freshness {
    /// As old as it may be while it is good.
    #[default]
    Any,
    /// Fetched at this time or later, in Unix milliseconds.
    Since(u64),
    /// Another than this one, which a service refused.
    Not(Secret),
}

/// What became of a request for a token.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// The service's answer, now or earlier.
    Answer {
        /// As it would be if it came now.
        response: IncomingResponse,
        /// From when on its token is not given any more, in Unix milliseconds; none if it is not kept.
        renew_at: Option<u64>,
        /// Whether an equal request brought it, and this one was not sent.
        is_kept: bool,
    },
    /// The host's own in its place: the same was asked too often.
    TooOften {
        /// As the service would say it.
        response: IncomingResponse,
        /// The same for people.
        why: String,
    },
}

/// How a request goes on.
enum SendStep {
    Done(Sent),
    /// An equal one is under way.
    Wait(PendingFetch),
    /// It is to be sent, and what comes of it to be told.
    Send(watch::Sender<Option<FetchResult>>, PendingFetch, Sending),
}

/// What is to be known when a request comes back.
struct Sending {
    entry: Arc<Entry>,
    counted_as: Name,
    tenant: Arc<str>,
    now: u64,
    /// Whether there was a good token, only not one that was new enough.
    renews: bool,
}

impl Default for Tokens {
    fn default() -> Tokens {
        let random = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()];
        let key = hmac::Key::new(hmac::HMAC_SHA256, random.as_flattened());
        Tokens { key, kept: Mutex::default(), sent: Mutex::default() }
    }
}

impl Tokens {
    /// Sends a request for a token, or gives the answer of an equal one.
    ///
    /// A token that is not new enough is given again where one was fetched within [`TOKEN_WINDOW`] because of such a wish:
    /// the next one would be no better. It is given too where the service bears no further request, unless it was refused.
    /// Otherwise the answer is 429 in the service's place until the service bears another request.
    ///
    /// A task of its own sends the request, so that a caller who goes away neither holds nor ends it for others who wait
    /// for the same answer. It goes through `transport`, the way out of the tenant that asked first: answers are shared,
    /// connections never. `clean` takes out of the answer what no other caller would know for a secret.
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
        redact::aside(fetched.bytes(), move || fetched.given_to(&asked, is_kept)).await.ok_or_else(unread)
    }

    /// Under which names the answer to a request is kept, and how often it was sent is counted. A service counts by
    /// credential, whatever plugin and tenant a request comes from.
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

    /// What is known of a request; where its tenant began too many, an entry that is forgotten at once.
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
        let fetched = redact::aside(answer.body.len() + answer.header_bytes(), move || {
            clean(&mut answer);
            Arc::new(Fetched::new(answer, tenant, now))
        });
        fetched.await.ok_or_else(unread)
    }

    /// Keeps what came of a request, before those who wait for it are told.
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
        // What a plugin asks its own endpoint for, and gets there, must not fill the host.
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
        match times.front() {
            Some(first) if times.len() >= TOKEN_REQUESTS => Err(BudgetSpent { opens: first + window, life: *life }),
            _ => {
                times.push_back(now);
                Ok(())
            }
        }
    }

    /// A request that reached nobody counts with nobody.
    fn uncount(&self, name: Name, sent: u64) {
        if let Some(Counted { times, .. }) = self.sent.lock().get_mut(&name)
            && let Some(place) = times.iter().rposition(|time| *time == sent)
        {
            times.remove(place);
        }
    }

    /// Forgets what would not be given again, and nobody waits for.
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
    /// Whether its answer will be as new as that.
    fn suits(&self, freshness: &Freshness) -> bool {
        !matches!(freshness, Freshness::Since(time) if *time > self.begun)
    }

    /// Whether somebody will tell what came of it: a task that broke down will not.
    fn is_under_way(&self) -> bool {
        self.outcome.has_changed().is_ok()
    }

    async fn end(&mut self) -> FetchResult {
        match self.outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(TransportError::other("the request broke down in the host")),
        }
    }
}

#[cfg(test)]
mod tests;
