//! Every timeout, cap and count of the collector and its tools. Those of plugins and their calls stand in `source_host::limits`.

use std::time::Duration;

use source_host::limits::DAY;

/// Retries of a single poll from the command line.
pub const POLL_RETRIES: usize = 2;

/// Waiting of a single poll from the command line, all retries together.
pub const POLL_WAIT: Duration = Duration::from_secs(10);

/// A clock that is off by more is told of: half the life of a signed assertion is gone by then, see
/// [`ASSERTION_LIFE`](source_host::limits::ASSERTION_LIFE).
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

/// Bytes that should stay free on the file system of the state, if that is large.
pub const FREE_BYTES: u64 = 256 << 20;

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

/// How long a poll waits for another of the same scope to end, which a change of the configuration left behind.
pub const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Scopes of one recording that `conformance` tries.
pub const CONFORMANCE_SCOPES: usize = 16;

/// How often `conformance` asks for what must be the same each time: a plugin that differs in every second answer shows the
/// same one so often by chance in one of 32,768 tries.
pub const CONFORMANCE_CALLS: usize = 16;

/// A configuration that was not taken is read again after this time, though no file changed.
pub const RELOAD_RETRY: Duration = Duration::from_secs(60);

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

/// A start or a reload waits this long for the plugins of files. Their feeds come later, and the others go first.
pub const PLUGIN_PATIENCE: Duration = Duration::from_secs(2);

/// A plugin that failed is not tried again for this long, nor is its plan for the same settings.
pub const PLUGIN_FAULT_KEPT: Duration = Duration::from_secs(3_600);

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
