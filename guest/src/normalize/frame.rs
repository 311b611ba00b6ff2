//! The attributes that all events of one poll share.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use twox_hash::XxHash64;
use uuid::Uuid;

use crate::api::API_VERSION;
use crate::contract::{self, Context, Failure};
use crate::diagnoses::ARGUMENT_INVALID;
use crate::normalize::event::{
    Account, Cloud, Event, Extension, Feature, Metadata, Observable, Org, Product, Resource,
};
use crate::normalize::judgement::Severity;
use crate::settings::{Class, EventKind, Settings};

/// The version of OCSF that the events follow.
const OCSF_VERSION: &str = "1.8.0";

/// Marks the score as the one of the portal's "secure score", computed from controls; Microsoft has a newer, risk-based
/// one with other values.
pub const SCORE_MODEL: &str = "control-based";

/// One poll.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The settings of the feed.
    pub settings: &'a Settings,
    /// The host's facts about the poll.
    pub context: &'a Context,
    /// The time at which data was collected before; none without a state.
    pub start_time: Option<u64>,
    poll_id: Uuid,
    resource_uid: String,
}

/// OCSF `activity_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// 1: seen for the first time.
    Create,
    /// 2: changed.
    Update,
    /// 3: gone.
    Close,
    /// 99: told again, unchanged.
    Snapshot,
}

impl Activity {
    /// Number and caption.
    pub fn pair(self) -> (u8, &'static str) {
        match self {
            Activity::Create => (1, "Create"),
            Activity::Update => (2, "Update"),
            Activity::Close => (3, "Close"),
            Activity::Snapshot => (99, "Snapshot"),
        }
    }
}

impl<'a> Frame<'a> {
    /// The frame of a poll.
    pub fn new(settings: &'a Settings, context: &'a Context, start_time: Option<u64>) -> Result<Frame<'a>, Failure> {
        let poll_id = Uuid::parse_str(&context.poll_id)
            .map_err(|error| ARGUMENT_INVALID.failure(&format!("the poll id: {error}")))?;
        Ok(Frame {
            settings,
            context,
            start_time,
            poll_id,
            resource_uid: format!("/subscriptions/{}", context.scope.id),
        })
    }

    /// Milliseconds of Unix time.
    pub fn now(&self) -> u64 {
        self.context.collected_at_milliseconds
    }

    /// Uid of the resource that all findings are about: the subscription.
    pub fn resource_uid(&self) -> &str {
        &self.resource_uid
    }

    /// `type_uid` of an activity.
    pub fn type_uid(&self, activity: Activity) -> u64 {
        self.settings.class.uid() * 100 + u64::from(activity.pair().0)
    }

    /// The uid of an event follows from the poll, the finding, its content and the activity: the same poll done twice
    /// gives the same one. The digest only tells apart what two tries of one poll read of one finding; a cryptographic one
    /// would cost a quarter of the poll.
    pub fn event_uid(&self, finding: &str, content: &str, activity: Activity) -> String {
        let digest = XxHash64::oneshot(0, content.as_bytes());
        let name = format!("{finding}\n{digest:016x}\n{}", activity.pair().0);
        Uuid::new_v5(&self.poll_id, name.as_bytes()).hyphenated().to_string()
    }

    /// An event with all that the events of a poll share; the caller fills in the rest.
    pub fn event(
        &'a self,
        uid: String,
        kind: EventKind,
        activity: Activity,
        severity: Severity,
        own: Own<'a>,
    ) -> Event<'a> {
        let Settings { class, .. } = *self.settings;
        let (activity_id, activity_name) = activity.pair();
        let (severity_id, severity) = severity.pair();
        Event {
            class_uid: class.uid(),
            class_name: class.caption(),
            category_uid: 2,
            category_name: "Findings",
            type_uid: self.type_uid(activity),
            type_name: format!("{}: {activity_name}", class.caption()),
            activity_id,
            activity_name,
            time: self.now(),
            start_time: self.start_time,
            severity_id,
            severity,
            status_id: None,
            status: None,
            status_code: None,
            status_detail: None,
            message: own.message,
            metadata: self.metadata(uid, kind),
            cloud: self.cloud(),
            finding_info: own.finding_info,
            compliance: own.compliance,
            resources: [Resource {
                uid: &self.resource_uid,
                name: self.context.scope.name.as_deref(),
                kind: "Microsoft.Resources/subscriptions",
                role_id: 1,
                role: "Target",
            }],
            observables: self.settings.observables.then_some([Observable {
                name: "resources[0].uid",
                type_id: 10,
                kind: "Resource UID",
                value: &self.resource_uid,
            }]),
            unmapped: own.unmapped,
            raw_data: None,
            raw_data_size: None,
            raw_data_hash: None,
        }
    }

    fn metadata(&'a self, uid: String, kind: EventKind) -> Metadata<'a> {
        Metadata {
            version: OCSF_VERSION,
            uid,
            correlation_uid: &self.context.poll_id,
            tenant_uid: Some(self.context.scope.plugin_data.as_str()).filter(|tenant| !tenant.is_empty()),
            product: Product {
                name: "Microsoft Defender for Cloud",
                vendor_name: "Microsoft",
                feature: Feature { name: "Secure Score" },
            },
            profiles: ["cloud"],
            extensions: (self.settings.class == Class::AssessmentFinding).then_some([Extension {
                name: "databee",
                uid: "994",
                version: &self.settings.extension_version,
            }]),
            labels: [format!("feed:{}", self.context.feed), format!("tenant:{}", self.context.tenant)],
            original_event_uid: None,
            event_code: None,
            log_name: kind.title(),
            log_provider: "Azure Resource Manager",
            log_version: API_VERSION,
            log_format: "JSON",
            is_truncated: None,
            untruncated_size: None,
        }
    }

    fn cloud(&self) -> Cloud<'_> {
        let scope = &self.context.scope;
        Cloud {
            provider: "Azure",
            account: Account { uid: &scope.id, name: scope.name.as_deref(), type_id: 13, kind: "Azure Subscription" },
            org: scope
                .owner
                .as_deref()
                .or(Some(scope.plugin_data.as_str()))
                .filter(|uid| !uid.is_empty())
                .map(|uid| Org { uid }),
            cloud_partition: self.settings.partition,
        }
    }
}

/// The attributes that an event does not share with the others.
#[derive(Debug)]
pub struct Own<'a> {
    /// For people.
    pub message: String,
    /// The finding.
    pub finding_info: crate::normalize::event::FindingInfo<'a>,
    /// The judgement.
    pub compliance: crate::normalize::event::Compliance<'a>,
    /// Members that OCSF has no attribute for.
    pub unmapped: crate::normalize::event::Unmapped<'a>,
}

/// A value of ours as JSON text.
pub fn raw(value: &impl Serialize) -> Box<RawValue> {
    match to_raw_value(value) {
        Ok(raw) => raw,
        Err(error) => unreachable!("records of strings and numbers are JSON: {error}"),
    }
}

/// The event as the contract has it.
pub fn delivered(event: &Event<'_>) -> contract::Event {
    contract::Event { uid: event.metadata.uid.clone(), time_milliseconds: event.time, body: bytes(event) }
}

/// One line of JSON.
pub fn bytes(event: &Event<'_>) -> Vec<u8> {
    match serde_json::to_vec(event) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("records of strings and numbers are JSON: {error}"),
    }
}
