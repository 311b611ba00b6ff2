//! Every timeout, cap and count in one place. A plugin meets those of its calls; none of them changes an answer.

use std::time::Duration;

/// What one call of a plugin may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory in all, not each: the largest poll seen needs 3 MiB.
    pub memory_bytes: usize,
    /// Elements of a table; the project's own plugin has about 300.
    pub table_elements: usize,
    /// Time on a processor, counted in [`EPOCH_TICK`]s.
    pub cpu_time: Duration,
    /// Time in all, waiting for the network included.
    pub wall_time: Duration,
    /// Requests of one call.
    pub requests: usize,
    /// Body of a request; a token request has less than 4 KiB.
    pub request_body_bytes: usize,
    /// Body of an answer, decompressed: the largest seen has 62 KB.
    pub response_body_bytes: usize,
    /// Headers of an answer: their number.
    pub response_headers: usize,
    /// Headers of an answer: names and values together.
    pub response_header_bytes: usize,
    /// Steps of one poll.
    pub pages: usize,
    /// Bodies of one poll together.
    pub page_bytes: usize,
    /// Events of one poll.
    pub events: usize,
    /// One event; the plugin itself cuts at 32 KiB.
    pub event_bytes: usize,
    /// State of one scope.
    pub state_bytes: usize,
    /// Log lines of one call; the rest is dropped and counted.
    pub log_lines: usize,
    /// One log line; cut beyond.
    pub log_line_bytes: usize,
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
            response_headers: 128,
            response_header_bytes: 32 << 10,
            pages: 100,
            page_bytes: 32 << 20,
            events: 20_000,
            event_bytes: 64 << 10,
            state_bytes: 8 << 20,
            log_lines: 100,
            log_line_bytes: 2 << 10,
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
pub const WARM_PLACES: u32 = 16;

/// Stack of WebAssembly code.
pub const STACK_BYTES: usize = 512 << 10;

/// Stack of a call, host functions included.
pub const ASYNC_STACK_BYTES: usize = 2 << 20;

/// Handles of one call: requests, bodies and streams together need about 20.
pub const HANDLES: usize = 1_000;

/// Headers as the host keeps them for the guest; see `response_header_bytes`.
pub const FIELD_BYTES: usize = 128 << 10;

/// What may be copied out of a guest in one go: the events and the state of one poll.
pub const COPIED_BYTES: usize = 128 << 20;

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

/// Scopes that one `poll` reads at the same time.
pub const POLLS_IN_FLIGHT: usize = 8;

/// A token is renewed this long before it expires; Microsoft's own libraries use the same number.
pub const TOKEN_RENEWAL: Duration = Duration::from_secs(300);
