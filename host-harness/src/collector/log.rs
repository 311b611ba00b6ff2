//! The collector's log: one line where a failure is handled, with its blame and its fix.

use std::collections::BTreeSet;
use std::sync::Arc;

use source_host::contract::{Failure, Notice, Reaction, Scope};
use source_host::credentials::redact::{self, Search};

use crate::admitted::AdmittedFeed;

/// The same failure without secrets.
pub fn redacted(admitted: &AdmittedFeed, failure: &Failure) -> Failure {
    cleaned(&Search::new(admitted.secrets()), failure)
}

/// The same failure without the secrets of a search.
pub fn cleaned(search: &Search, failure: &Failure) -> Failure {
    let clean = |text: &str| search.words(text);
    let clean_some = |text: &Option<String>| text.as_deref().map(clean);
    Failure {
        code: clean(&failure.code),
        cause: clean(&failure.cause),
        fix: clean_some(&failure.fix),
        service_code: clean_some(&failure.service_code),
        request_id: clean_some(&failure.request_id),
        ..failure.clone()
    }
}

/// Logs a failure where it is handled; a repetition of the same failure is logged for debugging only.
pub fn log_failure(admitted: &AdmittedFeed, scope: Option<&Scope>, failure: &Failure, before: Option<&str>) {
    let Failure { cause, fix, code, status, service_code, request_id, .. } = redacted(admitted, failure);
    let is_scope = scope.is_some();
    let (tenant, feed, scope) = (&admitted.tenant, &admitted.id, scope.map_or("", |scope| scope.id.as_str()));
    let (fault, fix) = (admitted.plugin.blame(failure), fix.unwrap_or_default());
    let (service_code, request_id) = (service_code.unwrap_or_default(), request_id.unwrap_or_default());
    let status = status.unwrap_or_default();
    // Texts of plugins and services are fields, which are quoted, because a message could imitate the fields of another
    // line.
    let message = match (failure.reaction, is_scope) {
        (Reaction::NoData, _) => "nothing to collect",
        (_, true) => "a scope is not collected",
        (_, false) => "a feed is not collected",
    };
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                %tenant, %feed, %fault, status, scope, code, service_code, request_id, cause, fix, "{message}"
            )
        };
    }
    match failure.reaction {
        _ if before == Some(code.as_str()) => line!(debug),
        _ if !admitted.log().takes_of_host(cause.len() + fix.len()) => line!(debug),
        Reaction::FixPlugin | Reaction::StateUnusable => line!(error),
        _ => line!(warn),
    }
}

/// Logs the outcome of a scope's poll, if it differs from that of the previous poll.
pub fn log_outcome(admitted: &AdmittedFeed, scope: &Scope, outcome: Option<&Failure>, before: Option<&Failure>) {
    match outcome {
        Some(outcome) => log_failure(admitted, Some(scope), outcome, before.map(|before| before.code.as_str())),
        None if before.is_some() => {
            tracing::info!(tenant = %admitted.tenant, feed = %admitted.id, scope = scope.id, "collected again after a failure");
        }
        None => {}
    }
}

/// Logs warnings that changed no data, and returns their codes. If `before` has the same codes in the same order, they
/// are logged for debugging only. A plugin decides how many warnings there are and how long the search for secrets in
/// them takes.
pub fn log_notices(
    admitted: &Arc<AdmittedFeed>,
    scope: Option<&Scope>,
    notices: &[Notice],
    before: &[String],
) -> Box<[String]> {
    let is_known = |notice: &Notice| before.binary_search(&notice.code).is_ok();
    let debugs = tracing::enabled!(tracing::Level::DEBUG);
    let is_told = |notice: &&Notice| match is_known(notice) {
        true => debugs,
        false => admitted.log().takes(notice.message.len()),
    };
    let told: Vec<(bool, Notice)> =
        notices.iter().filter(is_told).map(|notice| (is_known(notice), notice.clone())).collect();
    let codes: BTreeSet<&String> = notices.iter().map(|notice| &notice.code).collect();
    let codes = codes.into_iter().cloned().collect();
    // The preparation of a search for secrets takes longer than most of a poll's bookkeeping.
    if told.is_empty() {
        return codes;
    }
    let bytes: usize = told.iter().map(|(_, notice)| notice.message.len()).sum();
    let (admitted, scope) = (Arc::clone(admitted), scope.map_or(String::new(), |scope| scope.id.clone()));
    let log = move || {
        let (tenant, feed, search) = (&admitted.tenant, &admitted.id, Search::new(admitted.secrets()));
        for (is_known, Notice { code, message }) in &told {
            let message = search.words(message);
            match is_known {
                true => tracing::debug!(%tenant, %feed, scope, code, words = message, "a warning about the data"),
                false => tracing::info!(%tenant, %feed, scope, code, words = message, "a warning about the data"),
            }
        }
    };
    if bytes > redact::LONG {
        let subscriber = tracing::dispatcher::get_default(Clone::clone);
        tokio::task::spawn_blocking(move || tracing::dispatcher::with_default(&subscriber, log));
    } else {
        log();
    }
    codes
}
