//! The proxy: `proxy` of `[network]`, or the variables that other programs read.

use std::path::Path;

use source_host::credentials::spelling;
use source_host::network::proxy::Proxy;

use super::reader::{ConfigReader, Node, Table};
use super::reference::{secret, text_of};
use super::{ConfigPlace, Environment, SeenFile};

/// Reads the proxy. The key in the configuration takes precedence over the environment; `NO_PROXY` applies to both.
pub fn read(
    reader: &mut ConfigReader,
    table: Option<&Table<'_>>,
    first: &Path,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> Proxy {
    let variables = Variables { file: first, environment };
    let exceptions = variables.first_set(reader, ["NO_PROXY", "no_proxy"]).map(|(_, list)| list).unwrap_or_default();
    let node = table.and_then(|table| table.child("proxy"));
    let proxy = match node {
        Some(node) => of_key(reader, &node, &exceptions, files, environment),
        None => variables.proxy(reader, &exceptions),
    };
    proxy.unwrap_or_default()
}

/// The variables of the environment, and the file under which their problems are reported.
struct Variables<'a> {
    file: &'a Path,
    environment: Environment<'a>,
}

impl Variables<'_> {
    /// Returns the first of two spellings that is set. An empty variable counts as not set.
    fn first_set(&self, reader: &mut ConfigReader, names: [&'static str; 2]) -> Option<(&'static str, String)> {
        let mut set = names.into_iter().filter_map(|name| Some((name, (self.environment)(name)?)));
        let (name, value) = set.find(|(_, value)| !spelling::trimmed(value).text.is_empty())?;
        let value = text_of(name, &value).map_err(|message| self.wrong(reader, name, message)).ok()?;
        Some((name, spelling::trimmed(&value).text.to_owned()))
    }

    fn proxy(&self, reader: &mut ConfigReader, exceptions: &str) -> Option<Proxy> {
        let (name, address) = self.first_set(reader, ["HTTPS_PROXY", "https_proxy"])?;
        let proxy = Proxy::of_https(&address, exceptions);
        proxy.map_err(|error| self.wrong(reader, name, format!("found something else, {error}"))).ok()
    }

    fn wrong(&self, reader: &mut ConfigReader, name: &str, message: String) {
        let key = format!("{name} in the environment");
        reader.problems.push(ConfigPlace { key: Some(key), ..ConfigPlace::whole(self.file) }.problem(message));
    }
}

fn of_key(
    reader: &mut ConfigReader,
    node: &Node<'_>,
    exceptions: &str,
    files: &mut Vec<SeenFile>,
    environment: Environment<'_>,
) -> Option<Proxy> {
    const NONE: &[&str] = &["", "none", "no", "off", "false", "direct", "disabled", "null", "never"];
    let none = node.as_text().map(|text| text.trim().to_lowercase()).filter(|text| NONE.contains(&text.as_str()));
    if none.is_some() || reader.is_false(node) {
        let message = format!(
            "found {}, expected the address of a proxy; to go without one, leave the key out, and set NO_PROXY=\"*\" where \
             HTTPS_PROXY is set",
            node.shown()
        );
        reader.problem(node, message);
        return None;
    }
    let address = if node.as_table().is_some() {
        secret(reader, node, files, environment)?.expose().to_owned()
    } else {
        reader.text(node, "the address of a proxy")?
    };
    match Proxy::new(&address, exceptions) {
        Ok(proxy) if proxy.has_credentials() && node.as_table().is_none() => {
            // A name alone is a credential, too: some proxies take a token in its place.
            let found =
                if proxy.has_password() { "a password in plain text" } else { "a user name without a password" };
            let message = format!(
                "found {found}, expected the address in {{ env = \"…\" }} or {{ file = \"…\" }}, or without \
                 the part before @"
            );
            reader.problem(node, message);
            None
        }
        Ok(proxy) => Some(proxy),
        Err(error) => {
            reader.problem(node, format!("found something else, {error}"));
            None
        }
    }
}
