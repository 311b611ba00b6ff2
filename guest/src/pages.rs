//! The pages of one subscription: first the secure scores, then the controls, each with the links that the service
//! gives.

use crate::api::{API_VERSION, Page};
use crate::contract::{self, Failure, Notice, Scope, Step};
use crate::diagnoses::{ANSWER_FOREIGN, ARGUMENT_INVALID, LINK_REFUSED};
use crate::http::{Request, Response};
use crate::link::List;
use crate::service_error::{self, Call};
use crate::settings::{Definitions, EventKind, Settings, is_guid};

/// Where a poll stands: the page that is read next.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    settings: &'a Settings,
    subscription: &'a str,
    kind: EventKind,
    /// Address of the page; none for the first of its kind.
    link: Option<&'a str>,
    expand: bool,
}

impl<'a> Place<'a> {
    /// Reads a cursor: the name of the kind, and after a space the address of the page.
    pub fn read(settings: &'a Settings, scope: &'a Scope, cursor: Option<&'a str>) -> Result<Place<'a>, Failure> {
        if !is_guid(&scope.id) {
            return Err(ARGUMENT_INVALID.failure("the scope is no subscription"));
        }
        let (kind, link) = match cursor {
            None => (settings.events.first().copied(), None),
            Some(cursor) => match cursor.split_once(' ') {
                None => (EventKind::named(cursor), None),
                Some((kind, link)) => (EventKind::named(kind), Some(link)),
            },
        };
        let kind = kind.ok_or_else(|| ARGUMENT_INVALID.failure("the cursor names no kind of event"))?;
        let expand = kind == EventKind::Controls && settings.definitions != Definitions::None;
        Ok(Place { settings, subscription: &scope.id, kind, link, expand })
    }

    /// The same place without `$expand`.
    pub fn without_expansion(&self) -> Place<'a> {
        Place { expand: false, ..self.clone() }
    }

    /// Names the call for people.
    pub fn what(&self) -> &'static str {
        match self.kind {
            EventKind::Scores => "the list of secure scores",
            EventKind::Controls => "the list of secure score controls",
        }
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

    /// Whether the service itself refused to expand definitions: HTTP 400 on a first page, with its own error.
    pub fn expansion_was_refused(&self, response: &Response) -> bool {
        self.expand && self.link.is_none() && response.status == 400 && service_error::is_of_arm(response)
    }

    /// The page of an answer, wholly read, and where the poll goes on.
    pub fn step(&self, response: &Response, notices: Vec<Notice>) -> Result<Step, Failure> {
        if response.status != 200 {
            return Err(service_error::arm(self.call(), response));
        }
        let page = Page::read(&response.body).and_then(|page| page.items().map(|items| (page, items)));
        let (page, items) = page.map_err(|fault| service_error::not_understood(self.call(), response, &fault))?;
        for (index, item) in items.iter().enumerate() {
            if !item.is_of(self.subscription) {
                let expected = format!("an id below /subscriptions/{}", self.subscription);
                return Err(self.foreign(index, "id", &item.id, &expected));
            }
            if let Some((key, found)) = item.astray(self.resource_type()) {
                return Err(self.foreign(index, key, found, &format!("one of {}", self.resource_type())));
            }
        }
        let next = match page.next_link {
            Some(link) => Some(format!("{} {}", self.kind.name(), self.checked(&link)?)),
            None => self.next_kind().map(|kind| kind.name().to_owned()),
        };
        let page = contract::Page { kind: self.kind.name().to_owned(), body: response.body.clone() };
        Ok(Step { page, next, notices })
    }

    fn call(&self) -> Call<'a> {
        Call::to_arm(self.settings, self.what(), self.subscription)
    }

    fn path(&self) -> String {
        let collection = match self.kind {
            EventKind::Scores => "secureScores",
            EventKind::Controls => "secureScoreControls",
        };
        format!("/subscriptions/{}/providers/Microsoft.Security/{collection}", self.subscription)
    }

    fn next_kind(&self) -> Option<EventKind> {
        self.settings.events.iter().copied().find(|kind| *kind > self.kind)
    }

    /// The type of the items of this list.
    fn resource_type(&self) -> &'static str {
        match self.kind {
            EventKind::Scores => "Microsoft.Security/secureScores",
            EventKind::Controls => "Microsoft.Security/secureScores/secureScoreControls",
        }
    }

    /// An item that says to be of another subscription or another list: an event of it would be told under a wrong name.
    fn foreign(&self, index: usize, key: &str, found: &str, expected: &str) -> Failure {
        let failure = ANSWER_FOREIGN.failure(&format!(
            "{}: `value[{index}].{key}`: found {}, expected {expected}",
            self.what(),
            service_error::shown(found),
        ));
        Failure { fix: failure.fix.map(|fix| service_error::fill(&fix, self.settings, self.subscription)), ..failure }
    }

    /// The link to the next page of the same list.
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
    use crate::contract::Reaction;

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
        Place::read(settings, &scope(), cursor).unwrap().request(None).url
    }

    fn next(settings: &Settings, cursor: Option<&str>, body: &str) -> Result<Option<String>, String> {
        let response = Response { status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() };
        let scope = scope();
        let step = Place::read(settings, &scope, cursor).unwrap().step(&response, Vec::new());
        step.map(|step| step.next).map_err(|failure| failure.code)
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
            Place::read(&settings, &scope, cursor).unwrap().expansion_was_refused(&response)
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
    fn an_item_of_another_subscription_lets_nothing_through() {
        let settings = Settings::sample();
        let step = |ids: &[&str]| {
            let items = ids.iter().map(
                |id| json!({ "id": id, "name": "n", "type": "Microsoft.Security/secureScores", "properties": {} }),
            );
            let body = json!({ "value": items.collect::<Vec<_>>() }).to_string().into_bytes();
            let response = Response { status: 200, headers: Vec::new(), body };
            Place::read(&settings, &scope(), None).unwrap().step(&response, Vec::new())
        };
        let own =
            "/subscriptions/20ff7fc3-e762-44dd-bd96-b71116dcdc23/providers/Microsoft.Security/secureScores/ascScore";
        let other = own.replace("20ff7fc3", "00000000");
        assert!(step(&[own, &own.to_uppercase()]).is_ok());
        let failure = step(&[own, &other]).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.reaction), ("answer-foreign", Reaction::FixPlugin));
        assert!(failure.cause.contains(&format!("`value[1].id`: found {other}, expected")), "{}", failure.cause);
        assert!(failure.fix.is_some_and(|fix| fix.contains("https://management.azure.com")));
        assert_eq!(step(&["x"]).unwrap_err().code, "answer-foreign");
    }

    #[test]
    fn an_item_of_another_list_lets_nothing_through() {
        let settings = Settings::sample();
        let scores =
            "/subscriptions/20ff7fc3-e762-44dd-bd96-b71116dcdc23/providers/Microsoft.Security/secureScores/ascScore";
        let item = json!({
            "id": format!("{scores}/secureScoreControls/guid"),
            "name": "guid",
            "type": "Microsoft.Security/secureScores/secureScoreControls",
            "properties": {}
        });
        let body = json!({ "value": [item] }).to_string();
        assert_eq!(next(&settings, Some("secure-score-controls"), &body), Ok(None));
        let response = Response { status: 200, headers: Vec::new(), body: body.into_bytes() };
        let failure = Place::read(&settings, &scope(), None).unwrap().step(&response, Vec::new()).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.reaction), ("answer-foreign", Reaction::FixPlugin));
        let words = "the list of secure scores: `value[0].type`: found \
                     Microsoft.Security/secureScores/secureScoreControls, expected one of Microsoft.Security/secureScores";
        assert!(failure.cause.ends_with(words), "{}", failure.cause);
    }

    #[test]
    fn a_cursor_of_somebody_else_is_refused() {
        assert_eq!(Place::read(&Settings::sample(), &scope(), Some("other")).unwrap_err().code, "argument-invalid");
    }
}
