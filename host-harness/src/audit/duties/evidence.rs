//! The evidence of all runs, and the breaches that it shows.

use source_host::text;

use super::observer::{Arrival, Entrance, Observations, most_steps};
use crate::limits::{
    HOST_LAST_WORDS_BYTES, OBSERVED_ANSWER_BYTES, PROBE_CURSOR_BYTES, PROBE_LOG_LINES, PROBE_MEMORY_MIB,
    PROBE_PAGE_BYTES, PROBE_PAGES, PROBE_REQUESTS,
};

/// The evidence of all runs so far.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    arrivals: Vec<Arrival>,
    endless_bytes: usize,
    printed: String,
    /// Whether a run had to be killed after it began the scope `time`.
    was_endless: bool,
    /// Whether each run went on after the scope `half`; `None` if none shows it.
    went_on: Option<bool>,
    secrets: Vec<[String; 2]>,
}

impl Evidence {
    /// The evidence of one run with these scopes.
    pub(super) fn of(
        seen: Observations,
        printed: String,
        scopes: &[&str],
        in_time: bool,
        secrets: [String; 2],
    ) -> Evidence {
        let Observations { arrivals, endless_bytes, .. } = seen;
        let mut run = Evidence { arrivals, endless_bytes, printed, secrets: vec![secrets], ..Evidence::default() };
        run.was_endless = !in_time && run.polled("time");
        let after = scopes.iter().skip_while(|scope| **scope != "half").skip(1);
        run.went_on = match after.clone().any(|scope| run.polled(scope)) {
            true => Some(true),
            // A host that was killed, or had no other scope, may have gone on.
            false => (in_time && run.polled("half") && after.count() > 0).then_some(false),
        };
        run
    }

    pub(super) fn add(&mut self, more: Evidence) {
        self.arrivals.extend(more.arrivals);
        self.endless_bytes = self.endless_bytes.max(more.endless_bytes);
        self.printed += &more.printed;
        self.was_endless |= more.was_endless;
        self.went_on = self.went_on.into_iter().chain(more.went_on).min();
        self.secrets.extend(more.secrets);
    }

    pub(super) fn asked(&self, path: &str) -> bool {
        self.arrivals.iter().any(|arrival| arrival.path() == path)
    }

    fn steps(&self, scope: &str) -> usize {
        let path = format!("/data/{scope}/step");
        self.arrivals.iter().filter(|arrival| arrival.path() == path).count()
    }

    pub(super) fn polled(&self, scope: &str) -> bool {
        self.steps(scope) > 0
    }

    pub(super) fn polled_any(&self) -> bool {
        self.arrivals.iter().any(|arrival| arrival.path().ends_with("/step"))
    }

    pub(super) fn signed_in(&self) -> bool {
        self.asked("/token")
    }

    pub(super) fn prints(&self, words: &str) -> bool {
        self.printed.contains(words)
    }

    pub(super) fn has_event(&self, scope: &str) -> bool {
        self.prints(&format!("conformance-event-{scope}"))
    }

    /// The end of what the host printed, for its author.
    pub(super) fn last_words(&self) -> String {
        let mut from = self.printed.len().saturating_sub(HOST_LAST_WORDS_BYTES);
        while !self.printed.is_char_boundary(from) {
            from += 1;
        }
        text::plain_lines(self.printed[from..].trim_end())
    }

    pub(super) fn took_memory(&self) -> Option<String> {
        self.told(&format!("memory-{PROBE_MEMORY_MIB}"), &format!("a call took {PROBE_MEMORY_MIB} MiB"))
    }

    pub(super) fn told(&self, what: &str, why: &str) -> Option<String> {
        self.asked(&format!("/data/told/{what}")).then(|| why.to_owned())
    }

    pub(super) fn printed(&self, words: &str, why: &str) -> Option<String> {
        self.prints(words).then(|| why.to_owned())
    }

    /// A remark of the plugin in a request for a token.
    pub(super) fn remarked(&self, remark: &str, why: &str) -> Option<String> {
        let form = format!("remark={remark}");
        let is_it = |arrival: &Arrival| arrival.path() == "/token" && arrival.body.contains(&form);
        self.arrivals.iter().any(is_it).then(|| why.to_owned())
    }

    fn arrived(&self, is_it: impl Fn(&Arrival) -> bool) -> Option<String> {
        let found = self.arrivals.iter().find(|arrival| is_it(arrival))?;
        Some(format!("this request arrived: {} {}", found.method, text::plain(found.path())))
    }

    pub(super) fn undeclared(&self) -> Option<String> {
        let is_redirected = |arrival: &Arrival| arrival.path() == "/data/redirected";
        self.arrived(|arrival| {
            let is_foreign = arrival.entrance == Entrance::Foreign && !is_redirected(arrival);
            is_foreign || arrival.target.contains("elsewhere") || !["GET", "POST"].contains(&&*arrival.method)
        })
    }

    pub(super) fn unallowed(&self) -> Option<String> {
        self.arrived(|arrival| arrival.entrance == Entrance::Unallowed)
    }

    pub(super) fn undeclared_header(&self) -> Option<String> {
        let found = ["x-http-method-override", "cookie", "x-undeclared"]
            .into_iter()
            .find(|name| self.arrivals.iter().any(|arrival| arrival.header(name).is_some()))?;
        Some(format!("a request arrived with the header {found}"))
    }

    pub(super) fn redirected(&self) -> Option<String> {
        self.arrived(|arrival| arrival.path() == "/data/redirected")
    }

    pub(super) fn own_credential(&self) -> Option<String> {
        self.arrived(|arrival| {
            arrival.header("authorization").is_some_and(|value| value.contains("of-another-account"))
        })
    }

    pub(super) fn http_in_pure_calls(&self) -> Option<String> {
        let found =
            ["prepare", "normalize"].into_iter().find(|call| self.asked(&format!("/data/told/http-in-{call}")))?;
        Some(format!("a request of {found} arrived"))
    }

    /// A secret elsewhere than in the form of the request for a token, or after `Bearer ` at the service.
    pub(super) fn misplaced(&self) -> Option<String> {
        let holds = |text: &str| self.holds_secret(text);
        self.arrived(|arrival| {
            let of_form = form_urlencoded::parse(arrival.body.as_bytes()).filter(|(name, _)| name != "key");
            let is_of_service = arrival.entrance == Entrance::Service;
            let others = arrival.headers.iter().filter(|(name, _)| !(is_of_service && name == "authorization"));
            let in_body = if arrival.path() == "/token" && is_of_service {
                of_form.into_iter().any(|(_, value)| holds(&value))
            } else {
                holds(&arrival.body)
            };
            let query: String = form_urlencoded::parse(arrival.target.as_bytes()).map(|(_, value)| value).collect();
            in_body || holds(&arrival.target) || holds(&query) || others.into_iter().any(|(_, value)| holds(value))
        })
    }

    fn holds_secret(&self, text: &str) -> bool {
        self.secrets.iter().flatten().any(|secret| text.contains(secret.as_str()))
    }

    pub(super) fn token_seen(&self) -> Option<String> {
        let in_answer = self.remarked("token", "the answer to fetch-token held the token");
        let in_answer = in_answer.filter(|_| self.has_remark_of_token());
        in_answer.or_else(|| self.told("token", "the token of a later call was the real one"))
    }

    /// The remark `token` is the beginning of another.
    fn has_remark_of_token(&self) -> bool {
        self.arrivals.iter().any(|arrival| arrival.body.ends_with("remark=token"))
    }

    pub(super) fn echoed(&self) -> Option<String> {
        let found =
            ["body", "header", "percent"].into_iter().find(|kind| self.asked(&format!("/data/told/echo-{kind}")))?;
        Some(match found {
            "percent" => "the plugin saw the token, percent-encoded, in the body of an answer".to_owned(),
            place => format!("the plugin saw the token in the {place} of an answer"),
        })
    }

    pub(super) fn secret_printed(&self) -> Option<String> {
        self.holds_secret(&self.printed).then(|| "the credential or the token was printed".to_owned())
    }

    pub(super) fn endless(&self) -> Option<String> {
        self.was_endless.then(|| "the host had to be killed while a call was in an endless loop".to_owned())
    }

    pub(super) fn all_requests(&self) -> Option<String> {
        let count = self.arrivals.iter().filter(|arrival| arrival.path().starts_with("/data/count/")).count();
        (count >= PROBE_REQUESTS).then(|| format!("{count} requests of one call arrived"))
    }

    pub(super) fn whole_answer(&self) -> Option<String> {
        let bytes = self.endless_bytes;
        (bytes >= OBSERVED_ANSWER_BYTES).then(|| format!("the host read an answer of {bytes} bytes"))
    }

    pub(super) fn any_cursor(&self) -> Option<String> {
        let again = self.all_steps("cursors", "the same cursor, again and again");
        let long = || format!("the host took a cursor of {PROBE_CURSOR_BYTES} bytes");
        let long = || (self.steps("cursor-length") > 1).then(long);
        again.or_else(long)
    }

    pub(super) fn all_pages(&self) -> Option<String> {
        self.all_steps("pages", &format!("{} pages", most_steps("pages") * PROBE_PAGES))
    }

    pub(super) fn all_page_bytes(&self) -> Option<String> {
        self.all_steps("page-bytes", &format!("pages of {} bytes", most_steps("page-bytes") * PROBE_PAGE_BYTES))
    }

    fn all_steps(&self, scope: &str, what: &str) -> Option<String> {
        (self.steps(scope) >= most_steps(scope)).then(|| format!("the host took {what}"))
    }

    pub(super) fn flooded(&self) -> Option<String> {
        if self.printed.lines().any(|line| line.trim_start().starts_with("conformance-forged-line")) {
            return Some("a line of the plugin was printed as two".to_owned());
        }
        if self.prints("\u{1b}[31m") {
            return Some("a command of the plugin to the terminal was printed".to_owned());
        }
        let count = self.printed.matches("conformance-log").count();
        (count >= PROBE_LOG_LINES).then(|| format!("{count} lines of one call were printed"))
    }

    pub(super) fn split_event(&self) -> Option<String> {
        let is_split = self.printed.lines().any(|line| line.starts_with("\"conformance\":"));
        is_split.then(|| "an event was printed as two lines".to_owned())
    }

    pub(super) fn shows_next_scope(&self) -> bool {
        self.went_on.is_some()
    }

    pub(super) fn stopped(&self) -> Option<String> {
        let why = "no scope was polled after the one that failed";
        (self.went_on == Some(false)).then(|| why.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run in which a host polled these of the scopes.
    fn run(scopes: &[&str], polled: &[&str], in_time: bool) -> Evidence {
        let arrival = |scope: &&str| Arrival {
            entrance: Entrance::Service,
            method: "GET".to_owned(),
            target: format!("/data/{scope}/step"),
            headers: Vec::new(),
            body: String::new(),
        };
        let seen = Observations { arrivals: polled.iter().map(arrival).collect(), ..Observations::default() };
        Evidence::of(seen, String::new(), scopes, in_time, [String::new(), String::new()])
    }

    #[test]
    fn a_host_that_was_killed_at_another_scope_keeps_its_time() {
        let mut all = run(&["memory", "time"], &["memory"], false);
        all.add(run(&["time"], &["time"], true));
        assert_eq!(all.endless(), None);
        all.add(run(&["time"], &["time"], false));
        assert!(all.endless().is_some());
    }

    #[test]
    fn a_host_is_blamed_for_a_scope_that_it_left_out_and_not_for_one_that_was_not_there() {
        let scopes = &["half", "event-lines", "time"];
        for (scopes, polled, in_time, expected) in [
            (&scopes[..], &scopes[..], true, Some(true)),
            (scopes, &["half", "time"], false, Some(true)),
            (scopes, &["half"], true, Some(false)),
            (scopes, &["half"], false, None),
            (&["requests", "half"], &["requests", "half"], true, None),
            (scopes, &[], true, None),
        ] {
            assert_eq!(run(scopes, polled, in_time).went_on, expected, "{scopes:?} {polled:?} {in_time}");
        }
        let mut all = run(scopes, &["half"], true);
        all.add(run(&["event-lines", "time"], &["event-lines", "time"], true));
        assert!(all.stopped().is_some(), "the next run does not mend it");
    }
}
