//! The attributes that all events of one poll share.

use twox_hash::XxHash64;
use uuid::Uuid;

use crate::contract::{self, Context, Failure};
use crate::diagnoses::ARGUMENT_INVALID;
use crate::json::write::{Json, MembersWriter, object};
use crate::normalize::event::{Activity, Compliance, Event, FindingInfo, Metadata, SharedMembers, Unmapped, type_uid};
use crate::normalize::judgement::Severity;
use crate::normalize::schema::Schema;
use crate::settings::{Class, EventKind, Settings};

/// Marks the score as the portal's "secure score", which is computed from controls; Microsoft has a newer, risk-based
/// score with other values.
pub const SCORE_MODEL: &str = "control-based";

/// One poll.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The settings of the feed.
    pub settings: &'a Settings,
    /// The host's facts about the poll.
    pub context: &'a Context,
    /// When data was collected before, in Unix milliseconds; `None` without a state.
    pub start_time: Option<u64>,
    poll_id: Uuid,
    resource_uid: String,
    schema: Schema,
    shared: SharedMembers,
}

impl<'a> Frame<'a> {
    /// Makes the frame of a poll.
    pub fn new(settings: &'a Settings, context: &'a Context, start_time: Option<u64>) -> Result<Frame<'a>, Failure> {
        let poll_id = Uuid::parse_str(&context.poll_id)
            .map_err(|error| ARGUMENT_INVALID.failure(&format!("the poll id: {error}")))?;
        let resource_uid = format!("/subscriptions/{}", context.scope.id);
        let schema = Schema::new(settings.version, settings.class);
        let shared = shared(settings, context, &resource_uid);
        Ok(Frame { settings, context, start_time, poll_id, resource_uid, schema, shared })
    }

    /// The time of the poll in Unix milliseconds.
    pub fn now(&self) -> u64 {
        self.context.collected_at_milliseconds
    }

    /// Uid of the resource of all findings: the subscription.
    pub fn resource_uid(&self) -> &str {
        &self.resource_uid
    }

    /// The version and the class of the events.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// `type_uid` of an activity.
    pub fn type_uid(&self, activity: Activity) -> u64 {
        type_uid(self.settings.class.uid(), activity)
    }

    /// Derives the uid of an event from the poll, the finding, its content and the activity: the same poll done twice
    /// gives the same uid. The digest only distinguishes the contents that two attempts of one poll read for one
    /// finding; a cryptographic digest would cost a quarter of the poll's time.
    pub fn event_uid(&self, finding: &str, content: &str, activity: Activity) -> String {
        let digest = XxHash64::oneshot(0, content.as_bytes());
        let name = format!("{finding}\n{digest:016x}\n{}", activity.pair().0);
        Uuid::new_v5(&self.poll_id, name.as_bytes()).hyphenated().to_string()
    }

    /// Makes an event with the attributes that all events of the poll share; the caller fills in the rest.
    pub fn event(
        &'a self,
        uid: String,
        kind: EventKind,
        activity: Activity,
        severity: Severity,
        own: Own<'a>,
    ) -> Event<'a> {
        Event {
            shared: &self.shared,
            activity,
            time: self.now(),
            start_time: self.start_time,
            severity: severity.pair(),
            status: None,
            status_code: None,
            status_detail: None,
            message: own.message,
            metadata: Metadata {
                uid,
                original_event_uid: None,
                event_code: None,
                log_name: kind.title(),
                untruncated_size: None,
            },
            finding_info: own.finding_info,
            compliance: own.compliance,
            unmapped: own.unmapped,
            raw_data: None,
            raw_data_size: None,
            raw_data_hash: None,
        }
    }
}

/// Writes the members that all events of a poll share.
fn shared(settings: &Settings, context: &Context, resource_uid: &str) -> SharedMembers {
    let scope = &context.scope;
    let metadata = members(|metadata| {
        metadata.member("correlation_uid", &context.poll_id);
        metadata.optional("tenant_uid", Some(scope.plugin_data.as_str()).filter(|tenant| !tenant.is_empty()));
        metadata.written(
            r#""product":{"name":"Microsoft Defender for Cloud","vendor_name":"Microsoft","feature":{"name":"Secure Score"}}"#,
        );
        metadata.written(r#""profiles":["cloud"]"#);
        if settings.class == Class::AssessmentFinding {
            metadata.value_of("extensions", |out| {
                out.push(b'[');
                object(out, |extension| {
                    extension.written(r#""name":"databee","uid":"994""#);
                    extension.member("version", &settings.extension_version);
                });
                out.push(b']');
            });
        }
        metadata.member("labels", &[format!("feed:{}", context.feed), format!("tenant:{}", context.tenant)][..]);
    });
    let cloud = members(|event| {
        event.object("cloud", |cloud| {
            cloud.written(r#""provider":"Azure""#);
            cloud.object("account", |account| {
                account.member("uid", &scope.id);
                account.optional("name", scope.name.as_ref());
                account.written(r#""type_id":13,"type":"Azure Subscription""#);
            });
            let owner = scope.owner.as_ref().unwrap_or(&scope.plugin_data);
            if !owner.is_empty() {
                cloud.object("org", |org| org.member("uid", owner));
            }
            cloud.optional("cloud_partition", settings.partition);
        });
    });
    let resources = members(|event| {
        event.value_of("resources", |out| {
            out.push(b'[');
            object(out, |resource| {
                resource.member("uid", resource_uid);
                resource.optional("name", scope.name.as_ref());
                resource.written(r#""type":"Microsoft.Resources/subscriptions","role_id":1,"role":"Target""#);
            });
            out.push(b']');
        });
        if settings.observables {
            event.value_of("observables", |out| {
                out.push(b'[');
                object(out, |observable| {
                    observable.written(r#""name":"resources[0].uid","type_id":10,"type":"Resource UID""#);
                    observable.member("value", resource_uid);
                });
                out.push(b']');
            });
        }
    });
    let class = (settings.class.uid(), settings.class.caption());
    SharedMembers { class, version: settings.version.name(), metadata, cloud, resources }
}

/// Returns members without the braces around them.
fn members(write: impl FnOnce(&mut MembersWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    object(&mut out, write);
    out[1..out.len() - 1].to_vec()
}

/// The members that an event does not share with the other events of its poll.
#[derive(Debug)]
pub struct Own<'a> {
    /// Text for people.
    pub message: String,
    /// The finding.
    pub finding_info: FindingInfo<'a>,
    /// The judgement.
    pub compliance: Compliance<'a>,
    /// Members for which OCSF has no attribute.
    pub unmapped: Unmapped<'a>,
}

/// Converts the event to the contract's type.
pub fn delivered(event: &Event<'_>, body: Vec<u8>) -> contract::Event {
    contract::Event { uid: event.metadata.uid.clone(), time_milliseconds: event.time, body }
}

/// Serializes the event as one line of JSON. The event must be small: a large one goes through [`line_within`].
pub fn line(schema: &Schema, event: &Event<'_>) -> Vec<u8> {
    schema.spelled(written(event))
}

/// Serializes the event as one line of at most so many bytes; the error is the size of a longer one.
pub fn line_within(schema: &Schema, event: &Event<'_>, most_bytes: usize) -> Result<Vec<u8>, usize> {
    let written = written(event);
    // Another schema changes the size by some hundred bytes. To spell an event, the plugin reads it, and an event as large
    // as a page can have more values than a document may have.
    if written.len() > 2 * most_bytes {
        return Err(written.len());
    }
    let line = schema.spelled(written);
    if line.len() <= most_bytes { Ok(line) } else { Err(line.len()) }
}

/// Serializes the event as the newest version spells it.
fn written(event: &Event<'_>) -> Vec<u8> {
    /// The usual size of an event in bytes, without the item itself.
    const USUAL_BYTES: usize = 3 << 10;
    let item = event.raw_data.unwrap_or_default();
    // Each quote of the item needs one byte more, for its backslash.
    let mut out = Vec::with_capacity(USUAL_BYTES + item.len() + item.len() / 8);
    event.write(&mut out);
    out
}
