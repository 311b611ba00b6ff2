//! The breaches that `poll` tries, one kind for each scope. The observer knows the names of the scopes and of the paths.

use std::cell::RefCell;

use waki::Method;

use crate::contract::collector::source::log::{Level, write};
use crate::contract::{Failure, Page, PollStep, Reaction};
use crate::{Request, Settings, failure, token_request};

/// Pages of 64 KiB by which the scope `memory` grows at a time.
const GROWTH: usize = 1 << 10;

thread_local! {
    /// The scope that this instance polled before: a fresh instance knows none.
    static EARLIER: RefCell<Option<String>> = const { RefCell::new(None) };
}

pub(crate) fn poll(settings: &Settings, token: &str, scope: &str, cursor: Option<&str>) -> Result<PollStep, Failure> {
    let earlier = EARLIER.replace(Some(scope.to_owned()));
    let get = |path: &str| Request::get(format!("{}/data/{path}", settings.origin), token).send();
    let tell = |what: &str| drop(get(&format!("told/{what}")));
    let answer = get(&format!("{scope}/step"));
    if earlier.is_some_and(|earlier| earlier != scope) {
        tell("fresh-instances");
    }
    if settings.holds_secret(token) {
        tell("token");
    }
    // The observer ends what the host should have ended.
    let goes_on = answer.is_some_and(|(status, _, _)| status == 200);
    let step = |pages: usize, bytes: usize, next: Option<String>| {
        let page = || Page { kind: "items".to_owned(), body: vec![b' '; bytes], request_id: None };
        let pages = (0..pages).map(|_| page()).collect();
        PollStep { pages, next: next.filter(|_| goes_on), notices: Vec::new() }
    };
    let steps_so_far: usize = cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or_default();
    let next = Some((steps_so_far + 1).to_string());
    match scope {
        "requests" => {
            forbidden_requests(settings, token);
            echoes(settings, token);
        }
        "cursors" => return Ok(step(0, 0, Some("again".to_owned()))),
        "cursor-length" => {
            let first = cursor.is_none().then(|| "x".repeat(settings.cursor_bytes));
            return Ok(step(1, 1, first));
        }
        "pages" => return Ok(step(settings.pages, 1, next)),
        "page-bytes" => return Ok(step(1, settings.page_bytes, next)),
        "half" if cursor.is_none() => return Ok(step(1, 1, next)),
        "half" => return Err(failure(Reaction::TryLater, "half", "the second page is missing")),
        "endless-answer" => drop(get("endless")),
        "request-count" => drop((0..settings.requests).map_while(|count| get(&format!("count/{count}"))).count()),
        "memory" => grow(settings.memory_mib, &tell),
        "log" => {
            // With a command of a terminal, and with a line that looks like another's.
            for line in 0..settings.log_lines {
                write(Level::Info, &format!("conformance-log {line} \u{1b}[31m\nconformance-forged-line"));
            }
        }
        "time" => loop {
            std::hint::black_box(&scope);
        },
        _ => {}
    }
    Ok(step(1, 1, None))
}

/// Requests that no shape declares, and credentials where they do not belong.
fn forbidden_requests(settings: &Settings, token: &str) {
    let Settings { origin, foreign, unallowed, key, .. } = settings;
    let get = |url: String| drop(Request::get(url, token).send());
    get(format!("{foreign}/data/foreign"));
    get(format!("{origin}/elsewhere/path"));
    get(format!("{origin}/data/../elsewhere/dots"));
    get(format!("{origin}/data/%2e%2e/elsewhere/encoded-dots"));
    Request { method: Method::Delete, ..Request::get(format!("{origin}/data/method"), token) }.send();
    if let Some(unallowed) = unallowed {
        get(format!("{unallowed}/data/unallowed"));
    }
    get(format!("{origin}/data/redirect"));
    for (name, value) in
        [("x-http-method-override", "DELETE"), ("cookie", "session=of-the-plugin"), ("x-undeclared", "1")]
    {
        let mut request = Request::get(format!("{origin}/data/header"), token);
        request.headers.push((name, value.to_owned()));
        request.send();
    }
    Request::get(format!("{origin}/data/own-credential"), "of-another-account").send();
    token_request(settings, "token-requests");
    get(format!("{origin}/data/place?key={key}&token={token}"));
    let mut request = Request::get(format!("{origin}/data/place"), token);
    request.headers.push(("accept", format!("{key} {token}")));
    request.send();
}

/// Answers in which the observer repeats the token: in the body, in a header, and percent-encoded.
fn echoes(settings: &Settings, token: &str) {
    for kind in ["body", "header", "percent"] {
        let url = format!("{}/data/echo/{kind}", settings.origin);
        let seen = Request::get(url, token).send().is_some_and(|(_, headers, body)| {
            settings.holds_secret(&headers) || settings.holds_secret(&String::from_utf8_lossy(&body))
        });
        if seen {
            drop(Request::get(format!("{}/data/told/echo-{kind}", settings.origin), token).send());
        }
    }
}

/// Takes memory until none is given, or so many MiB, and tells how much there was.
fn grow(most_mib: usize, tell: &dyn Fn(&str)) {
    let mut pages = 0;
    while pages >> 4 < most_mib && grew() {
        pages += GROWTH;
        tell(&format!("memory-{}", pages >> 4));
    }
}

#[cfg(target_arch = "wasm32")]
fn grew() -> bool {
    core::arch::wasm32::memory_grow(0, GROWTH) != usize::MAX
}

#[cfg(not(target_arch = "wasm32"))]
fn grew() -> bool {
    false
}
