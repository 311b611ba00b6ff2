//! Every timeout, cap and count in one place. A plugin meets those of its calls; none of them changes an answer.

use std::time::Duration;

/// A duration as the host counts time, in milliseconds.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// What one call of a plugin may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory in all, not each: the largest poll seen needs 3 MiB.
    pub memory_bytes: usize,
    /// Elements of a table; the project's own plugin has about 300.
    pub table_elements: usize,
    /// Time on a processor, looked at once an [`EPOCH_TICK`].
    pub cpu_time: Duration,
    /// Time in all, waiting for the network included.
    pub wall_time: Duration,
    /// Time in all of `describe` and of `prepare`, which have nothing to wait for: others may wait for a feed to be admitted.
    pub prepare_time: Duration,
    /// Requests of one call.
    pub requests: usize,
    /// Body of a request; a token request has less than 4 KiB.
    pub request_body_bytes: usize,
    /// Body of an answer, decompressed: the largest seen has 62 KB.
    pub response_body_bytes: usize,
    /// Bodies of all answers to one call together.
    pub response_bytes: usize,
    /// Headers of an answer: their number; the HTTP client takes no more than 100.
    pub response_headers: usize,
    /// Headers of an answer: names and values together.
    pub response_header_bytes: usize,
    /// Steps of one poll.
    pub pages: usize,
    /// Bodies of one poll together.
    pub page_bytes: usize,
    /// Time in all of the steps of one poll, and of one search for scopes, tokens included.
    pub poll_time: Duration,
    /// Scopes of one discovery, those that are skipped included.
    pub scopes: usize,
    /// Notices of one answer, and of all steps of one poll.
    pub notices: usize,
    /// Events of one poll; as many figures.
    pub events: usize,
    /// One event; the plugin itself cuts at 32 KiB.
    pub event_bytes: usize,
    /// State of one scope.
    pub state_bytes: usize,
    /// Log lines of one call; the rest is dropped and counted.
    pub log_lines: usize,
    /// One log line; cut beyond. What passes this 32 times is dropped unread.
    pub log_line_bytes: usize,
    /// What may be copied between a plugin and the host in one go: the events and the state of one poll. As much as its
    /// memory: more is the same bytes again.
    pub copied_bytes: usize,
    /// Handles of one call: requests, bodies and streams together need about 20.
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
            // A poll of the project's own takes some seconds; a hundred pages at 6 s each are a service in trouble.
            poll_time: Duration::from_secs(600),
            scopes: 20_000,
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

/// What compiling one plugin may use; it is done in a process of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileLimits {
    /// Memory; the project's own plugin needs about 100 MiB.
    pub memory_bytes: u64,
    /// Time on processors, all threads together, in whole seconds; the project's own needs 1 s, and 7 s where the compiler
    /// itself was built without optimisation.
    pub cpu_time: Duration,
    /// Time in all.
    pub wall_time: Duration,
    /// What comes out; that of the project's own has 3 MiB.
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

/// Plugins that are compiled at the same time, those that this host trusts apart: each may take the memory of
/// [`CompileLimits`].
pub const COMPILES: usize = 4;

/// How often the engine looks at the clock: short enough to stop a loop soon, long enough to cost nothing.
pub const EPOCH_TICK: Duration = Duration::from_millis(10);

/// Calls that run at the same time; further ones wait for a place.
pub const CALLS: u32 = 128;

/// Core instances, memories and tables of one component: a component has its module and two shims.
pub const CORE_INSTANCES_PER_COMPONENT: u32 = 4;

/// Memory that stays mapped in a free place, so that the next call meets no cold pages.
pub const WARM_MEMORY_BYTES: usize = 2 << 20;

/// Free places that stay warm.
pub const WARM_PLACES: u32 = 4;

/// Stack of WebAssembly code.
pub const STACK_BYTES: usize = 512 << 10;

/// Stack of a call, host functions included.
pub const ASYNC_STACK_BYTES: usize = 2 << 20;

/// Headers as the host keeps them for the guest; see `response_header_bytes`.
pub const FIELD_BYTES: usize = 128 << 10;

/// A plugin's file; the project's own has 1 MiB.
pub const PLUGIN_BYTES: u64 = 64 << 20;

/// Time for a connection, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for one whole exchange.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections stay open this long without use.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// A token is renewed this long before it expires; Microsoft's own libraries use the same number.
pub const TOKEN_RENEWAL: Duration = Duration::from_secs(300);

/// The same request for a token is sent at most this many times within [`TOKEN_WINDOW`]: Entra ID refuses the sixteenth.
pub const TOKEN_REQUESTS: usize = 5;

/// A request for a token is given up after this time, whatever carries it: others may wait for its answer.
pub const TOKEN_EXCHANGE: Duration = Duration::from_secs(60);

/// See [`TOKEN_REQUESTS`].
pub const TOKEN_WINDOW: Duration = Duration::from_secs(300);

/// How long a signed assertion is good for; Microsoft's own libraries use the same number.
pub const ASSERTION_LIFE: Duration = Duration::from_secs(600);

/// A warning comes when no more days than these are left to a credential.
pub const EXPIRY_WARNINGS: [u64; 2] = [30, 7];

/// Placeholders of one call: one assertion is enough for a token.
pub const ASSERTIONS: usize = 16;

/// A file of the configuration, or one that it names: ten thousand feeds take 5 MB.
pub const FILE_BYTES: u64 = 64 << 20;

/// A file with the token of another identity provider; the largest seen has 2 KiB.
pub const TOKEN_FILE_BYTES: u64 = 32 << 10;

/// A token that says no life is taken for one of an hour, the shortest that identity providers give by themselves.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3_599);

/// A refusal of the token endpoint is given again for this long; Microsoft's own libraries use the same number.
pub const REFUSAL_KEPT: Duration = Duration::from_secs(60);

/// What one feed may write to the log in a minute: two calls that write all that a call may, or a failure of each of a
/// hundred scopes. More is 370 MB a day.
pub const LOG_BYTES_A_MINUTE: u64 = 256 << 10;

/// What a line of the log has besides its words: time, level and names, about.
pub const LOG_LINE_FRAME: usize = 100;

/// A tenant's connections are dropped when it did not poll for this long.
pub const IDLE_TENANT: Duration = Duration::from_secs(60);

/// A code of a failure or a notice; the longest of the project's own has 25 bytes.
pub const CODE_BYTES: usize = 256;

/// The words of a failure or a notice.
pub const WORDS_BYTES: usize = 4 << 10;

/// A name or a title, for people.
pub const NAME_BYTES: usize = 1 << 10;

/// What something is found again by: a scope, an event, the subject of a figure. Azure's longest have 400 bytes.
pub const ID_BYTES: usize = 2 << 10;

/// Data of the plugin's own with a scope, which the host keeps.
pub const PLUGIN_DATA_BYTES: usize = 4 << 10;

/// Members of one gzip stream. Servers send one, or one a file that they put together; an empty one costs the decoder as
/// much as a full one.
pub const GZIP_MEMBERS: usize = 1_000;

/// Origin, path or whole address of a request.
pub const ADDRESS_BYTES: usize = 16 << 10;

/// The name of a host, as DNS has it.
pub const HOST_NAME: usize = 253;

/// One label of such a name.
pub const HOST_LABEL: usize = 63;

/// An origin: a scheme, a name of the longest characters, and a port.
pub const ORIGIN_BYTES: usize = 8 + 4 * HOST_NAME + 6;

/// Different origins of one plan: the project's own plugin has three.
pub const ORIGINS: usize = 100;

/// A cursor or a token; services put whole states into theirs.
pub const CURSOR_BYTES: usize = 64 << 10;

/// JSON Schema of a plugin's settings; the project's own has 6 KiB.
pub const SCHEMA_BYTES: usize = 256 << 10;

/// Entries of any list of a description or a plan: shapes are as many as the subscriptions of one feed.
pub const ENTRIES: usize = 20_000;

/// Credentials on one request.
pub const CREDENTIAL_USES: usize = 16;

/// Problems with settings that are told; nobody mends more at once.
pub const PROBLEMS: usize = 100;

/// What one write to the body of a request may have; each body holds one or two.
pub const BODY_CHUNK_BYTES: usize = 64 << 10;

/// The schema of a credential, as text: it is applied in the host, to values that the plugin does not see.
pub const CREDENTIAL_SCHEMA_BYTES: usize = 4 << 10;

/// Patterns in such a schema: to read one of [`PATTERN_BYTES`] takes half a millisecond, while others wait.
pub const CREDENTIAL_PATTERNS: usize = 8;

/// Levels of objects and lists in an event, itself included. Readers have limits of their own, from 100 on; an event of OCSF
/// has about ten.
pub const EVENT_LEVELS: usize = 64;

/// What one pattern of such a schema may become when it is read.
pub const PATTERN_BYTES: usize = 64 << 10;

/// Answers of token endpoints that are kept because one tenant asked first; its further requests are sent each time.
pub const TOKENS_KEPT: usize = 1_000;

/// Answer of a token endpoint that is kept; a longer one is asked for each time.
pub const TOKEN_ANSWER_BYTES: usize = 64 << 10;

/// Requests of one call that are under way at the same time; further ones wait.
pub const REQUESTS_AT_ONCE: usize = 4;

/// Unix milliseconds of the end of the year 9999: later times have no usual spelling.
pub const LATEST_TIME: u64 = 253_402_300_799_999;

/// A clock that went back by more than this was set, and everything is planned anew.
pub const CLOCK_STEP: Duration = Duration::from_secs(60);

/// TLS sessions that a tenant's client keeps for resumption: it talks to two or three names.
pub const TLS_SESSIONS: usize = 8;

/// Bytes of headers that the HTTP client itself reads before it gives up.
pub const HEADER_BUFFER_BYTES: usize = 400 << 10;

/// Different refused requests of one feed that are told; a plugin may try without end.
pub const DENIALS_TOLD: usize = 16;

/// Bytes that are read of the words of a compiler.
pub const COMPILER_WORDS_BYTES: u64 = 4 << 10;

/// How often it is looked whether a compiler that has written its code has ended.
pub const COMPILER_LOOK: Duration = Duration::from_millis(1);
