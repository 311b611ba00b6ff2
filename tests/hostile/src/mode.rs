//! The modes of the hostile plugin, which the tests share: neither side can name a mode that the other does not have.

use std::fmt;

macro_rules! modes {
    ($($name:ident = $word:literal,)*) => {
        /// The behaviour of the plugin.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mode {
            /// The plugin behaves well.
            #[default]
            Good,
            $(#[doc = concat!("The trick `", $word, "`.")] $name,)*
        }

        impl Mode {
            /// All tricks.
            pub const TRICKS: &[Mode] = &[$(Mode::$name,)*];

            /// The mode's name in settings.
            pub const fn word(self) -> &'static str {
                match self {
                    Mode::Good => "",
                    $(Mode::$name => $word,)*
                }
            }
        }
    };
}

modes! {
    AddressBytes = "address-bytes",
    AnonymousOwn = "anonymous-own",
    ApiKeyOwn = "api-key-own",
    Assertion = "assertion",
    BodyInPrepare = "body-in-prepare",
    CharsetAsked = "charset-asked",
    ClockInEvent = "clock-in-event",
    CodeUnlisted = "code-unlisted",
    CompressedEcho = "compressed-echo",
    Copies = "copies",
    CredentialUses = "credential-uses",
    CursorBytes = "cursor-bytes",
    CursorLoop = "cursor-loop",
    DataToTokenEndpoint = "data-to-token-endpoint",
    EventBytes = "event-bytes",
    EventCutShort = "event-cut-short",
    EventDeep = "event-deep",
    EventForged = "event-forged",
    EventKeyTwice = "event-key-twice",
    EventList = "event-list",
    EventNotUtf8 = "event-not-utf8",
    EventOnTwoLines = "event-on-two-lines",
    EventSurrogate = "event-surrogate",
    EventUidBytes = "event-uid-bytes",
    EventUidOther = "event-uid-other",
    Events = "events",
    EventsAlike = "events-alike",
    EventsLong = "events-long",
    Fields = "fields",
    FiguresFresh = "figures-fresh",
    Handles = "handles",
    HeaderOwn = "header-own",
    Headers = "headers",
    HostDenied = "host-denied",
    HostLookalike = "host-lookalike",
    HostUserName = "host-user-name",
    HttpInNormalize = "http-in-normalize",
    KeyGuessed = "key-guessed",
    KeyInHeader = "key-in-header",
    KeyLeftOut = "key-left-out",
    KindBytes = "kind-bytes",
    KindUndeclared = "kind-undeclared",
    Levels = "levels",
    LogBytes = "log-bytes",
    LogEscapes = "log-escapes",
    LogLines = "log-lines",
    Loop = "loop",
    LoopInPrepare = "loop-in-prepare",
    MeasureOdd = "measure-odd",
    MeasureSubjectBytes = "measure-subject-bytes",
    Measures = "measures",
    Memory = "memory",
    MemoryOfCalls = "memory-of-calls",
    Method = "method",
    MethodBytes = "method-bytes",
    NoticeOfSearchUnlisted = "notice-of-search-unlisted",
    NoticeOfStepUnlisted = "notice-of-step-unlisted",
    NoticeUnlisted = "notice-unlisted",
    Notices = "notices",
    NoticesEscapes = "notices-escapes",
    NoticesOfBatch = "notices-of-batch",
    NoticesOfSteps = "notices-of-steps",
    OriginBytes = "origin-bytes",
    OriginLabels = "origin-labels",
    Origins = "origins",
    PageBytes = "page-bytes",
    Pages = "pages",
    PagesSlow = "pages-slow",
    ParameterOwn = "parameter-own",
    PathAbove = "path-above",
    PlaceBytes = "place-bytes",
    PlaceholderOfAnother = "placeholder-of-another",
    PlanByChance = "plan-by-chance",
    PlanByRace = "plan-by-race",
    PluginDataBytes = "plugin-data-bytes",
    Pollables = "pollables",
    ProblemBytes = "problem-bytes",
    Problems = "problems",
    ProblemsOneByOne = "problems-one-by-one",
    ReactionOdd = "reaction-odd",
    RequestBytes = "request-bytes",
    RequestWords = "request-words",
    Requests = "requests",
    RequestsDenied = "requests-denied",
    RequestsInVain = "requests-in-vain",
    Rounds = "rounds",
    ScopeIdBytes = "scope-id-bytes",
    ScopeIdOdd = "scope-id-odd",
    ScopeNameBytes = "scope-name-bytes",
    ScopeOwnerBytes = "scope-owner-bytes",
    Scopes = "scopes",
    ScopesAlike = "scopes-alike",
    ScopesFailing = "scopes-failing",
    ScopesFresh = "scopes-fresh",
    ScopesSkipped = "scopes-skipped",
    SealedKeyBytes = "sealed-key-bytes",
    SegmentOwn = "segment-own",
    ShapeBytes = "shape-bytes",
    ShapeOdd = "shape-odd",
    Shapes = "shapes",
    StateBytes = "state-bytes",
    StateForeign = "state-foreign",
    StateFreshStart = "state-fresh-start",
    TimerInNormalize = "timer-in-normalize",
    TimerInPrepare = "timer-in-prepare",
    TokenInQuery = "token-in-query",
    TokenOwn = "token-own",
    Trap = "trap",
    Wait = "wait",
    WaitUnasked = "wait-unasked",
    WordsForged = "words-forged",
    WordsOdd = "words-odd",
    Zeroes = "zeroes",
}

impl Mode {
    /// Returns the mode with a name.
    pub fn of(word: &str) -> Option<Mode> {
        [Mode::Good].iter().chain(Mode::TRICKS).copied().find(|mode| mode.word() == word)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}
