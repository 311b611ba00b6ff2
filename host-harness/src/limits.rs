//! Every timeout, cap and count of the collector and its tools. Those of plugins and their calls are in
//! `source_host::limits`.

use std::time::Duration;

use source_host::limits::DAY;

/// Number of retries of a single poll from the command line.
pub const POLL_RETRIES: usize = 2;

/// Total time that a single poll from the command line waits for retries.
pub const POLL_WAIT: Duration = Duration::from_secs(10);

/// Clock error from which `check` warns: half the life of a signed assertion is gone by then, see
/// [`ASSERTION_LIFE`](source_host::limits::ASSERTION_LIFE).
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Number of addresses of one name to which a check tries to connect.
pub const PROBED_ADDRESSES: usize = 4;

/// Bytes in the head of a proxy's answer to a check; the longest seen has 300.
pub const PROXY_ANSWER_BYTES: usize = 8 << 10;

/// Number of headers in a proxy's answer to a check.
pub const PROXY_HEADERS: usize = 64;

/// Number of symbolic links that are followed from one path, the same as in the kernel.
pub const LINKS: usize = 40;

/// Number of scopes that one `poll` reads at the same time.
pub const POLLS_IN_FLIGHT: usize = 8;

/// First wait after a fault of the network or the service; doubled after each further fault.
pub const LEAST_BACKOFF: Duration = Duration::from_secs(30);

/// First wait after a poll whose result the store did not take; doubled after each further one.
pub const STORE_BACKOFF: Duration = Duration::from_secs(5);

/// Longest wait after a poll whose result the store did not take: with its spread less than the 15 minutes in which the
/// alert `ResultsNotStored` looks for another failure.
pub const MOST_STORE_BACKOFF: Duration = Duration::from_secs(600);

/// Longest wait after a fault of the network or the service.
pub const MOST_BACKOFF: Duration = Duration::from_secs(3_600);

/// First wait after an answer that the plugin does not understand.
pub const ALARM_BACKOFF: Duration = Duration::from_secs(300);

/// First wait for a person to mend a problem, unless the interval is longer.
pub const SLOW_RETRY: Duration = Duration::from_secs(3_600);

/// Longest wait for a person: a mended scope is collected again on the same day.
pub const SLOWEST_RETRY: Duration = Duration::from_secs(6 * 3_600);

/// The longest wait that a service may ask for.
pub const LONGEST_WAIT: Duration = DAY;

/// Scopes that waited for the same service continue within this time.
pub const THROTTLE_SPREAD: Duration = Duration::from_secs(10);

/// Time between the searches of two feeds that are overdue, and between the first polls of two new scopes of one feed:
/// 10,000 feeds take 8 minutes.
pub const FIRST_POLL_GAP: Duration = Duration::from_millis(50);

/// Default number of polls in flight at the same time in `run`.
pub const POLLS: usize = 64;

/// Default number of polls of one tenant in flight at the same time.
pub const POLLS_OF_TENANT: usize = 8;

/// Time after which a scope whose outbox is full checks again, unless a delivery succeeds earlier.
pub const OUTBOX_PAUSE: Duration = Duration::from_secs(30);

/// Default bytes of events of one tenant that wait for one sink: about 15,000 events.
pub const OUTBOX_BYTES: u64 = 64 << 20;

/// Default bytes in the state for one feed, without the outbox. A scope with ten figures that change a day has about
/// 1.2 MB after the 400 days of [`HISTORY`], so that this limit holds two hundred such scopes.
pub const STATE_BYTES_OF_FEED: u64 = 256 << 20;

/// Default bytes in the state for all feeds of one tenant: four of the largest.
pub const STATE_BYTES_OF_TENANT: u64 = 1 << 30;

/// Bytes that should stay free on a large file system of the state.
pub const FREE_BYTES: u64 = 256 << 20;

/// The part of a nearly full disk's free space that one tenant may write, as a divisor. Of two hundred tenants that write
/// all they may, each gets a two-hundred-and-eighth.
pub const PARTS_OF_FREE_BYTES: u64 = 8;

/// Time after which events that wait for room on a disk are tried again. Events of other tenants in the same file are
/// delivered meanwhile, at this interval.
pub const SPACE_PAUSE: Duration = Duration::from_secs(2);

/// Bytes of one tenant's delivered events that a sink with `keep_delivered` keeps.
pub const DELIVERED_BYTES: u64 = 256 << 20;

/// Number of rows that `migrate` moves in one transaction.
pub const MOVED_AT_ONCE: i64 = 500;

/// The same for states and events out of a database: a row may be some MiB long.
pub const MOVED_LONG_AT_ONCE: i64 = 50;

/// Bytes after which such a transaction gets no more rows.
pub const MOVED_BYTES: usize = 4 << 20;

/// Number of delivered events that are put back into the outbox in one transaction.
pub const REDELIVERED_AT_ONCE: usize = 1_000;

/// Number of events of one delivery.
pub const BATCH_EVENTS: usize = 500;

/// Bytes of the events of one delivery, before compression; Fluent Bit accepts 4 MiB.
pub const BATCH_BYTES: usize = 1 << 20;

/// Levels of an event that a log record of OpenTelemetry has as structure; deeper ones are text. Each level takes three
/// messages of protobuf within each other, and readers accept 100.
#[cfg(feature = "otlp")]
pub const OTLP_LEVELS: usize = 24;

/// First wait after a failed delivery; doubled after each further failure.
pub const LEAST_DELIVERY_BACKOFF: Duration = Duration::from_secs(1);

/// Longest wait after a failed delivery.
pub const MOST_DELIVERY_BACKOFF: Duration = Duration::from_secs(60);

/// Age of a waiting event from which `status` says that its sink does not take events, many times the longest wait after a
/// failed delivery; and the least time after which it says that a scope is not polled.
pub const LATE_DELIVERY: Duration = Duration::from_secs(15 * 60);

/// Time after which a repeated failure is logged again, with its count.
pub const SUMMARY: Duration = Duration::from_secs(3_600);

/// Time for one delivery over HTTP, and for connecting to one of several servers of NATS.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for the servers of NATS to acknowledge one message, or to answer a question about a stream. A cluster that lost
/// the leader of a stream elects another within a few seconds.
#[cfg(feature = "nats")]
pub const NATS_ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// Age of a delivery to a stream after which no further event of it begins. A slow stream would otherwise take 500 events of
/// one scope, one after the other, before any of them leaves the outbox. With the wait for the last acknowledgement, a
/// delivery that has begun ends within [`SHUTDOWN_WORK`].
#[cfg(feature = "nats")]
pub const NATS_BATCH: Duration = Duration::from_secs(3);

/// Messages of a subject below which the limit of a stream is told of: a poll may write as many events of one subject.
#[cfg(feature = "nats")]
pub const SUBJECT_MESSAGES: u64 = 500;

/// Shortest `max_age` and `duplicate_window` of a stream.
#[cfg(feature = "nats")]
pub const LEAST_STREAM_SPAN: Duration = Duration::from_secs(1);

/// Longest `max_age` and `duplicate_window` of a stream.
#[cfg(feature = "nats")]
pub const LONGEST_STREAM_SPAN: Duration = Duration::from_secs(3_650 * 24 * 3_600);

/// Number of deliveries that run at the same time.
pub const DELIVERIES: usize = 16;

/// Number of deliveries to one sink that run at the same time for partitions whose last two deliveries failed: a tenant's
/// receiver that does not answer takes no place from those of other tenants.
pub const RETRIED_DELIVERIES: usize = 4;

/// Size in bytes at which a file of events is rotated.
pub const ROTATE_BYTES: u64 = 256 << 20;

/// The shortest period of a file of events; a shorter one would make a file for nearly each poll.
pub const LEAST_ROTATION: Duration = Duration::from_secs(60);

/// Polls that one transaction of the store commits. Later ones wait for the next one, so that a crash repeats few.
pub const COMMITS_AT_ONCE: usize = 32;

/// Feeds that stay open between two jobs: an open feed holds its token, so that the plugin is not asked for it again, and
/// takes some kilobytes.
pub const OPEN_FEEDS: usize = 64;

/// Time after which a feed that was left open is closed, if no job works with it.
pub const OPEN_FEED: Duration = Duration::from_secs(30);

/// Memory in KiB for the store's page cache: a commit changes some dozen pages of 4 KiB.
pub const STORE_CACHE_KIB: i64 = 1 << 10;

/// Time to connect to a server of the state, with TLS and login.
pub const STORE_CONNECT: Duration = Duration::from_secs(4);

/// Time after which the next of several servers is asked, too, while the one before it does not answer: a part of
/// [`RENEWAL`], so that a machine that is gone costs no renewal.
pub const STORE_NEXT_HOST: Duration = Duration::from_millis(300);

/// The name that connections to a server of the state show in `pg_stat_activity` and in the server's log.
pub const STORE_NAME: &str = "host-harness";

/// Silence on a connection to the server of the state after which the system asks whether the other end is still there.
pub const STORE_KEEPALIVE: Duration = Duration::from_secs(5);

/// Time after which data that the server of the state did not confirm counts as lost, with its connection.
pub const STORE_SILENCE: Duration = Duration::from_secs(10);

/// Time for one statement on a server of the state: the longest read the rows of a collector's shards at its start.
pub const STORE_STATEMENT: Duration = Duration::from_secs(60);

/// Time that a statement waits for a lock: a collector that lost its connection may still have a transaction there for
/// [`STORE_IDLE_TRANSACTION`].
pub const STORE_LOCK: Duration = Duration::from_secs(15);

/// Time after which the server ends a transaction of a collector that asks no more: a frozen collector must not hold its
/// locks for longer than its lease.
pub const STORE_IDLE_TRANSACTION: Duration = Duration::from_secs(10);

/// The first pause before a lost connection to the server of the state is made again; later ones double.
pub const STORE_PAUSE: Duration = Duration::from_millis(100);

/// The longest such pause: a promoted standby is found soon.
pub const STORE_LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Time for which a question is repeated while no server of the state can be used. A failover takes some seconds.
pub const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// Rows of the history that one statement on a server of the state removes: it holds their locks for some ten
/// milliseconds.
pub const PRUNED_AT_ONCE: i64 = 1_000;

/// Age at which figures are removed from the history.
pub const HISTORY: Duration = Duration::from_secs(400 * 86_400);

/// Interval at which the files of the configuration are checked.
pub const WATCH: Duration = Duration::from_secs(5);

/// Free bytes at the end of the heap that the collector may keep; larger pieces return to the system at once.
pub const HELD_BYTES: i32 = 128 << 10;

/// Interval at which an idle collector returns free memory to the system: one reading of the metrics leaves 10 MB with
/// ten thousand feeds.
pub const TRIM: Duration = Duration::from_secs(10);

/// Time within which the process ends after it was told to stop, whatever hangs.
pub const SHUTDOWN: Duration = Duration::from_secs(20);

/// The part of that time which polls and deliveries have to end.
pub const SHUTDOWN_WORK: Duration = Duration::from_secs(16);

/// The part of that time which polls have to end.
pub const SHUTDOWN_POLLS: Duration = Duration::from_secs(10);

/// The part of the time for polls and deliveries that is kept for the store, which closes last.
pub const SHUTDOWN_STORE: Duration = Duration::from_secs(2);

/// Time before the end of [`SHUTDOWN`] at which a process that still runs is ended, and time after which it is ended if it
/// was told to stop a second time.
pub const SHUTDOWN_ROOM: Duration = Duration::from_secs(1);

/// Interval at which the collector's loop is watched.
pub const LOOP_TICK: Duration = Duration::from_millis(250);

/// Time after which the log reports that the loop is stuck; a working loop makes a turn at least once in [`WATCH`].
pub const LOOP_LATE: Duration = Duration::from_secs(15);

/// Time after which a process whose loop is stuck ends, so that a supervisor starts it again.
pub const LOOP_LOST: Duration = Duration::from_secs(120);

/// Time after which a poll tries again while another poll of the same scope, left over from a configuration change, is
/// in flight.
pub const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Number of scopes of one recording that `conformance` tries.
pub const CONFORMANCE_SCOPES: usize = 16;

/// Number of times that `conformance` repeats a call whose answers must be equal: a plugin whose every second answer
/// differs passes by chance in one of 32,768 runs.
pub const CONFORMANCE_CALLS: usize = 16;

/// Time after which a configuration that was rejected, or that left a feed out for a reason that may pass, is read again,
/// even if no file changed.
pub const RELOAD_RETRY: Duration = Duration::from_secs(60);

/// Number of unpolled scopes of one feed that are kept in case they come back.
pub const UNPOLLED_SCOPES: usize = 1_000;

/// Time for which an unpolled scope is kept: Azure deletes a cancelled subscription after 30 to 90 days.
pub const UNPOLLED_KEPT: Duration = Duration::from_secs(90 * 86_400);

/// Interval at which old history is removed.
pub const PRUNE: Duration = DAY;

/// Number of scopes of one search that are applied at once, so that other work is done in between.
pub const FINDINGS_AT_ONCE: usize = 500;

/// Number of a feed's scopes beyond which the feed is not counted again after each poll.
pub const NOTED_AT_ONCE: usize = 500;

/// Number of different codes of notices that are counted for one feed.
pub const NOTICE_CODES: usize = 64;

/// Number of feeds that are checked at the same time when a configuration is read. Each slot that was ever used for a
/// call keeps its memory.
pub const CHECKS: usize = 4;

/// Time that a start or a reload waits for the plugins of files. Feeds whose plugins take longer follow later, and the
/// others begin first.
pub const PLUGIN_PATIENCE: Duration = Duration::from_secs(2);

/// Time after which a failed plugin, or its plan for the same settings, is tried again.
pub const PLUGIN_FAULT_KEPT: Duration = Duration::from_secs(3_600);

/// Time after which a search is repeated if a poll in flight kept it from giving a scope up.
pub const SEARCH_PAUSE: Duration = Duration::from_secs(15);

/// Time that one summary line in the collector's log covers.
pub const TALLY: Duration = Duration::from_secs(3_600);

/// Time after which work is shown to a user who waits at a terminal.
pub const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// Interval at which work in progress is checked for its duration.
pub const PROGRESS_LOOK: Duration = Duration::from_millis(250);

/// Time between two such lines in a file or a pipe, which is enough for later readers of a log.
pub const PROGRESS_PAUSE: Duration = Duration::from_secs(10);

/// Interval that `status` assumes of a feed without one: the proposal of the built-in plugin, because `status` asks no plugin.
pub const ASSUMED_INTERVAL: Duration = Duration::from_secs(3_600);

/// The longest interval; a schedule beyond a month is a mistake.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(31 * 86_400);

/// The shortest interval that a plugin may propose; only the operator may set a shorter one. The shortest that a
/// service was seen to need is a minute.
pub const LEAST_PROPOSED_INTERVAL: Duration = Duration::from_secs(60);

/// Number of problems of one kind on the status page: scopes and feeds that fail, feeds that are left out or being
/// checked, credentials that end soon, sinks with problems.
pub const STATUS_ROWS: usize = 100;

/// Number of tenants on one page of the status page.
pub const STATUS_TENANTS: usize = 25;

/// Number of scopes of one tenant on a page of several tenants.
pub const STATUS_SCOPES_OF_TENANT: usize = 5;

/// Number of scopes on one page of a tenant.
pub const STATUS_SCOPES: usize = 100;

/// Number of scopes beyond which no history of a tenant is drawn on a page of several tenants, so that one large tenant
/// does not delay the page.
pub const STATUS_HISTORIES: usize = 100;

/// Number of scopes of one tenant beyond which the tenant's own page draws no history of it.
pub const TENANT_HISTORIES: usize = 2_000;

/// Number of equal spans of time in which the course of a scope's first day is drawn.
pub const BEGINNING_SPANS: usize = 60;

/// Number of histories of the store that the status server reads at the same time: each reading holds the parts of one
/// scope in memory.
pub const HISTORY_READERS: usize = 2;

/// Number of parts of a scope that an answer lists, those with the most points at stake first. Microsoft's secure score
/// has about 25.
pub const PARTS_SHOWN: usize = 100;

/// Number of parts that are named for one change of a figure: more explain nothing to a reader.
pub const MOVED_PARTS: usize = 20;

/// Number of parts of a scope that are read for a table of them.
pub const PARTS_READ: usize = 1_000;

/// Number of figures that are read for the history of one subject: ten a day for the time of [`HISTORY`].
pub const SAMPLES_READ: u32 = 4_000;

/// Number of figures that are read for the history of one part: one for each day of [`HISTORY`]. With [`PARTS_READ`] parts
/// a reading holds 400,000 figures.
pub const PART_SAMPLES_READ: u32 = 400;

/// Number of characters of a cause or a fix on a page with several scopes; the page of the scope has the whole text.
pub const WORDS_SHOWN: usize = 300;

/// Time that a reader of the store waits for a lock. It waits only while another process recovers the write-ahead log.
pub const READER_PATIENCE: Duration = Duration::from_secs(2);

/// Number of changes of a scope's figure that are told with the parts that moved it.
pub const CHANGES_TOLD: usize = 10;

/// Number of characters of a name beyond which the status page and `status` shorten it in the middle.
pub const NAME_SHOWN: usize = 40;

/// Time within which a working collector answers the status server.
pub const STATUS_ANSWER: Duration = Duration::from_secs(5);

/// Number of connections of the status server at the same time.
pub const STATUS_CONNECTIONS: usize = 64;

/// Number of connections from one address at the same time; a scrape and a page need two.
pub const STATUS_CONNECTIONS_OF_PEER: usize = 16;

/// Number of further connections for health checks only; when one more arrives, the oldest is closed.
pub const HEALTH_CONNECTIONS: usize = 16;

/// Time within which a client must send the status server a whole request.
pub const STATUS_REQUEST: Duration = Duration::from_secs(10);

/// Time after which a client that accepts none of its answer is disconnected.
pub const STATUS_WRITE: Duration = Duration::from_secs(10);

/// Time for one whole exchange with the status server: Prometheus gives up after 10 s by default.
pub const STATUS_EXCHANGE: Duration = Duration::from_secs(60);

/// Time that the status server waits for a free socket if the process has none.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of the metrics that are written before they are sent.
pub const METRICS_CHUNK_BYTES: usize = 64 << 10;

/// Bytes of a receiver's refusal that are read.
pub const REFUSAL_BYTES: usize = 64 << 10;

/// Bytes that an answer to an accepted batch may have: a message of 2 KiB for each of 500 records.
pub const ACCEPTANCE_BYTES: usize = 1 << 20;

/// Bytes of a receiver's refusal that are logged.
pub const REFUSAL_TOLD_BYTES: usize = 200;

/// Bytes at a time in which a file of events is searched, from its end, for the end of its last complete line.
pub const FILE_STEP_BYTES: u64 = 64 << 10;

/// A longer rest of a file of events is not an incomplete event: the largest event has 64 KiB.
pub const HALF_EVENT_BYTES: usize = 128 << 10;

/// Time that the program waits at its end for a write to a pipe that nobody reads.
pub const LAST_WRITE: Duration = Duration::from_millis(200);

/// Time that the program waits at its end, and after a panic, for the next line of its log.
pub const LAST_LINES: Duration = Duration::from_millis(500);

/// Time that the program waits for all lines of its log then, while somebody reads them.
pub const ALL_LAST_LINES: Duration = Duration::from_millis(750);

/// Bytes of the log that wait for a reader of standard error; beyond them, lines wait for room.
pub const LOG_WAITING_BYTES: usize = 1 << 20;

/// Time that lines of the log wait for room; then lines are dropped.
pub const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// Time that `conformance --host` waits for the next request of a host, or for its end: a host may give an endless call a
/// minute.
pub const HOST_TRIAL: Duration = Duration::from_secs(120);

/// The number of such times that one run may take.
pub const HOST_TRIAL_PATIENCES: u32 = 10;

/// Interval at which `conformance --host` checks whether the host has ended.
pub const HOST_LOOK: Duration = Duration::from_millis(20);

/// Bytes of a host's output that `conformance --host` reads: the lines of the probe have 600 KB.
pub const HOST_OUTPUT_BYTES: u64 = 16 << 20;

/// Bytes of the output that are shown of a host that polled nothing.
pub const HOST_LAST_WORDS_BYTES: usize = 2 << 10;

/// Time that the observer of `conformance --host` waits for a host to send or read.
pub const OBSERVER_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a request that the observer reads.
pub const OBSERVED_REQUEST_BYTES: usize = 1 << 20;

/// Bytes of the observer's endless answer: far more than a good answer has, and little enough for any machine.
pub const OBSERVED_ANSWER_BYTES: usize = 64 << 20;

/// The step of a scope of the probe at which the observer ends what the host should have ended: 1,000 pages of a poll, or
/// 128 MiB.
pub const OBSERVED_STEPS: &[(&str, usize)] = &[("cursors", 20), ("pages", 20), ("page-bytes", 64)];

/// Pages of one step of the scope `pages` of the probe.
pub const PROBE_PAGES: usize = 50;

/// Bytes of the page of one step of the scope `page-bytes`.
pub const PROBE_PAGE_BYTES: usize = 2 << 20;

/// Bytes of the cursor of the scope `cursor-length`.
pub const PROBE_CURSOR_BYTES: usize = 1 << 20;

/// Requests of one call of the probe.
pub const PROBE_REQUESTS: usize = 1_000;

/// Lines that one call of the probe logs.
pub const PROBE_LOG_LINES: usize = 10_000;

/// MiB at which the scope `memory` stops: a multiple of the 64 MiB by which it grows.
pub const PROBE_MEMORY_MIB: usize = 1 << 10;

/// Time between two renewals of a collector's row in a store that several share.
pub const RENEWAL: Duration = Duration::from_secs(3);

/// Time after which a silent collector counts as dead, and others may take its shards: four renewals may be lost.
pub const LEASE: Duration = Duration::from_secs(15);

/// Time after the start of its last renewal for which a collector trusts its leases: the store counts from the arrival of
/// the renewal, by a clock that may go a little faster.
pub const LEASE_TRUSTED: Duration = Duration::from_secs(13);

/// Time after which the row of a dead collector is removed; until then the status page names it.
pub const MEMBER_KEPT: Duration = source_host::limits::DAY;

/// Number of shards of a store that several collectors share: some hundred for each of a few collectors, so that their
/// loads can be equal, and few enough to be read with each renewal.
pub const SHARDS: u16 = 256;

/// Shards that the collector with the most work gives back at once: nobody works on them until another collector takes them.
pub const SHARDS_GIVEN: usize = 16;

/// Time for polls and deliveries of a shard to end before the collector gives the shard back.
pub const GIVING: Duration = Duration::from_secs(6);

/// Time for which a collector keeps a shard of which another collector knows other feeds: both get their turn.
pub const SHARD_TURN: Duration = Duration::from_secs(60);

/// The difference between the loads of two collectors, in parts of the mean load, below which no shard moves.
pub const LOADS_ALIKE: u64 = 10;

/// Time that a collector waits for the answer to a renewal; a later answer would come when another renewal is due.
pub const RENEWAL_PATIENCE: Duration = Duration::from_secs(4);

/// Time after which a collector describes its work to the others again, though its configuration did not change: it may
/// have found scopes.
pub const WORK_DESCRIBED: Duration = Duration::from_secs(30);

/// Time for another move to end: the server notices the end of a program that was killed a moment later.
pub const MOVE_PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two looks for that.
pub const MOVE_PAUSE: Duration = Duration::from_millis(100);

/// The unit in which the store of a fleet counts silence.
pub const STORE_TICK: Duration = Duration::from_millis(1);

/// The unit of the work that collectors tell each other.
pub const HOUR: Duration = Duration::from_secs(60 * 60);

/// Time after which any collector takes a shard that nobody holds: the one that should have taken it may have died.
pub const LEFT_OVER: Duration = Duration::from_secs(9);
