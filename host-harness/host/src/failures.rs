//! Every failure and notice that the host itself makes, in one table: code, reaction, blame, cause and fix. The
//! failures and their documentation come from this table. Failures of the plugin have codes from the plugin.

use crate::blame::Blame;
use crate::contract::{Failure, Notice, Reaction};

/// One row of the table of failures.
#[derive(Debug)]
pub struct HostFailure {
    /// Kebab-case code of the failure.
    pub code: &'static str,
    /// The reaction that the failure asks of the caller.
    pub reaction: Reaction,
    /// The party that can mend the failure.
    pub blame: Blame,
    /// The cause in one sentence without a full stop. A failure has the details of its case instead.
    pub cause: &'static str,
    /// The fix. A failure has this fix unless the place that makes the failure knows a better one.
    pub fix: &'static str,
}

/// One row of the table of notices.
#[derive(Debug)]
pub struct HostNotice {
    /// Kebab-case code of the notice.
    pub code: &'static str,
    /// The cause in one sentence without a full stop.
    pub cause: &'static str,
    /// The fix.
    pub fix: &'static str,
}

impl HostFailure {
    /// Makes the failure, with its cause in this case.
    pub fn because(&self, cause: impl ToString) -> Failure {
        let fix = Some(self.fix.to_owned());
        Failure { fix, ..Failure::new(self.reaction, self.code, cause.to_string()) }
    }
}

impl Failure {
    /// The party that can mend a failure of the host, or a failure of a plugin about which only the contract is known.
    /// For other plugins, `Plugin::blame` decides.
    pub fn blame(&self) -> Blame {
        let own = FAILURES.iter().find(|row| row.code == self.code);
        own.map_or_else(|| Blame::of_reaction(self.reaction), |row| row.blame)
    }
}

impl HostNotice {
    /// Makes the notice, with its message in this case.
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
    // Calls of the plugin.
    /// The plugin trapped, or gave an answer that the contract does not allow.
    PLUGIN_TRAPPED = "plugin-trapped", FixPlugin, Plugin, "the plugin crashed in a call, or gave an answer that the contract does not allow",
        "report it to the plugin's authors, with the plugin's version and this cause; until then, another version of the plugin may work";
    /// A call used too much memory, time or requests, or its answer was too large.
    PLUGIN_LIMIT = "plugin-limit", FixPlugin, Plugin, "a call of the plugin exceeded a limit",
        "report it to the plugin's authors, with the plugin's version and this cause: the limit is the same for every plugin";
    /// The feed opened with the same settings before.
    SETTINGS_REFUSED = "settings-refused", FixPlugin, Plugin, "the plugin refuses settings that it accepted before",
        "report it to the plugin's authors: the answer to the same settings must not change; to see what the plugin says of them now, restart the collector";
    /// The plan differs although the settings and the plugin are the same.
    PLAN_CHANGED = "plan-changed", FixPlugin, Plugin, "the plugin now declares other requests for the same settings than those in the plan that was admitted",
        "report it to the plugin's authors: the answer to the same settings must not change; the feed continues with the plan that was admitted until its settings or its plugin change";

    // Steps of a poll.
    /// A page leads back to a page that was read.
    CURSOR_REPEATED = "cursor-repeated", FixPlugin, Plugin, "the links of the pages form a loop",
        "no part of the answer was used: keep the answer, and report it to the service or the plugin's authors";
    /// Too many pages follow.
    PAGE_LIMIT = "page-limit", FixPlugin, Plugin, "the poll has more pages than a poll may have",
        "no part of the answer was used: keep the answer, and report it to the service or the plugin's authors";
    /// The steps of a poll, or a search for scopes, take too long in total.
    POLL_TIME_LIMIT = "poll-time-limit", TryLater, Service, "the poll, or the search for scopes, exceeds its total time limit",
        "no part of the answer was used, and the poll is tried again later: check whether the service is slow at other times, too; if it is not, report it to the plugin's authors";
    /// The pages of a poll are too large in total.
    PAGE_BYTES_LIMIT = "page-bytes-limit", FixPlugin, Plugin, "the pages of the poll have more bytes than one poll may have",
        "no part of the answer was used: keep the answer, and report it to the plugin's authors";
    /// The steps of a poll give too many notices.
    NOTICE_LIMIT = "notice-limit", FixPlugin, Plugin, "the steps of the poll give more notices than one poll may give",
        "no part of the answer was used: report it to the plugin's authors";

    // Waits that the service asks for.
    /// A service asked a poll with this credential, of this feed or of another, to wait.
    THROTTLED = "throttled", Wait, Service, "the service asked whoever uses this credential to wait, and the wait is not over",
        "poll again after that time, as the collector does by itself; if this happens often, look for others that use this credential, or make `interval` longer";
    /// The budget of requests for tokens is used up.
    TOKEN_REQUESTS_LIMITED = "token-requests-limited", Wait, Service, "the service gave no token that stays usable, and the host requests no further token for now",
        "find out at the service why: a policy on the lifetime of tokens, a service that refuses its own tokens or gives none, or something that answers in its place; the log has the failures before this one";
    /// The answer to a request holds a part of the credential that the request carried.
    CREDENTIAL_ECHOED = "credential-echoed", TryLater, Service, "the answer holds a part of the credential that the request carried",
        "no part of the answer was used, and the poll is tried again later: check whether the service, or a proxy or firewall before it, writes requests into its answers, and have that stopped; renew the credential if others can read those answers";
    /// The service's answer to the search lacks a scope that was found before.
    NO_LONGER_DISCOVERED = "no-longer-discovered", FixScope, Tenant, "the search for scopes does not find the scope any more",
        "if the scope still exists, grant the credential its permission on the scope again";

    // Failures of the collector.
    /// The outbox of a sink is full. No poll takes place meanwhile, because its events would be lost.
    OUTBOX_FULL = "outbox-full", StateUnusable, Receiver, "the number or the size of the events that wait for a sink has reached its limit",
        "find out why the sink takes no events; polls continue when it does";
    /// The budget of a feed or a tenant is used up.
    STATE_FULL = "state-full", StateUnusable, Operator, "the feed or its tenant would keep more in the state than it may",
        "the state kept nothing of the poll: `collector_state_bytes` shows how much each feed keeps; where the plugin keeps more than its data needs, report it to the plugin's authors, else raise the limit that the cause names, in `[collector]`";
    /// The disk of the state is nearly full, and the feed has used its share of the remaining space.
    SPACE_LOW = "space-low", StateUnusable, Operator, "the disk of the state, or of event files or dead letters, is nearly full, and the feed or its tenant has used its share of what is left",
        "make room on the disk: nothing of the poll was kept, or the events wait, and the collector tries again by itself; if the feed has much in `collector_state_bytes` or its tenant in `collector_outbox_bytes`, find out why its plugin keeps so much, or why its sink takes no events; `min_free_bytes` in `[collector]` says when the disk counts as nearly full";
    /// Another collector that shares the store works on the tenant.
    HELD_ELSEWHERE = "held-elsewhere", TryLater, Operator, "another collector, which shares the state, works on the tenant",
        "nothing is amiss if the configuration of that collector names the tenant: it polls the tenant's scopes; to poll now without its state, run `poll` without `--state`";
    /// The store did not accept the results of a poll.
    STORE_FAILED = "store-failed", TryLater, Operator, "the result of the poll could not be written to the state",
        "make room on the disk of the state; see that the collector's user may write a state file and that no other program holds it, or that the server of a database runs, takes writes and accepts the collector's role; the collector polls again by itself";
    /// The operating system or this program failed.
    HOST_FAILED = "host-failed", TryLater, Harness, "the host failed for a reason of its own",
        "check whether the machine has memory, open files and threads to spare; if it has, report it to the authors of the host";
    /// The process was stopped and woken during a call.
    HOST_STOPPED = "host-stopped", TryLater, Harness, "the process of the host was stopped during a call, or got no processor, until the time of the call was over",
        "nothing needs mending if somebody stopped the process, froze its container or paused its machine: the call is tried again soon; if nobody did, give the machine more processors or less work";
}

/// The fix for an answer that a plugin cannot read, where nobody knows a better one.
pub const ANSWER_UNREAD_FIX: &str = CURSOR_REPEATED.fix;

notices! {
    /// The plugin sent no request with a credential that is declared and configured.
    CREDENTIAL_UNUSED = "credential-unused", "the plugin declared a credential that is configured, and sent no request with it",
        "if the credential is not meant, take it out of the settings; else report it to the plugin's authors";
}
