//! Random streams are made in one module, whose test shows that no two uses share one.

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "reads the crate's own source")]
fn only_the_module_of_streams_makes_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut makers = Vec::new();
    for path in sources(&root) {
        let text = std::fs::read_to_string(&path).expect("a source file");
        let code = text.split("#[cfg(test)]").next().expect("the part before the tests");
        if code.contains("Stream::new(") {
            makers.push(path);
        }
    }
    assert_eq!(makers, [root.join("streams.rs")]);
}
