//! Events as log records of OpenTelemetry: requests of OTLP/HTTP in protobuf or JSON, and the meaning of the answers. The
//! requests themselves are posted by `http`.

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Encoding;
use crate::limits;
use crate::store::Queued;

/// Name of the program in `service.name`, and of the scope of every record.
const NAME: &str = "host-harness";

/// Version of the program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Encoding {
    /// The media type of requests and answers.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }
}

/// Writes a request with these events, which are observed `now`, in Unix milliseconds.
pub(super) fn body(encoding: Encoding, batch: &[Queued], now: u64) -> Vec<u8> {
    let request = request(batch, now);
    match encoding {
        Encoding::Protobuf => request.encode_to_vec(),
        // The messages have no maps, and every other value has JSON.
        Encoding::Json => serde_json::to_vec(&request).unwrap_or_default(),
    }
}

/// Puts events that follow each other and have one tenant, feed and account of a cloud below one resource. All events
/// keep their order.
fn request(batch: &[Queued], now: u64) -> ExportLogsServiceRequest {
    let mut resources: Vec<ResourceLogs> = Vec::new();
    for event in batch {
        let body = structured(&event.body);
        let resource = resource(event, body.as_ref());
        let record = record(event, body, now);
        match resources.last_mut().filter(|logs| logs.resource.as_ref() == Some(&resource)) {
            Some(logs) => {
                // Each resource has one list of records.
                if let Some(logs) = logs.scope_logs.first_mut() {
                    logs.log_records.push(record);
                }
            }
            None => {
                let (name, version) = (NAME.to_owned(), VERSION.to_owned());
                let scope = Some(InstrumentationScope { name, version, ..InstrumentationScope::default() });
                let scope_logs = vec![ScopeLogs { scope, log_records: vec![record], ..ScopeLogs::default() }];
                resources.push(ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() });
            }
        }
    }
    ExportLogsServiceRequest { resource_logs: resources }
}

fn resource(event: &Queued, body: Option<&Value>) -> Resource {
    let account = |path: &[&str]| body.and_then(|body| text_at(body, path));
    let provider = account(&["cloud", "provider"]).map(str::to_lowercase);
    let of_cloud =
        [("cloud.provider", provider.as_deref()), ("cloud.account.id", account(&["cloud", "account", "uid"]))];
    let own = [
        ("service.name", NAME),
        ("service.version", VERSION),
        ("host_harness.tenant", &event.tenant),
        ("host_harness.feed", &event.feed),
    ];
    let of_cloud = of_cloud.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let attributes = own.into_iter().chain(of_cloud).map(|(name, value)| attribute(name, value)).collect();
    Resource { attributes, ..Resource::default() }
}

fn record(event: &Queued, body: Option<Value>, now: u64) -> LogRecord {
    const NANOSECONDS: u64 = 1_000_000;
    let severity = match body.as_ref().and_then(|body| at(body, &["severity_id"])) {
        Some(Value::IntValue(id)) => severity(*id),
        _ => SeverityNumber::Unspecified,
    };
    let severity_text = body.as_ref().and_then(|body| text_at(body, &["severity"])).unwrap_or_default().to_owned();
    LogRecord {
        time_unix_nano: event.time.saturating_mul(NANOSECONDS),
        observed_time_unix_nano: now.saturating_mul(NANOSECONDS),
        severity_number: severity.into(),
        severity_text,
        attributes: vec![attribute("log.record.uid", &event.uid)],
        body: body.map(|value| AnyValue { value: Some(value) }),
        ..LogRecord::default()
    }
}

/// Converts OCSF's `severity_id`. Each is above the one before it, so that a receiver can compare them.
fn severity(id: i64) -> SeverityNumber {
    match id {
        1 => SeverityNumber::Info,
        2 => SeverityNumber::Warn,
        3 => SeverityNumber::Warn2,
        4 => SeverityNumber::Error,
        5 => SeverityNumber::Error2,
        6 => SeverityNumber::Fatal,
        _ => SeverityNumber::Unspecified,
    }
}

fn attribute(name: &str, value: &str) -> KeyValue {
    member(name.to_owned(), Some(Value::StringValue(value.to_owned())))
}

fn member(key: String, value: Option<Value>) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value }), ..KeyValue::default() }
}

/// Returns a member of nested objects.
fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let Some((name, rest)) = path.split_first() else { return Some(value) };
    let Value::KvlistValue(list) = value else { return None };
    let member = list.values.iter().find(|member| member.key == *name)?;
    at(member.value.as_ref()?.value.as_ref()?, rest)
}

fn text_at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    match at(value, path)? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Converts an event, which is JSON.
fn structured(event: &[u8]) -> Option<Value> {
    let json: &RawValue = serde_json::from_slice(event).ok()?;
    value(json, 0)
}

/// Converts a value of JSON below this many others; `None` for null, which is an empty value there.
fn value(json: &RawValue, level: usize) -> Option<Value> {
    let text = json.get();
    let inner = |json: &RawValue| value(json, level + 1);
    match text.as_bytes().first()? {
        b'n' => None,
        b't' | b'f' => Some(Value::BoolValue(text == "true")),
        b'"' => Some(Value::StringValue(serde_json::from_str(text).ok()?)),
        b'{' | b'[' if level >= limits::OTLP_LEVELS => Some(Value::StringValue(text.to_owned())),
        b'{' => {
            let members = serde_json::Deserializer::from_str(text).deserialize_map(Members).ok()?;
            let values = members.into_iter().map(|(key, json)| member(key, inner(json))).collect();
            Some(Value::KvlistValue(KeyValueList { values }))
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let values = items.into_iter().map(|json| AnyValue { value: inner(json) }).collect();
            Some(Value::ArrayValue(ArrayValue { values }))
        }
        _ => Some(number(text)),
    }
}

/// Reads the members of an object in their order.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

/// Converts a number without a change of its value: to an integer or a double where one is equal to it, otherwise to its
/// text.
fn number(text: &str) -> Value {
    if let Ok(integer) = text.parse()
        && text != "-0"
    {
        return Value::IntValue(integer);
    }
    match text.parse::<f64>() {
        // The shortest spelling of the double is what a reader would print.
        Ok(double) if double.is_finite() && decimal(&format!("{double:e}")) == decimal(text) => {
            Value::DoubleValue(double)
        }
        _ => Value::StringValue(text.to_owned()),
    }
}

/// Returns the sign, the digits without zeros at either end, and the exponent of a number, which are equal for equal
/// numbers.
fn decimal(text: &str) -> (bool, String, i64) {
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    // An exponent with more digits belongs to no double.
    let exponent = exponent.parse::<i64>().unwrap_or(i64::MAX / 2);
    let exponent = exponent.saturating_sub(fraction.len() as i64);
    let exponent = exponent.saturating_add((digits.len() - significant.len()) as i64);
    let digits = significant.trim_start_matches('0').to_owned();
    let exponent = if digits.is_empty() { 0 } else { exponent };
    (is_negative, digits, exponent)
}

/// The part of an answer that says which records a receiver rejected, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartialSuccess {
    /// Number of records that the receiver rejected; 0 if the message is a warning.
    pub(super) rejected: u64,
    pub(super) message: String,
}

/// Reads the answer to an accepted request; `None` if the receiver accepted every record and has nothing to add.
pub(super) fn partial_success(encoding: Encoding, answer: &[u8]) -> Option<PartialSuccess> {
    let partial = match encoding {
        Encoding::Protobuf => {
            let partial = ExportLogsServiceResponse::decode(answer).ok()?.partial_success?;
            let rejected = partial.rejected_log_records.try_into().unwrap_or_default();
            PartialSuccess { rejected, message: partial.error_message }
        }
        Encoding::Json => {
            let partial = serde_json::from_slice::<serde_json::Value>(answer).ok()?.get_mut("partialSuccess")?.take();
            let rejected = &partial["rejectedLogRecords"];
            // JSON of protobuf writes an int64 as a string, and readers accept both.
            let rejected = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or_default();
            PartialSuccess { rejected, message: partial["errorMessage"].as_str().unwrap_or_default().to_owned() }
        }
    };
    (partial.rejected > 0 || !partial.message.is_empty()).then_some(partial)
}

/// Returns the text of a refusal, which is a `Status` of google.rpc in the request's encoding; the whole answer if it is
/// anything else, such as a page of a gateway.
pub(super) fn refusal_text(encoding: Encoding, answer: &[u8]) -> String {
    /// The part of google.rpc.Status that is for people.
    #[derive(Clone, PartialEq, Message)]
    struct RefusalStatus {
        #[prost(string, tag = "2")]
        message: String,
    }
    let message = match encoding {
        Encoding::Protobuf => RefusalStatus::decode(answer).ok().map(|status| status.message),
        Encoding::Json => serde_json::from_slice::<serde_json::Value>(answer)
            .ok()
            .and_then(|status| Some(status["message"].as_str()?.to_owned())),
    };
    let message = message.filter(|message| !message.is_empty());
    message.unwrap_or_else(|| String::from_utf8_lossy(answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::shards::Lease;

    fn event(tenant: &str, body: &str) -> Queued {
        Queued {
            lease: Lease::SOLE,
            number: 1,
            tenant: tenant.to_owned(),
            feed: "prod".to_owned(),
            scope: "one".to_owned(),
            uid: "uid-1".to_owned(),
            time: 1_500,
            body: body.as_bytes().to_vec(),
        }
    }

    fn text(text: &str) -> Value {
        Value::StringValue(text.to_owned())
    }

    #[test]
    fn a_number_keeps_its_value_whatever_holds_it() {
        use Value::{DoubleValue, IntValue};
        for (json, expected) in [
            ("0", IntValue(0)),
            ("-17", IntValue(-17)),
            ("9223372036854775807", IntValue(i64::MAX)),
            ("-9223372036854775808", IntValue(i64::MIN)),
            ("9223372036854775808", text("9223372036854775808")),
            ("9223372036854775809", text("9223372036854775809")),
            ("29.80", DoubleValue(29.8)),
            ("5.0", DoubleValue(5.0)),
            ("0.3571", DoubleValue(0.3571)),
            ("1E3", DoubleValue(1_000.0)),
            ("-2.50e-3", DoubleValue(-0.0025)),
            ("0.0", DoubleValue(0.0)),
            ("-0", DoubleValue(-0.0)),
            ("0e99", DoubleValue(0.0)),
            ("0e9223372036854775807", DoubleValue(0.0)),
            ("1.5e-9223372036854775808", text("1.5e-9223372036854775808")),
            ("5e-324", DoubleValue(5e-324)),
            ("0.1000000000000000055", text("0.1000000000000000055")),
            ("3.00000000000000000001", text("3.00000000000000000001")),
            ("1e400", text("1e400")),
            ("1e-400", text("1e-400")),
            ("1e99999999999999999999", text("1e99999999999999999999")),
            ("1e-99999999999999999999", text("1e-99999999999999999999")),
        ] {
            assert_eq!(number(json), expected, "{json}");
        }
    }

    #[test]
    fn json_keeps_its_structure_and_the_order_of_its_members() {
        let json = r#"{"b":[1,"\u00e4",null,{}],"a":{"deep":true},"empty":[]}"#;
        let Some(Value::KvlistValue(list)) = structured(json.as_bytes()) else { panic!("an object") };
        let array = |values: Vec<Option<Value>>| {
            let values = values.into_iter().map(|value| AnyValue { value }).collect();
            Some(Value::ArrayValue(ArrayValue { values }))
        };
        let object = |values| Some(Value::KvlistValue(KeyValueList { values }));
        let items = vec![Some(Value::IntValue(1)), Some(text("ä")), None, object(Vec::new())];
        let expected = [
            member("b".to_owned(), array(items)),
            member("a".to_owned(), object(vec![member("deep".to_owned(), Some(Value::BoolValue(true)))])),
            member("empty".to_owned(), array(Vec::new())),
        ];
        assert_eq!(list.values, expected);
    }

    #[test]
    fn what_lies_deeper_than_readers_read_is_text() {
        let json = "[".repeat(40) + &"]".repeat(40);
        let mut value = structured(json.as_bytes()).unwrap();
        for _ in 0..limits::OTLP_LEVELS {
            let Value::ArrayValue(mut array) = value else { panic!("an array") };
            value = array.values.remove(0).value.unwrap();
        }
        assert_eq!(value, text(&("[".repeat(40 - limits::OTLP_LEVELS) + &"]".repeat(40 - limits::OTLP_LEVELS))));
        // A reader with the usual limit of 100 messages within each other takes the whole request.
        let request = request(&[event("t", &format!("{{\"a\":{}}}", "{\"b\":".repeat(40) + "1" + &"}".repeat(40)))], 2);
        let bytes = request.encode_to_vec();
        assert_eq!(ExportLogsServiceRequest::decode(&*bytes).unwrap(), request);
    }

    #[test]
    fn events_that_follow_each_other_share_a_resource_and_all_keep_their_order() {
        let body = |number: u32, account: &str| {
            format!(r#"{{"number":{number},"cloud":{{"provider":"Azure","account":{{"uid":"{account}"}}}}}}"#)
        };
        let batch = [
            event("contoso", &body(1, "a")),
            event("contoso", &body(2, "b")),
            event("contoso", &body(3, "b")),
            event("contoso", &body(4, "a")),
            event("fabrikam", r#"{"number":5}"#),
        ];
        let request = request(&batch, 2_000);
        let names: Vec<Vec<(String, String)>> = (request.resource_logs.iter())
            .map(|logs| {
                let attributes = logs.resource.as_ref().unwrap().attributes.iter();
                let text = |one: &KeyValue| match one.value.as_ref().unwrap().value.as_ref().unwrap() {
                    Value::StringValue(text) => (one.key.clone(), text.clone()),
                    other => panic!("{other:?}"),
                };
                attributes.map(text).filter(|(name, _)| name != "service.version").collect()
            })
            .collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let own = |tenant| {
            vec![pair("service.name", NAME), pair("host_harness.tenant", tenant), pair("host_harness.feed", "prod")]
        };
        let of_account = |account| {
            [own("contoso"), vec![pair("cloud.provider", "azure"), pair("cloud.account.id", account)]].concat()
        };
        assert_eq!(names, [of_account("a"), of_account("b"), of_account("a"), own("fabrikam")]);
        let numbers = |logs: &ResourceLogs| {
            let records = logs.scope_logs.iter().flat_map(|logs| &logs.log_records);
            let number = |record: &LogRecord| match at(record.body.as_ref()?.value.as_ref()?, &["number"])? {
                Value::IntValue(number) => Some(*number),
                _ => None,
            };
            records.filter_map(number).collect::<Vec<_>>()
        };
        assert_eq!(
            request.resource_logs.iter().map(numbers).collect::<Vec<_>>(),
            [vec![1], vec![2, 3], vec![4], vec![5]]
        );
    }

    #[test]
    fn a_record_has_times_severity_and_the_uid_by_which_repetitions_are_found() {
        let at_severity = |id: u32| {
            let request = request(&[event("t", &format!(r#"{{"severity_id":{id},"severity":"Own"}}"#))], 2_000);
            let mut record = request.resource_logs[0].scope_logs[0].log_records[0].clone();
            assert_eq!(record.attributes, [attribute("log.record.uid", "uid-1")]);
            assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (1_500_000_000, 2_000_000_000));
            (std::mem::take(&mut record.severity_text), record.severity_number)
        };
        let numbers: Vec<i32> = (0..=6).map(|id| at_severity(id).1).collect();
        assert_eq!(numbers, [0, 9, 13, 14, 17, 18, 21]);
        assert_eq!(at_severity(99), ("Own".to_owned(), 0));
    }

    #[test]
    fn an_answer_tells_how_many_records_were_rejected() {
        let bytes = |rejected: u8, message: &str| {
            let mut partial = vec![0x08, rejected, 0x12, message.len() as u8];
            partial.extend_from_slice(message.as_bytes());
            [vec![0x0a, partial.len() as u8], partial].concat()
        };
        let found = |rejected, message: &str| Some(PartialSuccess { rejected, message: message.to_owned() });
        assert_eq!(partial_success(Encoding::Protobuf, b""), None);
        assert_eq!(partial_success(Encoding::Protobuf, &bytes(0, "")), None);
        assert_eq!(partial_success(Encoding::Protobuf, &bytes(3, "odd")), found(3, "odd"));
        assert_eq!(partial_success(Encoding::Protobuf, b"<html>"), None);
        for (answer, expected) in [
            ("{}", None),
            ("", None),
            ("[]", None),
            ("true", None),
            (r#""ok""#, None),
            ("200", None),
            (r#"{"partialSuccess":[]}"#, None),
            (r#"{"partialSuccess":{}}"#, None),
            (r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"odd"}}"#, found(3, "odd")),
            (r#"{"partialSuccess":{"rejectedLogRecords":3}}"#, found(3, "")),
            (r#"{"partialSuccess":{"errorMessage":"slow down"}}"#, found(0, "slow down")),
        ] {
            assert_eq!(partial_success(Encoding::Json, answer.as_bytes()), expected, "{answer}");
        }
    }

    #[test]
    fn a_refusal_shows_the_message_of_its_status() {
        let status = b"\x08\x03\x12\x03odd";
        for (encoding, answer, expected) in [
            (Encoding::Protobuf, &status[..], "odd"),
            (Encoding::Protobuf, b"404 page not found", "404 page not found"),
            (Encoding::Json, br#"{"code":3,"message":"odd"}"#, "odd"),
            (Encoding::Json, b"<html>", "<html>"),
            (Encoding::Json, b"", ""),
        ] {
            assert_eq!(refusal_text(encoding, answer), expected);
        }
    }
}
