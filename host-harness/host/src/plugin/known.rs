//! What an embedder knows of a plugin, and the contract has no words for.

use crate::blame::Blame;
use crate::contract::Failure;

/// A plugin that the embedder knows. None of this gives the plugin more than its calls need, and a plugin that goes by
/// another's name gains no credential by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPlugin {
    /// Its name, as its description has it.
    pub name: &'static str,
    /// Members that it reads of a token endpoint's answer, besides those of OAuth 2.0.
    pub token_members: &'static [&'static str],
    /// Headers that it reads of a token endpoint's answer, besides those of HTTP and ids of the request; lower case.
    pub token_headers: &'static [&'static str],
    /// Its codes of failures that somebody else can mend than the reaction says.
    pub blames: &'static [(&'static str, Blame)],
}

impl KnownPlugin {
    /// A plugin of which no more is known than the contract says.
    pub const UNKNOWN: KnownPlugin = KnownPlugin { name: "", token_members: &[], token_headers: &[], blames: &[] };

    /// Who can mend a failure of its calls.
    pub fn blame(&self, failure: &Failure) -> Blame {
        let known = self.blames.iter().find(|(code, _)| *code == failure.code);
        known.map_or_else(|| failure.blame(), |(_, blame)| *blame)
    }
}
