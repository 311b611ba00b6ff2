//! The embedder's knowledge of a plugin that the contract has no words for.

use crate::blame::Blame;
use crate::contract::Failure;

/// A plugin that the embedder knows. This knowledge gives the plugin no more than its calls need, and a plugin under
/// another's name gains no credential by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPlugin {
    /// The name in the plugin's description.
    pub name: &'static str,
    /// Members of a token endpoint's answer that the plugin reads, besides those of OAuth 2.0.
    pub token_members: &'static [&'static str],
    /// Headers of a token endpoint's answer that the plugin reads, besides those of HTTP and ids of the request; lower
    /// case.
    pub token_headers: &'static [&'static str],
    /// Codes of failures that another party can mend than the one that the reaction suggests.
    pub blames: &'static [(&'static str, Blame)],
}

impl KnownPlugin {
    /// A plugin about which only the contract is known.
    pub const UNKNOWN: KnownPlugin = KnownPlugin { name: "", token_members: &[], token_headers: &[], blames: &[] };

    /// The party that can mend a failure of the plugin's calls.
    pub fn blame(&self, failure: &Failure) -> Blame {
        let known = self.blames.iter().find(|(code, _)| *code == failure.code);
        known.map_or_else(|| failure.blame(), |(_, blame)| *blame)
    }
}
