//! Places in a text. A place is only made by the [`Text`] that it lies in, so its bytes always fall
//! on characters, and its line and column always agree with them.

use std::ops::Range;

/// The byte order mark that some editors write at the start of a UTF-8 file.
const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// A place in a [`Text`]; lines and columns count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Lines end with `\n` or `\r\n`.
    pub line: usize,
    /// In characters; a combining character and a tab count as one each.
    pub column: usize,
    /// First byte, counted without a byte order mark.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

/// An input file without its byte order mark.
#[derive(Clone, Debug)]
pub struct Text<'a> {
    text: &'a str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    /// The byte of each character; empty where all of them are ASCII.
    bytes: Vec<usize>,
}

/// `text` without a byte order mark at its start.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

impl<'a> Text<'a> {
    /// Leaves out a byte order mark at the start of `text`.
    pub fn new(text: &'a str) -> Self {
        let text = without_mark(text);
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        let bytes = match text.is_ascii() {
            true => Vec::new(),
            false => text.char_indices().map(|(byte, _)| byte).collect(),
        };
        Self { text, lines, bytes }
    }

    /// The text, to which [`Place::start`] and [`Place::end`] refer.
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The place of a range of bytes. A range that lies outside of the text, or begins or ends
    /// within a character, is moved to the nearest character before.
    pub fn place(&self, bytes: Range<usize>) -> Place {
        let start = self.boundary(bytes.start);
        let end = self.boundary(bytes.end).max(start);
        let line = self.lines.partition_point(|begin| *begin <= start).max(1);
        let column = self.text[self.lines[line - 1]..start].chars().count() + 1;
        Place { line, column, start, end }
    }

    /// The place of the one character at a byte.
    pub fn place_of_character(&self, byte: usize) -> Place {
        let start = self.boundary(byte);
        let width = self.text[start..].chars().next().map_or(0, char::len_utf8);
        self.place(start..start + width)
    }

    /// The nearest byte at or before `byte` where a character begins, or the end of the text.
    fn boundary(&self, byte: usize) -> usize {
        let byte = byte.min(self.text.len());
        (0..=byte).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
    }

    /// The place of a range of characters.
    pub(crate) fn place_of_characters(&self, characters: Range<usize>) -> Place {
        let byte = |n: usize| match self.bytes.is_empty() {
            true => n,
            false => self.bytes.get(n).copied().unwrap_or(self.text.len()),
        };
        self.place(byte(characters.start)..byte(characters.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, bytes: Range<usize>) -> (usize, usize) {
        let place = Text::new(text).place(bytes);
        (place.line, place.column)
    }

    #[test]
    fn a_column_counts_characters_and_not_bytes() {
        let text = "αβγ: x\r\n\te\u{301}: 日本\n";
        let found = |needle| at(text, text.find(needle).map_or(0..0, |from| from..from + 1));
        assert_eq!(found("x"), (1, 6));
        assert_eq!(found("e"), (2, 2));
        assert_eq!(found("日"), (2, 6), "a combining character counts");
        assert_eq!(found("本"), (2, 7));
        assert_eq!(at(text, text.len()..text.len()), (3, 1));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let text = Text::new("\u{FEFF}a: b");
        assert_eq!(text.as_str(), "a: b");
        assert_eq!(text.place(3..4), Place { line: 1, column: 4, start: 3, end: 4 });
        assert_eq!(Text::new("\u{FEFF}").as_str(), "");
        assert_eq!(at("\u{FEFF}", 0..1), (1, 1));
    }

    #[test]
    fn a_range_within_a_character_or_behind_the_end_is_moved_to_a_character() {
        let text = Text::new("a日");
        assert_eq!(text.place(2..3), Place { line: 1, column: 2, start: 1, end: 1 });
        assert_eq!(text.place(9..12), Place { line: 1, column: 3, start: 4, end: 4 });
        assert_eq!(text.place_of_character(2), Place { line: 1, column: 2, start: 1, end: 4 });
        assert_eq!(text.place_of_character(7), Place { line: 1, column: 3, start: 4, end: 4 });
        assert_eq!(text.place_of_characters(1..2), text.place(1..4));
    }
}
