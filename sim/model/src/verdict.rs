//! Verdicts: what measures come to, held against what must hold.

pub mod slo;
