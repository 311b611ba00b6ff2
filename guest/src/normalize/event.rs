//! An event as OCSF 1.8.0 spells it, profile `cloud`. The order of fields here is that of the events.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The whole record.
#[derive(Debug, Clone, Serialize)]
pub struct Event<'a> {
    pub class_uid: u64,
    pub class_name: &'static str,
    pub category_uid: u8,
    pub category_name: &'static str,
    /// 64 bits: an extension's passes 2^32.
    pub type_uid: u64,
    pub type_name: String,
    pub activity_id: u8,
    pub activity_name: &'static str,
    /// Milliseconds of Unix time, as all times.
    pub time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<u64>,
    pub severity_id: u8,
    pub severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_id: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_detail: Option<String>,
    pub message: String,
    pub metadata: Metadata<'a>,
    pub cloud: Cloud<'a>,
    pub finding_info: FindingInfo<'a>,
    pub compliance: Compliance<'a>,
    pub resources: [Resource<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observables: Option<[Observable<'a>; 1]>,
    pub unmapped: Unmapped<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_data_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_data_hash: Option<Fingerprint>,
}

/// Members that OCSF has no attribute for.
pub type Unmapped<'a> = BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>;

#[derive(Debug, Clone, Serialize)]
pub struct Metadata<'a> {
    pub version: &'static str,
    pub uid: String,
    pub correlation_uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_uid: Option<&'a str>,
    pub product: Product,
    pub profiles: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extensions: Option<[Extension<'a>; 1]>,
    pub labels: [String; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_event_uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_code: Option<&'a str>,
    pub log_name: &'static str,
    pub log_provider: &'static str,
    pub log_version: &'static str,
    pub log_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_truncated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untruncated_size: Option<usize>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Product {
    pub name: &'static str,
    pub vendor_name: &'static str,
    pub feature: Feature,
}

#[derive(Debug, Clone, Serialize)]
pub struct Feature {
    pub name: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct Extension<'a> {
    pub name: &'static str,
    pub uid: &'static str,
    pub version: &'a str,
}

#[derive(Debug, Clone, Serialize)]
pub struct Cloud<'a> {
    pub provider: &'static str,
    pub account: Account<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<Org<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud_partition: Option<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Account<'a> {
    pub uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    pub type_id: u8,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct Org<'a> {
    pub uid: &'a str,
}

#[derive(Debug, Clone, Serialize)]
pub struct FindingInfo<'a> {
    pub uid: String,
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desc: Option<&'a str>,
    pub types: [&'static str; 1],
    pub data_sources: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analytic: Option<Analytic<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related_events: Option<[RelatedEvent; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified_time: Option<u64>,
    pub last_seen_time: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Analytic<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    pub type_id: u8,
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<&'a str>,
}

#[derive(Debug, Clone, Serialize)]
pub struct RelatedEvent {
    pub uid: String,
    pub type_uid: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Compliance<'a> {
    pub control: Cow<'a, str>,
    pub standards: [String; 1],
    pub status_id: u8,
    pub status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check<'a>>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Check<'a> {
    pub uid: &'a str,
}

#[derive(Debug, Clone, Serialize)]
pub struct Resource<'a> {
    pub uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub role_id: u8,
    pub role: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct Observable<'a> {
    pub name: &'static str,
    pub type_id: u8,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub value: &'a str,
}

#[derive(Debug, Clone, Serialize)]
pub struct Fingerprint {
    pub algorithm_id: u8,
    pub algorithm: &'static str,
    pub value: String,
}

impl Fingerprint {
    /// The SHA-256 of a text.
    pub fn of(text: &str) -> Fingerprint {
        let value = format!("{:x}", Sha256::digest(text.as_bytes()));
        Fingerprint { algorithm_id: 3, algorithm: "SHA-256", value }
    }
}
