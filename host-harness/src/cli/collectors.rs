//! The collectors of a store that several share, for `status`.

use host_harness::environment;
use host_harness::fleet::summary::{MemberSummary, summary};
use host_harness::run::page::words::{moment, span};
use host_harness::store::fleet::{Fleet, SeenShard};
use host_harness::store::shards::shard_of;
use host_harness::terminal;
use serde_json::json;
use source_host::limits::milliseconds;
use source_host::text;

/// Width of the table in a file or a pipe.
const PLAIN_WIDTH: usize = 160;

/// The shards of a collector, also of a dead one.
fn shards<'a>(fleet: &'a Fleet, row: &'a MemberSummary<'_>) -> impl Iterator<Item = &'a SeenShard> {
    fleet.shards.iter().filter(|shard| shard.holder.as_ref() == Some(&row.seen.member.id))
}

/// When a collector took the last of its shards.
fn last_taken(fleet: &Fleet, row: &MemberSummary<'_>) -> Option<u64> {
    shards(fleet, row).map(|shard| shard.since).max()
}

/// Returns the collectors as a table. Of one tenant, also the collector that works on it.
pub fn table(fleet: &Fleet, tenant: Option<&str>) -> String {
    let rows = summary(fleet);
    let mut table = vec![
        ["collector", "version", "since", "last seen", "shards", "taken", "polls an hour", "feeds", "configuration"]
            .map(str::to_owned),
    ];
    table.extend(rows.iter().map(|row| {
        let MemberSummary { seen, shards, left, polls, feeds, is_alive, differs } = row;
        let silent = span(milliseconds(seen.silent));
        [
            text::plain(&seen.member.name),
            text::plain(&seen.member.version),
            moment(seen.started),
            if *is_alive { format!("{silent} ago") } else { format!("silent for {silent}") },
            if *is_alive { shards.to_string() } else { format!("{left} left") },
            last_taken(fleet, row).map_or_else(|| "-".to_owned(), moment),
            polls.to_string(),
            feeds.to_string(),
            if *differs { "differs" } else { "as the others" }.to_owned(),
        ]
    }));
    let width = terminal::width(environment::variable("COLUMNS")).unwrap_or(PLAIN_WIDTH);
    let mut words = match rows.is_empty() {
        true => "\nno collector runs\n".to_owned(),
        false => format!("\n{}", terminal::table(&table, width)),
    };
    let free = fleet.shards.len() - rows.iter().map(|row| row.shards).sum::<usize>();
    if free > 0 && rows.iter().any(|row| row.is_alive && row.seen.member.shares()) {
        words += &format!("{free} shards are of no living collector: they are taken within a lease\n");
    }
    if let Some(tenant) = tenant {
        let shard = shard_of(tenant, u16::try_from(fleet.shards.len()).unwrap_or(u16::MAX));
        let seen = fleet.shards.iter().find(|seen| seen.lease.shard == shard);
        let holder = seen.and_then(|seen| rows.iter().find(|row| Some(&row.seen.member.id) == seen.holder.as_ref()));
        let holder = holder.map_or_else(|| "nobody".to_owned(), |row| text::plain(&row.seen.member.name));
        let since = seen.filter(|seen| seen.since > 0).map(|seen| format!(" since {}", moment(seen.since)));
        words += &format!("{tenant}: shard {shard} of {holder}{}\n", since.unwrap_or_default());
    }
    words
}

/// Returns one object for each collector, each on a line.
pub fn objects(fleet: &Fleet) -> String {
    let object = |row: &MemberSummary<'_>| {
        let MemberSummary { seen, left, polls, feeds, is_alive, differs, .. } = row;
        let held: Vec<u16> = shards(fleet, row).map(|shard| shard.lease.shard).collect();
        let object = json!({
            "collector": seen.member.name,
            "version": seen.member.version,
            "listen": seen.member.listen,
            "started": moment(seen.started),
            "silent_seconds": seen.silent.as_secs(),
            "alive": is_alive,
            "shards": if *is_alive { held.clone() } else { Vec::new() },
            "left_shards": if *left > 0 { held } else { Vec::new() },
            "last_taken": last_taken(fleet, row).map(moment),
            "polls_an_hour": polls,
            "feeds": feeds,
            "configuration_differs": differs,
        });
        format!("{object}\n")
    };
    summary(fleet).iter().map(object).collect()
}
