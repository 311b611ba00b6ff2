//! The proxy: `proxy` of `[network]`, or the variables that other programs read.

use std::path::Path;

use super::reader::{Reader, Table};
use super::{Environment, Problem, Seen, secret};
use crate::proxy::Proxy;

/// A key that names a proxy wins over the environment; `NO_PROXY` holds for both.
pub fn read(
    reader: &mut Reader,
    table: Option<&Table<'_>>,
    first: &Path,
    files: &mut Vec<Seen>,
    environment: Environment<'_>,
) -> Proxy {
    let variable = |names: [&'static str; 2]| {
        let set = names.into_iter().find_map(|name| Some((name, environment(name)?)));
        set.filter(|(_, value)| !value.trim().is_empty())
    };
    let exceptions = variable(["NO_PROXY", "no_proxy"]).map(|(_, list)| list).unwrap_or_default();
    let Some(node) = table.and_then(|table| table.child("proxy")) else {
        let Some((name, address)) = variable(["HTTPS_PROXY", "https_proxy"]) else { return Proxy::default() };
        return Proxy::of_https(&address, &exceptions).unwrap_or_else(|error| {
            let key = format!("{name} in the environment");
            let message = format!("found something else, {error}");
            reader.problems.push(Problem { file: first.to_owned(), line: 0, key, message });
            Proxy::default()
        });
    };
    let address = if node.as_table().is_some() {
        secret(reader, &node, files, environment).map(|secret| secret.expose().to_owned())
    } else {
        reader.text(&node, "the address of a proxy")
    };
    let Some(address) = address else { return Proxy::default() };
    match Proxy::new(&address, &exceptions) {
        Ok(proxy) if proxy.has_credentials() && node.as_table().is_none() => {
            let message =
                "found a password in the open, expected { env = \"…\" } or { file = \"…\" }, which holds the address";
            reader.problem(&node, message.to_owned());
            Proxy::default()
        }
        Ok(proxy) => proxy,
        Err(error) => {
            reader.problem(&node, format!("found something else, {error}"));
            Proxy::default()
        }
    }
}
