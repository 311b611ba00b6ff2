//! The settings in the form that the rest of the plugin uses.

/// The settings that the user wrote, with defaults for the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Application (client) ID, in lower case.
    pub client_id: String,
    /// The credential; `None` if the host withholds it.
    pub credential: Option<Credential>,
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
    /// The kinds of events to collect, in the order in which their lists are read.
    pub events: Vec<EventKind>,
    /// The part of a control's definition that an event carries.
    pub definitions: Definitions,
    /// OCSF class of the events.
    pub class: Class,
    /// OCSF version of the events.
    pub version: Version,
    /// Whether each poll emits unchanged findings too.
    pub emit_unchanged: bool,
    /// Time between two snapshots.
    pub snapshot_seconds: u64,
    /// Whether events carry the item, byte for byte.
    pub raw: bool,
    /// Whether events carry observables.
    pub observables: bool,
    /// Version of the OCSF extension.
    pub extension_version: String,
}

/// The credential that the application signs in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The client secret, or its placeholder.
    Secret(String),
    /// An assertion that the host makes from the credential in this setting.
    Assertion(&'static str),
}

/// The subscriptions to poll; ids in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscriptions {
    /// The listed subscriptions.
    List(Vec<String>),
    /// Every enabled subscription that the application can read.
    All {
        /// Subscriptions to leave out.
        exclude: Vec<String>,
        /// Whether to poll delegated subscriptions of other tenants too.
        delegated: bool,
    },
}

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// Secure scores of initiatives.
    Scores,
    /// Controls of secure scores.
    Controls,
}

impl EventKind {
    /// Both kinds, in the order in which their lists are read.
    pub const ALL: [EventKind; 2] = [EventKind::Scores, EventKind::Controls];

    /// The name in settings and pages.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Scores => "secure-scores",
            EventKind::Controls => "secure-score-controls",
        }
    }

    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            EventKind::Scores => "Secure Scores",
            EventKind::Controls => "Secure Score Controls",
        }
    }

    /// The name of the kind's list, for people.
    pub fn list(self) -> &'static str {
        match self {
            EventKind::Scores => "the list of secure scores",
            EventKind::Controls => "the list of secure score controls",
        }
    }

    /// The resource type of its items.
    pub fn resource_type(self) -> &'static str {
        match self {
            EventKind::Scores => "Microsoft.Security/secureScores",
            EventKind::Controls => "Microsoft.Security/secureScores/secureScoreControls",
        }
    }

    /// Returns the kind with a name.
    pub fn named(name: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The part of a control's definition that an event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Definitions {
    /// Nothing: the plugin does not request definitions.
    None,
    /// All except the assessments.
    Summary,
    /// The assessments too, as checks.
    Full,
}

/// OCSF class of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 99402001, of the extension `databee`.
    AssessmentFinding,
    /// 2003, of OCSF itself.
    ComplianceFinding,
    /// 2004, of OCSF itself.
    DetectionFinding,
}

impl Class {
    /// All classes; the first is the default.
    pub const ALL: [Class; 3] = [Class::AssessmentFinding, Class::ComplianceFinding, Class::DetectionFinding];

    /// The name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Class::AssessmentFinding => "assessment-finding",
            Class::ComplianceFinding => "compliance-finding",
            Class::DetectionFinding => "detection-finding",
        }
    }

    /// Number of the class; that of an extension is (extension × 100 + category) × 1000 + class.
    pub fn uid(self) -> u64 {
        match self {
            Class::AssessmentFinding => 99_402_001,
            Class::ComplianceFinding => 2_003,
            Class::DetectionFinding => 2_004,
        }
    }

    /// Caption of the class.
    pub fn caption(self) -> &'static str {
        match self {
            Class::AssessmentFinding => "Assessment Finding",
            Class::ComplianceFinding => "Compliance Finding",
            Class::DetectionFinding => "Detection Finding",
        }
    }
}

/// A version of OCSF, from the first that has the classes to the newest whose schema judges the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.1.0.
    V1_1,
    /// 1.2.0.
    V1_2,
    /// 1.3.0.
    V1_3,
    /// 1.4.0.
    V1_4,
    /// 1.5.0.
    V1_5,
    /// 1.6.0.
    V1_6,
    /// 1.7.0.
    V1_7,
    /// 1.8.0.
    V1_8,
}

impl Version {
    /// All versions, the oldest first.
    pub const ALL: [Version; 8] = [
        Version::V1_1,
        Version::V1_2,
        Version::V1_3,
        Version::V1_4,
        Version::V1_5,
        Version::V1_6,
        Version::V1_7,
        Version::V1_8,
    ];

    /// The newest version, the default.
    pub const NEWEST: Version = Version::ALL[Version::ALL.len() - 1];

    /// The name in settings and in `metadata.version`.
    pub fn name(self) -> &'static str {
        match self {
            Version::V1_1 => "1.1.0",
            Version::V1_2 => "1.2.0",
            Version::V1_3 => "1.3.0",
            Version::V1_4 => "1.4.0",
            Version::V1_5 => "1.5.0",
            Version::V1_6 => "1.6.0",
            Version::V1_7 => "1.7.0",
            Version::V1_8 => "1.8.0",
        }
    }
}
