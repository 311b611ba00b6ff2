//! An event as the newest version of OCSF spells it, profile `cloud`; `schema` spells it for the others. The order of members here is that of the events.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::api::API_VERSION;
use crate::json::write::{Json, MembersWriter, object};
use crate::normalize::vocabulary::vocabulary;

/// The whole record.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// The members that all events of a poll share.
    pub shared: &'a SharedMembers,
    /// OCSF `activity_id`; `type_uid` is derived from it.
    pub activity: Activity,
    /// Unix time in milliseconds, like all times.
    pub time: u64,
    pub start_time: Option<u64>,
    /// Number and caption, as for all enumerations of OCSF.
    pub severity: (u8, &'static str),
    pub status: Option<(u8, &'static str)>,
    pub status_code: Option<&'a str>,
    pub status_detail: Option<String>,
    pub message: String,
    pub metadata: Metadata<'a>,
    pub finding_info: FindingInfo<'a>,
    pub compliance: Compliance<'a>,
    pub unmapped: Unmapped<'a>,
    pub raw_data: Option<&'a str>,
    pub raw_data_size: Option<usize>,
    pub raw_data_hash: Option<Fingerprint>,
}

vocabulary! {
    /// OCSF `activity_id`.
    pub enum Activity -> pair: (u8, &'static str) {
        /// 1: the finding is seen for the first time.
        Create = (1, "Create"),
        /// 2: the finding changed.
        Update = (2, "Update"),
        /// 3: the finding is gone.
        Close = (3, "Close"),
        /// 99: the finding is reported again, unchanged.
        Snapshot = (99, "Snapshot"),
    }
}

/// Members that OCSF has no attribute for, each value as JSON text.
pub type Unmapped<'a> = BTreeMap<Cow<'a, str>, Cow<'a, [u8]>>;

/// The members that all events of a poll share, as JSON text. They are written once for the whole poll.
#[derive(Debug, Clone)]
pub struct SharedMembers {
    pub class: (u64, &'static str),
    /// `metadata.version`.
    pub version: &'static str,
    /// The members from `correlation_uid` to `labels`.
    pub metadata: Vec<u8>,
    /// The member `cloud`.
    pub cloud: Vec<u8>,
    /// The members `resources` and `observables`.
    pub resources: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Metadata<'a> {
    pub uid: String,
    pub original_event_uid: Option<&'a str>,
    pub event_code: Option<&'a str>,
    pub log_name: &'static str,
    /// The size of the event before it was cut, in bytes; `None` for a whole event.
    pub untruncated_size: Option<usize>,
}

#[derive(Debug, Clone)]
pub struct FindingInfo<'a> {
    pub uid: &'a str,
    pub title: String,
    pub desc: Option<&'a str>,
    pub kind: &'static str,
    pub analytic: Option<Analytic<'a>>,
    pub related_event: Option<RelatedEvent>,
    pub first_seen_time: Option<u64>,
    pub created_time: Option<u64>,
    pub modified_time: Option<u64>,
    pub last_seen_time: u64,
}

#[derive(Debug, Clone)]
pub struct Analytic<'a> {
    pub uid: Option<&'a str>,
    pub name: Option<&'a str>,
    pub category: Option<&'a str>,
}

#[derive(Debug, Clone)]
pub struct RelatedEvent {
    pub uid: String,
    pub type_uid: u64,
}

#[derive(Debug, Clone)]
pub struct Compliance<'a> {
    pub control: Cow<'a, str>,
    pub standard: String,
    pub status: (u8, &'static str),
    pub checks: Vec<Check<'a>>,
}

#[derive(Debug, Clone)]
pub struct Check<'a> {
    pub uid: Cow<'a, str>,
}

#[derive(Debug, Clone)]
pub struct Fingerprint {
    value: String,
}

impl Fingerprint {
    /// Makes the SHA-256 of a text.
    pub fn of(text: &str) -> Fingerprint {
        Fingerprint { value: format!("{:x}", Sha256::digest(text.as_bytes())) }
    }
}

impl Json for Event<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |event| {
            let (class_uid, class_name) = self.shared.class;
            let (activity_id, activity_name) = self.activity.pair();
            event.member("class_uid", &class_uid);
            event.member("class_name", class_name);
            event.written(r#""category_uid":2,"category_name":"Findings""#);
            event.member("type_uid", &type_uid(class_uid, self.activity));
            // Neither caption contains a character that needs an escape.
            event.value_of("type_name", |out| {
                ["\"", class_name, ": ", activity_name, "\""]
                    .iter()
                    .for_each(|part| out.extend_from_slice(part.as_bytes()));
            });
            event.member("activity_id", &activity_id);
            event.member("activity_name", activity_name);
            event.member("time", &self.time);
            event.optional("start_time", self.start_time.as_ref());
            event.member("severity_id", &self.severity.0);
            event.member("severity", self.severity.1);
            event.optional("status_id", self.status.map(|(id, _)| id).as_ref());
            event.optional("status", self.status.map(|(_, caption)| caption));
            event.optional("status_code", self.status_code);
            event.optional("status_detail", self.status_detail.as_ref());
            event.member("message", &self.message);
            event.object("metadata", |metadata| self.metadata.write(self.shared, metadata));
            event.written(&self.shared.cloud);
            event.object("finding_info", |finding_info| self.finding_info.write(finding_info));
            event.object("compliance", |compliance| self.compliance.write(compliance));
            event.written(&self.shared.resources);
            event.object("unmapped", |unmapped| {
                for (key, value) in &self.unmapped {
                    unmapped.foreign(key, value);
                }
            });
            event.optional("raw_data", self.raw_data);
            event.optional("raw_data_size", self.raw_data_size.as_ref());
            event.optional("raw_data_hash", self.raw_data_hash.as_ref());
        });
    }
}

/// Returns the `type_uid` of an activity in a class.
pub fn type_uid(class_uid: u64, activity: Activity) -> u64 {
    class_uid * 100 + u64::from(activity.pair().0)
}

impl Metadata<'_> {
    fn write(&self, shared: &SharedMembers, metadata: &mut MembersWriter<'_>) {
        metadata.member("version", shared.version);
        metadata.member("uid", &self.uid);
        metadata.written(&shared.metadata);
        metadata.optional("original_event_uid", self.original_event_uid);
        metadata.optional("event_code", self.event_code);
        metadata.member("log_name", self.log_name);
        metadata.written(r#""log_provider":"Azure Resource Manager""#);
        metadata.member("log_version", API_VERSION);
        metadata.written(r#""log_format":"JSON""#);
        if let Some(size) = &self.untruncated_size {
            metadata.written(r#""is_truncated":true"#);
            metadata.member("untruncated_size", size);
        }
    }
}

impl FindingInfo<'_> {
    fn write(&self, finding_info: &mut MembersWriter<'_>) {
        finding_info.member("uid", self.uid);
        finding_info.member("title", &self.title);
        finding_info.optional("desc", self.desc);
        finding_info.member("types", &[self.kind][..]);
        finding_info.written(r#""data_sources":["Microsoft Defender for Cloud"]"#);
        finding_info.optional("analytic", self.analytic.as_ref());
        finding_info.optional("related_events", self.related_event.as_ref().map(std::slice::from_ref));
        finding_info.optional("first_seen_time", self.first_seen_time.as_ref());
        finding_info.optional("created_time", self.created_time.as_ref());
        finding_info.optional("modified_time", self.modified_time.as_ref());
        finding_info.member("last_seen_time", &self.last_seen_time);
    }
}

impl Json for Analytic<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |analytic| {
            analytic.optional("uid", self.uid);
            analytic.optional("name", self.name);
            analytic.written(r#""type_id":1,"type":"Rule""#);
            analytic.optional("category", self.category);
        });
    }
}

impl Json for RelatedEvent {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |event| {
            event.member("uid", &self.uid);
            event.member("type_uid", &self.type_uid);
        });
    }
}

impl Compliance<'_> {
    fn write(&self, compliance: &mut MembersWriter<'_>) {
        compliance.member("control", self.control.as_ref());
        compliance.member("standards", std::slice::from_ref(&self.standard));
        compliance.member("status_id", &self.status.0);
        compliance.member("status", self.status.1);
        if !self.checks.is_empty() {
            compliance.member("checks", self.checks.as_slice());
        }
    }
}

impl Json for Check<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |check| check.member("uid", self.uid.as_ref()));
    }
}

impl Json for Fingerprint {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |fingerprint| {
            fingerprint.written(r#""algorithm_id":3,"algorithm":"SHA-256""#);
            fingerprint.member("value", &self.value);
        });
    }
}
