//! The service's answers, with the service's own names. Required members are checked here; all others may be absent or
//! null, but must have the right type.

use std::borrow::Cow;

use crate::json::{self, Document, Fault, JsonValue, Object, ValuePath, Values};
use crate::number::Number;

/// The version of the service's interface that this plugin reads.
pub const API_VERSION: &str = "2020-01-01";

/// The resource provider of all items.
const NAMESPACE: &str = "Microsoft.Security";

/// Largest number of bytes in an Azure resource id: resource names have at most 260 characters.
const MAX_ID_BYTES: usize = 2_048;

/// The keys of the link to the next page, with that of Azure Resource Manager first.
const NEXT_LINKS: &[&str] =
    &["nextLink", "NextLink", "nextlink", "@nextLink", "@odata.nextLink", "odata.nextLink", "next_link"];

/// One page of a list.
#[derive(Debug)]
pub struct Page<'a> {
    /// The items, in order.
    pub value: Values<'a>,
    /// Address of the next page; `None` on the last page.
    pub next_link: Option<Cow<'a, str>>,
}

impl<'a> Page<'a> {
    /// Reads a page without reading its items.
    pub fn read(document: &'a Document<'a>) -> Result<Page<'a>, Fault> {
        let page = Object::read(document.root(), &ValuePath::Root)?;
        // A list with an error is incomplete: its missing items would be taken for gone.
        if let Some(error) = page.get("error").filter(|error| error.is_object()) {
            return Err(Fault::unfit(&ValuePath::Root.key("error"), Some(error), "none beside a list"));
        }
        let at = ValuePath::Root.key("value");
        let value = page.get("value").ok_or_else(|| Fault::unfit(&at, None, "a list"))?;
        // An empty link ends the list, as in Microsoft's own clients. Parts of Azure spell the key in other ways;
        // overlooking such a link would end the list too soon.
        let key = NEXT_LINKS.iter().copied().find(|key| page.get(key).is_some()).unwrap_or(NEXT_LINKS[0]);
        let next_link = page.text(&ValuePath::Root, key)?.filter(|link| !link.is_empty());
        Ok(Page { value: json::list(value, &at)?, next_link })
    }

    /// Reads all items as secure scores or secure score controls.
    pub fn items(&self) -> Result<Vec<Item<'a>>, Fault> {
        let list = ValuePath::Root.key("value");
        self.value.clone().enumerate().map(|(index, value)| Item::read(value, &list.index(index))).collect()
    }
}

/// A secure score or a secure score control.
#[derive(Debug)]
pub struct Item<'a> {
    /// The whole item, byte for byte.
    pub raw: JsonValue<'a>,
    /// Resource id, as the service spells it.
    pub id: Cow<'a, str>,
    /// The resource id in lower case, because Azure ignores letter case in ids. The value stays the same from poll to
    /// poll.
    pub uid: String,
    /// Last segment of the id.
    pub name: Cow<'a, str>,
    /// Resource type.
    pub kind: Cow<'a, str>,
    /// All properties, because some are passed on unchanged.
    pub properties: Object<'a>,
    /// The name for people.
    pub display_name: Option<Cow<'a, str>>,
    /// Points.
    pub score: Option<Score<'a>>,
    /// Weight among other items of its kind.
    pub weight: Option<Number<'a>>,
    /// Counts of resources; only controls have them.
    pub counts: Counts<'a>,
    /// The definition of the control; only with `$expand=definition`.
    pub definition: Option<Definition<'a>>,
}

/// Points of a score or a control.
#[derive(Debug, Clone, Copy)]
pub struct Score<'a> {
    /// The largest possible number of points; 0 if nothing was assessed.
    pub max: Option<Number<'a>>,
    /// The points that are reached.
    pub current: Option<Number<'a>>,
    /// The ratio of `current` to `max`, from 0 to 1.
    pub percentage: Option<Number<'a>>,
}

/// Counts of resources of a control.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts<'a> {
    /// Resources that pass.
    pub healthy: Option<Number<'a>>,
    /// Resources that fail.
    pub unhealthy: Option<Number<'a>>,
    /// Resources that do not count.
    pub not_applicable: Option<Number<'a>>,
}

/// The definition of a control.
#[derive(Debug)]
pub struct Definition<'a> {
    /// The whole definition.
    pub members: Object<'a>,
    /// Name of the definition, a GUID that never changes.
    pub name: Option<Cow<'a, str>>,
    /// The definition's properties.
    pub properties: Object<'a>,
    /// The name for people.
    pub display_name: Option<Cow<'a, str>>,
    /// The description for people.
    pub description: Option<Cow<'a, str>>,
    /// `BuiltIn` or `Custom`.
    pub source_type: Option<Cow<'a, str>>,
    assessments: Option<Values<'a>>,
}

impl<'a> Item<'a> {
    /// Reads one item; `path` is its place in the page.
    pub fn read(raw: JsonValue<'a>, path: &ValuePath<'_>) -> Result<Item<'a>, Fault> {
        let item = Object::read(raw, path)?;
        let bounded = |key: &str| match item.required_text(path, key)? {
            text if text.len() > MAX_ID_BYTES => Err(Fault::length(&path.key(key), text.len(), MAX_ID_BYTES)),
            text => Ok(text),
        };
        let (id, name, kind) = (bounded("id")?, bounded("name")?, bounded("type")?);
        let at = path.key("properties");
        let properties = item.object(path, "properties")?.ok_or_else(|| Fault::unfit(&at, None, "an object"))?;
        let score = properties.object(&at, "score")?.map(|score| Score::read(&score, &at.key("score"))).transpose()?;
        let definition =
            properties.object(&at, "definition")?.map(|members| Definition::read(members, &at.key("definition")));
        let item = Item {
            raw,
            uid: id.to_lowercase(),
            id,
            name,
            kind,
            display_name: properties.text(&at, "displayName")?.filter(|name| !name.is_empty()),
            score,
            weight: properties.number(&at, "weight")?,
            counts: Counts {
                healthy: properties.number(&at, "healthyResourceCount")?,
                unhealthy: properties.number(&at, "unhealthyResourceCount")?,
                not_applicable: properties.number(&at, "notApplicableResourceCount")?,
            },
            definition: definition.transpose()?,
            properties,
        };
        // Unknown members are passed on, too, and must be within range.
        json::beyond_range(raw, path).map_or(Ok(item), Err)
    }

    /// Says whether the item belongs to the subscription, by its id. An id with dot segments belongs to none.
    pub fn is_of(&self, subscription: &str) -> bool {
        if self.id.split('/').any(|segment| matches!(segment, "." | "..")) {
            return false;
        }
        let mut segments = self.id.trim_start_matches('/').split('/');
        segments.next().is_some_and(|first| first.eq_ignore_ascii_case("subscriptions"))
            && segments.next().is_some_and(|id| id.eq_ignore_ascii_case(subscription))
    }

    /// Returns the first member that says that the item belongs to another collection than this type, as key and value.
    pub fn astray(&self, kind: &str) -> Option<(&'static str, &str)> {
        let collection = kind.rsplit('/').next().unwrap_or(kind);
        if !self.kind.eq_ignore_ascii_case(kind) {
            return Some(("type", &self.kind));
        }
        (!is_id_of(&self.id, collection)).then_some(("id", &self.id))
    }
}

/// Says whether an id is that of a Microsoft.Security resource in this collection, at any scope.
fn is_id_of(id: &str, collection: &str) -> bool {
    let mut segments: Vec<&str> = id.split('/').collect();
    let Some(provider) = segments.iter().rposition(|segment| segment.eq_ignore_ascii_case("providers")) else {
        return false;
    };
    // After the namespace, types and names alternate.
    match segments.split_off(provider + 1)[..] {
        [namespace, ref rest @ .., kind, name] => {
            rest.len().is_multiple_of(2)
                && !name.is_empty()
                && namespace.eq_ignore_ascii_case(NAMESPACE)
                && kind.eq_ignore_ascii_case(collection)
        }
        _ => false,
    }
}

impl<'a> Score<'a> {
    fn read(score: &Object<'a>, path: &ValuePath<'_>) -> Result<Score<'a>, Fault> {
        Ok(Score {
            max: score.number(path, "max")?,
            current: score.number(path, "current")?,
            percentage: score.number(path, "percentage")?,
        })
    }
}

impl<'a> Definition<'a> {
    fn read(members: Object<'a>, path: &ValuePath<'_>) -> Result<Definition<'a>, Fault> {
        let at = path.key("properties");
        let properties = members.object(path, "properties")?.unwrap_or_default();
        properties.number(&at, "maxScore")?;
        let source = properties.object(&at, "source")?.unwrap_or_default();
        let mut assessments = None;
        if let Some(list) = properties.get("assessmentDefinitions") {
            let path = at.key("assessmentDefinitions");
            let list = json::list(list, &path)?;
            for (index, assessment) in list.clone().enumerate() {
                let path = path.index(index);
                Object::read(assessment, &path)?.text(&path, "id")?;
            }
            assessments = Some(list);
        }
        Ok(Definition {
            name: members.text(path, "name")?,
            display_name: properties.text(&at, "displayName")?,
            description: properties.text(&at, "description")?.filter(|text| !text.is_empty()),
            source_type: source.text(&at.key("source"), "sourceType")?,
            assessments,
            members,
            properties,
        })
    }
}

impl<'a> Definition<'a> {
    /// Names of the assessments that make up the control.
    pub fn assessments(&self) -> impl Iterator<Item = Cow<'a, str>> {
        let id = |assessment| Object::read(assessment, &ValuePath::Root).ok()?.text(&ValuePath::Root, "id").ok()?;
        self.assessments.clone().into_iter().flatten().filter_map(id).map(last_segment)
    }
}

/// The last segment of a resource id.
fn last_segment(id: Cow<'_, str>) -> Cow<'_, str> {
    match id {
        Cow::Borrowed(id) => Cow::Borrowed(id.rsplit('/').next().unwrap_or(id)),
        Cow::Owned(id) => Cow::Owned(id.rsplit('/').next().unwrap_or(&id).to_owned()),
    }
}

/// A subscription in the answer to `GET /subscriptions`.
#[derive(Debug)]
pub struct Subscription<'a> {
    /// The subscription's GUID.
    pub subscription_id: Cow<'a, str>,
    /// The name for people.
    pub display_name: Option<Cow<'a, str>>,
    /// `Enabled`, `Warned`, `PastDue`, `Disabled` or `Deleted`.
    pub state: Option<Cow<'a, str>>,
    /// GUID of the subscription's tenant.
    pub tenant_id: Option<Cow<'a, str>>,
}

impl<'a> Subscription<'a> {
    /// Reads one subscription; `path` is its place in the page.
    pub fn read(raw: JsonValue<'a>, path: &ValuePath<'_>) -> Result<Subscription<'a>, Fault> {
        let subscription = Object::read(raw, path)?;
        Ok(Subscription {
            subscription_id: subscription.required_text(path, "subscriptionId")?,
            display_name: subscription.text(path, "displayName")?,
            state: subscription.text(path, "state")?,
            tenant_id: subscription.text(path, "tenantId")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(body: &str) -> String {
        match Document::read(body.as_bytes()).and_then(|page| Page::read(&page)?.items().map(drop)) {
            Ok(()) => "none".to_owned(),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn a_link_is_found_however_its_key_is_spelled() {
        let link = |body: &str| {
            let document = Document::read(body.as_bytes()).unwrap();
            Page::read(&document).map(|page| page.next_link.map(Cow::into_owned))
        };
        for key in NEXT_LINKS {
            let body = format!(r#"{{"value":[],"{key}":"https://x/y"}}"#);
            assert_eq!(link(&body).unwrap().as_deref(), Some("https://x/y"), "{key}");
            assert!(link(&format!(r#"{{"value":[],"{key}":7}}"#)).is_err(), "{key}");
        }
        assert_eq!(link(r#"{"value":[],"nextLink":null,"previousLink":"https://x/y"}"#).unwrap(), None);
    }

    fn item(properties: &str) -> String {
        fault(&format!(r#"{{"value":[{{"id":"/i","name":"n","type":"t","properties":{properties}}}]}}"#))
    }

    #[test]
    fn what_must_be_there_is_named_with_its_place() {
        assert_eq!(fault("{}"), "`value`: found nothing, expected a list");
        assert_eq!(fault(r#"{"value":{}}"#), "`value`: found an object, expected a list");
        assert_eq!(fault(r#"{"value":[],"error":null}"#), "none");
        assert_eq!(
            fault(r#"{"value":[],"error":{"code":"x"}}"#),
            "`error`: found an object, expected none beside a list"
        );
        assert_eq!(fault(r#"{"value":[7]}"#), "`value[0]`: found a number, expected an object");
        assert_eq!(fault(r#"{"value":[{"name":"n"}]}"#), "`value[0].id`: found nothing, expected a string");
        assert_eq!(fault(r#"{"value":[{"id":"i","name":null}]}"#), "`value[0].name`: found nothing, expected a string");
        assert_eq!(item("null"), "`value[0].properties`: found nothing, expected an object");
        assert!(fault("").starts_with("found an empty body"));
        assert!(fault("<html>").starts_with("found HTML or XML"));
        assert!(fault("[]").starts_with("found a list, expected an object"));
    }

    #[test]
    fn everything_else_may_be_absent_or_null() {
        assert_eq!(item("{}"), "none");
        assert_eq!(item(r#"{"displayName":null,"score":null,"weight":null,"definition":{"properties":null}}"#), "none");
        assert_eq!(item(r#"{"score":{"max":null,"current":1e3,"percentage":0.5}}"#), "none");
    }

    #[test]
    fn a_number_of_another_type_is_named_with_its_place() {
        assert_eq!(
            item(r#"{"score":{"current":"1"}}"#),
            "`value[0].properties.score.current`: found a string, expected a number"
        );
        assert_eq!(item(r#"{"weight":true}"#), "`value[0].properties.weight`: found a boolean, expected a number");
        assert_eq!(
            item(r#"{"healthyResourceCount":[]}"#),
            "`value[0].properties.healthyResourceCount`: found a list, expected a number"
        );
        assert_eq!(
            item(r#"{"definition":{"properties":{"maxScore":"2"}}}"#),
            "`value[0].properties.definition.properties.maxScore`: found a string, expected a number"
        );
    }

    #[test]
    fn a_number_beyond_double_precision_is_named_with_its_place() {
        let beyond = |place: &str| {
            format!(
                "`value[0].properties.{place}`: found a number beyond the range of double precision, expected a number within it"
            )
        };
        assert_eq!(item(r#"{"score":{"max":1e400}}"#), beyond("score.max"));
        assert_eq!(item(r#"{"weight":-1e999}"#), beyond("weight"));
        assert_eq!(item(&format!(r#"{{"healthyResourceCount":{}}}"#, "9".repeat(400))), beyond("healthyResourceCount"));
        assert_eq!(item(r#"{"novel":[{"x":1e400}]}"#), beyond("novel[0].x"));
        assert_eq!(item(r#"{"definition":{"properties":{"novel":1e400}}}"#), beyond("definition.properties.novel"));
        assert_eq!(item(r#"{"score":{"max":1e308,"current":1e-400},"novel":1.7976931348623157e308}"#), "none");
    }

    #[test]
    fn an_item_is_of_the_subscription_in_its_id() {
        let is_of = |id: &str| {
            let raw = format!(r#"{{"id":"{id}","name":"n","type":"t","properties":{{}}}}"#);
            let document = Document::read(raw.as_bytes()).unwrap();
            Item::read(document.root(), &ValuePath::Root).unwrap().is_of("20ff7fc3-e762")
        };
        for id in [
            "/subscriptions/20ff7fc3-e762/providers/x",
            "/Subscriptions/20FF7FC3-E762",
            "subscriptions/20ff7fc3-e762/y",
        ] {
            assert!(is_of(id), "{id}");
        }
        for id in [
            "",
            "/",
            "x",
            "/subscriptions",
            "/subscriptions/",
            "/subscriptions/20ff7fc3-e7620/x",
            "/providers/x/subscriptions/20ff7fc3-e762",
            "/subscriptions/20ff7fc3-e762/../other/providers/x",
        ] {
            assert!(!is_of(id), "{id}");
        }
    }

    #[test]
    fn an_item_is_of_the_collection_in_its_type_and_its_id() {
        let (scores, controls) =
            ("Microsoft.Security/secureScores", "Microsoft.Security/secureScores/secureScoreControls");
        let astray = |wanted: &str, kind: &str, id: &str| {
            let raw = format!(r#"{{"id":"/subscriptions/s/{id}","name":"n","type":"{kind}","properties":{{}}}}"#);
            let document = Document::read(raw.as_bytes()).unwrap();
            let item = Item::read(document.root(), &ValuePath::Root).unwrap();
            item.astray(wanted).map(|(key, _)| key)
        };
        let score = "providers/Microsoft.Security/secureScores/ascScore";
        let control = &format!("{score}/secureScoreControls/guid");
        let connector = "resourceGroups/g/providers/Microsoft.Security/securityConnectors/aws";
        for (wanted, kind, id, key) in [
            (scores, scores, score, None),
            (scores, &*scores.to_lowercase(), &*score.to_uppercase(), None),
            (scores, scores, "providers/microsoft.security/securescores/my-initiative", None),
            (scores, scores, &format!("{connector}/secureScores/ascScore"), None),
            (scores, scores, &format!("{connector}/{score}"), None),
            (controls, controls, control, None),
            (controls, &controls.to_lowercase(), &control.to_lowercase(), None),
            (controls, controls, &control.replace("ascScore", "0b5e"), None),
            (controls, controls, "providers/Microsoft.Security/secureScoreControls/guid", None),
            (scores, controls, control, Some("type")),
            (scores, controls, score, Some("type")),
            (scores, scores, control, Some("id")),
            (controls, scores, score, Some("type")),
            (controls, controls, score, Some("id")),
            (scores, "Microsoft.Other/secureScores", score, Some("type")),
            (scores, scores, "providers/Microsoft.Other/secureScores/ascScore", Some("id")),
            (scores, scores, "providers/Microsoft.Security/secureScores", Some("id")),
            (scores, scores, "providers/Microsoft.Security/secureScores/", Some("id")),
            (scores, scores, "providers/Microsoft.Security/x/secureScores/ascScore", Some("id")),
            (scores, scores, "", Some("id")),
        ] {
            assert_eq!(astray(wanted, kind, id), key, "{wanted}: {kind} {id}");
        }
    }

    #[test]
    fn what_every_event_repeats_is_bounded() {
        let long = "x".repeat(MAX_ID_BYTES);
        let named =
            |name: &str| fault(&format!(r#"{{"value":[{{"id":"i","name":"{name}","type":"t","properties":{{}}}}]}}"#));
        assert_eq!(named(&long), "none");
        assert_eq!(named(&format!("{long}x")), "`value[0].name`: found 2049 bytes, expected at most 2048 bytes");
        let weight = |digits: usize| item(&format!(r#"{{"weight":0.{}}}"#, "1".repeat(digits - 2)));
        assert_eq!(weight(512), "none");
        assert_eq!(weight(513), "`value[0].properties.weight`: found 513 bytes, expected at most 512 bytes");
    }
}
