//! What the collector says: one line where a failure is handled, with whose fault it is and what mends it.

use std::collections::BTreeSet;

use source_host::contract::{Failure, Notice, Reaction, Scope};
use source_host::credentials::redact;
use source_host::feed::admitted::AdmittedFeed;

/// The same without secrets.
pub fn redacted(admitted: &AdmittedFeed, failure: &Failure) -> Failure {
    let clean = |text: &str| redact::redact(text, admitted.secrets());
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

/// One line where a failure is handled; the same failure again is for those who debug.
pub fn log_failure(admitted: &AdmittedFeed, scope: Option<&Scope>, failure: &Failure, before: Option<&str>) {
    let Failure { cause, fix, code, status, service_code, request_id, .. } = redacted(admitted, failure);
    let is_scope = scope.is_some();
    let (tenant, feed, scope) = (&admitted.tenant, &admitted.id, scope.map_or("", |scope| scope.id.as_str()));
    let (fault, fix) = (admitted.plugin.blame(failure), fix.unwrap_or_default());
    let (service_code, request_id) = (service_code.unwrap_or_default(), request_id.unwrap_or_default());
    let status = status.unwrap_or_default();
    // Words of plugins and services are fields, which are quoted: a message could spell the fields of another line.
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
        _ if !admitted.log.takes_of_host(cause.len() + fix.len()) => line!(debug),
        Reaction::FixPlugin | Reaction::StateUnusable => line!(error),
        _ => line!(warn),
    }
}

/// Says what is odd, though it changed no data. What was odd `before`, by code, is for those who debug; gives the codes.
pub fn log_notices(admitted: &AdmittedFeed, scope: &str, notices: &[Notice], before: &[String]) -> Box<[String]> {
    for Notice { code, message } in notices {
        let (tenant, feed, message) = (&admitted.tenant, &admitted.id, redact::redact(message, admitted.secrets()));
        match before.contains(code) {
            true => tracing::debug!(%tenant, %feed, scope, code, words = message, "something is odd"),
            false if !admitted.log.takes(message.len()) => {}
            false => tracing::info!(%tenant, %feed, scope, code, words = message, "something is odd"),
        }
    }
    let codes: BTreeSet<&String> = notices.iter().map(|notice| &notice.code).collect();
    codes.into_iter().cloned().collect()
}
