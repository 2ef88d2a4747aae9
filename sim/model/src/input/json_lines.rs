//! JSON Lines: one value a line, blank lines left out.

use serde::de::DeserializeOwned;

use super::place::{Place, Text};

/// A line of a JSON Lines file that is not blank.
#[derive(Clone, Copy, Debug)]
pub struct JsonLine<'t> {
    of: &'t Text<'t>,
    /// The line without its end, and without a byte order mark: files that were joined have one
    /// before each of their first lines.
    text: &'t str,
    /// Where `text` begins, in bytes of the file.
    start: usize,
}

/// The lines of `text` that are not blank.
pub fn json_lines<'t>(text: &'t Text<'t>) -> impl Iterator<Item = JsonLine<'t>> {
    let mut start = 0;
    let lines = text.as_str().split_inclusive('\n').map(move |line| {
        let begin = start;
        start += line.len();
        let shown = line.trim_start_matches('\u{FEFF}');
        JsonLine {
            of: text,
            text: shown.trim_end_matches(['\r', '\n']),
            start: begin + line.len() - shown.len(),
        }
    });
    lines.filter(|line| !line.text.trim().is_empty())
}

impl<'t> JsonLine<'t> {
    /// The line without its end.
    pub const fn as_str(&self) -> &'t str {
        self.text
    }

    /// The place of the character at a byte of the line, counted from 0.
    pub fn place(&self, byte: usize) -> Place {
        self.of.place_of_character(self.start + byte)
    }

    /// Reads the line.
    ///
    /// # Errors
    /// Where the line is wrong, and what the parser expected there.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, (Place, String)> {
        serde_json::from_str(self.text).map_err(|error| {
            // The parser counts bytes from 1, and 0 is the end of an empty line.
            (self.place(error.column().saturating_sub(1)), message_of(&error))
        })
    }
}

/// What a parser of JSON found wrong, without the place that it adds.
pub(crate) fn message_of(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_and_byte_order_marks_are_left_out_and_lines_keep_their_number() {
        let text = Text::new("\u{FEFF}1\r\n\r\n \t\n\u{FEFF}2\n\u{FEFF}\n");
        let lines: Vec<_> = json_lines(&text).map(|l| (l.as_str(), l.place(0).line)).collect();
        assert_eq!(lines, [("1", 1), ("2", 4)]);
    }

    #[test]
    fn an_error_behind_multi_byte_characters_has_its_column_in_characters() {
        let text = Text::new("{\"日本語\": nul}");
        let line = json_lines(&text).next().unwrap();
        let (place, message) = line.parse::<serde_json::Value>().unwrap_err();
        assert_eq!((place.line, place.column), (1, 12), "{message}");
        assert_eq!(&text.as_str()[place.start..place.end], "}");
    }
}
