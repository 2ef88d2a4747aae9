//! The macro for enums that are written as a word in scenarios, logs and reports.

/// The text is not a word of the enum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}", .accepted.join(", "))]
pub struct UnknownWord {
    /// The accepted words, in the order of their declaration.
    pub accepted: &'static [&'static str],
}

/// Declares an enum in which each variant has a word. Implements `Display`, `FromStr`, serde, deserr
/// and the JSON schema by these words.
#[macro_export]
macro_rules! words {
    ($(#[$meta:meta])* pub enum $Name:ident {
        $($(#[$vmeta:meta])* $Variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        pub enum $Name {
            $($(#[$vmeta])* #[serde(rename = $word)] $Variant),+
        }

        impl $Name {
            /// All values, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];
            /// The words of all values, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
            /// Number of values.
            pub const COUNT: usize = Self::ALL.len();

            /// The word of the value, as in scenarios, logs and reports.
            pub const fn word(self) -> &'static str {
                Self::WORDS[self as usize]
            }

            /// The index of the value in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl std::str::FromStr for $Name {
            type Err = $crate::UnknownWord;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                let found = Self::WORDS.iter().position(|word| *word == s);
                found.map(|i| Self::ALL[i]).ok_or($crate::UnknownWord { accepted: Self::WORDS })
            }
        }

        impl<E: deserr::DeserializeError> deserr::Deserr<E> for $Name {
            fn deserialize_from_value<V: deserr::IntoValue>(
                value: deserr::Value<V>,
                location: deserr::ValuePointerRef<'_>,
            ) -> Result<Self, E> {
                $crate::input::keyword(value, location, Self::WORDS)
            }
        }
    };
}
