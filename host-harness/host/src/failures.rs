//! Every failure and notice that the host makes itself, in one table: code, reaction, blame, cause and fix. The
//! failures and the documentation are made from the table. Failures of the plugin have their codes from the plugin.

use crate::blame::Blame;
use crate::contract::{Failure, Notice, Reaction};

/// One row of the table of failures.
#[derive(Debug)]
pub struct HostFailure {
    /// Kebab-case; stands in the failure.
    pub code: &'static str,
    /// What it asks of the caller.
    pub reaction: Reaction,
    /// Who can mend it.
    pub blame: Blame,
    /// Why it happens, in one sentence without a full stop. A failure has the details in place of this.
    pub cause: &'static str,
    /// What mends it. A failure has this unless the place that makes it knows better.
    pub fix: &'static str,
}

/// One row of the table of notices.
#[derive(Debug)]
pub struct HostNotice {
    /// Kebab-case; stands in the notice.
    pub code: &'static str,
    /// Why it happens, in one sentence without a full stop.
    pub cause: &'static str,
    /// What mends it.
    pub fix: &'static str,
}

impl HostFailure {
    /// The failure, with its cause in this case.
    pub fn because(&self, cause: impl ToString) -> Failure {
        let fix = Some(self.fix.to_owned());
        Failure { fix, ..Failure::new(self.reaction, self.code, cause.to_string()) }
    }
}

impl Failure {
    /// Who can mend a failure of the host's, or of a plugin of which no more is known than the contract says. Another
    /// plugin's is `Plugin::blame`'s to say.
    pub fn blame(&self) -> Blame {
        let own = FAILURES.iter().find(|row| row.code == self.code);
        own.map_or_else(|| Blame::of_reaction(self.reaction), |row| row.blame)
    }
}

impl HostNotice {
    /// The notice, with its words in this case.
    pub fn because(&self, message: impl ToString) -> Notice {
        Notice { code: self.code.to_owned(), message: message.to_string() }
    }
}

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $reaction:ident, $blame:ident, $cause:literal, $fix:literal;)*) => {
        $($(#[$doc])* pub const $name: HostFailure = HostFailure {
            code: $code, reaction: Reaction::$reaction, blame: Blame::$blame, cause: $cause, fix: $fix,
        };)*
        /// The whole table of failures.
        pub const FAILURES: &[HostFailure] = &[$($name),*];
    };
}

macro_rules! notices {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $cause:literal, $fix:literal;)*) => {
        $($(#[$doc])* pub const $name: HostNotice = HostNotice { code: $code, cause: $cause, fix: $fix };)*
        /// The whole table of notices.
        pub const NOTICES: &[HostNotice] = &[$($name),*];
    };
}

failures! {
    // A call of the plugin.
    /// A trap, or an answer that the contract does not allow.
    PLUGIN_TRAPPED = "plugin-trapped", FixPlugin, Plugin, "the plugin broke down in a call, or gave an answer that the contract does not allow",
        "report it to the plugin's authors, with the plugin's version and this cause; another version of the plugin may do meanwhile";
    /// Memory, time, requests, or the size of an answer.
    PLUGIN_LIMIT = "plugin-limit", FixPlugin, Plugin, "the plugin used more in a call than a call may use",
        "report it to the plugin's authors, with the plugin's version and this cause: the limit is the same for every plugin";
    /// It opened with the same settings before.
    SETTINGS_REFUSED = "settings-refused", FixPlugin, Plugin, "the plugin refuses settings that it accepted before",
        "report it to the plugin's authors: the answer to the same settings must not change; to see what the plugin says of them now, start the collector anew";
    /// The settings and the plugin are those of before.
    PLAN_CHANGED = "plan-changed", FixPlugin, Plugin, "the plugin declares other requests for the settings for which its plan was admitted",
        "report it to the plugin's authors: the answer to the same settings must not change; the feed goes on with the plan that was admitted until its settings or its plugin change";

    // The steps of a poll.
    /// A page leads back to one that was read.
    CURSOR_REPEATED = "cursor-repeated", FixPlugin, Plugin, "the links of the pages run in a loop",
        "nothing of the answer was used: keep it, and report it to the service or the plugin's authors";
    /// One more page follows, again and again.
    PAGE_LIMIT = "page-limit", FixPlugin, Plugin, "the poll goes on after the most pages that a poll may have",
        "nothing of the answer was used: keep it, and report it to the service or the plugin's authors";
    /// The steps of a poll, or a search, take too long together.
    POLL_TIME_LIMIT = "poll-time-limit", TryLater, Service, "the steps of the poll, or the search for scopes, take longer than all of them together may",
        "nothing of the answer was used, and it is tried again later: see whether the service is slow at other times, too; if it is not, report it to the plugin's authors";
    /// The pages are large, taken together.
    PAGE_BYTES_LIMIT = "page-bytes-limit", FixPlugin, Plugin, "the pages of the poll have more bytes than the pages of one poll may have",
        "nothing of the answer was used: keep it, and report it to the plugin's authors";
    /// The steps give notices without end.
    NOTICE_LIMIT = "notice-limit", FixPlugin, Plugin, "the steps of the poll give more notices than one poll may give",
        "nothing of the answer was used: report it to the plugin's authors";

    // The service asks for patience.
    /// A poll of this credential, of this feed or of another, was told to wait.
    THROTTLED = "throttled", Wait, Service, "the service asked whoever uses this credential to wait, and the wait is not over",
        "poll again after that time, as the collector does by itself; if it comes often, look for others that use this credential, or make `interval` longer";
    /// The budget of requests for tokens is used up.
    TOKEN_REQUESTS_LIMITED = "token-requests-limited", Wait, Service, "the tokens of the service do not last, and the service bears no further request for one for now",
        "see at the service why its tokens do not last: a policy on the lifetime of tokens, or something that answers in its place; the log has the failures before this one";
    /// A part of a credential stands in the answer to the request that carried it.
    CREDENTIAL_ECHOED = "credential-echoed", TryLater, Service, "the answer holds a part of the credential that the request carried",
        "nothing of the answer was used, and it is tried again later: see whether the service, or a proxy or firewall before it, writes requests into its answers, and have that stopped; renew the credential if others can read those answers";
    /// A scope was found before, and the service answers the search without it.
    NO_LONGER_DISCOVERED = "no-longer-discovered", FixScope, Tenant, "the search for scopes does not find the scope any more",
        "if it still exists, give the credential its permission on it again";

    // The collector.
    /// No poll takes place meanwhile: its events would be lost.
    OUTBOX_FULL = "outbox-full", StateUnusable, Receiver, "as many events wait for a sink as may wait for it",
        "see why the sink takes nothing; polls go on when it does";
    /// The budget of a feed or a tenant is used up.
    STATE_FULL = "state-full", StateUnusable, Operator, "the feed or its tenant would keep more in the state than it may",
        "nothing of the poll was kept: see in `collector_state_bytes` what each feed keeps; where the plugin keeps more than its data needs, report it to the plugin's authors, else raise the limit that the cause names, in `[collector]`";
    /// The disk of the state is nearly full, and the feed has its share of what is left.
    SPACE_LOW = "space-low", StateUnusable, Operator, "the disk of the state is nearly full, and the feed would keep more than its share of what is left",
        "nothing of the poll was kept: make room on the disk; if the feed has much in `collector_state_bytes` or its tenant in `collector_outbox_bytes`, see why its plugin keeps that, or why its sink takes nothing; `min_free_bytes` in `[collector]` says when the disk counts as nearly full";
    /// The state did not take what a poll left.
    STORE_FAILED = "store-failed", TryLater, Operator, "the state file does not take what the poll left",
        "make room on the disk, and see that the collector's user may write the state file and that no other program holds it; the poll is done again by itself";
    /// The operating system, or this program.
    HOST_FAILED = "host-failed", TryLater, Harness, "the host failed for a reason of its own",
        "see whether the machine has memory, open files and threads to spare; if it has, report it to the authors of the host";
}

notices! {
    /// A credential that is declared and configured.
    CREDENTIAL_UNUSED = "credential-unused", "the plugin declared a credential that is configured, and sent no request with it",
        "if the credential is not meant, take it out of the settings; else report it to the plugin's authors";
}
