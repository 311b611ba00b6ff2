//! The names of the limits of calls and of the compiler for messages, and the amounts of limits. The values are in
//! `limits`.

use std::fmt;
use std::time::Duration;

/// The amount of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitAmount {
    /// A number of things.
    Count(u64),
    /// A number of bytes.
    Bytes(u64),
    /// A time.
    Time(Duration),
}

impl LimitAmount {
    /// Makes a number of things.
    pub const fn count(things: usize) -> LimitAmount {
        LimitAmount::Count(things as u64)
    }

    /// Makes a number of bytes.
    pub const fn bytes(bytes: usize) -> LimitAmount {
        LimitAmount::Bytes(bytes as u64)
    }
}

impl fmt::Display for LimitAmount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitAmount::Count(things) => write!(formatter, "{things}"),
            LimitAmount::Bytes(bytes) => write!(formatter, "{bytes} bytes"),
            LimitAmount::Time(time) => write!(formatter, "{} ms", time.as_millis()),
        }
    }
}

macro_rules! bounds {
    ($($name:ident = $words:literal,)*) => {
        /// A limit that a plugin exceeded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bound {
            $(#[doc = concat!("The limit of ", $words, ".")] $name,)*
        }

        impl fmt::Display for Bound {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self {
                    $(Bound::$name => $words,)*
                })
            }
        }
    };
}

bounds! {
    AddressOfRequest = "the address of a request",
    AssertionSubject = "the subject of an assertion",
    Assertions = "assertions",
    BodiesOfAllAnswers = "the bodies of all answers",
    BodyOfRequest = "the body of a request",
    BytesCopied = "bytes copied between it and the host",
    BytesOfScopes = "the bytes of all scopes",
    ClassesOfKindOfEvent = "classes of a kind of event",
    Code = "a code",
    CompiledCode = "compiled code",
    CredentialsOnShape = "credentials on a shape",
    Cursor = "a cursor",
    EntriesOfList = "entries of a list",
    EventsOfPoll = "events of a poll",
    FiguresOfPoll = "figures of a poll",
    Handles = "handles",
    HeadersOfRequest = "headers of a request",
    IdOfScope = "the id of a scope",
    KindOfEvent = "a kind of event",
    Memory = "memory",
    Method = "a method",
    NameOfHeader = "the name of a header",
    NameOfIdentifier = "the name of an identifier",
    NameOfSetting = "the name of a setting",
    Notices = "notices",
    OneEvent = "one event",
    Origin = "an origin",
    OriginsOfPlan = "different origins of a plan",
    OwnerOfScope = "the owner of a scope",
    Pages = "pages",
    PagesOfPoll = "the pages of a poll",
    Path = "a path",
    PlaceOnRequest = "a place on a request",
    PluginDataOfScope = "the plugin data of a scope",
    PluginName = "the plugin's name",
    PluginVersion = "the plugin's version",
    ProcessorTime = "processor time",
    Requests = "requests",
    SchemaOfSettings = "the schema of the settings",
    ScopesOfDiscovery = "scopes of a discovery",
    SealedKey = "a sealed key",
    ShapesOfRequests = "shapes of requests",
    Stack = "stack",
    State = "state",
    SubjectOfFigure = "the subject of a figure",
    TableElements = "table elements",
    Time = "total time",
    UidOfEvent = "the uid of an event",
}
