//! Declares the words of events. Each set of words is an enumeration that knows all its members, so that the page about
//! events can be compared with them.

/// Declares an enumeration with a value for each variant.
macro_rules! vocabulary {
    (
        $(#[$about:meta])*
        pub enum $name:ident -> $method:ident: $value:ty {
            $($(#[$meaning:meta])* $variant:ident = $word:expr,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$meaning])* $variant,)*
        }

        impl $name {
            /// All variants, in the order of their declaration.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The value in events.
            pub fn $method(self) -> $value {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }
    };
}

pub(super) use vocabulary;
