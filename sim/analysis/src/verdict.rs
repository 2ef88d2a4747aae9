//! Verdicts: what measures come to, held against what must hold.

pub mod capacity;
pub mod gate;
pub mod promotion;
pub mod slo;
