//! The token that a feed holds: fetched when it is needed, renewed before it expires, and dropped when a service
//! refuses it.

use std::time::Duration;

use super::Feed;
use crate::contract::{Failure, Reaction};
use crate::credentials::secret::Secret;
use crate::limits::{TOKEN_RENEWAL, milliseconds};
use crate::network::tokens::Freshness;
use crate::plugin::call::FetchedToken;

/// A token that is kept. All times are Unix milliseconds.
pub(super) struct HeldToken {
    token: Option<Secret>,
    renew_at: Option<u64>,
    /// The time since which a token had to be fetched when this one was requested; `None` where any token was accepted.
    since: Option<u64>,
}

impl HeldToken {
    fn is_good(&self, now: u64, since: Option<u64>) -> bool {
        // A clock may go back. Every time asks for more than `None`.
        let is_new_enough = self.since >= since && self.since.is_none_or(|since| since <= now);
        is_new_enough && self.renew_at.is_none_or(|renew_at| now < renew_at)
    }
}

impl Feed {
    /// Fetches a token unless the feed holds a valid one.
    pub async fn sign_in(&self) -> Result<(), Failure> {
        self.token().await.map(drop)
    }

    /// Stops using tokens that were fetched before this time, in Unix milliseconds, because permissions may have
    /// changed since.
    pub fn forget_tokens(&self, before: u64) {
        let mut tokens_after = self.tokens_after.lock();
        *tokens_after = (*tokens_after).max(Some(before));
    }

    /// Returns the token that the feed holds, or fetches a new one.
    pub(super) async fn token(&self) -> Result<Option<Secret>, Failure> {
        let mut held = self.token.lock().await;
        let (now, since) = ((self.clock)(), *self.tokens_after.lock());
        if let Some(held) = held.as_ref().filter(|held| held.is_good(now, since)) {
            return Ok(held.token.clone());
        }
        self.fetch_token(&mut held, wished(since), since).await
    }

    /// Returns another token than the one that the service refused.
    pub(super) async fn another_token(&self, refused: Option<&Secret>) -> Result<Option<Secret>, Failure> {
        let mut held = self.token.lock().await;
        let (now, since) = ((self.clock)(), *self.tokens_after.lock());
        // Another scope may have renewed the token meanwhile.
        let is_another = |held: &&HeldToken| held.is_good(now, since) && held.token.as_ref() != refused;
        if let Some(held) = held.as_ref().filter(is_another) {
            return Ok(held.token.clone());
        }
        let freshness = refused.map_or_else(|| wished(since), |refused| Freshness::Not(refused.clone()));
        self.fetch_token(&mut held, freshness, Some(now)).await
    }

    /// Has the plugin fetch a token, and keeps it as a token from `since`.
    async fn fetch_token(
        &self,
        held: &mut Option<HeldToken>,
        freshness: Freshness,
        since: Option<u64>,
    ) -> Result<Option<Secret>, Failure> {
        let mut caller = self.caller.clone();
        if let Some(network) = &mut caller.network {
            network.freshness = freshness;
        }
        let now = (self.clock)();
        let fetched = self.answered(self.plugin.fetch_token(&caller, &self.settings).await)?;
        if let Some(fetched) = &fetched {
            self.count(|usage| usage.token_expires = Some(now + u64::from(fetched.expires_in_seconds) * 1_000));
        }
        let renew_at = fetched.as_ref().map(|fetched| renew_at(fetched, now));
        let token = fetched.map(|fetched| fetched.value);
        *held = Some(HeldToken { token: token.clone(), renew_at, since });
        Ok(token)
    }
}

/// The freshness that a time demands of a token.
fn wished(since: Option<u64>) -> Freshness {
    since.map_or(Freshness::Any, Freshness::Since)
}

/// When a token is to be renewed: together with the host's other feeds that share it; otherwise some minutes before it
/// expires, or at half its life where that is later.
fn renew_at(token: &FetchedToken, now: u64) -> u64 {
    let life = Duration::from_secs(token.expires_in_seconds.into());
    let renew_at = now + milliseconds(life.saturating_sub(TOKEN_RENEWAL).max(life / 2));
    token.renew_at.filter(|shared| *shared > now).map_or(renew_at, |shared| shared.min(renew_at))
}

/// Classifies the refusal of a fresh token. If the service's own code says so, the cause is the configuration or a
/// permission. A refusal without such a code may come from a machine that answered in the service's place.
pub(super) fn refused_twice(failure: Failure, mend: Reaction) -> Failure {
    let reaction = match failure.reaction {
        Reaction::RenewToken if failure.service_code.is_some() => mend,
        Reaction::RenewToken => Reaction::TryLater,
        other => other,
    };
    Failure { reaction, ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_expires() {
        let renewed = |expires_in_seconds, shared| {
            let token = FetchedToken { value: Secret::new(""), expires_in_seconds, renew_at: shared };
            renew_at(&token, 1_000_000)
        };
        assert_eq!(renewed(3_600, None), 4_300_000);
        assert_eq!(renewed(400, None), 1_200_000);
        assert_eq!(renewed(400, Some(1_100_000)), 1_100_000, "when all do");
        assert_eq!(renewed(400, Some(999_000)), 1_200_000, "there was no other");
        assert_eq!(renewed(400, Some(1_300_000)), 1_200_000, "the plugin knows of a shorter life");
    }
}
