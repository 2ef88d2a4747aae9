//! The macro behind every mapping of an input file.

/// Declares a mapping: fields, documentation and defaults in one place.
///
/// `Problems`, `Deserr`, `JsonSchema` and `Serialize` must be in scope.
#[macro_export]
macro_rules! knobs {
    ($(
        $(#[$meta:meta])*
        pub struct $Name:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident $(as $name:literal)?: $Type:ty = $default:expr
            ),+ $(,)?
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, JsonSchema, Deserr)]
        #[deserr(error = Problems, deny_unknown_fields)]
        #[schemars(deny_unknown_fields, default)]
        pub struct $Name {
            $(
                $(#[doc = $doc])+
                $(#[serde(rename = $name)] #[deserr(rename = $name)])?
                #[deserr(default = $default)]
                pub $field: $Type
            ),+
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }
    )+};
}
