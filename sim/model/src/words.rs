//! The macro behind every closed vocabulary: one list gives the enum, its words, its parser, its
//! place in the schema and the error that names the nearest word.

/// What was typed is not one of the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}", .accepted.join(", "))]
pub struct UnknownWord {
    /// The words that would have been accepted, in their order.
    pub accepted: &'static [&'static str],
}

/// Declares a closed vocabulary: an enum, its words, its parser and its JSON schema.
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
            /// Every value, in the order of its declaration.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];
            /// Every word, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
            /// How many values there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The word that scenarios, logs and reports use.
            pub const fn word(self) -> &'static str {
                Self::WORDS[self as usize]
            }

            /// The place in [`Self::ALL`].
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
