//! The table `[network]`.

use source_host::credentials::certificates::{self, Authorities};
use source_host::network::address::{self, Cidr};
use source_host::network::egress;
use source_host::network::proxy::Proxy;
use source_host::text;

use super::reader::{ConfigReader, Node, Table};
use super::{ConfigPlace, SeenFile};

pub(super) const NETWORK: &[&str] = &["ca_file", "proxy", "allow", "allow_addresses", "allow_credentials_over_http"];

/// The table `[network]`, and the proxy of the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Certificates that are trusted in addition to the system's.
    pub ca_file: Option<CaFile>,
    /// The proxy of requests.
    pub proxy: Proxy,
    /// Allowed origins, in addition to those that the built-in plugin knows.
    pub allow: Vec<String>,
    /// Origins over http to which requests with credentials may go.
    pub credentials_over_http: Vec<String>,
    /// Addresses that may be dialled although they are not public.
    pub allow_addresses: Vec<Cidr>,
}

impl NetworkConfig {
    /// Says whether credentials may go to an address that the operator chose: over https, to this machine itself, or
    /// over http where that is allowed.
    pub(super) fn takes_credentials(&self, url: &url::Url) -> bool {
        let is_near = || url.host().is_some_and(|host| address::is_loopback(&host));
        url.scheme() == "https"
            || self.credentials_over_http.contains(&url.origin().ascii_serialization())
            || is_near() && self.proxy.address_for(url).is_none()
    }
}

/// Reads a file of trusted certificates.
pub(super) fn authorities(reader: &mut ConfigReader, node: &Node<'_>, files: &mut Vec<SeenFile>) -> Option<CaFile> {
    let path = reader.path(node, "the path of a PEM file")?;
    files.push(SeenFile::now(path.clone()));
    let read = text::bytes(&path).map_err(|error| match path.is_dir() {
        true => format!("found {}, which is a folder, expected the path of a PEM file", node.shown()),
        false => format!("cannot read {}: {error}", path.display()),
    });
    let authorities = |bytes: Vec<u8>| certificates::authorities(&bytes, &path).map_err(|error| error.to_string());
    match read.and_then(authorities) {
        Ok(authorities) => Some(CaFile { authorities, place: node.place() }),
        Err(message) => {
            reader.problem(node, message);
            None
        }
    }
}

/// A file of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFile {
    /// The certificates in it.
    pub authorities: Authorities,
    /// The place that names the file, for problems with its content.
    pub place: ConfigPlace,
}

pub(super) fn read(
    reader: &mut ConfigReader,
    table: Option<&mut Table<'_>>,
    files: &mut Vec<SeenFile>,
) -> NetworkConfig {
    let mut network = NetworkConfig::default();
    let Some(table) = table else { return network };
    reader.known(table, NETWORK);
    network.ca_file = table.child("ca_file").and_then(|node| authorities(reader, &node, files));
    for node in table.child("allow").map(|node| reader.list(&node)).unwrap_or_default() {
        let Some(origin) = reader.text(&node, "an origin") else { continue };
        match egress::canonical(&origin) {
            Some(origin) => network.allow.push(origin),
            None => reader.problem(
                &node,
                format!("found {origin:?}, expected an origin such as \"https://host.example:8443\", without a path"),
            ),
        }
    }
    for node in table.child("allow_credentials_over_http").map(|node| reader.list(&node)).unwrap_or_default() {
        let Some(text) = reader.text(&node, "an origin") else { continue };
        match egress::canonical(&text).filter(|origin| origin.starts_with("http://")) {
            Some(origin) => network.credentials_over_http.push(origin),
            None => reader.problem(
                &node,
                format!(
                    "found {text:?}, expected an origin such as \"http://host.example:8080\", without a path; one over \
                     https belongs into `allow`"
                ),
            ),
        }
    }
    for node in table.child("allow_addresses").map(|node| reader.list(&node)).unwrap_or_default() {
        let Some(range) = reader.text(&node, "a range of addresses") else { continue };
        match range.parse() {
            Ok(range) => network.allow_addresses.push(range),
            Err(_) => reader.problem(
                &node,
                format!("found {range:?}, expected an address or a range of addresses such as \"127.0.0.0/8\""),
            ),
        }
    }
    network
}
