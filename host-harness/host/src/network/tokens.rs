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
    state: Mutex<(Answers, Option<Flight>)>,
}

/// How often one request was sent.
#[derive(Default)]
struct Counted {
    times: VecDeque<u64>,
    /// How long the token of the last answer was good for, in milliseconds; none if it had none.
    life: Option<u64>,
}

/// A request that is under way, and what came of it once it ended.
#[derive(Clone)]
struct Flight {
    begun: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

type Outcome = Result<Arc<Fetched>, TransportError>;

/// What is asked of a token endpoint, by whom, and how new the answer must be.
pub struct Asked {
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
    Wait(Flight),
    /// It is to be sent, and what comes of it to be told.
    Send(watch::Sender<Option<Outcome>>, Flight, Sending),
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
        asked: &Asked,
        clean: impl FnOnce(&mut IncomingResponse) + Send + 'static,
    ) -> Result<Sent, TransportError> {
        let [kept_as, counted_as] = self.names(asked);
        let entry = self.entry(kept_as, &asked.tenant);
        let (mut flight, is_kept) = loop {
            match self.next(&entry, counted_as, asked) {
                SendStep::Done(sent) => return Ok(sent),
                SendStep::Wait(flight) if flight.suits(&asked.freshness) => break (flight, true),
                SendStep::Wait(mut flight) => drop(flight.end().await),
                SendStep::Send(teller, flight, sending) => {
                    let (tokens, transport) = (Arc::clone(self), Arc::clone(transport));
                    tokio::spawn(async move {
                        let outcome = tokens.fetch(&*transport, request, &sending, clean).await;
                        tokens.land(&sending, &outcome);
                        teller.send_replace(Some(outcome));
                    });
                    break (flight, false);
                }
            }
        };
        Ok(flight.end().await?.given_to(asked, is_kept))
    }

    /// Under which names the answer to a request is kept, and how often it was sent is counted. A service counts by
    /// credential, whatever plugin and tenant a request comes from.
    fn names(&self, asked: &Asked) -> [Name; 2] {
        let Asked { likeness, signed, is_shared, plugin, tenant, .. } = asked;
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

    fn next(&self, entry: &Arc<Entry>, counted_as: Name, asked: &Asked) -> SendStep {
        let mut state = entry.state.lock();
        let (answers, flight) = &mut *state;
        let now = asked.now;
        if let Some(known) = answers.find(&asked.freshness, &asked.captures, now) {
            return SendStep::Done(known.given_to(asked, true));
        }
        if let Some(flight) = flight.as_ref().filter(|flight| flight.is_under_way()) {
            return SendStep::Wait(flight.clone());
        }
        let good = answers.good(now);
        if let Err((opens, life)) = self.count(counted_as, now) {
            let better_than_none = good.filter(|_| !matches!(asked.freshness, Freshness::Not(_)));
            let too_often = || answers::too_often(opens.saturating_sub(now), life);
            return SendStep::Done(better_than_none.map_or_else(too_often, |good| good.given_to(asked, true)));
        }
        let sending = Sending {
            entry: Arc::clone(entry),
            counted_as,
            tenant: Arc::clone(&asked.tenant),
            now,
            renews: good.is_some(),
        };
        let (teller, outcome) = watch::channel(None);
        let begun = flight.insert(Flight { begun: now, outcome });
        SendStep::Send(teller, begun.clone(), sending)
    }

    async fn fetch(
        &self,
        transport: &dyn Transport,
        request: OutgoingRequest,
        sending: &Sending,
        clean: impl FnOnce(&mut IncomingResponse) + Send + 'static,
    ) -> Outcome {
        let late = |_| TransportError::Timeout(TOKEN_EXCHANGE.as_secs());
        let mut answer = tokio::time::timeout(TOKEN_EXCHANGE, transport.send(request)).await.map_err(late)??;
        let answer = redact::aside(answer.body.len(), move || {
            clean(&mut answer);
            answer
        });
        let answer = answer.await.ok_or_else(|| TransportError::Other("it could not be searched".to_owned()))?;
        Ok(Arc::new(Fetched::new(answer, Arc::clone(&sending.tenant), sending.now)))
    }

    /// Keeps what came of a request, before those who wait for it are told.
    fn land(&self, sending: &Sending, outcome: &Outcome) {
        match outcome {
            Ok(fetched) => {
                if let Some(counted) = self.sent.lock().get_mut(&sending.counted_as) {
                    counted.life = fetched.life();
                }
            }
            Err(error) if !error.may_have_arrived() => self.uncount(sending.counted_as, sending.now),
            Err(_) => {}
        }
        let (answers, flight) = &mut *sending.entry.state.lock();
        // What a plugin asks its own endpoint for, and gets there, must not fill the host.
        if let Some(fetched) = outcome.as_ref().ok().filter(|fetched| fetched.bytes() <= TOKEN_ANSWER_BYTES) {
            answers.keep(fetched, sending.renews);
        }
        *flight = None;
    }

    /// Counts a request that is about to be sent; the error is when there is room for it, and how long the last token was
    /// good for.
    fn count(&self, name: Name, now: u64) -> Result<(), (u64, Option<u64>)> {
        let window = milliseconds(TOKEN_WINDOW);
        let mut sent = self.sent.lock();
        let Counted { times, life } = sent.entry(name).or_default();
        times.retain(|sent| (now.saturating_sub(window) + 1..=now).contains(sent));
        match times.front() {
            Some(first) if times.len() >= TOKEN_REQUESTS => Err((first + window, *life)),
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

impl Flight {
    /// Whether its answer will be as new as that.
    fn suits(&self, freshness: &Freshness) -> bool {
        !matches!(freshness, Freshness::Since(time) if *time > self.begun)
    }

    /// Whether somebody will tell what came of it: a task that broke down will not.
    fn is_under_way(&self) -> bool {
        self.outcome.has_changed().is_ok()
    }

    async fn end(&mut self) -> Outcome {
        match self.outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(TransportError::Other("the request broke down in the host".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::network::TransportFuture;

    /// Answers with this, and the number of the answer in it, as soon as it may, and counts.
    struct Endpoint {
        answer: Result<(u16, &'static str), TransportError>,
        may_answer: Semaphore,
        asked: AtomicUsize,
    }

    impl Endpoint {
        fn new(answer: Result<(u16, &'static str), TransportError>) -> Arc<Endpoint> {
            let (may_answer, asked) = (Semaphore::new(Semaphore::MAX_PERMITS), AtomicUsize::new(0));
            Arc::new(Endpoint { answer, may_answer, asked })
        }

        /// Answers nobody yet.
        fn slow(answer: Result<(u16, &'static str), TransportError>) -> Arc<Endpoint> {
            Arc::new(Endpoint { answer, may_answer: Semaphore::new(0), asked: AtomicUsize::new(0) })
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    impl Transport for Endpoint {
        fn send(&self, _: OutgoingRequest) -> TransportFuture<'_> {
            let number = self.asked.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                self.may_answer.acquire().await.unwrap().forget();
                let (status, body) = self.answer.clone()?;
                let headers = [("content-type", "application/json"), ("x-ms-request-id", "the-first-ones")];
                let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                let body = body.replace("COUNT", &number.to_string()).into_bytes();
                Ok(IncomingResponse { status, headers, body })
            })
        }
    }

    const HOUR: &str = r#"{"access_token":"tCOUNT","expires_in":3600}"#;

    fn request(secret: &str) -> OutgoingRequest {
        let url = "https://login.example/t/token".parse().unwrap();
        OutgoingRequest { method: "POST".to_owned(), url, headers: Vec::new(), body: secret.as_bytes().to_vec() }
    }

    /// Asked by a tenant at this second, with a request that others may share.
    fn asked(tenant: &str, second: u64) -> Asked {
        Asked {
            likeness: request("a"),
            signed: Vec::new(),
            is_shared: true,
            plugin: "digest".into(),
            tenant: tenant.into(),
            captures: "access_token".to_owned(),
            freshness: Freshness::Any,
            now: second * 1_000,
        }
    }

    async fn sent(tokens: &Arc<Tokens>, endpoint: &Arc<Endpoint>, asked: Asked) -> Result<Sent, TransportError> {
        let transport = Arc::clone(endpoint) as Arc<dyn Transport>;
        tokens.send(&transport, asked.likeness.clone(), &asked, |_| {}).await
    }

    /// The body of the answer.
    async fn body(tokens: &Arc<Tokens>, endpoint: &Arc<Endpoint>, asked: Asked) -> String {
        let response = match sent(tokens, endpoint, asked).await.unwrap() {
            Sent::Answer { response, .. } | Sent::TooOften { response, .. } => response,
        };
        String::from_utf8(response.body).unwrap()
    }

    /// The bodies that one tenant gets at these seconds, each with a wish.
    async fn bodies(endpoint: &Arc<Endpoint>, wishes: impl IntoIterator<Item = (u64, Freshness)>) -> Vec<String> {
        let (tokens, mut bodies) = (Arc::default(), Vec::new());
        for (second, freshness) in wishes {
            bodies.push(body(&tokens, endpoint, Asked { freshness, ..asked("a", second) }).await);
        }
        bodies
    }

    fn any(seconds: &[u64]) -> Vec<(u64, Freshness)> {
        seconds.iter().map(|second| (*second, Freshness::Any)).collect()
    }

    fn not(token: &str) -> Freshness {
        Freshness::Not(Secret::new(token))
    }

    #[tokio::test]
    async fn a_token_serves_until_it_is_renewed_before_its_end() {
        let endpoint = Endpoint::new(Ok((200, HOUR)));
        let bodies = bodies(&endpoint, any(&[1_000, 1_100, 4_299, 4_300])).await;
        assert_eq!(endpoint.asked(), 2);
        assert_eq!(bodies[1], r#"{"access_token":"t0","expires_in":3500}"#);
        assert_eq!(bodies[3], r#"{"access_token":"t1","expires_in":3600}"#);
    }

    #[tokio::test]
    async fn a_byte_order_mark_makes_no_difference() {
        let endpoint = Endpoint::new(Ok((200, "\u{feff}{\"access_token\":\"tCOUNT\",\"expires_in\":3600}")));
        let bodies = bodies(&endpoint, any(&[1_000, 1_100])).await;
        assert_eq!((endpoint.asked(), bodies[1].as_str()), (1, r#"{"access_token":"t0","expires_in":3500}"#));
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_keeps_no_token_for_long() {
        let endpoint = Endpoint::new(Ok((200, HOUR)));
        bodies(&endpoint, any(&[9_000, 8_999, 8_000])).await;
        assert_eq!(endpoint.asked(), 2, "a second is what two may differ by, and not a quarter of an hour");
    }

    #[tokio::test]
    async fn a_short_life_is_renewed_at_its_half() {
        let endpoint = Endpoint::new(Ok((200, r#"{"access_token":"tCOUNT","expires_in":"400"}"#)));
        bodies(&endpoint, any(&[1_000, 1_199, 1_200])).await;
        assert_eq!(endpoint.asked(), 2);
    }

    #[tokio::test]
    async fn a_token_that_is_refused_is_renewed_once_in_five_minutes() {
        let endpoint = Endpoint::new(Ok((200, HOUR)));
        let mut bodies = Vec::new();
        let tokens = Arc::default();
        let mut last = "t0".to_owned();
        bodies.push(body(&tokens, &endpoint, asked("a", 999)).await);
        for second in 1_000..1_400 {
            bodies.push(body(&tokens, &endpoint, Asked { freshness: not(&last), ..asked("a", second) }).await);
            let answer: serde_json::Value = serde_json::from_str(bodies.last().unwrap()).unwrap();
            last = answer["access_token"].as_str().unwrap().to_owned();
        }
        assert_eq!(endpoint.asked(), 3, "one at first, and one every five minutes");
        assert!(bodies[1].contains("t1") && bodies[300].contains("t1") && bodies[301].contains("t2"));
    }

    #[tokio::test]
    async fn who_is_refused_costs_the_others_nothing() {
        let (endpoint, tokens) = (Endpoint::new(Ok((200, HOUR))), Arc::default());
        assert!(body(&tokens, &endpoint, asked("a", 1_000)).await.contains("t0"));
        let refused = |tenant, token: &str, second| Asked { freshness: not(token), ..asked(tenant, second) };
        assert!(body(&tokens, &endpoint, refused("b", "t0", 1_001)).await.contains("t1"));
        // What one renewed, another takes.
        assert!(body(&tokens, &endpoint, refused("c", "t0", 1_400)).await.contains("t1"));
        assert!(body(&tokens, &endpoint, asked("a", 1_500)).await.contains("t1"));
        assert_eq!(endpoint.asked(), 2);
        // A renewal that comes to nothing takes no token away.
        for (second, answer) in [(2_000, Ok((503, ""))), (2_400, Err(TransportError::Broken)), (2_800, Ok((401, "{}")))]
        {
            let broken = Endpoint::new(answer);
            sent(&tokens, &broken, refused("b", "t1", second)).await.ok();
            assert_eq!(broken.asked(), 1);
            assert!(body(&tokens, &endpoint, asked("a", second + 1)).await.contains("t1"));
        }
        assert_eq!(endpoint.asked(), 2);
    }

    #[tokio::test]
    async fn a_newer_token_is_a_wish_that_is_heard_once_in_five_minutes() {
        let endpoint = Endpoint::new(Ok((200, HOUR)));
        let wishes = (1_000..1_020).map(|second| (second, Freshness::Since(second * 1_000)));
        let bodies = bodies(&endpoint, any(&[999]).into_iter().chain(wishes)).await;
        assert_eq!(endpoint.asked(), 2);
        assert!(bodies[1..].iter().all(|body| body.contains("t1")), "{bodies:?}");
    }

    #[tokio::test]
    async fn a_service_bears_so_many_requests_from_all_together() {
        let (endpoint, tokens) = (Endpoint::new(Ok((503, ""))), Arc::default());
        let mut statuses = Vec::new();
        for second in 0..8 {
            let one = Asked { plugin: format!("plugin-{second}").into(), ..asked(&second.to_string(), 1_000 + second) };
            statuses.push(match sent(&tokens, &endpoint, one).await.unwrap() {
                Sent::Answer { response, .. } => response.status,
                Sent::TooOften { response, .. } => {
                    assert_eq!(response.headers[1], ("retry-after".to_owned(), (300 - second).to_string()));
                    response.status
                }
            });
        }
        assert_eq!(statuses, [503, 503, 503, 503, 503, 429, 429, 429]);
        assert_eq!(endpoint.asked(), TOKEN_REQUESTS);
        assert!(matches!(sent(&tokens, &endpoint, asked("a", 1_301)).await, Ok(Sent::Answer { .. })));
    }

    #[tokio::test]
    async fn whoever_asks_too_often_learns_whether_the_services_tokens_live_too_short() {
        let short = r#"{"access_token":"t","expires_in":20}"#;
        for (answer, why) in [
            ((200, short), "the tokens that it gives are good for 20 s alone"),
            ((503, ""), "no token that it gave is of use any more"),
        ] {
            let (endpoint, tokens) = (Endpoint::new(Ok(answer)), Arc::<Tokens>::default());
            for request in 0..5 {
                let one = asked("a", 1_000 + 20 * request);
                tokens.sweep(one.now);
                assert!(matches!(sent(&tokens, &endpoint, one).await, Ok(Sent::Answer { .. })));
            }
            match sent(&tokens, &endpoint, asked("a", 1_100)).await.unwrap() {
                Sent::TooOften { why: told, response } => {
                    assert!(
                        told.starts_with("the service was sent 5 equal requests for a token within 300 s"),
                        "{told}"
                    );
                    assert!(told.ends_with(why) && response.status == 429, "{told}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn what_reached_nobody_counts_with_nobody() {
        let tokens = Arc::default();
        let nobody = Endpoint::new(Err(TransportError::Refused));
        for second in 1_000..1_020 {
            assert_eq!(sent(&tokens, &nobody, asked("a", second)).await, Err(TransportError::Refused));
        }
        let silent = Endpoint::new(Err(TransportError::Timeout(30)));
        for second in 1_020..1_040 {
            sent(&tokens, &silent, asked("a", second)).await.ok();
        }
        assert_eq!((nobody.asked(), silent.asked()), (20, TOKEN_REQUESTS));
    }

    #[tokio::test]
    async fn a_refusal_is_given_again_for_a_minute() {
        let endpoint = Endpoint::new(Ok((401, "{}")));
        bodies(&endpoint, any(&[1_000, 1_001, 1_059, 1_060])).await;
        assert_eq!(endpoint.asked(), 2);
    }

    #[tokio::test]
    async fn only_what_is_equal_is_shared() {
        let (endpoint, tokens) = (Endpoint::new(Ok((200, HOUR))), Arc::default());
        let with = |change: fn(&mut Asked)| {
            let mut asked = asked("b", 2_000);
            change(&mut asked);
            asked
        };
        body(&tokens, &endpoint, asked("a", 1_000)).await;
        body(&tokens, &endpoint, asked("b", 1_001)).await;
        assert_eq!(endpoint.asked(), 1);
        for (index, one) in [
            with(|asked| asked.is_shared = false),
            with(|asked| asked.plugin = "another".into()),
            with(|asked| asked.likeness.body.push(b'b')),
            with(|asked| asked.likeness.headers.push(("accept".to_owned(), "*/*".to_owned()))),
            with(|asked| asked.likeness.method.push('S')),
            with(|asked| asked.likeness.url.set_query(Some("a"))),
            with(|asked| asked.signed.push("form field key".to_owned())),
        ]
        .into_iter()
        .enumerate()
        {
            body(&tokens, &endpoint, one).await;
            assert_eq!(endpoint.asked(), index + 2, "{index}");
        }
        // A tenant shares what nobody else may have with itself.
        body(&tokens, &endpoint, with(|asked| asked.is_shared = false)).await;
        body(&tokens, &endpoint, Asked { is_shared: false, ..asked("c", 2_000) }).await;
        assert_eq!(endpoint.asked(), 9);
    }

    #[tokio::test]
    async fn another_tenant_learns_nothing_of_the_request_that_brought_the_answer() {
        let refusal = r#"{"error":"invalid_client","error_codes":[7000215],"trace_id":"x","correlation_id":"x","timestamp":"2026",
            "error_description":"AADSTS7000215: The secret of aaaabbbb-0000-cccc-1111-dddd2222eeee is wrong. Trace ID: 11111111-0000-cccc-1111-dddd2222eeee Timestamp: now"}"#;
        for (status, text) in [
            (401, refusal),
            (200, r#"{"access_token":"11111111-0000-cccc-1111-dddd2222eeee","expires_in":3600,"trace_id":"x"}"#),
        ] {
            let (endpoint, tokens) = (Endpoint::new(Ok((status, text))), Arc::default());
            let asked = |tenant| {
                let likeness = request("client=aaaabbbb-0000-cccc-1111-dddd2222eeee");
                Asked { likeness, ..asked(tenant, 1_000) }
            };
            let answers = [
                sent(&tokens, &endpoint, asked("a")).await,
                sent(&tokens, &endpoint, asked("b")).await,
                sent(&tokens, &endpoint, asked("a")).await,
            ];
            let answers = answers.map(|sent| match sent.unwrap() {
                Sent::Answer { response, .. } => response,
                Sent::TooOften { response, .. } => panic!("{response:?}"),
            });
            assert_eq!(endpoint.asked(), 1);
            assert_eq!(answers[0], answers[2]);
            assert_eq!(answers[1].headers, [("content-type".to_owned(), "application/json".to_owned())]);
            let body: serde_json::Value = serde_json::from_slice(&answers[1].body).unwrap();
            let expected = match status {
                200 => {
                    serde_json::json!({ "access_token": "11111111-0000-cccc-1111-dddd2222eeee", "expires_in": 3_600 })
                }
                _ => serde_json::json!({
                    "error": "invalid_client", "error_codes": [7_000_215],
                    "error_description": "AADSTS7000215: The secret of aaaabbbb-0000-cccc-1111-dddd2222eeee is wrong. Trace ID: ",
                }),
            };
            assert_eq!(body, expected);
        }
    }

    #[tokio::test]
    async fn all_who_wait_for_an_answer_are_told_how_long_its_service_asks_to_wait() {
        struct Throttled(Semaphore);
        impl Transport for Throttled {
            fn send(&self, _: OutgoingRequest) -> TransportFuture<'_> {
                Box::pin(async move {
                    self.0.acquire().await.unwrap().forget();
                    let headers = vec![("retry-after".to_owned(), "17".to_owned())];
                    Ok(IncomingResponse { status: 429, headers, body: Vec::new() })
                })
            }
        }
        let (tokens, throttled) = (Arc::new(Tokens::default()), Arc::new(Throttled(Semaphore::new(0))));
        let transport = Arc::clone(&throttled) as Arc<dyn Transport>;
        let (first, second) = (asked("a", 1_000), asked("b", 1_000));
        let answers = futures_util::future::join(
            tokens.send(&transport, request("a"), &first, |_| {}),
            tokens.send(&transport, request("a"), &second, |_| {}),
        );
        throttled.0.add_permits(1);
        for answer in <[_; 2]>::from(answers.await) {
            let Ok(Sent::Answer { response, .. }) = answer else { panic!("{answer:?}") };
            assert_eq!(response.headers, [("retry-after".to_owned(), "17".to_owned())]);
        }
    }

    #[tokio::test]
    async fn all_who_wait_get_the_answer_though_the_first_one_goes_away() {
        let (endpoint, tokens) = (Endpoint::slow(Ok((200, HOUR))), Arc::new(Tokens::default()));
        let ask = |tenant: String| {
            let (tokens, endpoint) = (Arc::clone(&tokens), Arc::clone(&endpoint));
            tokio::spawn(async move { body(&tokens, &endpoint, asked(&tenant, 1_000)).await })
        };
        let first = ask("first".to_owned());
        while endpoint.asked() == 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.is_err());
        let others: Vec<_> = (0..20).map(|number| ask(number.to_string())).collect();
        endpoint.may_answer.add_permits(1);
        for other in others {
            assert!(other.await.unwrap().contains("t0"));
        }
        assert_eq!(endpoint.asked(), 1);
    }

    #[tokio::test]
    async fn a_request_that_breaks_down_in_the_host_ends_those_who_wait_and_no_later_one() {
        struct Broken;
        impl Transport for Broken {
            fn send(&self, _: OutgoingRequest) -> TransportFuture<'_> {
                panic!("a fault of this program")
            }
        }
        let (tokens, broken) = (Arc::new(Tokens::default()), Arc::new(Broken) as Arc<dyn Transport>);
        let lost = tokens.send(&broken, request("a"), &asked("a", 1_000), |_| {}).await;
        assert_eq!(lost, Err(TransportError::Other("the request broke down in the host".to_owned())));
        assert!(body(&tokens, &Endpoint::new(Ok((200, HOUR))), asked("b", 1_001)).await.contains("t0"));
    }

    #[tokio::test]
    async fn ever_other_requests_and_long_answers_do_not_fill_the_host() {
        let (endpoint, tokens) = (Endpoint::new(Ok((200, HOUR))), Arc::default());
        let one = |tenant, number: usize| Asked { likeness: request(&number.to_string()), ..asked(tenant, 5_000) };
        for number in 0..TOKENS_KEPT + 5 {
            body(&tokens, &endpoint, one("greedy", number)).await;
        }
        assert_eq!(tokens.kept.lock().entries.len(), TOKENS_KEPT);
        for _ in 0..2 {
            body(&tokens, &endpoint, one("modest", TOKENS_KEPT + 6)).await;
        }
        assert_eq!(endpoint.asked(), TOKENS_KEPT + 6, "another tenant has room");
        tokens.sweep(6_000_000);
        assert_eq!(tokens.kept.lock().entries.len(), TOKENS_KEPT + 1);
        tokens.sweep(9_000_000);
        assert!(tokens.kept.lock().entries.is_empty() && tokens.kept.lock().begun.is_empty());
        assert!(tokens.sent.lock().is_empty());
        let long = format!(r#"{{"expires_in":3600,"a":"{}"}}"#, "x".repeat(TOKEN_ANSWER_BYTES));
        let endpoint = Endpoint::new(Ok((200, long.leak())));
        bodies(&endpoint, any(&[1_000, 1_001])).await;
        assert_eq!(endpoint.asked(), 2);
    }
}
