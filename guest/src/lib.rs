//! Azure Security Score as a polling source: reads the secure scores and secure score controls of Azure subscriptions
//! (Microsoft Defender for Cloud, Azure Resource Manager api-version 2020-01-01) and turns them into OCSF findings.
//!
//! Steps decide and are pure; `http` is the one edge. Nothing is kept between calls, and there is neither clock nor
//! environment: time, ids and settings are arguments.

// A module of several files is a folder with a `mod.rs`.
#![warn(clippy::self_named_module_files)]

pub mod api;
pub mod challenge;
pub mod clouds;
pub mod diagnoses;
pub mod discover;
pub mod http;
pub mod json;
pub mod link;
pub mod normalize;
pub mod number;
pub mod pages;
pub mod prepare;
pub mod service_error;
pub mod settings;
pub mod token;

/// The contract, as `wit-bindgen` makes it from `wit/`.
#[expect(missing_docs, reason = "generated from the documented WIT")]
#[allow(clippy::all, clippy::unwrap_used, reason = "generated")]
pub mod contract {
    wit_bindgen::generate!({
        path: "../wit",
        world: "plugin-code",
        pub_export_macro: true,
        default_bindings_module: "azure_secure_score::contract",
        additional_derives: [PartialEq],
    });
    pub use exports::collector::source::plugin::*;
}

use contract::{
    Batch, Context, Description, Discovery, Failure, Guest, Plan, PollResult, PollStep, Problem, Scope, Token,
};

use crate::settings::Settings;

/// The component: each function is one call of the contract, told in order.
pub struct Plugin;

impl Guest for Plugin {
    fn describe() -> Description {
        prepare::description()
    }

    fn prepare(settings: String) -> Result<Plan, Vec<Problem>> {
        settings::read(&settings).map(|(settings, warnings)| prepare::plan(&settings, warnings))
    }

    fn fetch_token(settings: String) -> Result<Option<Token>, Failure> {
        report_panics();
        let settings = Settings::trusted(&settings)?;
        let request = token::request(&settings, contract::collector::source::credentials::client_assertion)?;
        let response = http::send(request, "the token endpoint")?;
        token::answer(&settings, &response).map(Some)
    }

    fn discover(settings: String, token: Option<String>) -> Result<Discovery, Failure> {
        report_panics();
        let settings = Settings::trusted(&settings)?;
        let tenant_id = match discover::tenant_request(&settings) {
            None => settings.tenant.clone(),
            Some(request) => {
                discover::tenant_id(&settings, &http::send(request, "the tenant's OpenID configuration")?)?
            }
        };
        let mut found = discover::Found::new(&settings, tenant_id);
        while let Some(request) = found.next_request(token.as_deref())? {
            found.take(&http::send(request, "the list of subscriptions")?)?;
        }
        found.discovery()
    }

    fn poll(
        settings: String,
        token: Option<String>,
        scope: Scope,
        cursor: Option<String>,
    ) -> Result<PollStep, Failure> {
        report_panics();
        let settings = Settings::trusted(&settings)?;
        let mut place = pages::PollPosition::read(&settings, &scope, cursor.as_deref())?;
        let mut step = PollStep { pages: Vec::new(), next: None, notices: Vec::new() };
        // The last page of one list is followed by the first of the next list.
        loop {
            let mut response = http::send(place.request(token.as_deref()), place.what())?;
            if place.expansion_was_refused(&response) {
                place = place.without_expansion();
                response = http::send(place.request(token.as_deref()), place.what())?;
                step.notices.push(diagnoses::EXPANSION_REFUSED.notice("the controls come without their definitions"));
            }
            let (page, next) = place.page(response)?;
            step.pages.push(page);
            match next {
                pages::Next::List(next) => place = next,
                pages::Next::Page(cursor) => {
                    step.next = Some(cursor);
                    return Ok(step);
                }
                pages::Next::Nothing => return Ok(step),
            }
        }
    }

    fn normalize(
        settings: String,
        context: Context,
        poll_result: PollResult,
        state: Option<Vec<u8>>,
    ) -> Result<Batch, Failure> {
        report_panics();
        let settings = Settings::trusted(&settings)?;
        normalize::normalize(&settings, &context, &poll_result, state.as_deref())
    }
}

/// Lets a panic say where it happened: a trap by itself shows nothing but `unreachable`.
fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| {
        use contract::collector::source::log::{Level, write};
        write(Level::Error, &format!("the plugin broke its own rule: {panic}"));
    }));
}

// Only the component exports: a native linker takes the `@` in these names for a symbol version.
#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "the exports of a component are raw symbols")]
mod export {
    crate::contract::export!(Plugin with_types_in crate::contract);
    use crate::Plugin;
}
