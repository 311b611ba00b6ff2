//! Every timeout, cap and count in one place. A plugin meets the limits of its calls; no limit changes an answer.

use std::time::Duration;

/// Converts a duration to milliseconds, the host's unit of time.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// Limits of one call of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Total of all linear memories; the largest poll seen needs 3 MiB.
    pub memory_bytes: usize,
    /// Elements of a table; the project's own plugin has about 300.
    pub table_elements: usize,
    /// CPU time, checked once an [`EPOCH_TICK`].
    pub cpu_time: Duration,
    /// Elapsed time, including the wait for the network.
    pub wall_time: Duration,
    /// Elapsed time of `describe` and of `prepare`, which wait for nothing: others may wait for a feed's admission.
    pub prepare_time: Duration,
    /// Number of requests of one call.
    pub requests: usize,
    /// Bytes in the body of a request; a token request has less than 4 KiB.
    pub request_body_bytes: usize,
    /// Bytes in the body of an answer, decompressed; the largest seen has 62 KB.
    pub response_body_bytes: usize,
    /// Total bytes in the bodies of all answers to one call.
    pub response_bytes: usize,
    /// Number of headers in an answer; the HTTP client accepts no more than 100.
    pub response_headers: usize,
    /// Total bytes of the names and values of an answer's headers.
    pub response_header_bytes: usize,
    /// Number of pages of one poll, and of its steps.
    pub pages: usize,
    /// Total bytes in the bodies of one poll.
    pub page_bytes: usize,
    /// Elapsed time of all steps of one poll, or of one search for scopes, including the fetch of tokens.
    pub poll_time: Duration,
    /// Number of scopes of one discovery, including skipped ones, and those that are dropped because their id stands twice.
    pub scopes: usize,
    /// Total bytes in the ids, names, owners and plugin data of all these scopes, which the host keeps in memory between
    /// polls.
    pub scope_bytes: usize,
    /// Number of notices of one answer, and of all steps of one poll.
    pub notices: usize,
    /// Number of events of one poll; the same number of figures.
    pub events: usize,
    /// Bytes of one event; the plugin itself cuts at 32 KiB.
    pub event_bytes: usize,
    /// Bytes in the state of one scope.
    pub state_bytes: usize,
    /// Number of log lines of one call; further lines are dropped and counted.
    pub log_lines: usize,
    /// Bytes of the longest log line; longer ones are cut. A message over 32 times this size is dropped without being
    /// read.
    pub log_line_bytes: usize,
    /// Bytes that may be copied between a plugin and the host at once: the events and the state of one poll. The limit
    /// equals that of its memory, because a larger copy would repeat the same bytes.
    pub copied_bytes: usize,
    /// Handles of one call; requests, bodies and streams need about 20 in total.
    pub handles: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: 64 << 20,
            table_elements: 20_000,
            cpu_time: Duration::from_secs(5),
            wall_time: Duration::from_secs(60),
            prepare_time: Duration::from_secs(5),
            requests: 128,
            request_body_bytes: 64 << 10,
            response_body_bytes: 8 << 20,
            response_bytes: 32 << 20,
            response_headers: 100,
            response_header_bytes: 32 << 10,
            pages: 100,
            page_bytes: 32 << 20,
            // A poll of the project's own plugin takes some seconds. A service that takes 6 s for each of a hundred
            // pages is in trouble.
            poll_time: Duration::from_secs(600),
            scopes: 20_000,
            // A subscription of Azure needs 180 bytes.
            scope_bytes: 4 << 20,
            notices: 1_000,
            events: 20_000,
            event_bytes: 64 << 10,
            state_bytes: 8 << 20,
            log_lines: 100,
            log_line_bytes: 2 << 10,
            copied_bytes: 64 << 20,
            handles: 256,
        }
    }
}

/// The step in which the time of a compilation is counted.
pub const COMPILER_STEP: Duration = Duration::from_secs(1);

/// Limits of the compilation of one plugin, which runs in its own process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of memory; the project's own plugin needs about 100 MiB.
    pub memory_bytes: u64,
    /// CPU time of all threads, in whole seconds; the project's own plugin needs 1 s, and 7 s with a compiler that was
    /// built without optimisation.
    pub cpu_time: Duration,
    /// Elapsed time.
    pub wall_time: Duration,
    /// Bytes of compiled code; the project's own plugin has 3 MiB.
    pub code_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits {
            memory_bytes: 1 << 30,
            cpu_time: Duration::from_secs(60),
            wall_time: Duration::from_secs(120),
            code_bytes: 256 << 20,
        }
    }
}

/// Number of plugins that are compiled at the same time, not counting those that this host trusts. Each may take the
/// memory of [`CompileLimits`].
pub const COMPILES: usize = 4;

/// The interval at which the engine checks the clock: short enough to stop a loop soon, long enough to cost nothing.
pub const EPOCH_TICK: Duration = Duration::from_millis(10);

/// Time between two [`EPOCH_TICK`]s from which the process counts as one that stood still: a machine that is merely busy
/// lets no thread wait as long.
pub const STANDSTILL: Duration = Duration::from_secs(1);

/// Number of calls that run at the same time; further calls wait.
pub const CALLS: u32 = 128;

/// Core instances, memories and tables of one component: a component has its module and two shims.
pub const CORE_INSTANCES_PER_COMPONENT: u32 = 4;

/// Bytes of memory that stay mapped in a free slot, so that the next call meets no cold pages.
pub const WARM_MEMORY_BYTES: usize = 2 << 20;

/// Number of free slots that stay warm.
pub const WARM_PLACES: u32 = 4;

/// Bytes of stack for WebAssembly code.
pub const STACK_BYTES: usize = 512 << 10;

/// Bytes of stack for a call, including host functions.
pub const ASYNC_STACK_BYTES: usize = 2 << 20;

/// Bytes of headers that a guest may set on a request or read from an answer. The engine counts the overhead of each
/// field, too; the headers of an answer are first held to `response_header_bytes`.
pub const FIELD_BYTES: usize = 128 << 10;

/// Bytes of a plugin's file; the project's own has 1 MiB.
pub const PLUGIN_BYTES: u64 = 64 << 20;

/// Time to connect, including TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for one whole exchange.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time after which an idle connection is closed.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// Time before its expiry at which a token is renewed; Microsoft's own libraries use the same number.
pub const TOKEN_RENEWAL: Duration = Duration::from_secs(300);

/// The number of identical requests for a token that this process sends within [`TOKEN_WINDOW`].
pub const TOKEN_REQUESTS: usize = 5;

/// The number of identical requests for a token that all processes together send within [`TOKEN_WINDOW`]; Entra ID refuses
/// the sixteenth.
pub const TOKEN_REQUESTS_OF_ALL: usize = 15;

/// Time after which a request for a token is given up, over any transport, because others may wait for its answer.
pub const TOKEN_EXCHANGE: Duration = Duration::from_secs(60);

/// The window of [`TOKEN_REQUESTS`].
pub const TOKEN_WINDOW: Duration = Duration::from_secs(300);

/// Lifetime of a signed assertion; Microsoft's own libraries use the same number.
pub const ASSERTION_LIFE: Duration = Duration::from_secs(600);

/// Days before the expiry of a credential at which a warning is given.
pub const EXPIRY_WARNINGS: [u64; 2] = [30, 7];

/// Number of assertions of one call: one is enough for a token.
pub const ASSERTIONS: usize = 16;

/// Bytes of a file of the configuration, or of a file that it names: ten thousand feeds take 5 MB.
pub const FILE_BYTES: u64 = 64 << 20;

/// Bytes of a file with the token of another identity provider; the largest seen has 2 KiB.
pub const TOKEN_FILE_BYTES: u64 = 32 << 10;

/// Lifetime assumed for a token whose answer states none: the shortest default of identity providers.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3_599);

/// Time for which a refusal of the token endpoint is given again; Microsoft's own libraries use the same number.
pub const REFUSAL_KEPT: Duration = Duration::from_secs(60);

/// Bytes that one feed may write to the log in a minute. Two calls that write the most that a call may fit into it, or
/// one failure of each of a hundred scopes. This amounts to 370 MB a day.
pub const LOG_BYTES_A_MINUTE: u64 = 256 << 10;

/// Bytes of a log line without its message: time, level and names, approximately.
pub const LOG_LINE_FRAME: usize = 100;

/// Time without a poll after which a tenant's connections are dropped.
pub const IDLE_TENANT: Duration = Duration::from_secs(60);

/// Bytes in the code of a failure or a notice; the longest of the project's own plugin has 25.
pub const CODE_BYTES: usize = 256;

/// Bytes in the text of a failure or a notice.
pub const WORDS_BYTES: usize = 4 << 10;

/// Bytes of a name or a title for people.
pub const NAME_BYTES: usize = 1 << 10;

/// Bytes of an id: of a scope, an event, or the subject of a figure. The longest of Azure have 400.
pub const ID_BYTES: usize = 2 << 10;

/// Bytes of the plugin's own data about a scope, which the host keeps.
pub const PLUGIN_DATA_BYTES: usize = 4 << 10;

/// Number of members of one gzip stream. Servers send one member, or one for each file that they join; an empty member
/// costs the decoder as much as a full one.
pub const GZIP_MEMBERS: usize = 1_000;

/// Bytes in the origin, path or whole address of a request.
pub const ADDRESS_BYTES: usize = 16 << 10;

/// Characters in the name of a host, a limit of DNS.
pub const HOST_NAME: usize = 253;

/// Characters in one label of a host's name, a limit of DNS.
pub const HOST_LABEL: usize = 63;

/// Bytes of an origin: a scheme, a name of the longest characters, and a port.
pub const ORIGIN_BYTES: usize = 8 + 4 * HOST_NAME + 6;

/// Number of different origins of one plan; the project's own plugin has three.
pub const ORIGINS: usize = 100;

/// Bytes of a cursor or a token; some services put whole states into theirs.
pub const CURSOR_BYTES: usize = 64 << 10;

/// Bytes in the JSON Schema of a plugin's settings; the project's own has 6 KiB.
pub const SCHEMA_BYTES: usize = 256 << 10;

/// Entries of any list in a description or a plan; a feed has a shape for each of its subscriptions.
pub const ENTRIES: usize = 20_000;

/// Number of credentials on one request.
pub const CREDENTIAL_USES: usize = 16;

/// Number of problems with settings that are reported; nobody mends more at once.
pub const PROBLEMS: usize = 100;

/// Bytes of one write to the body of a request; each body keeps one or two such writes.
pub const BODY_CHUNK_BYTES: usize = 64 << 10;

/// Bytes in the schema of a credential. The host applies the schema to values that the plugin does not see.
pub const CREDENTIAL_SCHEMA_BYTES: usize = 4 << 10;

/// Number of patterns in the schema of a credential. Compiling one pattern of [`PATTERN_BYTES`] takes half a
/// millisecond, while others wait.
pub const CREDENTIAL_PATTERNS: usize = 8;

/// Levels of objects and lists in an event, including the event itself. Readers have limits of their own, from 100 on;
/// an event of OCSF has about ten levels.
pub const EVENT_LEVELS: usize = 64;

/// Bytes of one compiled pattern in the schema of a credential.
pub const PATTERN_BYTES: usize = 64 << 10;

/// Number of answers of token endpoints that are kept for each tenant that asked first. The tenant's further requests
/// are sent each time.
pub const TOKENS_KEPT: usize = 1_000;

/// Bytes of an answer of a token endpoint that is kept; a longer answer is fetched each time.
pub const TOKEN_ANSWER_BYTES: usize = 64 << 10;

/// Number of requests of one call that run at the same time; further requests wait.
pub const REQUESTS_AT_ONCE: usize = 4;

/// The end of the year 9999 in Unix milliseconds: later times have no common notation.
pub const LATEST_TIME: u64 = 253_402_300_799_999;

/// A clock that goes back by more than this time was set, and everything is scheduled again.
pub const CLOCK_STEP: Duration = Duration::from_secs(60);

/// Number of TLS sessions that a tenant's client keeps for resumption; a client talks to two or three names.
pub const TLS_SESSIONS: usize = 8;

/// Bytes of headers that the HTTP client reads before it gives up.
pub const HEADER_BUFFER_BYTES: usize = 400 << 10;

/// Number of different denied requests of one feed that are reported; a plugin may try without end.
pub const DENIALS_TOLD: usize = 16;

/// Bytes of a compiler's error output that are read.
pub const COMPILER_WORDS_BYTES: u64 = 4 << 10;

/// Interval at which the host checks whether a compiler that has written its code has ended.
pub const COMPILER_LOOK: Duration = Duration::from_millis(1);
