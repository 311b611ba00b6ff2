//! The tenant and its cloud: the addresses of tokens and service, and the audience of tokens.

use super::forms::{is_domain, is_guid, is_origin};
use super::found::quoted;
use super::meant;
use super::reader::SettingsReader;
use crate::clouds::{CLOUDS, CloudPreset};
use crate::http;

/// The tenant, and the addresses of its cloud.
pub struct Addresses {
    /// Tenant: a GUID in lower case, or a domain.
    pub tenant: String,
    /// Origin of Entra ID.
    pub authority: String,
    /// Origin of Azure Resource Manager.
    pub endpoint: String,
    /// The token's scope without `/.default`.
    pub audience: String,
    /// OCSF `cloud_partition`, if it is known and not the public one.
    pub partition: Option<&'static str>,
}

/// Reads the tenant and the addresses of its cloud: the user's, and the cloud's own for the others.
pub fn read(reader: &mut SettingsReader) -> Addresses {
    let (tenant, token_origin) = tenant(reader);
    let cloud = cloud(reader);
    let authority = origin(reader, "authority");
    if let (Some(authority), Some(token_origin)) = (&authority, &token_origin)
        && authority != token_origin
    {
        let expected = format!("`{token_origin}`, as in the token URL, or nothing");
        reader.problem("authority", &format!("`{authority}`"), &expected);
    }
    let of_token = CLOUDS.iter().find(|cloud| Some(cloud.authority) == token_origin.as_deref()).copied();
    if let (Some(cloud), Some(of_token)) = (cloud, of_token)
        && cloud != of_token
    {
        let expected = format!("`{}`, to which the token URL belongs", of_token.name);
        reader.problem("cloud", &format!("`{}`", cloud.name), &expected);
    }
    let preset = cloud.or(of_token).unwrap_or(CLOUDS[0]);
    let endpoint = origin(reader, "endpoint");
    // An explicit address that equals the cloud's own does not count as another one.
    let own_authority = [&authority, &token_origin]
        .into_iter()
        .any(|origin| origin.as_ref().is_some_and(|origin| origin != preset.authority))
        || reader.has("authority") && authority.is_none();
    let own_endpoint = reader.has("endpoint") && endpoint.as_deref() != Some(preset.endpoint);
    warn_of_other_clouds(reader, own_authority, own_endpoint);
    let custom = own_authority || own_endpoint;
    Addresses {
        tenant,
        authority: authority.or(token_origin).unwrap_or_else(|| preset.authority.to_owned()),
        endpoint: endpoint.unwrap_or_else(|| preset.endpoint.to_owned()),
        audience: audience(reader).unwrap_or_else(|| preset.audience.to_owned()),
        partition: if custom && cloud.is_none() { None } else { preset.partition },
    }
}

/// Reads the tenant, and the authority if a full token URL names one.
fn tenant(reader: &mut SettingsReader) -> (String, Option<String>) {
    const EXPECTED: &str =
        "the Directory (tenant) ID, a domain of the tenant, or https://AUTHORITY/TENANT/oauth2/v2.0/token";
    let key = reader.either("token_url", "tenant_id");
    if !reader.has(key) {
        reader.missing(&["token_url", "tenant_id"], EXPECTED);
    }
    let Some(text) = reader.text(key, EXPECTED) else { return Default::default() };
    let (tenant, origin) = match http::origin(&text) {
        None => (text.as_str(), None),
        Some(origin) => {
            let path = text[origin.len()..].trim_matches('/');
            let (tenant, rest) = path.split_once('/').unwrap_or((path, ""));
            if !["", "oauth2/v2.0/token", "oauth2/token"].contains(&rest) || !is_origin(origin) {
                reader.problem(key, &quoted(&text), EXPECTED);
                return Default::default();
            }
            if let Some(secure) = in_clear(origin) {
                reader.problem(key, &quoted(&text), &format!("`{secure}`: nothing is sent to this cloud without TLS"));
                return Default::default();
            }
            if rest == "oauth2/token" {
                reader.warn(
                    key,
                    "the address of version 1 of the token endpoint",
                    "version 2, /oauth2/v2.0/token, which is used in its place",
                );
            }
            (tenant, Some(origin.to_ascii_lowercase()))
        }
    };
    let tenant = tenant.to_ascii_lowercase();
    if ["common", "organizations", "consumers"].contains(&tenant.as_str()) {
        reader.problem(key, &format!("`{tenant}`, which names no tenant"), "the Directory (tenant) ID");
    } else if !is_guid(&tenant) && !is_domain(&tenant) {
        let names_authority =
            |cloud: &CloudPreset| format!("https://{tenant}").starts_with(&format!("{}/", cloud.authority));
        let meant = if origin.is_none() && CLOUDS.iter().any(names_authority) { ", with its https://" } else { "" };
        reader.problem(key, &quoted(&text), &format!("{EXPECTED}{meant}"));
    }
    (tenant, origin)
}

fn cloud(reader: &mut SettingsReader) -> Option<CloudPreset> {
    let name = reader.text("cloud", "the name of a cloud")?;
    let cloud = CLOUDS.iter().find(|cloud| cloud.name == name).copied();
    if cloud.is_none() {
        let names: Vec<_> = CLOUDS.iter().map(|cloud| format!("`{}`", cloud.name)).collect();
        let meant = meant::name(&name, CLOUDS.iter().map(|cloud| cloud.name), meant::CLOUDS);
        let more = match meant {
            Some(meant) => format!("; write `{meant}`"),
            None if name.to_lowercase().contains("china") => {
                ": Microsoft ended Defender for Cloud in China on 2026-10-01".to_owned()
            }
            None => "; for any other cloud `authority`, `endpoint` and `audience`".to_owned(),
        };
        reader.problem("cloud", &quoted(&name), &format!("{}{more}", names.join(" or ")));
    }
    cloud
}

fn origin(reader: &mut SettingsReader, key: &str) -> Option<String> {
    const EXPECTED: &str = "an origin such as https://host.example:8443, without a path";
    let text = reader.text(key, EXPECTED)?;
    let origin = text.trim_end_matches('/');
    if let Some(secure) = in_clear(origin) {
        reader.problem(key, &quoted(&text), &format!("`{secure}`: nothing is sent to this cloud without TLS"));
        return None;
    }
    if is_origin(origin) {
        return Some(origin.to_ascii_lowercase());
    }
    let meant = format!("https://{}", origin.split("://").last().unwrap_or_default());
    // Only a text that is certainly a name is shown: others may be secrets in the wrong place.
    let is_meant = meant.contains('.') && is_origin(&meant);
    let meant = if is_meant { format!("; write `{meant}`") } else { String::new() };
    reader.problem(key, &quoted(&text), &format!("{EXPECTED}{meant}"));
    None
}

/// Warns of addresses of one cloud together with those of another.
fn warn_of_other_clouds(reader: &mut SettingsReader, own_authority: bool, own_endpoint: bool) {
    if own_authority && !reader.has("endpoint") {
        let found = "nothing, although Entra ID's address is another cloud's";
        reader.warn("endpoint", found, "that cloud's address of Azure Resource Manager");
    }
    if own_endpoint && !reader.has("audience") {
        reader.warn("audience", "nothing, although `endpoint` is given", "the audience of tokens in that cloud");
    }
}

/// Reads the audience. `/.default` is appended, so that the audience must not end in a slash or contain it already.
fn audience(reader: &mut SettingsReader) -> Option<String> {
    const EXPECTED: &str = "an address such as https://management.azure.com";
    let text = reader.text("audience", EXPECTED)?;
    if text.contains(|character: char| character.is_whitespace() || "\"'`,".contains(character)) {
        reader.problem("audience", &quoted(&text), EXPECTED);
        return None;
    }
    Some(text.trim_end_matches('/').trim_end_matches("/.default").trim_end_matches('/').to_owned())
}

/// Returns the https address of a known cloud whose http address was written.
fn in_clear(origin: &str) -> Option<String> {
    let secure = format!("https://{}", origin.to_ascii_lowercase().strip_prefix("http://")?);
    CLOUDS.iter().any(|cloud| [cloud.authority, cloud.endpoint].contains(&secure.as_str())).then_some(secure)
}
