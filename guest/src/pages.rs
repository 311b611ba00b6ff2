//! The pages of one subscription: first the secure scores, then the controls, each with the links that the service
//! gives.

use crate::api::{API_VERSION, Page};
use crate::contract::{self, Failure, Scope};
use crate::diagnoses::{ARGUMENT_INVALID, LINK_REFUSED};
use crate::http::{Request, Response};
use crate::json::{Document, Fault};
use crate::link::List;
use crate::service_error::{self, Call};
use crate::settings::{Definitions, EventKind, Settings, is_guid};

/// The step of a poll after a page.
#[derive(Debug)]
pub enum Next<'a> {
    /// A further page of the same list, with this cursor.
    Page(String),
    /// The first page of the next list.
    List(PollPosition<'a>),
    /// All lists are read.
    Nothing,
}

/// The place of a poll: the page that is read next.
#[derive(Debug, Clone)]
pub struct PollPosition<'a> {
    settings: &'a Settings,
    subscription: &'a str,
    kind: EventKind,
    /// Address of the page; `None` for the first page of its kind.
    link: Option<&'a str>,
    expand: bool,
}

impl<'a> PollPosition<'a> {
    /// Reads a cursor: the name of the kind and, after a space, the address of the page.
    pub fn read(
        settings: &'a Settings,
        scope: &'a Scope,
        cursor: Option<&'a str>,
    ) -> Result<PollPosition<'a>, Failure> {
        if !is_guid(&scope.id) {
            return Err(ARGUMENT_INVALID.failure("the scope is not a subscription"));
        }
        let (kind, link) = match cursor {
            None => (settings.events.first().copied(), None),
            Some(cursor) => match cursor.split_once(' ') {
                None => (EventKind::named(cursor), None),
                Some((kind, link)) => (EventKind::named(kind), Some(link)),
            },
        };
        let kind = kind.ok_or_else(|| ARGUMENT_INVALID.failure("the cursor names no kind of event"))?;
        Ok(PollPosition { link, ..PollPosition::first(settings, &scope.id, kind) })
    }

    /// The first page of a list.
    fn first(settings: &'a Settings, subscription: &'a str, kind: EventKind) -> PollPosition<'a> {
        let expand = kind == EventKind::Controls && settings.definitions != Definitions::None;
        PollPosition { settings, subscription, kind, link: None, expand }
    }

    /// The same place without `$expand`.
    pub fn without_expansion(&self) -> PollPosition<'a> {
        PollPosition { expand: false, ..self.clone() }
    }

    /// Names the call for people.
    pub fn what(&self) -> &'static str {
        self.kind.list()
    }

    /// The request for this page.
    pub fn request(&self, token: Option<&str>) -> Request {
        let url = match self.link {
            Some(link) => link.to_owned(),
            None => {
                let expand = if self.expand { "&$expand=definition" } else { "" };
                format!("{}{}?api-version={API_VERSION}{expand}", self.settings.endpoint, self.path())
            }
        };
        Request { url, bearer: token.map(str::to_owned), form: None }
    }

    /// Says whether the service itself refused to expand definitions: HTTP 400 for a first page, with its own error.
    pub fn expansion_was_refused(&self, response: &Response) -> bool {
        self.expand && self.link.is_none() && response.status == 400 && service_error::is_of_arm(response)
    }

    /// Returns the page of an answer, without reading its items, and the next step of the poll.
    pub fn page(&self, response: Response) -> Result<(contract::Page, Next<'a>), Failure> {
        if response.status != 200 {
            return Err(service_error::arm(self.call(), &response));
        }
        let not_understood = |fault: Fault| service_error::not_understood(self.call(), &response, &fault);
        let document = Document::read(&response.body).map_err(not_understood)?;
        let page = Page::read(&document).map_err(not_understood)?;
        let next = match page.next_link {
            Some(link) => Next::Page(format!("{} {}", self.kind.name(), self.checked(&link)?)),
            None => self.next_list().map_or(Next::Nothing, Next::List),
        };
        let request_id = service_error::request_id(&response);
        Ok((contract::Page { kind: self.kind.name().to_owned(), body: response.body, request_id }, next))
    }

    fn call(&self) -> Call<'a> {
        Call::to_arm(self.settings, self.what(), Some(self.subscription))
    }

    fn path(&self) -> String {
        let collection = match self.kind {
            EventKind::Scores => "secureScores",
            EventKind::Controls => "secureScoreControls",
        };
        format!("/subscriptions/{}/providers/Microsoft.Security/{collection}", self.subscription)
    }

    fn next_list(&self) -> Option<PollPosition<'a>> {
        let kind = self.settings.events.iter().copied().find(|kind| *kind > self.kind)?;
        Some(PollPosition::first(self.settings, self.subscription, kind))
    }

    /// Checks the link to the next page of the same list.
    fn checked(&self, link: &str) -> Result<String, Failure> {
        let list = List { origin: &self.settings.endpoint, path: &self.path() };
        list.follow(link)
            .map_err(|why| LINK_REFUSED.failure(&format!("{}: `nextLink` {}", self.what(), service_error::shown(&why))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BASE: &str =
        "https://management.azure.com/subscriptions/20ff7fc3-e762-44dd-bd96-b71116dcdc23/providers/Microsoft.Security/";

    fn scope() -> Scope {
        Scope {
            id: "20ff7fc3-e762-44dd-bd96-b71116dcdc23".to_owned(),
            name: None,
            owner: None,
            plugin_data: String::new(),
        }
    }

    fn url(settings: &Settings, cursor: Option<&str>) -> String {
        PollPosition::read(settings, &scope(), cursor).unwrap().request(None).url
    }

    fn next(settings: &Settings, cursor: Option<&str>, body: &str) -> Result<Option<String>, String> {
        let response = Response { status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() };
        let scope = scope();
        let next = PollPosition::read(settings, &scope, cursor).unwrap().page(response).map(|(_, next)| match next {
            Next::Page(cursor) => Some(cursor),
            Next::List(place) => Some(place.kind.name().to_owned()),
            Next::Nothing => None,
        });
        next.map_err(|failure| failure.code)
    }

    #[test]
    fn scores_come_first_and_controls_are_expanded() {
        let settings = Settings::sample();
        assert_eq!(url(&settings, None), format!("{BASE}secureScores?api-version=2020-01-01"));
        assert_eq!(
            url(&settings, Some("secure-score-controls")),
            format!("{BASE}secureScoreControls?api-version=2020-01-01&$expand=definition")
        );
        assert_eq!(url(&settings, Some("secure-score-controls https://x/y")), "https://x/y");
        let plain = Settings { definitions: Definitions::None, ..settings };
        assert_eq!(
            url(&plain, Some("secure-score-controls")),
            format!("{BASE}secureScoreControls?api-version=2020-01-01")
        );
    }

    #[test]
    fn the_last_page_of_the_last_kind_ends_the_poll() {
        let settings = Settings::sample();
        let empty = r#"{"value":[]}"#;
        assert_eq!(next(&settings, None, empty), Ok(Some("secure-score-controls".to_owned())));
        assert_eq!(next(&settings, Some("secure-score-controls"), empty), Ok(None));
        let scores = Settings { events: vec![EventKind::Scores], ..settings };
        assert_eq!(next(&scores, None, empty), Ok(None));
    }

    #[test]
    fn an_expansion_is_refused_by_the_service_alone() {
        let refused = |cursor: Option<&str>, status, body: &str| {
            let (settings, scope) = (Settings::sample(), scope());
            let response = Response { status, headers: Vec::new(), body: body.as_bytes().to_vec() };
            PollPosition::read(&settings, &scope, cursor).unwrap().expansion_was_refused(&response)
        };
        let own = r#"{"error":{"code":"BadRequest"}}"#;
        let controls = Some("secure-score-controls");
        assert!(refused(controls, 400, own));
        assert!(!refused(controls, 400, "<html>"), "a firewall");
        assert!(!refused(controls, 404, own), "another refusal");
        assert!(!refused(Some("secure-score-controls https://x/y"), 400, own), "a later page");
        assert!(!refused(None, 400, own), "scores have none");
    }

    #[test]
    fn a_link_stays_at_the_list_that_was_asked_for() {
        let settings = Settings::sample();
        let go = |link: &str| next(&settings, None, &json!({ "value": [], "nextLink": link }).to_string());
        for (link, expected) in [
            ("secureScores?$skipToken=2", "secureScores?$skipToken=2"),
            ("secureScores?a=\"b c\"&d[]=", "secureScores?a=%22b%20c%22&d[]="),
        ] {
            let expected = Ok(Some(format!("secure-scores {BASE}{expected}")));
            for base in [BASE, &BASE.to_uppercase(), &BASE.replace(".com", ".com:443"), &BASE.replace("https", "HTTPS")]
            {
                assert_eq!(go(&format!("{base}{link}")), expected, "{base}{link}");
            }
        }
        let link_refused = Err("link-refused".to_owned());
        for list in
            ["secureScoreControls", "secureScores/ascScore/secureScoreControls", "secureScores/ascScore", "assessments"]
        {
            assert_eq!(go(&format!("{BASE}{list}?$skipToken=2")), link_refused, "{list}");
        }
        let controls = |list: &str| {
            let body = json!({ "value": [], "nextLink": format!("{BASE}{list}?a") }).to_string();
            next(&settings, Some("secure-score-controls"), &body)
        };
        let expected = Ok(Some(format!("secure-score-controls {BASE}secureScoreControls?a")));
        assert_eq!(controls("SecureScoreControls"), expected);
        assert_eq!(controls("secureScores"), link_refused);
        for host in [".evil.example", "@evil.example", ":8443", "."] {
            assert_eq!(go(&format!("{}secureScores", BASE.replace(".com", &format!(".com{host}")))), link_refused);
        }
        for link in ["../x", "secureScores#", "secureScores?a\\b", "secureScores?a\tb", ""] {
            assert_eq!(go(&format!("{BASE}{link}")), link_refused, "{link}");
        }
        let other = BASE.replace("20ff7fc3-e762-44dd-bd96-b71116dcdc23", "00000000-0000-0000-0000-000000000000");
        for link in ["https://management.azure.com", "/subscriptions", &other, &BASE.replace("https", "http")] {
            assert_eq!(go(&format!("{link}secureScores")), link_refused, "{link}");
        }
    }

    #[test]
    fn a_cursor_of_somebody_else_is_refused() {
        assert_eq!(
            PollPosition::read(&Settings::sample(), &scope(), Some("other")).unwrap_err().code,
            "argument-invalid"
        );
    }
}
