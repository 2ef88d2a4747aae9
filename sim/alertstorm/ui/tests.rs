//! No input makes the loader or the renderer of errors panic: the shipped files with characters of
//! several bytes, line ends and YAML's own characters spliced in.

use std::path::Path;

use alertstorm_model::scenario::{self, Files, Override};
use proptest::prelude::*;

use super::*;

/// What is spliced in: byte order marks, wide and combining characters, line ends, and what has a
/// meaning in YAML or JSON.
const SPLICES: [&str; 24] = [
    "\u{FEFF}",
    "日本語",
    "é",
    "e\u{301}",
    "🙂",
    "\u{3000}",
    "\u{2028}",
    "\u{85}",
    "\u{A0}",
    "\0",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "'",
    "\"",
    "{",
    "]",
    ":",
    ": ",
    "- ",
    "# ",
    "&a",
    "\\",
];

/// The scenarios' folder, with one file that was changed.
struct Changed<'a> {
    name: &'a str,
    text: &'a str,
}

fn shipped(name: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name)).ok()
}

impl Files for Changed<'_> {
    fn read(&self, name: &str) -> Result<String, String> {
        if name == self.name {
            return Ok(self.text.to_owned());
        }
        shipped(name).ok_or_else(|| "there is no such file".to_owned())
    }
}

/// Puts each piece in at its share of the text's length, in the place of some characters.
fn spliced(text: &str, pieces: &[(f64, usize, &str)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (share, replaced, piece) in pieces {
        let at = (characters.len() as f64 * share) as usize;
        let to = (at + replaced).min(characters.len());
        characters.splice(at..to, piece.chars());
    }
    characters.into_iter().collect()
}

/// Every problem of a scenario, as a person sees it.
fn shown(scenario: &str, of: &Changed<'_>, overrides: &[Override]) -> Vec<String> {
    let Err(problems) = scenario::load(scenario, "scenario.yaml", overrides, of) else {
        return Vec::new();
    };
    let files = [("scenario.yaml", scenario), (of.name, of.text)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    problems.iter().map(|problem| rendered(&Renderer::plain(), problem, &files)).collect()
}

proptest! {
    #[test]
    fn no_change_to_a_shipped_file_makes_its_reader_or_the_renderer_panic(
        (scenario, file) in prop::sample::select(vec![
            ("two-am-flood.yaml", "two-am-flood.yaml"),
            ("lease-churn.yaml", "profiles/short.yaml"),
            ("replay-night.yaml", "alerts/night.jsonl"),
            ("phase-shadow.yaml", "traces/application-incident.jsonl"),
        ]),
        pieces in prop::collection::vec(
            (0.0..=1.0, 0_usize..4, prop::sample::select(&SPLICES[..])),
            1..6,
        ),
    ) {
        let text = spliced(&shipped(file).expect("a shipped file"), &pieces);
        let scenario = match scenario == file {
            true => text.clone(),
            false => shipped(scenario).expect("a shipped file"),
        };
        for problem in shown(&scenario, &Changed { name: file, text: &text }, &[]) {
            prop_assert!(problem.starts_with("error: "), "{problem}");
        }
    }

    #[test]
    fn no_value_of_an_option_makes_its_reader_or_the_renderer_panic(
        path in prop::sample::select(vec!["question", "controller", "alerts.0", "cluster.nodes"]),
        pieces in prop::collection::vec(prop::sample::select(&SPLICES[..]), 0..5),
    ) {
        let least = shipped("least.yaml").expect("a shipped file");
        let set = Override { path: path.to_owned(), value: pieces.concat() };
        shown(&least, &Changed { name: "", text: "" }, &[set]);
    }
}

#[test]
fn an_error_behind_wide_characters_is_underlined_where_it_is() {
    let text = "\u{FEFF}question: 日本語\r\nalerts: [{flood: 10, 夜: e\u{301}}]\r\n";
    let problems = shown(text, &Changed { name: "", text: "" }, &[]);
    let [problem] = &problems[..] else { panic!("{problems:#?}") };
    assert!(problem.contains("scenario.yaml:2:22"), "{problem}");
    assert!(
        problem.contains("  |                      ^^\n") || problem.ends_with("^^"),
        "{problem}"
    );
}

#[test]
fn a_place_of_another_text_is_shown_without_an_excerpt() {
    let place = input::Text::new("a quite long text").place(4..9);
    let problem = Problem {
        source: "file".to_owned(),
        place: Some(place),
        message: "wrong".to_owned(),
        help: None,
    };
    let files = [("file".to_owned(), "日本".to_owned())];
    let shown = rendered(&Renderer::plain(), &problem, &files);
    assert_eq!(shown, "error: wrong\n--> file:1:5");
}
