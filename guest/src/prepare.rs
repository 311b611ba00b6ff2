//! The description of the plugin, and every shape of request that results from given settings.

use crate::contract::{
    Credential, CredentialUse, DeclaredCredential, Description, EventKind as KindDescription, Identifier,
    IdentifierKind, Path, Place, Plan, Problem, Shape,
};
use crate::diagnoses;
use crate::discover;
use crate::settings::{self, CLIENT_SECRET, CREDENTIALS, Class, EventKind, Settings, Subscriptions};
use crate::token;

/// Time between two polls: an hour keeps the delay small at two requests a poll.
const INTERVAL_SECONDS: u32 = 60 * 60;

/// Interval at which the service recomputes: eight hours.
const REFRESH_SECONDS: u32 = 8 * 60 * 60;

/// Headers that `service_error` reads.
const RESPONSE_HEADERS: &[&str] = &[
    "content-type",
    "date",
    "location",
    "request-id",
    "retry-after",
    "www-authenticate",
    "x-ms-correlation-request-id",
    "x-ms-ests-server",
    "x-ms-failure-cause",
    "x-ms-request-id",
    "x-ms-routing-request-id",
];

/// Members of Azure Resource Manager's answers that identify whose data they are.
const IDENTIFIERS: &[(&str, IdentifierKind)] = &[
    ("tenantId", IdentifierKind::Principal),
    ("homeTenantId", IdentifierKind::Principal),
    ("subscriptionId", IdentifierKind::Scope),
    ("displayName", IdentifierKind::ScopeName),
    ("tags", IdentifierKind::ScopeAnnotation),
    ("$skipToken", IdentifierKind::LinkParameter),
];

/// Describes the plugin, independently of its settings.
pub fn description() -> Description {
    let class_uids = Class::ALL.map(Class::uid).to_vec();
    Description {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        events: EventKind::ALL
            .map(|kind| KindDescription {
                name: kind.name().to_owned(),
                title: kind.title().to_owned(),
                class_uids: class_uids.clone(),
            })
            .to_vec(),
        settings_schema: include_str!("settings.schema.json").to_owned(),
        credentials: CREDENTIALS
            .map(|credential| DeclaredCredential { setting: credential.name.to_owned(), kind: credential.kind })
            .to_vec(),
        interval_seconds: INTERVAL_SECONDS,
        refresh_seconds: Some(REFRESH_SECONDS),
        response_headers: RESPONSE_HEADERS.iter().map(|name| (*name).to_owned()).collect(),
        identifiers: IDENTIFIERS
            .iter()
            .map(|(name, kind)| Identifier { name: (*name).to_owned(), kind: *kind })
            .collect(),
        diagnoses: diagnoses::table(),
    }
}

/// Returns every request that later calls may make.
pub fn plan(settings: &Settings, subscriptions: &Subscriptions, warnings: Vec<Problem>) -> Plan {
    let mut shapes = vec![Shape {
        method: "POST".to_owned(),
        origin: settings.authority.clone(),
        path: Path::Exact(token::path(settings)),
        credentials: settings.credential.iter().map(credential_use).collect(),
        captures: Some("access_token".to_owned()),
    }];
    if !settings.tenant_is_id() {
        shapes.push(Shape {
            method: "GET".to_owned(),
            origin: settings.authority.clone(),
            path: Path::Exact(discover::openid_path(settings)),
            credentials: Vec::new(),
            captures: None,
        });
    }
    match subscriptions {
        Subscriptions::List(subscriptions) => shapes.extend(subscriptions.iter().map(|subscription| {
            read_shape(settings, Path::Prefix(format!("/subscriptions/{subscription}/providers/Microsoft.Security/")))
        })),
        Subscriptions::All { .. } => {
            shapes.push(read_shape(settings, Path::Exact("/subscriptions".to_owned())));
            shapes.push(read_shape(settings, Path::Prefix("/subscriptions/".to_owned())));
        }
    }
    Plan { shapes, warnings }
}

/// The place of the credential on the request for a token.
fn credential_use(credential: &settings::Credential) -> CredentialUse {
    let (credential, field) = match credential {
        settings::Credential::Secret(_) => (Credential::Setting(CLIENT_SECRET.to_owned()), "client_secret"),
        settings::Credential::Assertion(setting) => (Credential::Assertion((*setting).to_owned()), "client_assertion"),
    };
    CredentialUse { credential, place: Place::FormField(field.to_owned()) }
}

/// Makes the shape of a GET of the API with the token.
fn read_shape(settings: &Settings, path: Path) -> Shape {
    Shape {
        method: "GET".to_owned(),
        origin: settings.endpoint.clone(),
        path,
        credentials: vec![CredentialUse { credential: Credential::Token, place: Place::Bearer }],
        captures: None,
    }
}
