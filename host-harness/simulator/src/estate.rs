//! The data of the simulated service: tenants, their applications and subscriptions, and the assessments. Control ids,
//! names and points are the public ones of Defender for Cloud; the counts are made up.

use serde_json::{Value, json};

/// All tenants of the service.
#[derive(Debug, Clone)]
pub struct Estate {
    /// Tenants in a fixed order: scenarios affect the first one.
    pub tenants: Vec<Tenant>,
}

/// A tenant with one application.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Name for people.
    pub name: String,
    /// Tenant ID.
    pub id: String,
    /// Application (client) ID.
    pub client_id: String,
    /// The secret's value.
    pub client_secret: String,
    /// Subscriptions in a fixed order: scenarios affect the last one of the first tenant.
    pub subscriptions: Vec<Subscription>,
}

/// A subscription and its controls.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Subscription ID.
    pub id: String,
    /// Display name.
    pub name: String,
    /// `Enabled` or another state.
    pub state: &'static str,
    /// Controls, in the order of the service's list.
    pub controls: Vec<Control>,
}

/// A control with its resource counts.
#[derive(Debug, Clone)]
pub struct Control {
    /// Stable id.
    pub id: &'static str,
    /// Display name.
    pub name: &'static str,
    /// Points in the control's definition.
    pub points: u32,
    /// Healthy resources.
    pub healthy: u32,
    /// Unhealthy resources.
    pub unhealthy: u32,
    /// Resources that do not count.
    pub not_applicable: u32,
}

const CONTROLS: &[(&str, &str, u32)] = &[
    ("34a42fb3-e6db-409c-b56b-7b1db6b8aee0", "Enable MFA", 10),
    ("52901099-235c-4971-b9d5-a33fca3a936e", "Secure management ports", 8),
    ("61702b76-1fab-41f2-bcbc-50b7870dcf38", "Apply system updates", 6),
    ("05daab2e-f074-4601-ac10-aadf5c9c50f6", "Remediate vulnerabilities", 6),
    ("0e55495e-034f-4abc-8293-767229250176", "Encrypt data in transit", 4),
    ("f9d5432b-8f7b-45e9-b90c-e214a30f6a02", "Restrict unauthorized network access", 4),
    ("8fd574ec-43cf-426e-a439-a67cbaf2d564", "Enable encryption at rest", 4),
    ("2d85f639-0bea-4a4a-b6c6-608952a1414a", "Manage access and permissions", 4),
    ("99fc8df2-e0f5-40f8-9415-a7f7ca948b5a", "Remediate security configurations", 4),
    ("a000c66f-6da2-4f9d-826d-2364347d2588", "Apply adaptive application control", 3),
    ("a9909064-42b4-4d34-8143-275477afe18b", "Protect applications against DDoS attacks", 2),
    ("12136bd9-dc24-44f2-9587-7be3af6aac14", "Enable endpoint protection", 2),
    ("27b24961-75ba-4fe4-8909-97286d5dd5ee", "Enable auditing and logging", 1),
    ("76763537-9feb-42d3-b4f4-78c01117be80", "Implement security best practices", 0),
];

impl Default for Estate {
    /// Makes four tenants with six subscriptions.
    fn default() -> Estate {
        let tenants = [("contoso", 2), ("fabrikam", 2), ("northwind", 1), ("adatum", 1)];
        Estate::of(tenants.into_iter().map(|(name, subscriptions)| (name.to_owned(), subscriptions)))
    }
}

impl Estate {
    /// Makes this many tenants, each with this many subscriptions.
    pub fn sized(tenants: u32, subscriptions: u32) -> Estate {
        Estate::of((1..=tenants).map(|number| (format!("tenant-{number}"), subscriptions)))
    }

    fn of(tenants: impl Iterator<Item = (String, u32)>) -> Estate {
        let tenants = tenants.zip(1..).map(|((name, subscriptions), number)| Tenant {
            id: format!("{number:08x}-7e4a-4b1d-9c55-{number:012x}"),
            client_id: format!("{number:08x}-a991-4c3f-8d27-{number:012x}"),
            client_secret: format!("sim~{name}~{:x}.kR9wQ-", number * 7_919),
            subscriptions: (0..subscriptions).map(|which| subscription(&name, number, which)).collect(),
            name,
        });
        Estate { tenants: tenants.collect() }
    }
}

/// Makes a subscription from the numbers of its tenant and of itself.
pub(super) fn subscription(tenant: &str, number: u32, which: u32) -> Subscription {
    let controls = CONTROLS.iter().enumerate().map(|(index, (id, name, points))| {
        let mix = (index as u32 * 31 + number * 17 + which * 7) % 23;
        Control { id, name, points: *points, healthy: mix, unhealthy: (mix * 5 + number) % 9, not_applicable: mix % 3 }
    });
    Subscription {
        id: format!("{number:08x}-{which:04x}-4f6b-b1d0-{number:012x}"),
        name: format!("{tenant} {}", ["production", "development"][which as usize % 2]),
        state: "Enabled",
        controls: controls.collect(),
    }
}

impl Control {
    /// Points that count: 0 without a resource.
    pub(super) fn max(&self) -> u32 {
        if self.healthy + self.unhealthy == 0 { 0 } else { self.points }
    }

    /// Hundredths of points, rounded as the service does.
    pub(super) fn current_hundredths(&self) -> u32 {
        let resources = self.healthy + self.unhealthy;
        if resources == 0 { 0 } else { (self.points * self.healthy * 200 + resources) / (resources * 2) }
    }

    fn item(&self, subscription: &str, expand: bool) -> Value {
        let mut properties = json!({
            "displayName": self.name,
            "healthyResourceCount": self.healthy,
            "unhealthyResourceCount": self.unhealthy,
            "notApplicableResourceCount": self.not_applicable,
            "score": score(self.max(), self.current_hundredths()),
            "weight": self.healthy + self.unhealthy,
        });
        if expand {
            properties["definition"] = json!({
                "id": format!("/providers/Microsoft.Security/secureScoreControlDefinitions/{}", self.id),
                "name": self.id,
                "type": "Microsoft.Security/secureScoreControlDefinitions",
                "properties": {
                    "source": { "sourceType": "BuiltIn" },
                    "displayName": self.name,
                    "maxScore": self.points,
                    "assessmentDefinitions": [
                        { "id": format!("/providers/Microsoft.Security/assessmentMetadata/{}", self.id) },
                    ],
                },
            });
        }
        json!({
            "id": format!("{}/secureScoreControls/{}", score_id(subscription), self.id),
            "name": self.id,
            "type": "Microsoft.Security/secureScores/secureScoreControls",
            "properties": properties,
        })
    }
}

impl Subscription {
    /// The items of the list of secure scores.
    pub fn scores(&self) -> Vec<Value> {
        if self.controls.is_empty() {
            return Vec::new();
        }
        let max = self.controls.iter().map(Control::max).sum();
        let current = self.controls.iter().map(Control::current_hundredths).sum();
        let weight: u32 = self.controls.iter().map(|control| control.healthy + control.unhealthy).sum();
        vec![json!({
            "id": score_id(&self.id),
            "name": "ascScore",
            "type": "Microsoft.Security/secureScores",
            "properties": { "displayName": "ASC score", "score": score(max, current), "weight": weight * 3 },
        })]
    }

    /// The items of the list of controls.
    pub fn control_items(&self, expand: bool) -> Vec<Value> {
        self.controls.iter().map(|control| control.item(&self.id, expand)).collect()
    }
}

fn score_id(subscription: &str) -> String {
    format!("/subscriptions/{subscription}/providers/Microsoft.Security/secureScores/ascScore")
}

fn score(max: u32, current_hundredths: u32) -> Value {
    let current = f64::from(current_hundredths) / 100.0;
    let percentage = if max == 0 { 0.0 } else { (current / f64::from(max) * 10_000.0).round() / 10_000.0 };
    json!({ "max": max, "current": current, "percentage": percentage })
}
