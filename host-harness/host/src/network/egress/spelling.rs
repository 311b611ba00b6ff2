//! Requests that two readers would understand in different ways.

use url::Url;

use super::{Denial, denial};
use crate::network::OutgoingRequest;

/// Denies an address that parsers read in different ways.
pub(super) fn refuse_odd_spelling(raw: &str, url: &Url) -> Result<(), Denial> {
    let odd = |what: &str| Err(denial(format!("its address has {what}")));
    let raw = raw.to_ascii_lowercase();
    let before_query = raw.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match before_query.split_once("://").map(|(_, rest)| rest) {
        Some(rest) => rest.split_at(rest.find(['/', '\\']).unwrap_or(rest.len())),
        None => return odd("no scheme"),
    };
    if !url.username().is_empty() || url.password().is_some() || authority.contains('@') {
        return odd("a user name");
    }
    if url.fragment().is_some() {
        return odd("a fragment");
    }
    // Numbers in other bases, IPv4 inside IPv6, dots at the end, other scripts: a host has one spelling.
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    if authority != format!("{host}:{port}") && (authority != host || url.port().is_some()) {
        return odd(&format!("a host in another spelling than {host}:{port}"));
    }
    if ["\\", "%2f", "%5c"].iter().any(|slash| path.contains(slash)) {
        return odd("an encoded slash");
    }
    if path.contains("%25") || path.as_bytes().windows(3).any(|three| matches!(three, [b'%', b'0' | b'1', _])) {
        return odd("an encoded percent or control character");
    }
    let path = path.replace("%2e", ".").replace("%3b", ";");
    // Some servers remove parameters from a segment before they compare it.
    if path.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | ".."))) {
        return odd("a dot segment");
    }
    Ok(())
}

/// Headers by which some servers understand a request differently from its first line: with another method, another
/// host or another path. Cookies are credentials that no shape declares.
const OTHER_MEANING: &[&str] = &[
    "cookie",
    "forwarded",
    "if-range",
    "range",
    "x-forwarded",
    "x-host",
    "x-http-host",
    "x-http-method",
    "x-method",
    "x-original",
    "x-override",
    "x-rewrite",
];

pub(super) fn refuse_other_meaning(request: &OutgoingRequest) -> Result<(), Denial> {
    let odd = |name: &str| OTHER_MEANING.iter().any(|begin| name.starts_with(begin));
    match request.headers.iter().find(|(name, _)| odd(name)) {
        Some((name, _)) => Err(denial(format!("its header `{name}` may change what it means"))),
        None => Ok(()),
    }
}
