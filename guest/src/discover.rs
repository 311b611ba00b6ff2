//! The search for scopes: the subscriptions that the settings name, or all that the application can read, and the
//! tenant's id if the settings give a domain. The plugin data of a scope is the tenant id that the feed signs in to.

use std::collections::BTreeSet;

use crate::api::{Page, Subscription};
use crate::contract::{Discovery, Failure, Reaction, Scope, SkippedScope};
use crate::diagnoses::{
    ALL_EXCLUDED, DELEGATED_LEFT_OUT, DISABLED, EXCLUSION_UNUSED, LINK_REFUSED, LIST_REFUSED, NO_SUBSCRIPTIONS,
};
use crate::http::{Request, Response};
use crate::json::{Document, Fault, Object, ValuePath};
use crate::link::List;
use crate::service_error::{self, Call};
use crate::settings::{Settings, Subscriptions, is_guid};

/// The version of the interface that lists subscriptions.
const API_VERSION: &str = "2022-12-01";

/// Largest number of pages: Azure itself refuses queries beyond 10,000 subscriptions.
const MAX_PAGES: usize = 100;

const WHAT: &str = "the list of subscriptions";

/// Path of the tenant's OpenID configuration, which reveals the id behind a domain.
pub fn openid_path(settings: &Settings) -> String {
    format!("/{}/v2.0/.well-known/openid-configuration", settings.tenant)
}

/// The request that resolves the tenant's domain; `None` if the settings give the id.
pub fn tenant_request(settings: &Settings) -> Option<Request> {
    let url = format!("{}{}", settings.authority, openid_path(settings));
    (!settings.tenant_is_id()).then_some(Request { url, bearer: None, form: None })
}

/// Returns the tenant id in an OpenID configuration: the first GUID among the segments of its issuer.
pub fn tenant_id(settings: &Settings, response: &Response) -> Result<String, Failure> {
    let call = Call::to_entra(settings, "the tenant's OpenID configuration");
    if response.status != 200 {
        return Err(service_error::entra(call, response));
    }
    let read = || -> Result<String, Fault> {
        let document = Document::read(&response.body)?;
        let configuration = Object::read(document.root(), &ValuePath::Root)?;
        let issuer = configuration.required_text(&ValuePath::Root, "issuer")?;
        let id = issuer.split('/').find(|segment| is_guid(segment));
        id.map(str::to_ascii_lowercase).ok_or_else(|| Fault {
            path: "issuer".to_owned(),
            found: "an address without a tenant id".to_owned(),
            expected: "the tenant id in its path".to_owned(),
            wrong_type: false,
        })
    };
    read().map_err(|fault| service_error::not_understood(call, response, &fault))
}

/// The scopes found so far, and the notices about them.
#[derive(Debug)]
pub struct Found<'a> {
    settings: &'a Settings,
    subscriptions: &'a Subscriptions,
    tenant_id: String,
    discovery: Discovery,
    next_link: Option<String>,
    pages: usize,
    /// The subscriptions of all pages so far: one that comes again counts once.
    seen: BTreeSet<String>,
    delegated_count: usize,
    excluded: Vec<String>,
}

impl<'a> Found<'a> {
    /// Begins a search; a list of subscriptions in the settings is itself the result.
    pub fn new(settings: &'a Settings, subscriptions: &'a Subscriptions, tenant_id: String) -> Found<'a> {
        let mut found = Found {
            settings,
            subscriptions,
            tenant_id,
            discovery: Discovery { scopes: Vec::new(), skipped: Vec::new(), notices: Vec::new() },
            next_link: None,
            pages: 0,
            seen: BTreeSet::new(),
            delegated_count: 0,
            excluded: Vec::new(),
        };
        match subscriptions {
            Subscriptions::List(ids) => {
                found.discovery.scopes = ids.iter().map(|id| found.scope(id, None, None)).collect()
            }
            Subscriptions::All { .. } => {
                found.next_link = Some(format!("{}/subscriptions?api-version={API_VERSION}", settings.endpoint));
            }
        }
        found
    }

    /// The request for the next page of subscriptions; `None` when all pages are read.
    pub fn next_request(&self, token: Option<&str>) -> Result<Option<Request>, Failure> {
        let Some(url) = self.next_link.clone() else { return Ok(None) };
        if self.pages >= MAX_PAGES {
            return Err(LINK_REFUSED.failure(&format!("{WHAT} has more than {MAX_PAGES} pages")));
        }
        Ok(Some(Request { url, bearer: token.map(str::to_owned), form: None }))
    }

    /// Reads one page of subscriptions.
    pub fn take(&mut self, response: &Response) -> Result<(), Failure> {
        if response.status != 200 {
            return Err(refused(service_error::arm(self.call(), response)));
        }
        let call = self.call();
        let not_understood = |fault: Fault| refused(service_error::not_understood(call, response, &fault));
        let document = Document::read(&response.body).map_err(not_understood)?;
        let page = Page::read(&document).map_err(not_understood)?;
        let list = ValuePath::Root.key("value");
        for (index, value) in page.value.enumerate() {
            let path = list.index(index);
            let subscription = Subscription::read(value, &path).map_err(not_understood)?;
            if !is_guid(&subscription.subscription_id) {
                return Err(not_understood(Fault::unfit(&path.key("subscriptionId"), Some(value), "a GUID")));
            }
            self.consider(&subscription);
        }
        self.pages += 1;
        self.next_link = page.next_link.map(|link| self.checked(&link)).transpose()?;
        Ok(())
    }

    fn call(&self) -> Call<'a> {
        Call::to_arm(self.settings, WHAT, None)
    }

    /// The result; an empty one is a failure.
    pub fn discovery(mut self) -> Result<Discovery, Failure> {
        let Subscriptions::All { exclude, .. } = self.subscriptions else { return Ok(self.discovery) };
        for id in exclude.iter().filter(|id| !self.excluded.contains(id)) {
            self.discovery.notices.push(EXCLUSION_UNUSED.notice(id));
        }
        if self.delegated_count > 0 {
            self.discovery.notices.push(DELEGATED_LEFT_OUT.notice(&format!("{} of them", self.delegated_count)));
        }
        if self.discovery.scopes.is_empty() && self.discovery.skipped.is_empty() {
            return Err(self.nothing_found());
        }
        Ok(self.discovery)
    }

    /// The failure of a search without a result. It names the subscriptions that the settings exclude, because a
    /// failure carries no notices.
    fn nothing_found(&self) -> Failure {
        let diagnosis = if self.excluded.is_empty() { NO_SUBSCRIPTIONS } else { ALL_EXCLUDED };
        let mut detail = format!("tenant {}", self.tenant_id);
        let mut fix = service_error::fill(diagnosis.fix, self.settings, None);
        if self.delegated_count > 0 {
            detail.push_str(&format!("; {}: {} of them", DELEGATED_LEFT_OUT.cause, self.delegated_count));
            fix.push_str(&format!("; or {}", DELEGATED_LEFT_OUT.fix));
        }
        Failure { fix: Some(fix), ..diagnosis.failure(&detail) }
    }

    fn consider(&mut self, subscription: &Subscription<'_>) {
        let Subscriptions::All { exclude, delegated } = self.subscriptions else { return };
        let id = subscription.subscription_id.to_ascii_lowercase();
        if !self.seen.insert(id.clone()) {
            return;
        }
        if exclude.contains(&id) {
            self.excluded.push(id);
            return;
        }
        let owner = subscription.tenant_id.as_deref().map(str::to_ascii_lowercase);
        if !delegated && owner.as_ref().is_some_and(|owner| *owner != self.tenant_id) {
            self.delegated_count += 1;
            return;
        }
        let scope = self.scope(&id, subscription.display_name.as_deref(), owner);
        // Subscriptions can be read in every other state, such as PastDue and Warned; if not, the poll reports it.
        let closed = ["Disabled", "Deleted"];
        match subscription.state.as_deref() {
            Some(state) if closed.iter().any(|closed| state.eq_ignore_ascii_case(closed)) => {
                let reason = DISABLED.failure(&format!("its state is {}", service_error::shown(state)));
                self.discovery.skipped.push(SkippedScope { scope, reason });
            }
            _ => self.discovery.scopes.push(scope),
        }
    }

    fn scope(&self, id: &str, name: Option<&str>, owner: Option<String>) -> Scope {
        Scope { id: id.to_owned(), name: name.map(str::to_owned), owner, plugin_data: self.tenant_id.clone() }
    }

    fn checked(&self, link: &str) -> Result<String, Failure> {
        let list = List { origin: &self.settings.endpoint, path: "/subscriptions" };
        list.follow(link)
            .map_err(|why| LINK_REFUSED.failure(&format!("{WHAT}: `nextLink` {}", service_error::shown(&why))))
    }
}

/// Returns the failure of a refused list. The reaction `fix-scope` would mean that there are no subscriptions.
fn refused(failure: Failure) -> Failure {
    if failure.reaction != Reaction::FixScope {
        return failure;
    }
    let Failure { reaction, code, cause, fix, .. } = LIST_REFUSED.failure(&failure.cause);
    Failure { reaction, code, cause, fix, ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";

    fn all(exclude: &[&str], delegated: bool) -> Subscriptions {
        let exclude = exclude.iter().map(|id| (*id).to_owned()).collect();
        Subscriptions::All { exclude, delegated }
    }

    fn subscription(last: u8, state: &str, tenant: &str) -> String {
        format!(
            r#"{{"subscriptionId":"00000000-0000-0000-0000-0000000000{last:02}","displayName":"S{last}","state":"{state}","tenantId":"{tenant}"}}"#
        )
    }

    fn discover(subscriptions: &Subscriptions, pages: &[String]) -> Result<Discovery, Failure> {
        let settings = Settings::sample();
        let mut found = Found::new(&settings, subscriptions, TENANT.to_owned());
        for page in pages {
            assert!(found.next_request(None)?.is_some());
            found.take(&Response { status: 200, headers: Vec::new(), body: page.as_bytes().to_vec() })?;
        }
        assert!(found.next_request(None)?.is_none());
        found.discovery()
    }

    #[test]
    fn a_list_is_its_own_result() {
        let discovery =
            discover(&Subscriptions::List(vec!["20ff7fc3-e762-44dd-bd96-b71116dcdc23".to_owned()]), &[]).unwrap();
        assert_eq!(discovery.scopes[0].id, "20ff7fc3-e762-44dd-bd96-b71116dcdc23");
        assert_eq!(discovery.scopes[0].plugin_data, TENANT);
    }

    #[test]
    fn subscriptions_of_the_tenant_are_taken_from_all_pages() {
        let link = "https://management.azure.com/subscriptions?api-version=2022-12-01&$skiptoken=2";
        let first = format!(
            r#"{{"value":[{},{}],"nextLink":"{link}"}}"#,
            subscription(1, "Enabled", TENANT),
            subscription(2, "Disabled", TENANT)
        );
        let other = subscription(3, "Enabled", "00000000-0000-0000-0000-000000000000");
        let second = format!(r#"{{"value":[{other},{}]}}"#, subscription(4, "Enabled", TENANT));
        let pages = [first, second];
        let ids = |subscriptions: &Subscriptions| {
            let discovery = discover(subscriptions, &pages).unwrap();
            discovery.scopes.iter().map(|scope| scope.id[34..].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&all(&[], false)), ["01", "04"]);
        assert_eq!(ids(&all(&[], true)), ["01", "03", "04"]);
        assert_eq!(ids(&all(&["00000000-0000-0000-0000-000000000001"], false)), ["04"]);
        let discovery = discover(&all(&["00000000-0000-0000-0000-000000000009"], false), &pages).unwrap();
        assert_eq!(discovery.skipped[0].reason.code, "disabled");
        assert_eq!(discovery.scopes[0].name.as_deref(), Some("S1"));
        let codes: Vec<_> = discovery.notices.iter().map(|notice| notice.code.as_str()).collect();
        assert_eq!(codes, ["exclusion-unused", "delegated-left-out"]);
    }

    #[test]
    fn a_subscription_that_comes_again_counts_once() {
        let page =
            |state: &str, tenant: &str| format!(r#"{{"value":[{one},{one}]}}"#, one = subscription(1, state, tenant));
        let discovery = discover(&all(&[], false), &[page("Enabled", TENANT)]).unwrap();
        assert_eq!((discovery.scopes.len(), discovery.skipped.len()), (1, 0));
        let discovery = discover(&all(&[], false), &[page("Disabled", TENANT)]).unwrap();
        assert_eq!((discovery.scopes.len(), discovery.skipped.len()), (0, 1));
        let other = page("Enabled", "00000000-0000-0000-0000-000000000000");
        let failure = discover(&all(&[], false), &[other]).unwrap_err();
        assert!(failure.cause.ends_with("1 of them"), "{}", failure.cause);
    }

    #[test]
    fn a_subscription_is_polled_in_every_state_but_two() {
        let polled = |state: &str| {
            let one = format!(r#"{{"subscriptionId":"00000000-0000-0000-0000-000000000001","state":{state}}}"#);
            let discovery = discover(&all(&[], false), &[format!(r#"{{"value":[{one}]}}"#)]).unwrap();
            assert_eq!(discovery.scopes.len() + discovery.skipped.len(), 1);
            discovery.skipped.is_empty()
        };
        for state in ["Enabled", "enabled", "PastDue", "Warned", "WARNED", "Novel", ""] {
            assert!(polled(&format!("\"{state}\"")), "{state}");
        }
        assert!(polled("null"));
        for state in ["Disabled", "disabled", "Deleted", "DELETED"] {
            assert!(!polled(&format!("\"{state}\"")), "{state}");
        }
    }

    #[test]
    fn a_list_that_is_refused_is_no_empty_list() {
        let (settings, all) = (Settings::sample(), all(&[], false));
        let failure = |status, body: &str| {
            let response = Response { status, headers: Vec::new(), body: body.as_bytes().to_vec() };
            Found::new(&settings, &all, TENANT.to_owned()).take(&response).unwrap_err()
        };
        let own = [(403, "AuthorizationFailed"), (404, "SubscriptionNotFound"), (418, "NovelCode")];
        for (status, code) in own {
            let body = format!(r#"{{"error":{{"code":"{code}"}}}}"#);
            let body = body.as_str();
            let failure = failure(status, body);
            assert_eq!((failure.code.as_str(), failure.reaction), ("list-refused", Reaction::TryLater));
            assert_eq!(failure.status, Some(status));
        }
        assert_eq!(failure(429, "").code, "throttled");
        for status in [403, 404, 407, 418, 502] {
            let failure = failure(status, "<html>");
            assert_eq!((failure.code.as_str(), failure.reaction), ("not-the-service", Reaction::TryLater));
        }
    }

    #[test]
    fn nothing_found_is_a_failure_with_its_fix() {
        let failure = discover(&all(&[], false), &[r#"{"value":[]}"#.to_owned()]).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.reaction), ("no-subscriptions", Reaction::FixScope));
        assert!(failure.fix.is_some_and(|fix| fix.starts_with("az role assignment create")));
    }

    #[test]
    fn nothing_left_by_the_settings_is_a_failure_that_says_so() {
        let own = subscription(1, "Enabled", TENANT);
        let other = subscription(2, "Enabled", "00000000-0000-0000-0000-000000000000");
        let pages = [format!(r#"{{"value":[{own}]}}"#), format!(r#"{{"value":[{other}]}}"#)];
        let excluding = all(&["00000000-0000-0000-0000-000000000001"], false);

        let failure = discover(&excluding, &pages[..1]).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.reaction), ("all-excluded", Reaction::FixScope));
        assert!(!failure.cause.contains("other tenants"), "{}", failure.cause);

        let failure = discover(&all(&[], false), &pages[1..]).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.reaction), ("no-subscriptions", Reaction::FixScope));
        assert!(failure.cause.ends_with("other tenants were left out: 1 of them"), "{}", failure.cause);
        assert!(failure.fix.is_some_and(|fix| fix.ends_with("or set `delegated = true` to include them")));

        let link = "https://management.azure.com/subscriptions?api-version=2022-12-01&$skiptoken=2";
        let first = format!(r#"{{"value":[{own}],"nextLink":"{link}"}}"#);
        let failure = discover(&excluding, &[first, pages[1].clone()]).unwrap_err();
        assert_eq!(failure.code, "all-excluded");
        assert!(failure.cause.contains("other tenants were left out: 1 of them"), "{}", failure.cause);
    }

    #[test]
    fn a_link_to_another_place_is_refused() {
        for link in [
            "https://evil.example/subscriptions",
            "https://management.azure.com:8443/subscriptions",
            "https://management.azure.com/subscriptions/x",
            "https://management.azure.com/subscriptions?a#b",
        ] {
            let page = format!(r#"{{"value":[],"nextLink":"{link}"}}"#);
            assert_eq!(discover(&all(&[], false), &[page]).unwrap_err().code, "link-refused", "{link}");
        }
    }

    #[test]
    fn a_link_is_followed_as_on_any_page() {
        for (link, expected) in [
            ("https://management.azure.com:443/subscriptions?a", "?a"),
            ("HTTPS://Management.Azure.com/Subscriptions?a=\\\"b c\\\"", "?a=%22b%20c%22"),
        ] {
            let (settings, all) = (Settings::sample(), all(&[], false));
            let mut found = Found::new(&settings, &all, TENANT.to_owned());
            let body = format!(r#"{{"value":[],"nextLink":"{link}"}}"#).into_bytes();
            found.take(&Response { status: 200, headers: Vec::new(), body }).unwrap();
            let url = found.next_request(None).unwrap().map(|request| request.url);
            assert_eq!(url, Some(format!("https://management.azure.com/subscriptions{expected}")));
        }
    }

    #[test]
    fn a_tenant_that_somebody_else_answers_for_is_not_lost() {
        let response = Response { status: 403, headers: Vec::new(), body: b"<html>".to_vec() };
        let failure = tenant_id(&Settings::sample(), &response).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.reaction), ("not-the-service", Reaction::TryLater));
        assert!(failure.cause.contains("the tenant's OpenID configuration answered 403"), "{}", failure.cause);
    }

    #[test]
    fn a_domain_is_resolved_by_the_issuer() {
        let body = format!(r#"{{"issuer":"https://login.microsoftonline.com/{}/v2.0"}}"#, TENANT.to_uppercase());
        let response = Response { status: 200, headers: Vec::new(), body: body.into_bytes() };
        assert_eq!(tenant_id(&Settings::sample(), &response).unwrap(), TENANT);
    }
}
