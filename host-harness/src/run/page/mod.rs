//! The status page: what needs a person, then the tenants with their scores and scopes, or one tenant, or one scope. It is
//! plain HTML without a script, and is written piece by piece. No answer has more rows than [`limits`] says.

mod attention;
mod fleet;
mod plot;
mod scope;
mod sinks;
mod tenants;
#[cfg(test)]
mod tests;
pub mod words;

use std::fmt;

use form_urlencoded::Serializer;
use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

use crate::collector::{SnapshotRow, StatusSnapshot};
use crate::limits;
use crate::overview::history::{self, History, ScopeHistory};
use crate::overview::{Condition, Extent, Order, Query};
use crate::run::page::words::{label, moment, number};
use crate::store::StoreError;
use crate::store::reading::StoreReader;

use self::tenants::FAILING_SHOWN;

pub use self::plot::DAYS;
pub use self::sinks::SinkSummary;

/// Everything that a page shows.
#[derive(Default)]
pub struct Page {
    /// The question.
    pub query: Query,
    /// The state of the collector.
    pub snapshot: StatusSnapshot,
    /// The history of the rows and tenants.
    pub history: History,
    /// The history of the one scope of the question.
    pub scope: Option<ScopeHistory>,
    /// Why there is no history.
    pub trouble: Option<String>,
    /// The sinks.
    pub sinks: Vec<SinkSummary>,
    /// Whether the browser loads the page again each minute.
    pub reloads: bool,
    /// Unix time in milliseconds.
    pub now: u64,
}

const STYLE: &str = include_str!("style.css");

impl Page {
    /// Reads the history of what the page shows from the store.
    pub fn read(&mut self, reader: &dyn StoreReader) -> Result<(), StoreError> {
        let StatusSnapshot { rows, choice, members, feeds_of_rows, .. } = &self.snapshot;
        if let Extent::Scope(feed, scope) = &self.query.view {
            let mut shown = rows.iter().enumerate().skip(choice.attention);
            // Without a row, the page has no place for a history.
            let Some((row, _)) = shown.find(|(_, row)| row.id.as_ref() == Some(scope)) else {
                return Ok(());
            };
            let mut history = history::of_scope(reader, feed, scope, DAYS, self.now)?;
            let search = feeds_of_rows.search(row);
            history.clean(|title| search.words(title));
            self.scope = Some(history);
            return Ok(());
        }
        // Problems are told without their history.
        let shown = rows.iter().enumerate();
        let keys: Vec<_> = shown.map(|(number, row)| row.key().filter(|_| number >= choice.attention)).collect();
        self.history = history::read(reader, &keys, members, DAYS, self.now)?;
        for (row, history) in self.history.rows.iter_mut().enumerate() {
            history.failing.truncate(FAILING_SHOWN);
            if !history.failing.is_empty() {
                let search = feeds_of_rows.search(row);
                history.clean(|title| search.words(title));
            }
        }
        Ok(())
    }

    /// Says whether there is what the question names: a page about nothing is answered with 404.
    pub fn is_found(&self) -> bool {
        let StatusSnapshot { rows, choice, .. } = &self.snapshot;
        match &self.query.view {
            Extent::Tenants | Extent::Rows(_) => true,
            Extent::Tenant(_) => !choice.tenants.is_empty() || !self.snapshot.left_out.is_empty(),
            Extent::Scope(_, scope) => rows[choice.attention..].iter().any(|row| row.id.as_ref() == Some(scope)),
        }
    }

    /// Writes the page as HTML.
    pub fn write(&self, output: &mut dyn fmt::Write) -> fmt::Result {
        let mut write = |markup: Markup| output.write_str(&markup.into_string());
        output_head(&mut write, self)?;
        match &self.query.view {
            Extent::Tenants | Extent::Rows(_) => {
                self.attention(&mut write)?;
                self.tenants(&mut write)?;
                if let Some(fleet) = &self.snapshot.fleet {
                    write(fleet::collectors(fleet))?;
                }
                write(sinks::summary(&self.sinks, self.now))?;
                write(sinks::waiting_feeds(&self.snapshot))?;
            }
            Extent::Tenant(tenant) => {
                self.tenant(tenant, &mut write)?;
            }
            Extent::Scope(feed, scope) => write(self.scope(feed, scope))?,
        }
        write(PreEscaped(FOOT.to_owned()))
    }

    /// The whole page.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = self.write(&mut text);
        text
    }

    /// The address of this page with another question. Addresses are relative, so that a proxy may serve the page
    /// below a path of its own.
    fn address(&self, query: &Query) -> String {
        address(query, self.reloads)
    }

    /// Links to the pages above this one.
    fn crumbs(&self, tenant: Option<&str>) -> Markup {
        html! {
            nav.crumbs aria-label="Above this page" {
                ul {
                    li { a href=(self.address(&Query::default())) { "All tenants" } }
                    @if let Some(tenant) = tenant { li { (self.tenant_link(tenant)) } }
                }
            }
        }
    }

    fn title(&self) -> String {
        match &self.query.view {
            Extent::Tenants | Extent::Rows(_) => "Collector".to_owned(),
            Extent::Tenant(tenant) => format!("{} · Collector", label(tenant)),
            Extent::Scope(feed, scope) => {
                let name = self.snapshot.rows.iter().find(|row| row.id.as_ref() == Some(scope));
                let name = name.map_or(scope.as_str(), SnapshotRow::own_name);
                format!("{} · {} · Collector", label(name), label(feed))
            }
        }
    }

    /// Counts feeds, scopes and failures. A feed that finds no scopes is counted as a failing feed, and not as a scope.
    fn summary(&self) -> String {
        let StatusSnapshot {
            feeds,
            failing_feeds,
            in_flight,
            scopes,
            failing_scopes,
            left_out_total,
            going_on,
            waiting_total,
            ..
        } = &self.snapshot;
        let out = left_out_total.saturating_sub(*going_on);
        let waiting = match waiting_total {
            0 => String::new(),
            count => format!("; {} being checked", number(*count, "feed")),
        };
        format!(
            "{}, {failing_feeds} of them failing, and {out} left out{waiting}; {}, {failing_scopes} of them without data; \
             {in_flight} in flight; {}",
            number(*feeds, "feed"),
            number(*scopes, "scope"),
            moment(self.now)
        )
    }
}

/// Writes a table of a class, whose cells stand below each other on a narrow screen.
fn stack(class: &str, caption: impl Render, heads: &[&str], rows: Markup) -> Markup {
    html! {
        table.stack.(class) role="table" {
            caption { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for head in heads {
                        th role="columnheader" scope="col" { (head) }
                    }
                }
            }
            tbody role="rowgroup" { (rows) }
        }
    }
}

/// Says that only a part of something is shown.
fn part(shown: usize, total: usize, of: &str) -> Markup {
    let which = if shown == 0 { "None".to_owned() } else { format!("The first {shown}") };
    html! { @if shown < total { p.faint { (which) " of " (total) " " (of) " are shown." } } }
}

/// Writes the address of a question.
pub fn address(query: &Query, reloads: bool) -> String {
    let mut pairs = Serializer::new(String::new());
    let path = match &query.view {
        Extent::Tenants | Extent::Rows(_) => "./",
        Extent::Tenant(tenant) => {
            pairs.append_pair("tenant", tenant);
            "tenant"
        }
        Extent::Scope(feed, scope) => {
            pairs.append_pair("feed", feed).append_pair("scope", scope);
            "scope"
        }
    };
    if !query.find.is_empty() {
        pairs.append_pair("find", &query.find);
    }
    if let Some(state) = query.state {
        pairs.append_pair("state", state.word());
    }
    if query.order != Order::default() {
        pairs.append_pair("sort", query.order.word());
    }
    if query.page > 0 {
        pairs.append_pair("page", &(query.page + 1).to_string());
    }
    if reloads {
        pairs.append_pair("reload", "1");
    }
    let pairs = pairs.finish();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{pairs}") }
}

/// Reads the question of a path and the query in its address. Returns `None` for a path that has no page. Unknown or
/// unreadable parts of the query are ignored, as they are everywhere on the web.
pub fn question(path: &str, query: &str) -> Option<(Query, bool)> {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let value = |key: &str| pairs.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value.as_str());
    let view = match path {
        "/" => Extent::Tenants,
        "/tenant" => Extent::Tenant(value("tenant").to_owned()),
        "/scope" => Extent::Scope(value("feed").to_owned(), value("scope").to_owned()),
        _ => return None,
    };
    // A scope has one row, whatever its state.
    if let Extent::Scope(..) = view {
        return Some((Query { view, ..Query::default() }, !value("reload").is_empty()));
    }
    let query = Query {
        view,
        find: value("find").trim().to_owned(),
        state: Condition::ALL.into_iter().find(|state| state.word() == value("state")),
        order: Order::ALL.into_iter().find(|order| order.word() == value("sort")).unwrap_or_default(),
        page: value("page").parse::<usize>().map_or(0, |page| page.saturating_sub(1)),
    };
    Some((query, !value("reload").is_empty()))
}

fn output_head(write: &mut impl FnMut(Markup) -> fmt::Result, page: &Page) -> fmt::Result {
    let is_here = page.query.view == Extent::Tenants;
    write(html! {
        (DOCTYPE)
        (PreEscaped("<html lang=\"en\">"))
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            @if page.reloads { meta http-equiv="refresh" content=(RELOAD_SECONDS); }
            title { (page.title()) }
            link rel="icon" href="data:,";
            style { (PreEscaped(STYLE)) }
        }
        (PreEscaped("<body>"))
        a.skip href="#main" { "To the content" }
        header {
            nav aria-label="Pages" {
                ul {
                    li { a href=(page.address(&Query::default())) aria-current=[is_here.then_some("page")] { "Tenants" } }
                    li { a href="metrics" { "Metrics" } }
                    li {
                        a href=(address(&page.query, !page.reloads)) {
                            @if page.reloads { "Stop reloading" } @else { "Reload each minute" }
                        }
                    }
                }
            }
        }
        (PreEscaped("<main id=\"main\">"))
        @if page.query.view == Extent::Tenants {
            h1 { "Collector" }
            (page.tiles())
            p.faint { (page.summary()) }
        }
        @if let Some(trouble) = &page.trouble { p.bad { "There is no history: " (trouble) } }
    })
}

/// Seconds after which a browser loads a page again, if it is asked to.
const RELOAD_SECONDS: u64 = 60;

const FOOT: &str = "</main><footer><p class=\"faint\">Each scope is polled once an interval, at its own place in it. The \
                    time from the first poll to the next one is between half an interval and one and a half. The score of \
                    a tenant is the average of its scopes, weighted as Microsoft weights the subscriptions of a management \
                    group. Times are UTC.</p></footer></body></html>\n";

/// The states and orders of a question as the choices of a form.
fn choices(query: &Query, reloads: bool) -> Markup {
    html! {
        @if reloads { input type="hidden" name="reload" value="1"; }
        label {
            "State"
            select name="state" {
                option value="" { "any" }
                @for state in Condition::ALL {
                    option value=(state.word()) selected[query.state == Some(state)] { (state.title()) }
                }
            }
        }
        label {
            "Order"
            select name="sort" {
                @for order in Order::ALL {
                    option value=(order.word()) selected[query.order == order] { (order.title()) }
                }
            }
        }
        button type="submit" { "Show" }
        @if query.state.is_some() || !query.find.is_empty() || query.order != Order::default() {
            a.reset href=(address(&Query { view: query.view.clone(), ..Query::default() }, reloads)) { "Show all" }
        }
    }
}

impl Page {
    /// The numbers of scopes and feeds in each state, each with a link to them.
    fn tiles(&self) -> Markup {
        let waiting: u64 = self.sinks.iter().map(|sink| sink.waiting.events).sum();
        html! {
            ul.tiles {
                @for (state, count) in Condition::ALL.into_iter().zip(self.snapshot.choice.counts) {
                    @let query = Query { state: Some(state), ..Query::default() };
                    li.(state.word()) {
                        a href={ (self.address(&query)) "#tenants" } { strong { (count) } " " span { (state.title()) } }
                    }
                }
                li { a href="#sinks" { strong { (waiting) } " " span { "events wait" } } }
            }
        }
    }

    /// Links to the pages of an answer.
    fn pages(&self) -> Markup {
        let (page, all) = self.snapshot.choice.page;
        let link = |page: usize| self.address(&Query { page, ..self.query.clone() });
        html! {
            @if all > 1 {
                nav.pages aria-label="Further pages" {
                    ul {
                        @if page > 0 { li { a href=(link(page - 1)) rel="prev" { "previous" } } }
                        li { "page " (page + 1) " of " (all) }
                        @if page + 1 < all { li { a href=(link(page + 1)) rel="next" { "next" } } }
                    }
                }
            }
        }
    }
}

/// Number of rows that a kind of problem shows.
const MOST: usize = limits::STATUS_ROWS;
