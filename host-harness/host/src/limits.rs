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

/// Retries of a single poll from the command line.
pub const POLL_RETRIES: usize = 2;

/// Waiting of a single poll from the command line, all retries together.
pub const POLL_WAIT: Duration = Duration::from_secs(10);

/// A clock that is off by more is told of: half the life of a signed assertion is gone by then, see [`ASSERTION_LIFE`].
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Addresses of one name that a check tries to connect to.
pub const PROBED_ADDRESSES: usize = 4;

/// Head of a proxy's answer to a check; the longest seen has 300 bytes.
pub const PROXY_ANSWER_BYTES: usize = 8 << 10;

/// Headers in it.
pub const PROXY_HEADERS: usize = 64;

/// Symbolic links that are followed from one path, as the kernel does.
pub const LINKS: usize = 40;

/// Scopes that one `poll` reads at the same time.
pub const POLLS_IN_FLIGHT: usize = 8;

/// A token is renewed this long before it expires; Microsoft's own libraries use the same number.
pub const TOKEN_RENEWAL: Duration = Duration::from_secs(300);

/// First wait after a fault of the network or the service; doubled with each further one.
pub const LEAST_BACKOFF: Duration = Duration::from_secs(30);

/// Longest wait after such a fault.
pub const MOST_BACKOFF: Duration = Duration::from_secs(3_600);

/// First wait after an answer that the plugin does not understand.
pub const ALARM_BACKOFF: Duration = Duration::from_secs(300);

/// First wait for a person to mend something, unless the interval is longer.
pub const SLOW_RETRY: Duration = Duration::from_secs(3_600);

/// Longest wait for a person: what is mended is collected again the same day.
pub const SLOWEST_RETRY: Duration = Duration::from_secs(6 * 3_600);

/// The most that a service may ask to wait.
pub const LONGEST_WAIT: Duration = DAY;

/// Scopes that waited for the same throttle come back within this time.
pub const THROTTLE_SPREAD: Duration = Duration::from_secs(10);

/// Between the beginnings of two scopes that were never polled, or are overdue: 10,000 take 8 minutes.
pub const FIRST_POLL_GAP: Duration = Duration::from_millis(50);

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

/// Polls in flight at the same time in `run`, unless the configuration says otherwise.
pub const POLLS: usize = 64;

/// Polls in flight of one tenant.
pub const POLLS_OF_TENANT: usize = 8;

/// How long a scope whose outbox is full waits until it looks again, unless something was delivered meanwhile.
pub const OUTBOX_PAUSE: Duration = Duration::from_secs(30);

/// What waits for one sink from one tenant: about 15,000 events.
pub const OUTBOX_BYTES: u64 = 64 << 20;

/// What the state keeps of one feed beside the outbox: a scope with ten figures that change a day has about 1.2 MB after the
/// 400 days of [`HISTORY`], so that this is two hundred of these.
pub const STATE_BYTES_OF_FEED: u64 = 256 << 20;

/// What the state keeps of all feeds of one tenant: four of the largest.
pub const STATE_BYTES_OF_TENANT: u64 = 1 << 30;

/// What one feed may write to the log in a minute: two calls that write all that a call may, or a failure of each of a
/// hundred scopes. More is 370 MB a day.
pub const LOG_BYTES_A_MINUTE: u64 = 256 << 10;

/// What a line of the log has besides its words: time, level and names, about.
pub const LOG_LINE_FRAME: usize = 100;

/// Events of one delivery: their number.
pub const BATCH_EVENTS: usize = 500;

/// Events of one delivery: their bytes before compression; Fluent Bit takes 4 MiB.
pub const BATCH_BYTES: usize = 1 << 20;

/// First wait after a failed delivery; doubled with each further one.
pub const LEAST_DELIVERY_BACKOFF: Duration = Duration::from_secs(1);

/// Longest wait after a failed delivery.
pub const MOST_DELIVERY_BACKOFF: Duration = Duration::from_secs(60);

/// A failure that was met again is told of after this time, with how often it was met.
pub const SUMMARY: Duration = Duration::from_secs(3_600);

/// Time for one delivery over HTTP.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Deliveries that run at the same time.
pub const DELIVERIES: usize = 16;

/// A file of events is put aside when it has this size.
pub const ROTATE_BYTES: u64 = 256 << 20;

/// What the store keeps of its file in memory, in KiB: a commit touches some dozen pages of 4 KiB.
pub const STORE_CACHE_KIB: i64 = 1 << 10;

/// Figures in the history are kept this long.
pub const HISTORY: Duration = Duration::from_secs(400 * 86_400);

/// How often the files of the configuration are looked at.
pub const WATCH: Duration = Duration::from_secs(5);

/// Free memory at the end of the heap that the collector may hold on to; larger pieces are the system's at once.
pub const HELD_BYTES: i32 = 128 << 10;

/// How often an idle collector gives free memory back to the system: what one reading of the metrics leaves behind is
/// 10 MB with ten thousand feeds.
pub const TRIM: Duration = Duration::from_secs(10);

/// How long polls and deliveries may take to end after the collector was told to stop.
pub const SHUTDOWN: Duration = Duration::from_secs(20);

/// How often it is looked whether the collector's loop turns.
pub const LOOP_TICK: Duration = Duration::from_millis(250);

/// The log tells of a loop that does not turn for this long; it turns at least once in [`WATCH`].
pub const LOOP_LATE: Duration = Duration::from_secs(15);

/// A process whose loop does not turn for this long ends, so that a supervisor starts it again.
pub const LOOP_LOST: Duration = Duration::from_secs(120);

/// A tenant's connections are dropped when it did not poll for this long.
pub const IDLE_TENANT: Duration = Duration::from_secs(60);

/// How long a poll waits for another of the same scope to end, which a change of the configuration left behind.
pub const BUSY_PAUSE: Duration = Duration::from_secs(1);

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

/// Levels of objects and lists in an event, itself included. Readers have limits of their own, from 100 on; an event of OCSF
/// has about ten.
pub const EVENT_LEVELS: usize = 64;

/// Scopes of one recording that `conformance` tries.
pub const CONFORMANCE_SCOPES: usize = 16;

/// How often `conformance` asks for what must be the same each time: a plugin that differs in every second answer shows the
/// same one so often by chance in one of 32,768 tries.
pub const CONFORMANCE_CALLS: usize = 16;

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

/// A configuration that was not taken is read again after this time, though no file changed.
pub const RELOAD_RETRY: Duration = Duration::from_secs(60);

/// A clock that went back by more than this was set, and everything is planned anew.
pub const CLOCK_STEP: Duration = Duration::from_secs(60);

/// Scopes of one feed that are not polled any more and are kept all the same, for when they come back.
pub const UNPOLLED_SCOPES: usize = 1_000;

/// How long such a scope is kept: Azure deletes a cancelled subscription after 30 to 90 days.
pub const UNPOLLED_KEPT: Duration = Duration::from_secs(90 * 86_400);

/// How often old history is forgotten.
pub const PRUNE: Duration = DAY;

/// Scopes of one search that are taken up at a time: others are answered in between.
pub const FINDINGS_AT_ONCE: usize = 500;

/// A feed with more scopes is not counted anew with each poll.
pub const NOTED_AT_ONCE: usize = 500;

/// Different codes of notices that are counted for one feed.
pub const NOTICE_CODES: usize = 64;

/// Feeds that are checked at the same time when a configuration is read. Each place that was ever used for a call keeps
/// its memory.
pub const CHECKS: usize = 4;

/// How long a search waits to be made again, where a poll that was in flight kept it from giving a scope up.
pub const SEARCH_PAUSE: Duration = Duration::from_secs(15);

/// Time of which the collector's log has one line in place of one for each poll.
pub const TALLY: Duration = Duration::from_secs(3_600);

/// Whoever waits at a terminal for longer than this wonders what is being done.
pub const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// How often it is looked whether something takes that long.
pub const PROGRESS_LOOK: Duration = Duration::from_millis(250);

/// Time between two lines of that kind where they go to a file or a pipe: enough for whoever reads a log later.
pub const PROGRESS_PAUSE: Duration = Duration::from_secs(10);

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

/// The longest interval; a schedule beyond a month is a mistake.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(31 * 86_400);

/// The shortest interval that a plugin may propose; a shorter one is the operator's to write. The shortest that a service
/// was seen to need is a minute.
pub const LEAST_PROPOSED_INTERVAL: Duration = Duration::from_secs(60);

/// Scopes on the status page, and sinks with trouble on it: those that need somebody come first.
pub const STATUS_ROWS: usize = 500;

/// A collector that does not answer the status server within this time does not work.
pub const STATUS_ANSWER: Duration = Duration::from_secs(5);

/// Readers of the status server at the same time.
pub const STATUS_CONNECTIONS: usize = 64;

/// Readers from one address at the same time; a scrape and a page need two.
pub const STATUS_CONNECTIONS_OF_PEER: usize = 16;

/// Readers beyond those, of health alone: the oldest goes where one more comes.
pub const HEALTH_CONNECTIONS: usize = 16;

/// A reader that sends the status server no whole request within this time is let go.
pub const STATUS_REQUEST: Duration = Duration::from_secs(10);

/// A reader that takes nothing of its answer for this long is let go.
pub const STATUS_WRITE: Duration = Duration::from_secs(10);

/// Time for one whole exchange with the status server: Prometheus gives up after 10 s by default.
pub const STATUS_EXCHANGE: Duration = Duration::from_secs(60);

/// How long the status server waits for a free socket, where the process has none.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of the metrics that are written before they are sent.
pub const METRICS_CHUNK_BYTES: usize = 64 << 10;

/// Bytes that are read of a receiver's words about a refusal.
pub const REFUSAL_BYTES: usize = 64 << 10;

/// Bytes of those words that are told.
pub const REFUSAL_TOLD_BYTES: usize = 200;

/// How far from its end a file of events is searched for the end of its last whole line, at a time.
pub const FILE_STEP_BYTES: u64 = 64 << 10;

/// A longer rest of a file of events is no half event: the largest event has 64 KiB.
pub const HALF_EVENT_BYTES: usize = 128 << 10;

/// How long the program waits at its end for a write to a pipe that nobody reads.
pub const LAST_WRITE: Duration = Duration::from_millis(100);
