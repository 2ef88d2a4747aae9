//! A YAML document of any type: read, typed, and checked for what types cannot say, with every
//! problem in its place.

use deserr::Deserr;

use super::check::in_order;
use super::problem::{Problem, Problems};
use super::yaml::Node;

/// Reads a document. What follows from a part that cannot be typed is not told.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read<T: Deserr<Problems>>(
    text: &str,
    source: &str,
    check: impl Fn(&T, &mut Problems),
) -> Result<T, Vec<Problem>> {
    let root = Node::parse(text, source)?;
    let mut found = Problems::default();
    match deserr::deserialize::<T, _, Problems>(root.clone()) {
        Ok(typed) => {
            check(&typed, &mut found);
            if found.0.is_empty() {
                return Ok(typed);
            }
        }
        Err(wrong) => {
            let mut readable = root.clone();
            let left_out: Vec<_> = wrong.0.iter().map(|at| readable.leave_out(&at.path)).collect();
            if let Ok(typed) = deserr::deserialize::<T, _, Problems>(readable) {
                check(&typed, &mut found);
                found.0.retain(|at| {
                    let follows =
                        |out: &Vec<_>| out.starts_with(&at.path) || at.path.starts_with(out);
                    !left_out.iter().any(follows)
                });
            }
            found.0.extend(wrong.0);
        }
    }
    Err(in_order(found.0.into_iter().map(|at| root.locate(source, at)).collect()))
}
