//! From a tree to a typed and checked value. All problems are found in one pass.

use deserr::Deserr;

use super::problem::{Problem, Problems};
use super::yaml::Node;

/// Reads a document.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn read<T: Deserr<Problems>>(
    text: &str,
    source: &str,
    check: impl Fn(&T, &mut Problems),
) -> Result<T, Vec<Problem>> {
    let root = Node::parse(text, source)?;
    let checked = |typed: T, found: &mut Problems| {
        check(&typed, found);
        Some(typed)
    };
    make(&root, checked)
        .map_err(|found| in_order(found.0.into_iter().map(|at| root.locate(source, at)).collect()))
}

/// Makes something of a tree. Where parts of the tree cannot be typed, `make` gets what is left of
/// it, and its problems with the missing parts are left out.
///
/// # Errors
/// Everything that is wrong with it; nothing where `make` returned none and gave no reason.
pub(crate) fn make<T: Deserr<Problems>, M>(
    root: &Node,
    mut make: impl FnMut(T, &mut Problems) -> Option<M>,
) -> Result<M, Problems> {
    let mut found = Problems::default();
    match deserr::deserialize::<T, _, Problems>(root.clone()) {
        Ok(typed) => match make(typed, &mut found) {
            Some(made) if found.0.is_empty() => return Ok(made),
            _ => {}
        },
        Err(wrong) => {
            let mut readable = root.clone();
            let left_out: Vec<_> = wrong.0.iter().map(|at| readable.leave_out(&at.path)).collect();
            if let Ok(typed) = deserr::deserialize::<T, _, Problems>(readable) {
                make(typed, &mut found);
                found.0.retain(|at| {
                    let follows =
                        |out: &Vec<_>| out.starts_with(&at.path) || at.path.starts_with(out);
                    !left_out.iter().any(follows)
                });
            }
            found.0.extend(wrong.0);
        }
    }
    Err(found)
}

/// Problems without a place first, then in the order of the text.
pub(crate) fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.place);
    problems
}
