//! Verdicts: measures compared with objectives, baselines and criteria.

pub mod capacity;
pub mod gate;
pub mod promotion;
pub mod slo;
