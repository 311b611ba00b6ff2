//! One poll of one scope: its pages, completely or not at all, and the events that they become.

use uuid::Uuid;

use super::Feed;
use super::pages::PollPages;
use super::token::refused_twice;
use crate::contract::{Batch, Context, Failure, Notice, Page, PollResult, PollStep, Reaction, Scope};
use crate::failpoint;

/// Namespace of poll ids, which are UUIDv5: the same feed, scope and due time give the same id on every host.
const POLL_NAMESPACE: Uuid = Uuid::from_u128(0x8d2c_9f0e_64b1_4c57_9a3d_1be0_77f5_26c4);

/// The result of one poll of one scope.
#[derive(Debug)]
pub struct Polled {
    /// The events, state and figures; `None` if there is nothing to deliver and nothing to keep.
    pub batch: Option<Batch>,
    /// The reason why the scope was not collected completely; no event of the scope's data leaves then.
    pub failure: Option<Failure>,
    /// Warnings of the steps, which come before those of the batch, and of the host, which come once a feed.
    pub notices: Vec<Notice>,
}

impl Feed {
    /// Polls one scope that was due at `due_milliseconds`, and turns the result into events. Whoever knows the feed and
    /// that time can compute the uids of the events: a host that keeps a state calls `poll_as` with a
    /// [`keyed_poll_id`].
    pub async fn poll(&self, scope: &Scope, due_milliseconds: u64, state: Option<&[u8]>) -> Polled {
        self.poll_as(scope, poll_id(&self.caller.feed, &scope.id, due_milliseconds), state).await
    }

    /// Polls one scope, and turns the result into events, whose uids are derived from this id.
    pub async fn poll_as(&self, scope: &Scope, poll_id: Uuid, state: Option<&[u8]>) -> Polled {
        let (poll_result, notices) = match self.pages(scope).await {
            Ok((pages, mut notices)) => {
                notices.extend(self.unused());
                (PollResult::Pages(pages), notices)
            }
            Err(failure) => (PollResult::Failure(failure), Vec::new()),
        };
        if let Some(network) = &self.caller.network {
            network.searches.forget();
        }
        failpoint::pass("poll-answer-read");
        Polled { notices, ..self.tell(scope, poll_id, poll_result, state).await }
    }

    /// Turns the pages of a poll, or the failure in their place, into events. A failure without an earlier state gives
    /// no events.
    pub async fn tell(&self, scope: &Scope, poll_id: Uuid, poll_result: PollResult, state: Option<&[u8]>) -> Polled {
        let failure = match &poll_result {
            PollResult::Failure(failure) => Some(failure.clone()),
            PollResult::Pages(_) => None,
        };
        let notices = Vec::new();
        if failure.is_some() && state.is_none() {
            return Polled { batch: None, failure, notices };
        }
        match self.normalize_as(Some(scope), poll_id, &poll_result, state).await {
            Ok(batch) => {
                failpoint::pass("poll-normalized");
                Polled { batch: Some(batch), failure, notices }
            }
            Err(broken) => Polled { batch: None, failure: Some(failure.unwrap_or(broken)), notices },
        }
    }

    /// Makes events of the result of a poll.
    pub async fn normalize(
        &self,
        scope: &Scope,
        due_milliseconds: u64,
        poll_result: &PollResult,
        state: Option<&[u8]>,
    ) -> Result<Batch, Failure> {
        let poll_id = poll_id(&self.caller.feed, &scope.id, due_milliseconds);
        self.normalize_as(Some(scope), poll_id, poll_result, state).await
    }

    /// Calls the plugin's `normalize`, without a scope where a failure concerns the whole feed.
    pub(super) async fn normalize_as(
        &self,
        scope: Option<&Scope>,
        poll_id: Uuid,
        poll_result: &PollResult,
        state: Option<&[u8]>,
    ) -> Result<Batch, Failure> {
        let context = Context {
            feed: self.caller.feed.clone(),
            tenant: self.caller.tenant.clone(),
            // Each context of the contract has a scope. Where there is none, its id is empty.
            scope: scope.cloned().unwrap_or_else(|| Scope {
                id: String::new(),
                name: None,
                owner: None,
                plugin_data: String::new(),
            }),
            poll_id: poll_id.to_string(),
            collected_at_milliseconds: (self.clock)(),
        };
        self.answered(self.plugin.normalize(&self.caller, &self.settings, &context, poll_result, state).await)
    }

    /// Reads all pages of one scope. If the plugin asks to restart, the poll begins again, once, within the rest of its
    /// time.
    pub async fn pages(&self, scope: &Scope) -> Result<(Vec<Page>, Vec<Notice>), Failure> {
        let pages = async {
            match self.pages_once(scope).await {
                Err(failure) if failure.reaction == Reaction::Restart => self.pages_once(scope).await,
                answer => answer,
            }
        };
        self.in_time("the poll", pages).await
    }

    async fn pages_once(&self, scope: &Scope) -> Result<(Vec<Page>, Vec<Notice>), Failure> {
        let (mut gathered, mut cursor) = (PollPages::default(), None::<String>);
        loop {
            let step = self.step(scope, cursor.as_deref()).await?;
            cursor = gathered.add(step, &self.caller.limits)?;
            if cursor.is_none() {
                return Ok((gathered.pages, gathered.notices));
            }
        }
    }

    async fn step(&self, scope: &Scope, cursor: Option<&str>) -> Result<PollStep, Failure> {
        let token = self.token().await?;
        match self.answered(self.plugin.poll(&self.caller, &self.settings, token.as_ref(), scope, cursor).await) {
            Err(failure) if failure.reaction == Reaction::RenewToken => {
                let token = self.another_token(token.as_ref()).await?;
                let answer = self.plugin.poll(&self.caller, &self.settings, token.as_ref(), scope, cursor).await;
                self.answered(answer).map_err(|failure| refused_twice(failure, Reaction::FixScope))
            }
            answer => answer,
        }
    }
}

/// Derives the id of a poll.
pub fn poll_id(feed: &str, scope: &str, due_milliseconds: u64) -> Uuid {
    poll_id_in(&POLL_NAMESPACE, feed, scope, due_milliseconds)
}

/// Derives the id of a poll for a host that keeps a state. Without the host's key, nobody can guess the id or the uids
/// that are derived from it.
///
/// ```
/// use source_host::keyed_poll_id;
///
/// let due = 1_790_000_000_000; // Unix milliseconds
/// let id = keyed_poll_id("the host's key", "contoso-prod", "scope-1", due);
/// assert_eq!(id, keyed_poll_id("the host's key", "contoso-prod", "scope-1", due));
/// assert_ne!(id, keyed_poll_id("another key", "contoso-prod", "scope-1", due));
/// ```
pub fn keyed_poll_id(key: &str, feed: &str, scope: &str, due_milliseconds: u64) -> Uuid {
    poll_id_in(&Uuid::new_v5(&POLL_NAMESPACE, key.as_bytes()), feed, scope, due_milliseconds)
}

fn poll_id_in(namespace: &Uuid, feed: &str, scope: &str, due_milliseconds: u64) -> Uuid {
    Uuid::new_v5(namespace, format!("{feed}\n{scope}\n{due_milliseconds}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_id_follows_from_feed_scope_and_due_time() {
        let id = poll_id("a", "b", 1);
        assert_eq!(id, poll_id("a", "b", 1));
        for other in [poll_id("x", "b", 1), poll_id("a", "x", 1), poll_id("a", "b", 2), poll_id("a\nb", "", 1)] {
            assert_ne!(id, other);
        }
        let keyed = keyed_poll_id("one key", "a", "b", 1);
        assert_eq!(keyed, keyed_poll_id("one key", "a", "b", 1));
        assert_ne!(keyed, keyed_poll_id("another", "a", "b", 1));
        assert_ne!(keyed, id);
    }
}
